"""docker: a daemon of one's own, and the command line against it.

The daemon has its own folders and socket, makes no network and starts no container; it is stopped with the block that
opened it. `containerd_store=True` takes the image store that newer versions use by default. Knows how docker is told
what to do, and what it must be spared: other command lines on PATH, and a key file in the machine's /etc.
"""

import contextlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.clients.images import Arrived, Image, Index, read_content, read_images, write_archive, write_docker_archive
from tests.clients.machines import Done, Machine

_numbers = itertools.count()
CONTENT = "data/containerd/daemon/io.containerd.content.v1.content/blobs"


@dataclass(frozen=True, slots=True)
class Docker:
    """The command line of one daemon, with one person's credentials in `config`."""

    machine: Machine
    socket: Path
    config: Path
    registry: str
    containerd_store: bool = False
    keeps_bytes: bool = False
    mounts: bool = True

    def attempt(self, *words: str | Path, given: str | None = None) -> Done:
        """`docker WORDS`, whatever comes of it."""
        return self.machine.attempt(
            "docker", "--host", f"unix://{self.socket}", *words, given=given, environment=self._environment()
        )

    def run(self, *words: str | Path, given: str | None = None) -> Done:
        """`docker WORDS`, which must succeed."""
        done = self.attempt(*words, given=given)
        assert done.succeeded, str(done)
        return done

    def with_config(self) -> "Docker":
        """The same daemon for somebody who has not logged in."""
        return replace(self, config=self._new_folder("config"))

    def login(self, user: str, password: str, registry: str | None = None) -> Done:
        """Log in somebody new; the credentials are forgotten."""
        return self.with_config().keep_login(user, password, registry)

    def keep_login(self, user: str, password: str, registry: str | None = None) -> Done:
        """Log in and keep it, like a person does."""
        return self.attempt("login", "--username", user, "--password-stdin", registry or self.registry, given=password)

    def credentials(self) -> dict[str, str]:
        """What docker keeps about the registry."""
        kept: dict[str, dict[str, dict[str, str]]] = json.loads((self.config / "config.json").read_text())
        return kept["auths"][self.registry]

    def load(self, image: Image, *names: str) -> None:
        """Bring an image in under these names."""
        self.run("load", "--input", write_docker_archive(image, self._new_folder("load") / "image.tar", *names))

    def push(self, image: Image, reference: str) -> None:
        """Bring the image in and push it."""
        if self.containerd_store:  # this store keeps an archive's bytes as they are
            self._load_archive(image, reference)
        else:
            self.load(image, reference)
        self.run("push", reference)

    def push_index(self, index: Index, reference: str) -> None:
        """Bring all images in and push them under one reference."""
        if self.containerd_store:
            self._load_archive(index, reference)
            self.run("push", reference)
            return
        parts = []
        for image in index.images:
            parts.append(f"{reference}-{image.platform.replace('/', '-')}")
            self.push(image, parts[-1])
        self.run("manifest", "create", "--insecure", reference, *parts)
        for image, part in zip(index.images, parts, strict=True):
            system, _, architecture = image.platform.partition("/")
            self.run("manifest", "annotate", "--os", system, "--arch", architecture, reference, part)
        self.run("manifest", "push", "--insecure", "--purge", reference)

    def pull(self, reference: str, platform: str = "linux/amd64") -> Arrived:
        """Forget all images, pull this one, and say what arrived."""
        self.forget_images()
        self.run("pull", "--quiet", "--platform", platform, reference)
        return self.held(reference, platform)

    def try_pull(self, reference: str) -> Done:
        """Forget all images and pull, whatever comes of it."""
        self.forget_images()
        return self.attempt("pull", reference)

    def held(self, reference: str, platform: str = "linux/amd64") -> Arrived:
        """What the daemon has under a reference."""
        if self.containerd_store:  # `docker save` cannot write an image of which one platform was pulled
            digest = self.run("image", "inspect", "--format", "{{.Id}}", reference).output.strip()
            return read_content(self.socket.parent / CONTENT, digest, platform)
        path = self._new_folder("save") / "image.tar"
        if "@" in reference:  # docker saves what is named by digest only under its id
            reference = self.run("image", "inspect", "--format", "{{.Id}}", reference).output.strip()
        self.run("save", "--output", path, reference)
        (image,) = read_images(path)
        return image

    def forget_images(self) -> None:
        """Remove every image, so that a pull has to fetch all of it."""
        ids = sorted(set(self.run("image", "ls", "--all", "--quiet", "--no-trunc").lines()))
        if ids:
            self.run("image", "rm", "--force", *ids)

    def _load_archive(self, made: Image | Index, reference: str) -> None:
        self.run("load", "--input", write_archive(made, self._new_folder("load") / "oci.tar", reference))

    def _new_folder(self, purpose: str) -> Path:
        folder = self.machine.work / f"docker-{purpose}-{next(_numbers)}"
        folder.mkdir()
        return folder

    def _environment(self) -> dict[str, str]:
        return {"DOCKER_CONFIG": str(self.config), "DOCKER_CLI_EXPERIMENTAL": "enabled", "DOCKER_BUILDKIT": "0"}


@contextlib.contextmanager
def docker_daemon(machine: Machine, registry: str, *, containerd_store: bool = False) -> Iterator[Docker]:
    """A daemon in folders of its own, and somebody without credentials at its command line."""
    place = machine.work / f"dockerd-{next(_numbers)}"
    place.mkdir()
    (place / "daemon.json").write_text(json.dumps({"features": {"containerd-snapshotter": containerd_store}}))
    command: list[str | Path] = [
        "dockerd",
        *("--config-file", place / "daemon.json", "--data-root", place / "data", "--exec-root", place / "exec"),
        *("--host", f"unix://{place / 'docker.sock'}", "--pidfile", place / "pid"),
        *("--bridge", "none", "--iptables=false", "--ip6tables=false", "--insecure-registry", "127.0.0.0/8"),
    ]
    docker = Docker(machine, place / "docker.sock", place, registry, containerd_store, keeps_bytes=containerd_store)

    def answers() -> bool:
        return docker.attempt("version").succeeded

    with machine.daemon(*command, ready=answers):
        yield docker.with_config()
