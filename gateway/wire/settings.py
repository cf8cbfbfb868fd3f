"""What the server needs to know, as one frozen value made from the configuration tree.

Has no defaults of its own for what the operator can set, and reads no files.
"""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Self

from gateway.config import Server

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class WireSettings:
    """Limits of one worker. Times in seconds, sizes in bytes."""

    header_timeout_s: float
    """From the first byte of a request's head (or from accept) to its last; also for a TLS handshake."""
    idle_timeout_s: float
    """How long a connection may rest between requests."""
    send_idle_timeout_s: float
    """A reader must take 64 KiB in this time, or the end of the answer, else it is dropped."""
    drain_timeout_s: float
    """How long running requests may go on after the stop signal."""
    max_connections: int
    """Open connections of this worker; beyond it the longest resting one makes room, else the new one gets 503."""
    max_connections_per_address: int | None = None
    """Open connections of this worker from one address; None: no limit of its own."""
    unlimited_networks: tuple[Network, ...] = ()
    """Addresses for which that does not hold: trusted proxies, behind which there are many clients."""
    access_log: Path | None = None
    """File that gets a line per answered request; None: no such log."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None

    header_bytes: int = 32 * 1024
    """Request line and header fields together: twice the 16 KiB that tokens with many scopes need (row LM-01)."""
    header_count: int = 128
    """Header fields of one request. Clients send up to 20; each costs a parse."""
    early_answer_bytes: int = 1 << 20
    """How much of an unread body is taken and thrown away so that the client sees an early answer (H19)."""
    early_answer_s: float = 2.0
    """How long that may take."""
    shutdown_timeout_s: float = 10.0
    """How long the application may take to close its stores after the last request."""

    def __post_init__(self) -> None:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("TLS needs both server.tls_certificate and server.tls_key; only one is set")

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.tls_certificate is not None

    def is_unlimited(self, address: str) -> bool:
        """Whether an address may have any number of connections."""
        return any(ip_address(address) in network for network in self.unlimited_networks)

    @classmethod
    def of(cls, server: Server, *, access_log: Path | None = None) -> Self:
        """The settings that the operator chose; raises ValueError for a certificate without key or the reverse."""
        return cls(
            header_timeout_s=server.header_timeout_s,
            idle_timeout_s=server.idle_timeout_s,
            send_idle_timeout_s=server.send_idle_timeout_s,
            drain_timeout_s=server.drain_timeout_s,
            max_connections=server.max_connections,
            max_connections_per_address=server.max_connections_per_address,
            unlimited_networks=tuple(ip_network(proxy) for proxy in server.trusted_proxies),
            access_log=access_log,
            tls_certificate=server.tls_certificate,
            tls_key=server.tls_key,
        )
