"""The types of settings: what each kind of value must look like, with the message for one that does not.

Pure checks of single values; what depends on another setting is checked by the section that has both.
"""

import ipaddress
import re
from typing import Annotated, Final, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, SecretStr

_YEAR_S: Final = 366 * 86400
MAX_S: Final = 100 * _YEAR_S  # later than anybody waits, and far from what a 64-bit column of times overflows at
_MAX_PORT: Final = 65535
_MAX_WORKERS: Final = 1024  # far beyond the cores of any machine this runs on
_MIN_SECRET_CHARS: Final = 32  # 32 characters of hex are 128 bits; less could be guessed
_HOST: Final = re.compile(r"[A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.%]+\]")
_SCHEME: Final = re.compile("basic|bearer", re.IGNORECASE)
_STORAGE_NAME: Final = re.compile(r"[a-z0-9]+(?:[_-][a-z0-9]+)*")  # no "__": it separates sections in the environment
# AWS allows lower case only, 3 to 63; Ceph also has older buckets with the others.
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_PREFIX: Final = re.compile(r"[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*")  # what no store and no signature has to escape

_MOST_PREFIX_CHARS: Final = 512  # a key has 1024 bytes at most, of which we take less than 200


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


def _endpoint_url(text: str) -> str:
    said = "must be a URL such as https://s3.example:9000, without path, query and user name"
    parts = _split(text, said)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in text:
        raise ValueError(said)
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(said)
    return text.rstrip("/")


def _database_url(secret: SecretStr) -> SecretStr:
    """No message repeats a part of the text: each could be a part of a password with a stray character in it."""
    text = secret.get_secret_value()
    said = "must be a URL such as postgresql://sluice:PASSWORD@database.example:5432/sluice"
    if "+" in text.partition(":")[0]:
        raise ValueError(f"{said}; no +driver in its scheme")
    parts = _split(text, f"{said}; `@`, `:`, `/`, `%` and `#` in a password are written as %40, %3A, %2F, %25 and %23")
    if parts.scheme not in {"postgresql", "postgres"}:
        raise ValueError(said)
    if not parts.path.strip("/") or "/" in parts.path.strip("/"):
        raise ValueError(f"{said}; it must name one database")
    if parts.fragment or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"{said}; whatever is not plain ASCII is written as %XX")
    return SecretStr("postgresql" + text[len(parts.scheme) :])


def _split(text: str, said: str) -> SplitResult:
    """The parts of a URL with a port that is a number."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:  # its own message repeats what it could not read
        raise ValueError(said) from None
    return parts


def _network(text: str) -> str:
    ipaddress.ip_network(text)  # its message says what is wrong: "'x' does not appear to be an IPv4 or IPv6 network"
    return text


def _storage_name(text: str) -> str:
    if not _STORAGE_NAME.fullmatch(text):
        raise ValueError("must be lower-case letters and digits, with single '-' or '_' between them")
    return text


def _bucket(text: str) -> str:
    if not _BUCKET.fullmatch(text):
        raise ValueError("must be the name of a bucket: 3 to 255 letters, digits, '.', '-' and '_'")
    return text


def _prefix(text: str) -> str:
    text = text.strip("/")
    fits = len(text) <= _MOST_PREFIX_CHARS and _PREFIX.fullmatch(text) and not {".", ".."} & set(text.split("/"))
    if text and not fits:
        raise ValueError("must be names of letters, digits, '.', '-' and '_', with single '/' between them")
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


Seconds = Annotated[float, Field(gt=0, le=MAX_S, allow_inf_nan=False)]
WholeSeconds = Annotated[int, Field(ge=0, le=MAX_S)]
Bytes = Annotated[int, Field(gt=0, le=1 << 50)]
BytesOrNone = Annotated[int, Field(ge=0, le=1 << 50)]
Count = Annotated[int, Field(gt=0, le=1_000_000)]
Workers = Annotated[int | Literal["auto"], PlainValidator(_workers)]
Listen = Annotated[str, AfterValidator(_listen)]
ExternalUrl = Annotated[str, AfterValidator(_external_url)]
EndpointUrl = Annotated[str, AfterValidator(_endpoint_url)]
DatabaseUrl = Annotated[SecretStr, AfterValidator(_database_url)]
Network = Annotated[str, AfterValidator(_network)]
StorageName = Annotated[str, AfterValidator(_storage_name)]
BucketName = Annotated[str, AfterValidator(_bucket)]
Prefix = Annotated[str, AfterValidator(_prefix)]
ServiceName = Annotated[str, AfterValidator(_service)]
SecretKey = Annotated[SecretStr, AfterValidator(_long_enough)]


class Section(BaseModel):
    """A section of the tree: frozen, and closed against misspelt keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")
