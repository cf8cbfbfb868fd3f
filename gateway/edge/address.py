"""Where the client believes to be, and who it is: external scheme and host, and the client's address.

Both depend on headers that anybody can write, so they are believed only from trusted proxies, read from the right
(what the nearest proxy wrote stands last), and checked for form. Pure functions of the ASGI scope; decides nothing
about rights.

Trust ends at the first address, from the right, that is not a trusted proxy. A proxy that appends gives one value per
hop, one that replaces gives a single value; both are understood. `X-Forwarded-*` is preferred; `Forwarded` (RFC 7239)
counts only where no `X-Forwarded-*` is present. A proxy must remove the family that it does not set.

Where the operator has configured one address, it is told to everybody; only names that belong to repositories (rows,
which this module does not know: `is_own`) are told as the client used them. What stands before `/v2` for the client is
what a trusted proxy says in `X-Forwarded-Prefix`; without that header a trusted proxy is taken to have rewritten the
path itself, so that nothing does; and who is not proxied sees the path as we do.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

from gateway.config import Server

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Scope = Mapping[str, Any]
T = TypeVar("T")

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_LAST_PORT: Final = 65535
_HOST: Final = re.compile(
    r"(?P<name>[a-z0-9](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_-]{1,63}){0,126}\.?|\[[0-9a-f:.]{2,45}\])(?::(?P<port>\d{1,5}))?"
)
_PREFIX: Final = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,99}){0,10}")
_FORWARDED_PAIR: Final = re.compile(r'\s*([A-Za-z]+)=(?:"([^"\\]*)"|([^\s;,"]+))\s*')


class BadHost(Exception):
    """The host or scheme that the request names is not one: 400. Retrying is useless."""


class UnknownHost(Exception):
    """The host is well-formed, but not a name of this gateway: 421. Retrying under a configured name helps."""


@dataclass(frozen=True, slots=True)
class External:
    """How the client reaches us. `host` has a port only where it is not the scheme's own; `prefix` begins with `/`."""

    scheme: str
    host: str
    prefix: str = ""

    def url(self, path: str) -> str:
        """The absolute URL of a path, which begins with `/`."""
        return f"{self.scheme}://{self.host}{self.prefix}{path}"


@dataclass(frozen=True, slots=True)
class AddressRules:
    """What the operator says about names and proxies, parsed once."""

    external: External | None = None
    server_names: frozenset[str] = frozenset()
    trusted_proxies: tuple[Network, ...] = ()

    @classmethod
    def of(cls, server: Server) -> Self:
        """The rules of a configuration; raises ValueError that names the field for a host that no client could use."""
        external = _configured(server.external_url)
        names = {_name_of(name, "server.server_names") for name in server.server_names}
        if names and external is not None:
            names.add(_name_of(external.host, "server.external_url"))
        return cls(external, frozenset(names), tuple(ip_network(proxy) for proxy in server.trusted_proxies))

    def trusts(self, address: Address | None) -> bool:
        """Whether headers from this address are believed."""
        return address is not None and any(address in network for network in self.trusted_proxies)


def named_host(scope: Scope, rules: AddressRules) -> str:
    """The host that the client named: in small letters, with its port unless that is the scheme's own; `BadHost`."""
    return _named(scope, _said_by_proxies(scope, rules)).host


def is_configured(host: str, rules: AddressRules) -> bool:
    """Whether `named_host` is answered by the configuration alone, so that nobody need ask whose name it is."""
    if rules.server_names and _split_host(host)[0] not in rules.server_names:
        return False
    return rules.external is None or host == rules.external.host


def external(scope: Scope, rules: AddressRules, *, mount: str = "", is_own: bool = False) -> External:
    """The address under which the client reaches us; the configured one wins, but for a repository's own host.

    `mount` is the sub-path of one repository that the path begins with, `is_own` whether the host is a repository's.
    Raises `BadHost` for anything but one well-formed host and `http` or `https`, and for a forwarded prefix that is no
    path; `UnknownHost` for a host that is not in the allow-list. The host is checked even when a URL is configured: a
    stranger's name may be an attack.
    """
    said = _said_by_proxies(scope, rules)
    found = _named(scope, said)
    below = "" if rules.trusts(_peer(scope)) else mount
    prefix = below if said.prefix is None else said.prefix
    if is_own:
        scheme = said.scheme or (rules.external.scheme if rules.external else found.scheme)
        return External(scheme, found.host, prefix)
    if rules.server_names and found.name not in rules.server_names:
        raise UnknownHost("this gateway does not go by that name; see server.server_names")
    if rules.external is None:
        return External(found.scheme, found.host, prefix)
    if mount and said.prefix is not None:
        return replace(rules.external, prefix=said.prefix)
    return replace(rules.external, prefix=rules.external.prefix + below)


def client_address(scope: Scope, rules: AddressRules) -> str:
    """The client's IP address: the last one that no trusted proxy has, as the nearest trusted proxy reports it.

    Nonsense in the headers ends the search there; it is never an error. `unknown` when there is no peer address.
    """
    addresses = _trail(scope, rules)
    return str(addresses[-1]) if addresses else "unknown"


def is_within(client: str, networks: Sequence[Network]) -> bool:
    """Whether what `client_address` gave lies in one of the networks; an unknown client lies in none."""
    address = _parse_address(client) if networks else None
    return address is not None and any(address in network for network in networks)


