"""The one tree of settings: a TOML file, then `SLUICE_SECTION__KEY` from the environment, then the command line.

Unknown keys are errors and all mistakes are reported together. Every field's description states its unit and why the
default is what it is; `docs/configuration.md` is generated from here. Knows nothing of what the settings are used for.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

Seconds = Annotated[float, Field(gt=0)]
Bytes = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]


class Section(BaseModel):
    """A section of the tree: frozen, and closed against misspelt keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Server(Section):
    """Where the gateway listens and how long it waits for slow peers."""

    listen: str = Field("127.0.0.1:8080", description="Host and port to listen on; loopback until you decide otherwise.")
    workers: Count = Field(1, description="Processes; one per core is enough, each takes every kind of request.")
    external_url: str | None = Field(
        None, description="How clients reach the gateway, such as https://registry.example; default: from the request."
    )
    server_names: tuple[str, ...] = Field(
        (), description="Host names that clients may use; empty accepts any. Others are answered 421."
    )
    trusted_proxies: tuple[str, ...] = Field(
        (), description="Addresses or networks whose X-Forwarded-* headers are believed; nobody by default."
    )
    tls_certificate: Path | None = Field(None, description="PEM file with the certificate chain; turns TLS on.")
    tls_key: Path | None = Field(None, description="PEM file with the private key of the certificate.")
    header_timeout_s: Seconds = Field(10, description="Seconds for a request's head to arrive; a browser needs under one.")
    idle_timeout_s: Seconds = Field(60, description="Seconds that an idle kept-alive connection stays open.")
    body_idle_timeout_s: Seconds = Field(60, description="Seconds without one byte of a request body before giving up.")
    send_idle_timeout_s: Seconds = Field(60, description="Seconds in which a reader must take 64 KiB, else it is dropped.")
    drain_timeout_s: Seconds = Field(30, description="Seconds that running requests get after SIGTERM.")
    max_connections: Count = Field(10_000, description="Open connections per worker; 12 to 40 KiB of memory each.")


class DirectoryStorage(Section):
    """A named storage in a directory."""

    kind: Literal["directory"] = "directory"
    path: Path | None = Field(None, description="Directory; default: storages/NAME below the data directory.")
    compression: Literal["off", "auto"] = Field(
        "off", description="Keep blobs that compress well as seekable zstd: saves disk, costs CPU at every pull."
    )


class Storage(Section):
    """Where bytes and rows lie."""

    data: Path = Field(Path("data"), description="Directory of the database, keys and default storage; must be on a local disk.")
    database: Path | None = Field(None, description="SQLite file; default: sluice.db below the data directory.")
    default: str = Field("default", description="Name of the storage that new repositories use.")
    storages: dict[str, DirectoryStorage] = Field(
        default_factory=lambda: {"default": DirectoryStorage()}, description="The named storages."
    )
    threads: Count = Field(16, description="Threads for disk work per worker: enough to overlap waits, few enough to stay small.")


class Access(Section):
    """Tokens and passwords."""

    service: str = Field("sluice", description="Audience of registry tokens; the same for all replicas.")
    token_lifetime_s: Annotated[int, Field(ge=60, le=900)] = Field(
        300, description="Seconds a registry token lives; below 60 docker would use dead ones."
    )
    refresh_lifetime_s: Count = Field(90 * 86400, description="Seconds a refresh token lives without use: 90 days.")
    token_algorithm: Literal["HS256", "ES256"] = Field(
        "HS256", description="HS256 is the cheapest; ES256 lets others verify tokens with the public key."
    )
    key_rotation_s: Count = Field(30 * 86400, description="Seconds that one key signs: 30 days.")
    secret_key: SecretStr | None = Field(
        None, description="Seals the signing keys in the database; default: made once in secret.key below the data directory."
    )
    password_threads: Count = Field(2, description="Passwords hashed at once (19 MiB and about 30 ms of CPU each).")
    password_queue: Count = Field(64, description="Logins that may wait for hashing; more are answered 503, never 401.")


class Limits(Section):
    """What one request or one account may use."""

    manifest_bytes: Bytes = Field(4 * 2**20, description="Largest manifest: 4 MiB, what the specification asks for.")
    blob_bytes: Bytes = Field(1 << 40, description="Largest blob: 1 TiB, a guard against a runaway client.")
    uploads_per_account: Count = Field(1000, description="Open upload sessions of one account.")
    tags_page: Count = Field(10_000, description="Most tags or repositories in one page; a Link header leads to the next.")


class Garbage(Section):
    """Removal of what nothing references any more."""

    interval_s: Seconds = Field(3600, description="Seconds between runs: hourly.")
    grace_s: Annotated[int, Field(ge=0)] = Field(
        86400, description="Seconds that an unreferenced blob is kept: 24 h, longer than any push takes."
    )
    undelete_s: Annotated[int, Field(ge=0)] = Field(
        86400, description="Seconds in which a deleted manifest can be restored; its blobs are kept as long."
    )
    upload_expiry_s: Annotated[int, Field(ge=0)] = Field(
        86400, description="Seconds after its last byte when an unfinished upload session expires."
    )


class Logs(Section):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least important level to write.")
    format: Literal["text", "json"] = Field("text", description="text for people, json for collectors.")


class Settings(Section):
    """The whole tree."""

    server: Server = Field(default_factory=Server)
    storage: Storage = Field(default_factory=Storage)
    access: Access = Field(default_factory=Access)
    limits: Limits = Field(default_factory=Limits)
    garbage: Garbage = Field(default_factory=Garbage)
    logs: Logs = Field(default_factory=Logs)
