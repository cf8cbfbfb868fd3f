"""What Alembic loads to run revisions: on the connection, and inside the transaction, that `migrations.upgrade` gives.

Runs when loaded, because Alembic works so. It neither connects nor commits.
"""

from alembic import context

from storage.metadata.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite rebuilds a table where others alter it
    transactional_ddl=False,  # the caller's transaction holds all revisions: all or none
)
context.run_migrations()