@dataclass(frozen=True, slots=True)
class _Said:
    """What trusted proxies say about the outside; nothing by default."""

    scheme: str | None = None
    host: str | None = None
    port: int | None = None
    prefix: str | None = None


@dataclass(frozen=True, slots=True)
class _Named:
    """What the client named; `host` has a port only where it is not the scheme's own."""

    scheme: str
    name: str
    host: str


def _named(scope: Scope, said: _Said) -> _Named:
    scheme = said.scheme or str(scope["scheme"])
    if scheme not in _DEFAULT_PORTS:
        raise BadHost("the forwarded scheme is neither http nor https")
    name, port = _split_host(said.host or _host_header(scope))
    port = port or said.port
    return _Named(scheme, name, name if port in {None, _DEFAULT_PORTS[scheme]} else f"{name}:{port}")


def _said_by_proxies(scope: Scope, rules: AddressRules) -> _Said:
    if not rules.trusts(_peer(scope)):
        return _Said()
    # Every trusted address in the trail but a trailing client is one hop that may have written a value.
    hops = sum(rules.trusts(address) for address in _trail(scope, rules))
    if _uses_x_forwarded(scope):
        port = _at_hop(_elements(scope, b"x-forwarded-port"), hops)
        prefix = _at_hop(_elements(scope, b"x-forwarded-prefix"), hops)
        return _Said(
            _lower(_at_hop(_elements(scope, b"x-forwarded-proto"), hops)),
            _at_hop(_elements(scope, b"x-forwarded-host"), hops),
            None if port is None else _port(port),
            None if prefix is None else _prefix(prefix),
        )
    pairs = [_forwarded_pairs(element) for element in _elements(scope, b"forwarded")]
    told = _at_hop(pairs, hops) or {}
    return _Said(_lower(told.get("proto")), told.get("host"), None)


def _trail(scope: Scope, rules: AddressRules) -> list[Address]:
    """The peer, then whom each trusted proxy reports, until one is not trusted or not an address."""
    peer = _peer(scope)
    if peer is None:
        return []
    trail = [peer]
    if _uses_x_forwarded(scope):
        reported = _elements(scope, b"x-forwarded-for")
    else:
        reported = [_forwarded_pairs(each).get("for", "") for each in _elements(scope, b"forwarded")]
    for text in reversed(reported):
        if not rules.trusts(trail[-1]) or (address := _parse_address(text)) is None:
            break
        trail.append(address)
    return trail


def _peer(scope: Scope) -> Address | None:
    client = scope.get("client")
    return _parse_address(client[0]) if client else None


def _parse_address(text: str) -> Address | None:
    """An address from `1.2.3.4`, `1.2.3.4:5`, `::1`, `[::1]` or `[::1]:5`."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _elements(scope: Scope, name: bytes) -> list[str]:
    """The elements of a comma-separated list over all its header lines, in order."""
    return [element.strip(" \t") for value in _values(scope, name) for element in value.split(",")]


def _uses_x_forwarded(scope: Scope) -> bool:
    return any(name.startswith(b"x-forwarded-") for name, _ in scope["headers"])


def _at_hop(values: list[T], hops: int) -> T | None:
    """What the outermost of `hops` trusted proxies wrote: the `hops`-th from the right, or the first there is."""
    return values[-min(hops, len(values))] if values else None


def _forwarded_pairs(element: str) -> dict[str, str]:
    pairs = (_FORWARDED_PAIR.fullmatch(pair) for pair in element.split(";"))
    return {pair[1].lower(): pair[2] if pair[2] is not None else pair[3] for pair in pairs if pair}


def _host_header(scope: Scope) -> str:
    hosts = _values(scope, b"host")
    if len(hosts) > 1:
        raise BadHost("several Host fields")
    if hosts:
        return hosts[0]
    host, port = scope["server"]  # HTTP/1.0 without Host: all we know is where it connected to
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _split_host(text: str) -> tuple[str, int | None]:
    """Lower-case name and port of one host; `BadHost` for two values, user names, spaces and all else."""
    found = _HOST.fullmatch(text.lower()) if text.isascii() else None
    if found is None:
        raise BadHost("the host is not a host name with an optional port")
    name = found["name"].removesuffix(".")
    if name.startswith("[") and _parse_address(name) is None:
        raise BadHost("the host is not an IPv6 address")
    return name, _port(found["port"]) if found["port"] else None


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= _LAST_PORT):
        raise BadHost("the port is not a number from 1 to 65535")
    return int(text)


def _prefix(text: str) -> str:
    """The path that a proxy took off, without its last slash; `BadHost` for what no client could go back to."""
    if not _PREFIX.fullmatch(path := text.removesuffix("/")):
        raise BadHost("the forwarded prefix is not a path")
    return path


def _lower(text: str | None) -> str | None:
    return None if text is None else text.lower()


def _configured(url: str | None) -> External | None:
    if url is None:
        return None
    parts = urlsplit(url)  # the configuration has checked everything but the host
    try:
        name, port = _split_host(parts.netloc)
    except BadHost as error:
        raise ValueError(f"server.external_url: {url!r}: {error}") from error
    host = name if port in {None, _DEFAULT_PORTS[parts.scheme]} else f"{name}:{port}"
    return External(parts.scheme, host, parts.path.rstrip("/"))


def _name_of(host: str, field: str) -> str:
    try:
        return _split_host(host)[0]
    except BadHost as error:
        raise ValueError(f"{field}: {host!r}: {error}") from error
