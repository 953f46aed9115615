"""The audit log: append-only, hash-chained, with a signed head outside the database."""

from server.audit.actions import Action
from server.audit.log import record, recorded

__all__ = ["Action", "record", "recorded"]
