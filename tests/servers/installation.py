"""The environment of a gateway whose rows lie in PostgreSQL and whose bytes in a bucket, for `tests.served.Served`.

Replicas of one installation get the same environment; what differs is their data directory. Proxies may stand between.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.servers.bucket_server import S3Server
from tests.servers.postgres import PostgresServer

SECRET_KEY = "0123456789abcdef" * 4
_S3 = "SLUICE_STORAGE__STORAGES__DEFAULT__"


@dataclass(frozen=True, slots=True)
class Installation:
    """A database and a bucket that nobody else uses, and how to look into them past the gateways."""

    postgres: PostgresServer
    database: str
    s3: S3Server
    bucket: str
    further: dict[str, str] = field(default_factory=dict)
    """Settings beside those of database and bucket, as environment variables."""

    @property
    def s3_port(self) -> int:
        """Where the S3 service listens, for a proxy in front of it."""
        return urlsplit(self.s3.endpoint).port or 0

    def environment(self, *, s3_endpoint: str | None = None, database_port: int | None = None) -> dict[str, str]:
        """The variables; endpoint and port may be those of proxies."""
        return {
            "SLUICE_ACCESS__SECRET_KEY": SECRET_KEY,
            "SLUICE_STORAGE__DATABASE_URL": self.postgres.url_of(self.database, port=database_port),
            f"{_S3}KIND": "s3",
            f"{_S3}BUCKET": self.bucket,
            f"{_S3}ENDPOINT_URL": s3_endpoint or self.s3.endpoint,
            f"{_S3}ACCESS_KEY_ID": self.s3.access_key_id,
            f"{_S3}SECRET_ACCESS_KEY": self.s3.secret_access_key,
            **self.further,
        }

    def blobs(self) -> dict[str, int]:
        """The keys of published bytes with their sizes."""
        return self.s3.objects(self.bucket, "blobs/")

    def markers(self) -> list[str]:
        """The keys from which rows can be rebuilt."""
        return sorted(self.s3.objects(self.bucket, "markers/"))

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """What the database answers to a query of the test's own."""
        return self.postgres.execute(query, self.database)


@contextmanager
def new_installation(postgres: PostgresServer, s3: S3Server, **further: str) -> Iterator[Installation]:
    """A database without tables and a bucket, both empty; the server is healed and the database removed at the end."""
    database = postgres.new_database(migrated=False)
    try:
        yield Installation(postgres, database, s3, s3.new_bucket(), further)
    finally:
        postgres.heal()
        postgres.drop(database)
