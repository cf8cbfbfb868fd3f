"""Registries whose blobs lie in a bucket of one S3 service: ours, and docker-registry with its S3 driver.

A contender of the usual kind is started with a bucket of its own; what it asks of the service can be told afterwards.
Rows are in SQLite and caches on disk: one replica, as small as it gets.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

from bench.contenders.contender import Contender, Endpoint, Server, Start, Trait
from bench.contenders.docker_registry import DockerRegistry
from bench.contenders.sluice import PROJECT, Sluice, SluiceServer
from bench.content import MIB, Blob, Document
from bench.peers.radosgw import BucketPlace, Radosgw, Traffic
from bench.processes import ProcessTree

_PART_BYTES: Final = 8 * MIB
_REDIRECTED: Final = "redirected"
_SECTION: Final = "SLUICE_STORAGE__STORAGES__DEFAULT__"


@dataclass(frozen=True, slots=True)
class OnBucket:
    """A registry over `service`; `begin` starts it with a bucket, `after` may furnish it."""

    name: str
    usual: Contender
    service: Radosgw
    begin: Callable[[Start, BucketPlace], Server]
    after: Callable[[Server], None] = lambda _: None

    @property
    def traits(self) -> frozenset[Trait]:
        """As the usual one, and its bucket."""
        return self.usual.traits | {Trait.BUCKET}

    def missing(self) -> str | None:
        """Both must be there."""
        return self.usual.missing() or self.service.missing()

    def start(self, how: Start) -> Server:
        """Start it, and the service if nobody uses it yet. Raises ContenderFailed."""
        bucket = self.service.bucket(how.directory, how.cores)
        try:
            server = self.begin(how, bucket)
        except BaseException:
            bucket.release()
            raise
        try:
            self.after(server)
        except BaseException:
            server.stop()
            bucket.release()
            raise
        return BucketServer(server, bucket)


class BucketServer:
    """A running registry and its bucket; see `bench.contenders.contender.Server`."""

    def __init__(self, inner: Server, bucket: BucketPlace) -> None:
        self._inner = inner
        self._bucket = bucket
        self._is_stopped = False

    @property
    def endpoint(self) -> Endpoint:
        """The registry's."""
        return self._inner.endpoint

    @property
    def version(self) -> str:
        """The registry's."""
        return self._inner.version

    @property
    def processes(self) -> ProcessTree | None:
        """The registry's alone: the service is nobody's burden."""
        return self._inner.processes

    def name(self, image: str) -> str:
        """The registry's."""
        return self._inner.name(image)

    def redirected_name(self, image: str) -> str:
        """Of an image in a repository whose blobs are pulled from the bucket itself; ours only."""
        return f"{PROJECT}/{_REDIRECTED}/{image}"

    def authorization(self, *names: str, push: bool = False) -> str | None:
        """The registry's."""
        return self._inner.authorization(*names, push=push)

    def put_blob(self, name: str, blob: Blob) -> None:
        """Push it."""
        self._inner.put_blob(name, blob)

    def put_manifest(self, name: str, manifest: Document, *tags: str) -> None:
        """Push it."""
        self._inner.put_manifest(name, manifest, *tags)

    def files_of(self, blob: Blob) -> Sequence[Path]:  # noqa: ARG002 - the contract's
        """None: the bucket has them."""
        return []

    def mark(self) -> int:
        """A point in time to ask for the traffic since."""
        return self._bucket.mark()

    def traffic(self, since: int) -> Traffic:
        """What the bucket was asked for since a mark."""
        return self._bucket.traffic(since)

    def stop(self) -> None:
        """Stop it and give the bucket up."""
        if not self._is_stopped:
            self._is_stopped = True
            self._inner.stop()
            self._bucket.release()


def sluice_on(service: Radosgw) -> OnBucket:
    """Ours, as an operator would set it up; a second repository sends its clients to the bucket."""

    def begin(how: Start, bucket: BucketPlace) -> Server:
        section = {
            "KIND": "s3",
            "BUCKET": bucket.name,
            "ENDPOINT_URL": bucket.url,
            "ACCESS_KEY_ID": bucket.access_key_id,
            "SECRET_ACCESS_KEY": bucket.secret_access_key,
            "PART_BYTES": str(_PART_BYTES),
            "REDIRECT_NETWORKS": "127.0.0.0/8",
        }
        given = tuple((f"{_SECTION}{key}", value) for key, value in section.items())
        setting = replace(how.setting, environment=(*given, *how.setting.environment))
        return Sluice("sluice-s3").start(replace(how, setting=setting))

    def furnish(server: Server) -> None:
        ours = cast("SluiceServer", server)  # as made above
        ours.make("repos", {"project": PROJECT, "name": _REDIRECTED, "redirect_pulls": True})

    return OnBucket("sluice-s3", Sluice(), service, begin, furnish)


def docker_registry_on(service: Radosgw) -> OnBucket:
    """The peer, with parts as large as ours, sending bytes itself."""

    def begin(how: Start, bucket: BucketPlace) -> Server:
        parameters: dict[str, Any] = {
            "region": "us-east-1",
            "regionendpoint": bucket.url,
            "bucket": bucket.name,
            "accesskey": bucket.access_key_id,
            "secretkey": bucket.secret_access_key,
            "secure": False,
            "chunksize": _PART_BYTES,
        }
        driver = (("s3", parameters), ("redirect", {"disable": True}))
        return DockerRegistry("docker-registry-s3", driver=driver).start(how)

    return OnBucket("docker-registry-s3", DockerRegistry(), service, begin)
