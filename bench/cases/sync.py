"""A mirror is filled: `skopeo sync` of 50 images of 4 tags, the real program, into an empty registry, and once more.

The figure is server CPU per 1,000 tags: skopeo decides what it asks for. It brings one Bearer token for everything, to
either: docker-registry has no token server here, and sluice takes a personal token as it is. The load's own CPU is in
the extra `skopeo_cpu_s`.
"""

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

from bench.cases.case import Case, Outcome, Scale, Stand
from bench.contenders.contender import ContenderFailed, Setting, Trait
from bench.contenders.ports import free_port
from bench.content import KIB, Layer
from bench.drivers.sync import image_name
from bench.jobs import Job
from bench.records import Unit

if TYPE_CHECKING:
    from bench.contenders.sluice import SluiceServer

_LAYER_BYTES: Final = 64 * KIB


@dataclass(frozen=True, slots=True)
class Sync:
    """One sync into a server of its own."""

    images: int
    tags: int
    name: str = "skopeo-sync"
    is_filled: bool = False
    """The registry has all of it already: what a mirror costs that is kept up to date."""
    setting: Setting = field(default_factory=lambda: Setting(fresh=True))  # else there is nothing to do the second time
    needs: frozenset[Trait] = frozenset({Trait.PUSH, Trait.LISTS})
    only: frozenset[str] = frozenset()
    cores: int = 1

    @property
    def summary(self) -> str:
        """With its numbers."""
        target = "a registry that has them all" if self.is_filled else "an empty registry"
        return f"skopeo sync of {self.images} images of {self.tags} tags into {target}, per 1,000 tags"

    @property
    def unit(self) -> Unit:
        """Tags, in thousands."""
        return Unit.KILO_REQUESTS

    def prepare(self, stand: Stand) -> None:
        """Push a blob, so that nothing is done for the first time. Raises ContenderFailed when there is no skopeo."""
        _program()
        stand.server.put_blob(stand.server.name("first"), Layer("first", KIB))

    def measure(self, stand: Stand) -> Outcome:
        """One run of skopeo, after one that fills the registry if it shall be filled."""
        port = free_port()  # one for both: skopeo remembers registries by their address
        if self.is_filled:
            filling = self._run(stand, port)
            if filling.errors:
                return filling
        return self._run(stand, port)

    def _run(self, stand: Stand, port: int) -> Outcome:
        server = stand.server
        if Trait.OURS in stand.contender.traits:
            authorization: str | None = cast("SluiceServer", server).key()  # what the trait says
        else:
            names = [server.name(image_name(number)) for number in range(self.images)]
            authorization = server.authorization(*names, push=True)
        arguments = {
            "program": _program(),
            "images": self.images,
            "tags": self.tags,
            "layer_bytes": _LAYER_BYTES,
            "prefix": server.name("x").rpartition("/")[0],
            "authorization": authorization,
            "port": port,
        }
        return stand.drive(Job("bench.drivers.sync", server.endpoint, arguments))


def _program() -> str:
    found = shutil.which("skopeo")
    if found is None:
        raise ContenderFailed("skopeo is not installed (Debian package skopeo)")
    return found


def cases(scale: Scale) -> tuple[Case, ...]:
    """Into an empty registry, and into a filled one."""
    images = 50 if scale is Scale.FULL else 5
    return Sync(images, 4), Sync(images, 4, "skopeo-sync-filled", is_filled=True)
