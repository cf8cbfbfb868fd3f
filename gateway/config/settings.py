"""The tree of settings itself: every key once, with its unit, its bounds and the reason for its default.

`docs/configuration.md` is generated from the descriptions. Knows neither where values come from nor what they do.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from gateway.config.fields import (
    MAX_S,
    Bytes,
    Count,
    DatabaseUrl,
    ExternalUrl,
    Listen,
    Network,
    Seconds,
    SecretKey,
    Section,
    ServiceName,
    StorageName,
    WholeSeconds,
    Workers,
)
from gateway.config.storages import DirectoryStorage, NamedStorage, S3Storage


class Server(Section):
    """Where the gateway listens and how long it waits for slow peers."""

    listen: Listen = Field(
        "127.0.0.1:8080", description="Host and port to listen on; loopback until you decide otherwise."
    )
    workers: Workers = Field(
        "auto",
        description="Processes, each of which takes every kind of request; `auto`: one per core that the gateway may "
        "use. More than one per core bring nothing.",
    )
    external_url: ExternalUrl | None = Field(
        None, description="How clients reach the gateway, such as https://registry.example; default: from the request."
    )
    server_names: tuple[str, ...] = Field(
        (),
        description="Host names that clients may use; empty accepts any. Others are answered 421 at every path: let "
        "health checks name one of these, too.",
    )
    trusted_proxies: tuple[Network, ...] = Field(
        (), description="Addresses or networks whose X-Forwarded-* headers are believed; nobody by default."
    )
    tls_certificate: Path | None = Field(None, description="PEM file with the certificate chain; turns TLS on.")
    tls_key: Path | None = Field(
        None, validate_default=True, description="PEM file with the private key of the certificate."
    )
    header_timeout_s: Seconds = Field(
        10, description="Seconds for a request's head to arrive; a browser needs under one."
    )
    idle_timeout_s: Seconds = Field(60, description="Seconds that an idle kept-alive connection stays open.")
    body_idle_timeout_s: Seconds = Field(
        60, description="Seconds in which a request's body must bring 64 KiB or its end, else it is answered 408."
    )
    send_idle_timeout_s: Seconds = Field(
        60, description="Seconds in which a reader must take 64 KiB, else it is dropped."
    )
    hang_timeout_s: Seconds = Field(
        60,
        description="Seconds without a sign of life after which one of several workers is killed and replaced; its "
        "loop turns every few milliseconds.",
    )
    drain_timeout_s: Seconds = Field(30, description="Seconds that running requests get after SIGTERM.")
    max_connections: Count = Field(10_000, description="Open connections per worker; 12 to 40 KiB of memory each.")
    max_connections_per_address: Count = Field(
        4_000,
        description="Of these from one address, so that one cannot take all; trusted proxies may. A CI site behind one "
        "address translator has some hundreds.",
    )

    @field_validator("tls_key")
    @classmethod
    def _both_or_none(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if "tls_certificate" in info.data and (info.data["tls_certificate"] is None) != (value is None):
            raise ValueError("must be set together with server.tls_certificate, or neither")
        return value


class Storage(Section):
    """Where bytes and rows lie."""

    data: Path = Field(
        Path("data"), description="Directory of the database, keys and default storage; must be on a local disk."
    )
    database: Path | None = Field(None, description="SQLite file; default: sluice.db below the data directory.")
    database_url: DatabaseUrl | None = Field(
        None,
        description="PostgreSQL instead of SQLite, for any number of replicas: postgresql://USER:PASSWORD@HOST/NAME, "
        "with libpq's parameters such as ?sslmode=verify-full; needs the extra `postgres`.",
    )
    database_connections: Annotated[int, Field(ge=5, le=1000)] = Field(
        8,
        description="Most connections to PostgreSQL per worker: one writes, one listens for changes, two are for "
        "listings and jobs, the rest read.",
    )
    default: StorageName = Field(
        "default", description="Name of the storage that new repositories use; one called `default` need not be listed."
    )
    threads: Count = Field(
        16, description="Threads for disk work per worker: enough to overlap waits, few enough to stay small."
    )
    storages: dict[StorageName, NamedStorage] = Field(
        default_factory=dict, validate_default=True, description="The named storages."
    )

    @field_validator("database_url")
    @classmethod
    def _one_database(cls, value: DatabaseUrl | None, info: ValidationInfo) -> DatabaseUrl | None:
        if value is not None and info.data.get("database") is not None:
            raise ValueError("must not be set together with storage.database")
        return value

    @field_validator("storages")
    @classmethod
    def _default_exists(cls, value: dict[str, NamedStorage], info: ValidationInfo) -> dict[str, NamedStorage]:
        default = info.data.get("default", "default")
        if default in value:
            return value
        if default != "default":
            raise ValueError(f"must hold the storage {default!r} that storage.default names")
        return {"default": DirectoryStorage(), **value}

    @property
    def database_file(self) -> Path:
        """Where the SQLite file is; of no meaning with `database_url`."""
        return self.database or self.data / "sluice.db"

    def directory(self, name: str) -> Path:
        """Where the storage of that name keeps bytes on local disk; `KeyError` if it is not configured.

        For a bucket that is its hot set.
        """
        match self.storages[name]:
            case DirectoryStorage(path=path):
                return path or self.data / "storages" / name
            case S3Storage(hot_path=path):
                return path or self.data / "hot" / name

    @property
    def arrivals(self) -> Path:
        """Where blobs lie that are on their way in from other registries."""
        return self.data / "arrivals"

    @property
    def spool(self) -> Path:
        """Where bytes lie that are on their way into a bucket."""
        return self.data / "spool"


class Access(Section):
    """Tokens and passwords."""

    service: ServiceName = Field(
        "sluice", min_length=1, max_length=255, description="Audience of registry tokens; the same for all replicas."
    )
    token_lifetime_s: Annotated[int, Field(ge=60, le=900)] = Field(
        300, description="Seconds a registry token lives; below 60 docker would use dead ones."
    )
    refresh_lifetime_s: Annotated[int, Field(ge=60, le=MAX_S)] = Field(
        90 * 86400, description="Seconds a refresh token lives without use: 90 days."
    )
    token_algorithm: Literal["HS256", "ES256"] = Field(
        "HS256", description="HS256 is the cheapest; ES256 lets others verify tokens with the public key."
    )
    key_rotation_s: Annotated[int, Field(ge=3600, le=MAX_S)] = Field(
        30 * 86400, description="Seconds that one key signs: 30 days."
    )
    secret_key: SecretKey | None = Field(
        None,
        description="Seals the signing keys in the database; default: made once, in secret.key in the data directory. "
        "Replicas must have the same.",
    )
    password_threads: Count = Field(2, description="Passwords hashed at once (19 MiB and about 30 ms of CPU each).")
    password_queue: Count = Field(64, description="Logins that may wait for hashing; more are answered 503, never 401.")


class Limits(Section):
    """What one request or one account may use."""

    manifest_bytes: Bytes = Field(4 * 2**20, description="Largest manifest: 4 MiB, what the specification asks for.")
    blob_bytes: Bytes = Field(1 << 40, description="Largest blob: 1 TiB, a guard against a runaway client.")
    uploads_per_account: Count = Field(1000, description="Open upload sessions of one account.")
    tags_page: Count = Field(
        10_000, description="Most tags or repositories in one page; a Link header leads to the next."
    )


class Lane(Section):
    """The memo of answers to pulls: they are replayed from memory while nothing that they depend on has changed."""

    enabled: bool = Field(
        default=True, description="Whether answers are remembered; without it every pull is decided from the database."
    )
    memory_bytes: Bytes = Field(
        64 * 2**20, description="Memory for answers, per worker: 64 MiB, about 15,000 manifests for one caller each."
    )
    open_files: Count = Field(
        512, description="Files of pulled blobs kept open, per worker; at most an eighth of the process's limit."
    )
    notified_tags: bool = Field(
        default=False,
        description="With PostgreSQL: whether tags are replayed as well, although a change reaches other replicas only "
        "some milliseconds after its commit. Without it each pull by tag asks the database.",
    )
    outage_s: WholeSeconds = Field(
        60,
        description="With PostgreSQL: seconds for which pulls by digest are replayed while the database does not "
        "answer; what is taken away meanwhile goes on that long. 0: not at all.",
    )


class Garbage(Section):
    """Removal of what nothing references any more."""

    interval_s: Seconds = Field(3600, description="Seconds between runs: hourly.")
    grace_s: WholeSeconds = Field(
        86400, description="Seconds that an unreferenced blob is kept: 24 h, longer than any push takes."
    )
    undelete_s: WholeSeconds = Field(
        86400, description="Seconds in which a deleted manifest can be restored; its blobs are kept as long."
    )
    upload_expiry_s: WholeSeconds = Field(
        86400, description="Seconds after its last byte when an unfinished upload session expires."
    )


class Scrub(Section):
    """The check of stored blobs against their digests, those that were checked longest ago first.

    One worker of the whole installation does it.
    """

    enabled: bool = Field(default=True, description="Whether blobs are read again and compared with their digests.")
    bytes_per_s: Bytes = Field(
        16 * 2**20, description="Most bytes read per second: 16 MiB take little of a disk or a service."
    )
    cycle_s: Annotated[int, Field(ge=86400, le=MAX_S)] = Field(
        30 * 86400,
        description="Seconds in which everything is checked once, a share of it each day: 30 days. Services may charge "
        "for reads.",
    )
    interval_s: Seconds = Field(3600, description="Seconds between looks at what is left of the day's share: hourly.")


class Logs(Section):
    """What is written to standard error, and the log of requests."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least important level to write.")
    format: Literal["text", "json"] = Field("text", description="text for people, json for collectors.")
    access: Path | None = Field(
        None,
        description="File that gets one JSON line per answered request, without secrets; off by default: it costs CPU.",
    )


class Settings(Section):
    """The whole tree."""

    server: Server = Field(default_factory=Server)
    storage: Storage = Field(default_factory=Storage)
    access: Access = Field(default_factory=Access)
    limits: Limits = Field(default_factory=Limits)
    lane: Lane = Field(default_factory=Lane)
    garbage: Garbage = Field(default_factory=Garbage)
    scrub: Scrub = Field(default_factory=Scrub)
    logs: Logs = Field(default_factory=Logs)
