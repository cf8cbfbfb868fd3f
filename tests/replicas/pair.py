"""Several real gateways over one database and one bucket, behind a front that gives each request to the next one.

Every replica is a `sluice serve` of its own with an empty data directory: what they share is the installation.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.replicas.front import Front
from tests.served import Served
from tests.servers.installation import Installation


@dataclass(frozen=True, slots=True)
class Replicas:
    """Running gateways; a test may stop, kill and start them by themselves. `front` stands before all of them."""

    installation: Installation
    members: tuple[Served, ...]
    front: Front
    through: Served
    """A client of the front with the same words as for a gateway; it is no process, and is not started."""

    def stored(self, digest: str) -> int:
        """Of how many objects in the bucket the bytes of a blob are; counted by its markers."""
        return sum(f"/{digest.partition(':')[2]}/" in key for key in self.installation.markers())


@contextmanager
def serve(
    installation: Installation, folder: Path, *, environments: Sequence[Mapping[str, str]] = ()
) -> Iterator[Replicas]:
    """Start the replicas, one after the other, and end them with the block, whatever became of them meanwhile.

    Two with the installation's own environment, or one with each of those given.
    """
    with ExitStack() as stack:
        members = []
        for number, variables in enumerate(environments or [installation.environment()] * 2):
            member = Served(folder / f"replica-{number}", environment=variables)
            stack.callback(_end, member)
            member.start()
            members.append(member)
        front = stack.enter_context(Front([member.port for member in members]))
        yield Replicas(installation, tuple(members), front, Served(folder / "front", port=front.port))


def _end(member: Served) -> None:
    if member.process is not None and member.process.poll() is None:
        member.kill()
