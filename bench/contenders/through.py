"""Registries that fetch from an upstream what they do not have: ours, and docker-registry as a proxy.

A contender of the usual kind is started with an upstream of its own; what is put goes there, what is pulled comes from
the contender.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, cast

from bench.contenders.contender import Contender, Endpoint, Server, Start, Trait
from bench.contenders.docker_registry import DockerRegistry
from bench.contenders.sluice import PROJECT, Sluice, SluiceServer
from bench.content import MIB, Blob, Document
from bench.peers.upstream import Asked, Upstream
from bench.processes import ProcessTree

UPSTREAM_BYTES_PER_S: Final = 16 * MIB
"""What each connection to the upstream gets: an upstream is far away. At the speed of loopback the load itself would
decide when the last of hundreds of clients has its last byte."""
_REPOSITORY: Final = "mirror"


@dataclass(frozen=True, slots=True)
class Through:
    """A proxy of an upstream; `begin` starts it, `prefix` is what its names begin with."""

    name: str
    usual: Contender
    begin: Callable[[Start, Upstream], Server]
    prefix: str

    @property
    def traits(self) -> frozenset[Trait]:
        """As the usual one, without pushes, and the upstream."""
        return (self.usual.traits - {Trait.PUSH, Trait.LISTS}) | {Trait.PROXY}

    def missing(self) -> str | None:
        """The registry, and nginx for the upstream."""
        return self.usual.missing() or Upstream.missing()

    def start(self, how: Start) -> Server:
        """Start both. Raises ContenderFailed."""
        upstream = Upstream.start(how, bytes_per_s=UPSTREAM_BYTES_PER_S)
        try:
            return ThroughServer(self.begin(how, upstream), upstream, self.prefix)
        except BaseException:
            upstream.stop()
            raise


class ThroughServer:
    """A running proxy and its upstream; see `bench.contenders.contender.Server`."""

    def __init__(self, inner: Server, upstream: Upstream, prefix: str) -> None:
        self._inner = inner
        self._prefix = prefix
        self.upstream = upstream

    @property
    def endpoint(self) -> Endpoint:
        """The proxy's."""
        return self._inner.endpoint

    @property
    def version(self) -> str:
        """The proxy's."""
        return self._inner.version

    @property
    def processes(self) -> ProcessTree | None:
        """The proxy's alone: the upstream is nobody's burden."""
        return self._inner.processes

    def name(self, image: str) -> str:
        """What clients of the proxy call it."""
        return f"{self._prefix}{image}"

    def authorization(self, *names: str, push: bool = False) -> str | None:
        """The proxy's."""
        return self._inner.authorization(*names, push=push)

    def put_blob(self, name: str, blob: Blob) -> None:
        """Make the upstream hold it."""
        self.upstream.put_blob(name.removeprefix(self._prefix), blob)

    def put_manifest(self, name: str, manifest: Document, *tags: str) -> None:
        """Make the upstream hold it."""
        self.upstream.put_manifest(name.removeprefix(self._prefix), manifest, *tags)

    def files_of(self, blob: Blob) -> Sequence[Path]:
        """The proxy's."""
        return self._inner.files_of(blob)

    def mark(self) -> int:
        """A point in time to ask for what the upstream was asked for since."""
        return self.upstream.mark()

    def asked(self, since: int) -> Asked:
        """What the upstream was asked for since a mark."""
        return self.upstream.asked(since)

    def stop(self) -> None:
        """Stop both."""
        self._inner.stop()
        self.upstream.stop()


def sluice_through(name: str = "sluice-proxy", *, workers: int = 1) -> Through:
    """Ours, as an operator would set it up."""
    usual = Sluice(name, workers=workers)

    def begin(how: Start, upstream: Upstream) -> Server:
        server = usual.start(how)
        try:
            ours = cast("SluiceServer", server)  # as made above
            ours.make(
                "repos",
                {
                    "project": PROJECT,
                    "name": _REPOSITORY,
                    "repository_type": "proxy",
                    "remote_url": upstream.endpoint.url,
                    "private_networks": ["127.0.0.0/8"],
                },
            )
        except BaseException:
            server.stop()
            raise
        return server

    return Through(name, usual, begin, f"{PROJECT}/{_REPOSITORY}/")


def docker_registry_through() -> Through:
    """The peer."""

    def begin(how: Start, upstream: Upstream) -> Server:
        return replace(DockerRegistry("docker-registry-proxy"), upstream=upstream.endpoint.url).start(how)

    return Through("docker-registry-proxy", DockerRegistry(), begin, "")
