"""Which addresses may be connected to on behalf of an upstream, and by which certificates it is known.

A name is resolved once for each connection, here; every address is judged here; and only those that pass are dialled,
as they are. So a name that changes its mind between check and connection (DNS rebinding) gains nothing, and neither do
the many spellings of an address: what the system makes of `127.1` or `0x7f000001` is judged like any other.

Must not know: HTTP, registries, credentials.
"""

import re
import socket
import ssl
from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

from gateway.upstream.errors import UpstreamFailed, UpstreamRefused
from storage import Pool
from storage.transfer import Origin

Network = IPv4Network | IPv6Network
Lookup = Callable[[str, int], Sequence[str]]
"""Gives the addresses of a name, in order; blocks; raises OSError."""

MAX_ADDRESSES: Final = 6
"""Tried for one connection; a guess: names of registries have one to eight."""
_UNICAST: Final = ip_network("2000::/3")
"""All that IANA has given out for the public in IPv6; so mapped, NAT64, unique local and link-local forms are out."""
_RESERVED: Final = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",  # this host; Linux connects to itself
            "10.0.0.0/8",
            "100.64.0.0/10",  # carriers' own, and a cloud's metadata
            "127.0.0.0/8",
            "168.63.129.16/32",  # a cloud's metadata under a public address
            "169.254.0.0/16",  # link-local, where most clouds have their metadata
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
            "2001::/23",  # Teredo, benchmarks, ORCHID
            "2001:db8::/32",
            "2002::/16",  # 6to4: an IPv4 address in disguise
            "3fff::/20",
        ),
    )
)
"""Special purposes (RFC 6890 and IANA's registries). Our own table: the standard library's differs between versions."""
_NOT_PLAIN: Final = "an address that is not http://HOST[:PORT]/PATH or https://HOST[:PORT]/PATH"
_URL: Final = re.compile(
    r"https?://([a-z0-9_]([a-z0-9_.-]*[a-z0-9_.])?|\[(?P<literal>[0-9a-f:.]+)\])(:[0-9]{1,5})?([/?#][!-\[\]-~]*)?",
    re.IGNORECASE,
)


def origin_and_target(url: str) -> tuple[Origin, str]:
    """Where a request for this URL goes, and what stands in its request line.

    Raises `UpstreamRefused` for everything but plain `http` and `https` URLs in ASCII: other schemes, credentials in
    the URL, hosts that no name can have, backslashes and blanks, which readers of URLs do not agree on.
    """
    match = _URL.fullmatch(url)
    if match is None:
        raise UpstreamRefused(_NOT_PLAIN)
    try:
        if match["literal"] is not None:
            IPv6Address(match["literal"])
        parts = urlsplit(url)
        origin = Origin.parse(f"{parts.scheme}://{parts.netloc}")
    except ValueError as error:
        raise UpstreamRefused(_NOT_PLAIN) from error
    target = parts.path or "/"
    return origin, f"{target}?{parts.query}" if parts.query else target


def networks_of(texts: Sequence[str]) -> tuple[Network, ...]:
    """From `10.0.0.0/8` or a single address; ValueError for anything else."""
    return tuple(ip_network(text, strict=False) for text in texts)


def may_dial(address: str, allowed: Sequence[Network] = ()) -> bool:
    """Whether this literal address is public, or lies in one of the networks that are `allowed` nevertheless."""
    parsed = ip_address(address)
    return any(parsed in network for network in allowed) or _is_public(parsed)


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if address.version == _UNICAST.version and address not in _UNICAST:
        return False
    return not any(address in network for network in _RESERVED)


def system_lookup(host: str, port: int) -> Sequence[str]:
    """What the system's resolver says; blocks."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Dialler:
    """Resolves and judges for one policy. `addresses` is the hook of both HTTP clients.

    `names`: the pool that look-ups block, one for each upstream. `private_networks`: see `networks_of`; ValueError.
    """

    def __init__(self, names: Pool, private_networks: Sequence[str] = (), *, lookup: Lookup = system_lookup) -> None:
        self._names = names
        self._allowed = networks_of(private_networks)
        self._lookup = lookup

    async def addresses(self, origin: Origin) -> Sequence[str]:
        """The addresses that may be dialled for one connection, 1 to `MAX_ADDRESSES`, asked for anew each time.

        Raises `UpstreamRefused` when the name has addresses, but none that may; OSError when it has none.
        """
        found = await self._resolve(origin)
        dialled = [address for address in found if may_dial(address, self._allowed)]
        if not dialled:
            raise UpstreamRefused(
                f"{origin} has no public address; an administrator can allow its network (private_networks)"
            )
        return dialled[:MAX_ADDRESSES]

    async def _resolve(self, origin: Origin) -> Sequence[str]:
        try:
            return [str(ip_address(origin.host))]
        except ValueError:
            return await self._names.look(self._lookup, origin.host, origin.port)


@lru_cache(maxsize=64)
def tls_context(ca_pem: str | None) -> ssl.SSLContext:
    """The certificates to believe: the system's, and those of the text if there is one. Reads files (some 20 ms).

    The system's stay because an upstream with a private CA may send clients to a public store for its blobs.
    Raises `UpstreamFailed` when the text holds no certificates.
    """
    context = ssl.create_default_context()
    if ca_pem is not None:
        try:
            context.load_verify_locations(cadata=ca_pem)
        except ssl.SSLError as error:
            raise UpstreamFailed("the CA of this upstream is not a certificate in PEM; enter it anew") from error
    return context
