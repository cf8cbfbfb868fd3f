"""A database and one assembled `House` for each test of the edge."""

from tests.gateway.access.conftest import clock, database, database_file, house, migrated_file

__all__ = ["clock", "database", "database_file", "house", "migrated_file"]
