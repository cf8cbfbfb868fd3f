"""containerd: a daemon of one's own, and `ctr` against it.

The daemon has its own folders and socket and only what images need: no pods, no containers. `ctr` is given the
credentials with each command; it does not log in.
"""

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.clients.images import Arrived, Image, Index, make_image, read_content, write_archive
from tests.clients.machines import Done, Machine

_numbers = itertools.count()
CONTENT = "root/io.containerd.content.v1.content/blobs"
CONFIGURATION = """version = 2
root = "{place}/root"
state = "{place}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"]
[grpc]
  address = "{place}/containerd.sock"
[ttrpc]
  address = "{place}/ttrpc.sock"
"""
# Newer versions unpack in the daemon, and only for platforms that they are told of.
UNPACK = """[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "{platform}"
  snapshotter = "native"
  differ = "walking"
"""
PLATFORMS = ("linux/amd64", "linux/arm64", "linux/s390x")


@dataclass(frozen=True, slots=True)
class Ctr:
    """`ctr` with one person's name and password."""

    machine: Machine
    socket: Path
    registry: str
    credentials: tuple[str, str]
    keeps_bytes: bool = True
    mounts: bool = False

    def attempt(self, *words: str | Path) -> Done:
        """`ctr WORDS`, whatever comes of it."""
        return self.machine.attempt("ctr", "--address", self.socket, "--namespace", "sluice", *words)

    def run(self, *words: str | Path) -> Done:
        """`ctr WORDS`, which must succeed."""
        done = self.attempt(*words)
        assert done.succeeded, str(done)
        return done

    def login(self, user: str, password: str) -> Done:
        """Try the credentials: the first upload is refused where they are wrong."""
        reference = f"{self.registry}/common/docker-hosted/login-{next(_numbers)}:1.0"
        self.load(make_image(layers=2), reference)
        return replace(self, credentials=(user, password)).try_push(reference)

    def load(self, made: Image | Index, reference: str) -> None:
        """Bring an image or index in under this full name."""
        archive = write_archive(made, self.new_folder() / "image.tar", reference)
        self.run("images", "import", "--all-platforms", "--no-unpack", archive)

    def push(self, image: Image, reference: str) -> None:
        """Bring the image in and push it."""
        self.load(image, reference)
        done = self.try_push(reference, "--platform", image.platform)
        assert done.succeeded, str(done)

    def push_index(self, index: Index, reference: str) -> None:
        """Bring all images in and push them under one reference."""
        self.load(index, reference)
        done = self.try_push(reference)
        assert done.succeeded, str(done)

    def try_push(self, reference: str, *words: str) -> Done:
        """Push what is under this name, whatever comes of it."""
        return self.attempt("images", "push", *self._how(), *words, reference)

    def pull(self, reference: str, platform: str = "linux/amd64") -> Arrived:
        """Forget all images, pull this one, and say what arrived."""
        done = self.try_pull(reference, "--platform", platform)
        assert done.succeeded, str(done)
        return self.held(reference, platform)

    def pull_by(self, reference: str, *how: str | Path) -> Arrived:
        """Forget all images, pull this one by such means, and say what arrived."""
        self.forget_images()
        self.run("images", "pull", "--snapshotter", "native", "--user", ":".join(self.credentials), *how, reference)
        return self.held(reference)

    def held(self, reference: str, platform: str = "linux/amd64") -> Arrived:
        """What the daemon has under a reference."""
        _, row = self.run("images", "list", f"name=={reference}").lines()
        _, _, digest, *_ = row.split()
        return read_content(self.socket.parent / CONTENT, digest, platform)

    def try_pull(self, reference: str, *words: str) -> Done:
        """Forget all images and pull, whatever comes of it."""
        self.forget_images()
        # `native` copies whole layers, which every file system allows.
        return self.attempt("images", "pull", "--snapshotter", "native", *self._how(), *words, reference)

    def forget_images(self) -> None:
        """Remove every image and wait until its bytes are gone, so that a pull has to fetch all of it."""
        if names := self.run("images", "list", "--quiet").lines():
            self.run("images", "remove", "--sync", *names)

    def new_folder(self) -> Path:
        """An empty folder."""
        folder = self.machine.work / f"ctr-{next(_numbers)}"
        folder.mkdir()
        return folder

    def _how(self) -> tuple[str, ...]:
        return ("--plain-http", "--user", ":".join(self.credentials))


@contextlib.contextmanager
def containerd_daemon(machine: Machine, registry: str, credentials: tuple[str, str]) -> Iterator[Ctr]:
    """A daemon in folders of its own, and somebody with these credentials at its command line."""
    place = machine.work / f"containerd-{next(_numbers)}"
    place.mkdir()
    unpack = "".join(UNPACK.format(platform=platform) for platform in PLATFORMS)
    (place / "config.toml").write_text(CONFIGURATION.format(place=place) + unpack)
    ctr = Ctr(machine, place / "containerd.sock", registry, credentials)

    def answers() -> bool:
        return ctr.attempt("version").succeeded

    with machine.daemon("containerd", "--config", place / "config.toml", ready=answers):
        yield ctr
