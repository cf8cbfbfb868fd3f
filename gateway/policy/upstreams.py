"""What may be entered about other registries, members and addresses; for the API and the command line. Pure.

Each function gives the text back in its one form, or raises ValueError that says what is allowed. Whether an address
leads to where nobody should be sent is decided when it is dialled, from what its name then stands for.
"""

import re
import ssl
from ipaddress import ip_address, ip_network
from typing import Final
from urllib.parse import SplitResult, urlsplit

from gateway.upstream.hub import canonical_url

MAX_URL_CHARS: Final = 500
MAX_URLS: Final = 8
MAX_PATTERN_CHARS: Final = 255
"""As long as an image name can be."""
MAX_PATTERNS: Final = 100
MAX_NETWORKS: Final = 32
MAX_PEM_CHARS: Final = 32 * 1024
MAX_TTL_S: Final = 365 * 86400
MAX_CREDENTIALS: Final = 8

_PORTS: Final = {"http": 80, "https": 443}
_MAX_PORT: Final = 65535
_MAX_HOST_CHARS: Final = 253
_PATTERN: Final = re.compile(r"[a-z0-9._/*?!\[\]-]+")
_PLATFORM: Final = re.compile(r"[a-z0-9]+/[a-z0-9_]+(/[a-z0-9.]+)?")
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?")
_LIKE_A_NUMBER: Final = re.compile(r"(0x[0-9a-f]*|[0-9]+)\.?")
_PATH: Final = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")


def remote_url(text: str) -> str:
    """The address of a registry: `https://HOST[:PORT][/PATH]`; a host alone means https. Docker Hub's names are one."""
    text = text.strip()
    if (
        len(text) > MAX_URL_CHARS
        or not text.isascii()
        or any(each.isspace() or not each.isprintable() for each in text)
    ):
        raise ValueError(f"use at most {MAX_URL_CHARS} ASCII characters without spaces")
    text = text if "://" in text else f"https://{text}"
    if "@" in text:
        raise ValueError("give user and password as credentials, not in the address")
    parts = _split(canonical_url(text))
    if parts.scheme not in _PORTS:
        raise ValueError("use https://, or http:// for a registry without TLS")
    if parts.query or parts.fragment or not _PATH.fullmatch(parts.path.rstrip("/")):
        raise ValueError("use https://HOST, with a port or a path where the registry has one, and nothing else")
    return f"{parts.scheme}://{_authority(parts)}{parts.path.rstrip('/')}"


def address(text: str) -> str:
    """A host as clients write it, with its port unless that is the scheme's own: `docker.example.com[:PORT]`."""
    text = text.strip().lower()
    if "/" in text or "@" in text or "?" in text or "#" in text or not text.isascii():
        raise ValueError("use HOST or HOST:PORT")
    parts = _split(f"https://{text}")
    port = _port(parts)
    return _host(parts) if port is None else f"{_host(parts)}:{port}"


def network(text: str) -> str:
    """Addresses that may be dialled: one, or a network as 10.1.0.0/16."""
    try:
        return str(ip_network(text.strip(), strict=False))
    except ValueError:
        raise ValueError("use an IP address or a network, such as 10.1.0.0/16") from None


def image_pattern(text: str) -> str:
    """A pattern over image names: `*` stands for anything, slashes too."""
    if len(text) > MAX_PATTERN_CHARS or not _PATTERN.fullmatch(text):
        raise ValueError("use characters of image names and the wildcards '*', '?' and '[...]'")
    return text


def platform(text: str) -> str:
    """A platform: `linux/amd64`, `linux/arm/v7`."""
    text = text.strip().lower()
    if not _PLATFORM.fullmatch(text):
        raise ValueError("use OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/arm64")
    return text


def ca_pem(text: str) -> str:
    """Certificates of authorities, PEM, which are believed for this upstream besides those of the system."""
    if len(text) > MAX_PEM_CHARS:
        raise ValueError(f"use at most {MAX_PEM_CHARS} characters")
    if "PRIVATE KEY" in text:
        raise ValueError("holds a private key: give certificates only")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, TypeError, ValueError):  # TypeError: what is not ASCII
        raise ValueError("holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)") from None
    return text


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError("is no address: use https://HOST or https://HOST:PORT") from None
    return parts


def _authority(parts: SplitResult) -> str:
    port = _port(parts)
    host = _host(parts)
    return host if port in {None, _PORTS[parts.scheme]} else f"{host}:{port}"


def _port(parts: SplitResult) -> int | None:
    if parts.netloc.endswith(":") or parts.port == 0 or (parts.port or 1) > _MAX_PORT:
        raise ValueError("the port must be between 1 and 65535")
    return parts.port


def _host(parts: SplitResult) -> str:
    """A name, or an address in its one usual form: others (`127.1`, `0x7f000001`) only hide where they lead."""
    host = (parts.hostname or "").removesuffix(".")
    if parts.netloc.startswith("["):
        try:
            return f"[{ip_address(host)}]"
        except ValueError:
            raise ValueError("[...] holds no IPv6 address") from None
    labels = host.split(".")
    if not host or len(host) > _MAX_HOST_CHARS or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("there is no valid host in it")
    if _LIKE_A_NUMBER.fullmatch(labels[-1]):
        try:
            return str(ip_address(host))
        except ValueError:
            raise ValueError("write an IP address as four decimal numbers") from None
    return host
