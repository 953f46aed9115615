"""Database of the control plane: models, sessions, migrations."""

from server.store.db import Database
from server.store.models import Base

__all__ = ["Base", "Database"]
