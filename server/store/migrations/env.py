"""Alembic's entry: runs on the connection, and in the transaction, that server.store.migrate opened."""

from alembic import context

from server.store.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite can roll back DDL; Alembic assumes not, and would leave half a migration behind.
    transactional_ddl=True,
    render_as_batch=True,
    compare_type=True,
)
context.run_migrations()
