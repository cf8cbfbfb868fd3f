"""A database for tests of what puts the gateway together."""

from tests.storage.conftest import database, database_file, migrated_file

__all__ = ["database", "database_file", "migrated_file"]
