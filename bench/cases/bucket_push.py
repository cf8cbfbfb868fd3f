"""Pushing layers into a bucket: what it costs the registry, what that asks of the service, how long a commit takes."""

from dataclasses import asdict, dataclass, field

from bench.cases.bucket import watched
from bench.cases.case import Case, Outcome, Scale, Stand
from bench.contenders.contender import Setting, Trait
from bench.content import KIB, MIB, Layer
from bench.jobs import Job
from bench.records import Unit

_SMALL_BYTES = 30 * MIB
_CHUNK_BYTES = MIB


@dataclass(frozen=True, slots=True)
class BucketPush:
    """New layers, at once, over a connection each. They stay: a bucket is larger than a round."""

    name: str
    summary: str
    at_once: int
    size_bytes: int
    streamed: bool = True
    chunk_bytes: int | None = None
    setting: Setting = field(default_factory=Setting)
    needs: frozenset[Trait] = frozenset({Trait.PUSH, Trait.BUCKET})
    only: frozenset[str] = frozenset()
    cores: int = 1

    @property
    def unit(self) -> Unit:
        """Bulk."""
        return Unit.GIB

    def prepare(self, stand: Stand) -> None:
        """Push a small layer, so that nothing is done for the first time in the measurement."""
        stand.server.put_blob(stand.server.name("pushed"), Layer(f"{self.name}-first", 64 * KIB))

    def measure(self, stand: Stand) -> Outcome:
        """One load process with all pushers."""
        name = stand.server.name("pushed")
        layers = [Layer(f"{self.name}-{stand.round}-{number}", self.size_bytes) for number in range(self.at_once)]
        arguments = {
            "layers": [asdict(layer) for layer in layers],
            "name": name,
            "authorization": stand.server.authorization(name, push=True),
            "streamed": self.streamed,
            "chunk_bytes": self.chunk_bytes,
        }
        job = Job("bench.drivers.push", stand.server.endpoint, arguments)
        stored_bytes = self.at_once * self.size_bytes
        return watched(stand, lambda: stand.drive(job), blobs=self.at_once, stored_bytes=stored_bytes)


def cases(scale: Scale) -> tuple[Case, ...]:
    """One large, one whose digest is told first, a small one whole and in pieces, and a crowd."""
    full = scale is Scale.FULL
    large = 1024 * MIB if full else 64 * MIB
    crowd, of_crowd = (64, 32 * MIB) if full else (16, 12 * MIB)
    return (
        BucketPush(
            "s3-push-streamed",
            f"Push of a layer of {large // MIB} MiB by POST, chunked PATCH and PUT into a bucket, in parts of 8 MiB",
            1,
            large,
        ),
        BucketPush(
            "s3-push-known",
            f"Push of a layer of {large // MIB} MiB by POST and PUT, which tell its digest and length first",
            1,
            large,
            streamed=False,
        ),
        BucketPush(
            "s3-push-small",
            f"Push of a layer of {_SMALL_BYTES // MIB} MiB by POST, chunked PATCH and PUT into a bucket",
            1,
            _SMALL_BYTES,
        ),
        BucketPush(
            "s3-push-small-chunks",
            f"Push of a layer of {_SMALL_BYTES // MIB} MiB by POST, a PATCH for each MiB, and PUT into a bucket",
            1,
            _SMALL_BYTES,
            chunk_bytes=_CHUNK_BYTES,
        ),
        BucketPush(
            "s3-push-crowd",
            f"Push of {crowd} layers of {of_crowd // MIB} MiB at once by POST, chunked PATCH and PUT into a bucket",
            crowd,
            of_crowd,
            setting=Setting(fresh=True),  # for its memory
        ),
    )
