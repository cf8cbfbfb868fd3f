"""What cases of equal small requests and of bulk share: one frozen case that fires shots in a closed loop."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from bench.cases.case import Outcome, Stand
from bench.contenders.contender import Setting, Trait
from bench.jobs import Job, Shot
from bench.records import Unit

_UNTIL_STOPPED_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Repeated:
    """A closed loop of `connections` clients, each asking again as soon as it is answered."""

    name: str
    summary: str
    unit: Unit
    connections: int
    seconds: float
    """How long; each request that was begun is ended."""
    put: Callable[[Stand], None]
    """Puts the content."""
    shots: Callable[[Stand], Sequence[Shot]]
    """What is asked, with a fresh token, each time that a round begins."""
    reconnect: bool = False
    setting: Setting = field(default_factory=Setting)
    needs: frozenset[Trait] = frozenset()
    only: frozenset[str] = frozenset()
    cores: int = 1

    def prepare(self, stand: Stand) -> None:
        """Put the content."""
        self.put(stand)

    def measure(self, stand: Stand) -> Outcome:
        """One load process with all connections."""
        return stand.drive(
            repeat(
                stand,
                self.shots(stand),
                connections=self.connections,
                seconds=self.seconds,
                reconnect=self.reconnect,
            )
        )


def repeat(stand: Stand, shots: Sequence[Shot], *, background: bool = False, **arguments: Any) -> Job:
    """A job that fires these shots; `arguments` are those of `bench.drivers.repeat.drive`.

    In the background it goes on until it is stopped, unless something else is asked for.
    """
    if background:
        arguments.setdefault("seconds", _UNTIL_STOPPED_S)
    given = {"shots": [asdict(shot) for shot in shots], **arguments}
    return Job("bench.drivers.repeat", stand.server.endpoint, given, background=background)


def authorized(stand: Stand, *names: str, **headers: str) -> Mapping[str, str]:
    """Request headers with what lets a client pull these names."""
    authorization = stand.server.authorization(*names)
    return {"Authorization": authorization, **headers} if authorization else headers
