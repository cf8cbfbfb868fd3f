"""Pulls and pushes at the same time, in fixed amounts: what a registry does on a working day.

Both loads begin together; the figure is CPU per GiB of both together, so the mixture is the same for every server,
however fast it is with either. Latencies are those of pulls and pushes in one.
"""

import os
from dataclasses import asdict, dataclass, field, replace
from typing import Final

from bench.cases.case import Case, Outcome, Scale, Stand
from bench.cases.traffic import authorized, repeat
from bench.contenders.contender import Setting, Trait
from bench.content import MIB, Layer
from bench.jobs import Job, Shot
from bench.records import Unit

PULLERS: Final = 8
PUSHERS: Final = 4
_LAYER_BYTES: Final = 16 * MIB
_LAYERS: Final = 8
_PULLS_PER_PUSH: Final = 4
"""Bytes pulled for each byte pushed. A guess: a build pushes once what some runners pull."""


@dataclass(frozen=True, slots=True)
class Mixed:
    """Some of both."""

    pushed_bytes: int
    """By each pusher, in one layer."""
    name: str = "mixed-pull-push"
    setting: Setting = field(default_factory=lambda: Setting(fresh=True))  # else the disk fills with pushed layers
    needs: frozenset[Trait] = frozenset({Trait.PUSH})
    only: frozenset[str] = frozenset()
    cores: int = 1

    @property
    def summary(self) -> str:
        """In words."""
        return (
            f"{PUSHERS} chunked pushes of {self.pushed_bytes // MIB} MiB beside {self._pulls} pulls of layers of "
            f"{_LAYER_BYTES // MIB} MiB over {PULLERS} connections"
        )

    @property
    def unit(self) -> Unit:
        """Bulk, both ways."""
        return Unit.GIB

    def prepare(self, stand: Stand) -> None:
        """Put what is pulled."""
        name = stand.server.name("mixed")
        for number in range(_LAYERS):
            stand.server.put_blob(name, _layer(number))

    def measure(self, stand: Stand) -> Outcome:
        """A process for the pulls and one for the pushes."""
        os.sync()  # what others left unwritten is not this contender's burden
        pulls = repeat(stand, self._shots(stand), connections=PULLERS, requests=self._pulls)
        outcome = stand.drive(pulls, self._push(stand))
        return replace(outcome, extra={"pulls": self._pulls, "pushes": PUSHERS, **outcome.extra})

    @property
    def _pulls(self) -> int:
        return self.pushed_bytes * PUSHERS * _PULLS_PER_PUSH // _LAYER_BYTES

    def _shots(self, stand: Stand) -> list[Shot]:
        name = stand.server.name("mixed")
        headers = authorized(stand, name)
        layers = [_layer(number) for number in range(_LAYERS)]
        return [
            Shot(f"/v2/{name}/blobs/{layer.digest}", 200, layer.size_bytes, headers=headers, digest=layer.digest)
            for layer in layers
        ]

    def _push(self, stand: Stand) -> Job:
        name = stand.server.name("pushed")
        arguments = {
            "layers": [asdict(Layer(f"mixed-{stand.round}-{number}", self.pushed_bytes)) for number in range(PUSHERS)],
            "name": name,
            "authorization": stand.server.authorization(name, push=True),
            "streamed": True,
        }
        return Job("bench.drivers.push", stand.server.endpoint, arguments)


def _layer(number: int) -> Layer:
    return Layer(f"mixed-{number}", _LAYER_BYTES)


def cases(scale: Scale) -> tuple[Case, ...]:
    """One."""
    return (Mixed(128 * MIB if scale is Scale.FULL else 16 * MIB),)
