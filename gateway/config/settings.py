"""The tree of settings itself: every key once, with its unit, its bounds and the reason for its default.

`docs/configuration.md` is generated from the descriptions. Knows neither where values come from nor what they do.
"""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    SecretStr,
    ValidationInfo,
    field_validator,
)

_YEAR_S: Final = 366 * 86400
_MAX_S: Final = 100 * _YEAR_S  # later than anybody waits, and far from what a 64-bit column of times overflows at
_MAX_PORT: Final = 65535
_MAX_WORKERS: Final = 1024  # far beyond the cores of any machine this runs on
_MIN_SECRET_CHARS: Final = 32  # 32 characters of hex are 128 bits; less could be guessed
_HOST: Final = re.compile(r"[A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.%]+\]")
_SCHEME: Final = re.compile("basic|bearer", re.IGNORECASE)
_STORAGE_NAME: Final = re.compile(r"[a-z0-9]+(?:[_-][a-z0-9]+)*")  # no "__": it separates sections in the environment


def _listen(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or not _HOST.fullmatch(host) or not (port.isascii() and port.isdigit()) or int(port) > _MAX_PORT:
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:8080 or [::]:8080")
    return text


def _workers(value: object) -> object:
    # Not a union of types: that reports one mistake as two, each under a key that nobody wrote.
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MAX_WORKERS):
        return value
    raise ValueError(f"must be a whole number from 1 to {_MAX_WORKERS}, or auto")


def _external_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment or "@" in text:
        raise ValueError("must be a URL such as https://registry.example, without query and user name")
    if not text.isascii() or not text.isprintable() or set('"\\ ') & set(text):  # every 401 quotes it
        raise ValueError("must be a URL of printable ASCII, without quotation mark, backslash and space")
    return text.rstrip("/")


def _network(text: str) -> str:
    ipaddress.ip_network(text)  # its message says what is wrong: "'x' does not appear to be an IPv4 or IPv6 network"
    return text


def _storage_name(text: str) -> str:
    if not _STORAGE_NAME.fullmatch(text):
        raise ValueError("must be lower-case letters and digits, with single '-' or '_' between them")
    return text


def _service(text: str) -> str:
    # It stands in the quoted strings of a challenge, and clients look for the names of schemes in the whole header.
    if not text.isascii() or not text.isprintable() or '"' in text or "\\" in text:
        raise ValueError("must be printable ASCII without quotation mark and backslash")
    if _SCHEME.search(text):
        raise ValueError("must not contain the word basic or bearer: clients would take it for a challenge")
    return text


def _long_enough(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value()) < _MIN_SECRET_CHARS:
        raise ValueError(f"must have at least {_MIN_SECRET_CHARS} random characters, as `openssl rand -hex 32` gives")
    return secret


Seconds = Annotated[float, Field(gt=0, le=_MAX_S, allow_inf_nan=False)]
WholeSeconds = Annotated[int, Field(ge=0, le=_MAX_S)]
Bytes = Annotated[int, Field(gt=0, le=1 << 50)]
Count = Annotated[int, Field(gt=0, le=1_000_000)]
StorageName = Annotated[str, AfterValidator(_storage_name)]


class Section(BaseModel):
    """A section of the tree: frozen, and closed against misspelt keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Server(Section):
    """Where the gateway listens and how long it waits for slow peers."""

    listen: Annotated[str, AfterValidator(_listen)] = Field(
        "127.0.0.1:8080", description="Host and port to listen on; loopback until you decide otherwise."
    )
    workers: Annotated[int | Literal["auto"], PlainValidator(_workers)] = Field(
        "auto",
        description="Processes, each of which takes every kind of request; `auto`: one per core that the gateway may "
        "use. More than one per core bring nothing.",
    )
    external_url: Annotated[str, AfterValidator(_external_url)] | None = Field(
        None, description="How clients reach the gateway, such as https://registry.example; default: from the request."
    )
    server_names: tuple[str, ...] = Field(
        (), description="Host names that clients may use; empty accepts any. Others are answered 421."
    )
    trusted_proxies: tuple[Annotated[str, AfterValidator(_network)], ...] = Field(
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


class DirectoryStorage(Section):
    """A named storage in a directory."""

    kind: Literal["directory"] = Field(
        "directory", description="Where the bytes lie; a directory is the only kind yet."
    )
    path: Path | None = Field(None, description="Directory; default: storages/NAME below the data directory.")
    compression: Literal["off", "auto"] = Field(
        "off", description="Keep blobs that compress well as seekable zstd: saves disk, costs CPU at every pull."
    )


class Storage(Section):
    """Where bytes and rows lie."""

    data: Path = Field(
        Path("data"), description="Directory of the database, keys and default storage; must be on a local disk."
    )
    database: Path | None = Field(None, description="SQLite file; default: sluice.db below the data directory.")
    default: StorageName = Field(
        "default", description="Name of the storage that new repositories use; one called `default` need not be listed."
    )
    threads: Count = Field(
        16, description="Threads for disk work per worker: enough to overlap waits, few enough to stay small."
    )
    storages: dict[StorageName, DirectoryStorage] = Field(
        default_factory=dict, validate_default=True, description="The named storages."
    )

    @field_validator("storages")
    @classmethod
    def _default_exists(cls, value: dict[str, DirectoryStorage], info: ValidationInfo) -> dict[str, DirectoryStorage]:
        default = info.data.get("default", "default")
        if default in value:
            return value
        if default != "default":
            raise ValueError(f"must hold the storage {default!r} that storage.default names")
        return {"default": DirectoryStorage(), **value}

    @property
    def database_file(self) -> Path:
        """Where the SQLite file is."""
        return self.database or self.data / "sluice.db"

    def directory(self, name: str) -> Path:
        """Where the storage of that name keeps its bytes; `KeyError` if it is not configured."""
        return self.storages[name].path or self.data / "storages" / name


class Access(Section):
    """Tokens and passwords."""

    service: Annotated[str, AfterValidator(_service)] = Field(
        "sluice", min_length=1, max_length=255, description="Audience of registry tokens; the same for all replicas."
    )
    token_lifetime_s: Annotated[int, Field(ge=60, le=900)] = Field(
        300, description="Seconds a registry token lives; below 60 docker would use dead ones."
    )
    refresh_lifetime_s: Annotated[int, Field(ge=60, le=_MAX_S)] = Field(
        90 * 86400, description="Seconds a refresh token lives without use: 90 days."
    )
    token_algorithm: Literal["HS256", "ES256"] = Field(
        "HS256", description="HS256 is the cheapest; ES256 lets others verify tokens with the public key."
    )
    key_rotation_s: Annotated[int, Field(ge=3600, le=_MAX_S)] = Field(
        30 * 86400, description="Seconds that one key signs: 30 days."
    )
    secret_key: Annotated[SecretStr, AfterValidator(_long_enough)] | None = Field(
        None,
        description="Seals the signing keys in the database; default: made once, in secret.key in the data directory.",
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
    logs: Logs = Field(default_factory=Logs)
