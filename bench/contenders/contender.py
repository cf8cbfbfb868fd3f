"""What the suite asks of a server under test: to start, to hold content, to say who may pull, and to stop.

A `Contender` is the recipe, a `Server` the running thing. Everything here blocks: it runs in the suite's own process,
never in a load process. What is measured comes from `processes`; contenders know nothing of cases.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from bench.content import Blob, Document
from bench.processes import Cores, ProcessTree


class ContenderFailed(Exception):
    """A contender did not start, answer or take content as a registry should. The message holds what it said."""


class Trait(StrEnum):
    """What a contender can do; a case names what it needs."""

    PUSH = "push"
    """Takes uploads over the wire (nginx does not)."""
    TOKENS = "tokens"
    """Asks for a registry token, so that its figures contain the work of checking one."""
    LISTS = "lists"
    """Answers tags/list, the catalog and the rest of the registry API."""
    OURS = "ours"
    """Is a sluice, so that its own API can be called."""
    MANY_CORES = "many cores"
    """Runs on more than one core; only cases about that want it."""
    PROXY = "proxy"
    """Fetches from an upstream what it does not have, and tells what it asks of that; only cases about that want it."""
    BUCKET = "bucket"
    """Keeps blobs in a bucket of an S3 service and tells what it asks of that; only cases about that want it."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How a case wants its servers started. Servers of equal setting are shared by cases."""

    tls: bool = False
    fresh: bool = False
    """A server of its own for every round (memory, restarts); dearer."""
    arguments: tuple[str, ...] = ()
    """More arguments for `sluice serve`; other contenders ignore them."""
    environment: tuple[tuple[str, str], ...] = ()
    """More settings for `sluice serve`, such as ("SLUICE_JOBS__...", "..."); other contenders ignore them."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server listens. `certificate` (PEM, the one to trust) is set when it speaks TLS."""

    host: str
    port: int
    certificate: Path | None = None
    authority: str = ""
    """The Host header, when it is not `host:port`."""

    @property
    def address(self) -> str:
        """Host and port, as in a Host header."""
        return self.authority or f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end."""
        return f"{'https' if self.certificate else 'http'}://{self.address}"


@dataclass(frozen=True, slots=True)
class Start:
    """What `Contender.start` gets: an empty directory of its own, the cores it may use, how the case wants it."""

    directory: Path
    cores: Cores
    setting: Setting = field(default_factory=Setting)


class Server(Protocol):
    """A running contender. `stop` it when done; it never outlives the suite's process on purpose."""

    @property
    def endpoint(self) -> Endpoint:
        """Where it listens."""

    @property
    def version(self) -> str:
        """What it says it is, such as `docker-registry 2.8.2`."""

    @property
    def processes(self) -> ProcessTree | None:
        """Its processes, for CPU and memory; None for a server that is only known by its URL."""

    def name(self, image: str) -> str:
        """The name under which clients ask for an image called `image`, such as `bench/load/app`."""

    def authorization(self, *names: str, push: bool = False) -> str | None:
        """The Authorization header that lets a client pull (and push) these names, good for minutes; None: needs none.

        Every call gives a fresh one. Raises ContenderFailed when it is refused.
        """

    def put_blob(self, name: str, blob: Blob) -> None:
        """Make it hold a blob. Cheap when it was put before. Raises ContenderFailed."""

    def put_manifest(self, name: str, manifest: Document, *tags: str) -> None:
        """Make it hold a manifest by its digest and by these tags; its blobs must be there. Raises ContenderFailed."""

    def files_of(self, blob: Blob) -> Sequence[Path]:
        """The files on disk that hold a blob, to drop them from the page cache; empty when nobody can know."""

    def stop(self) -> None:
        """Stop it and wait, with a deadline. Does nothing the second time."""


class Contender(Protocol):
    """The recipe of a server."""

    @property
    def name(self) -> str:
        """How reports call it."""

    @property
    def traits(self) -> frozenset[Trait]:
        """What it can do."""

    def missing(self) -> str | None:
        """Why it cannot be started here (a program is not installed), or None."""

    def start(self, start: Start) -> Server:
        """Start it on loopback, wait until it answers. Raises ContenderFailed, with its log's end."""
