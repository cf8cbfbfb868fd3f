"""Pushing layers: with Content-Length as containerd does, and chunked as docker does, one or several at once."""

import os
from dataclasses import asdict, dataclass, field
from typing import Final

from bench.cases.case import Case, Outcome, Scale, Stand
from bench.contenders.contender import Setting, Trait
from bench.content import MIB, Layer
from bench.jobs import Job
from bench.records import Unit

AT_ONCE: Final = (1, 4, 16)


@dataclass(frozen=True, slots=True)
class Push:
    """New layers, at once, over a connection each."""

    at_once: int
    size_bytes: int
    streamed: bool
    setting: Setting = field(default_factory=lambda: Setting(fresh=True))  # else the disk fills with pushed layers
    needs: frozenset[Trait] = frozenset({Trait.PUSH})
    only: frozenset[str] = frozenset()
    cores: int = 1

    @property
    def name(self) -> str:
        """By manner and number."""
        return f"push-{'streamed' if self.streamed else 'monolithic'}-{self.at_once}"

    @property
    def summary(self) -> str:
        """In words."""
        manner = "POST, chunked PATCH and PUT" if self.streamed else "POST and PUT with Content-Length"
        return f"Push of {self.at_once} layers of {self.size_bytes // MIB} MiB at once by {manner}"

    @property
    def unit(self) -> Unit:
        """Bulk."""
        return Unit.GIB

    def prepare(self, stand: Stand) -> None:
        """Push a small layer, so that nothing is done for the first time in the measurement."""
        stand.server.put_blob(stand.server.name("pushed"), Layer("first", MIB))

    def measure(self, stand: Stand) -> Outcome:
        """One load process with all pushers."""
        os.sync()  # what others left unwritten is not this contender's burden
        name = stand.server.name("pushed")
        layers = [Layer(f"{self.name}-{stand.round}-{number}", self.size_bytes) for number in range(self.at_once)]
        arguments = {
            "layers": [asdict(layer) for layer in layers],
            "name": name,
            "authorization": stand.server.authorization(name, push=True),
            "streamed": self.streamed,
        }
        return stand.drive(Job("bench.drivers.push", stand.server.endpoint, arguments))


def cases(scale: Scale) -> tuple[Case, ...]:
    """Both manners by number; 16 at once push smaller layers, to spare the disk."""
    whole = 256 * MIB if scale is Scale.FULL else 32 * MIB
    return tuple(
        Push(at_once, whole if at_once < 16 else whole // 4, streamed)
        for streamed in (False, True)
        for at_once in AT_ONCE
    )
