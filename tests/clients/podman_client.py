"""podman and buildah: one image store of one's own, used by either program.

Both take the same words for what is tested here; where they differ, the class for the one says so. No container is
started, and what is built is built without a network.
"""

import itertools
from dataclasses import dataclass, replace
from pathlib import Path

from tests.clients.images import Arrived, Image, Index, read_images, write_docker_archive, write_layout
from tests.clients.machines import Done, Machine

_numbers = itertools.count()
STORAGE = """[storage]
driver = "{driver}"
graphroot = "{store}/root"
runroot = "{store}/run"
[storage.options.pull_options]
enable_partial_images = "true"
"""
POLICY = '{"default": [{"type": "insecureAcceptAnything"}]}'


@dataclass(frozen=True, slots=True)
class Podman:
    """podman over the image store in `store`, with one person's credentials in `authfile`."""

    machine: Machine
    store: Path
    authfile: Path
    registry: str
    keeps_bytes: bool = False
    mounts: bool = True
    program: str = "podman"

    def attempt(self, *words: str | Path, given: str | None = None) -> Done:
        """`podman WORDS`, whatever comes of it."""
        own = ["--events-backend", "none", "--tmpdir", str(self.store / "tmp")] if self.program == "podman" else []
        return self.machine.attempt(
            self.program,
            *own,
            *words,
            given=given,
            environment=self._environment(),
        )

    def run(self, *words: str | Path) -> Done:
        """`podman WORDS`, which must succeed."""
        done = self.attempt(*words)
        assert done.succeeded, str(done)
        return done

    def with_authfile(self) -> "Podman":
        """The same store for somebody who has not logged in."""
        return replace(self, authfile=_nobody(self.new_folder()))

    def login(self, user: str, password: str) -> Done:
        """Log in somebody new; the credentials are forgotten."""
        return self.with_authfile().keep_login(user, password)

    def keep_login(self, user: str, password: str) -> Done:
        """Log in and keep it."""
        words = ("--tls-verify=false", "--username", user, "--password-stdin", self.registry)
        return self.attempt("login", *words, given=password)

    def load(self, image: Image, name: str) -> None:
        """Bring an image in under this full name."""
        archive = write_docker_archive(image, self.new_folder() / "image.tar", name)
        self.run("pull", "--quiet", f"docker-archive:{archive}")

    def push(self, image: Image, reference: str) -> None:
        """Bring the image in and push it."""
        self.load(image, reference)
        self.run("push", "--tls-verify=false", reference, f"docker://{reference}")

    def push_index(self, index: Index, reference: str) -> None:
        """Bring all images in and push them under one reference."""
        made = f"localhost/index-{next(_numbers)}"
        self.run("manifest", "create", made)
        for image in index.images:
            layout = write_layout(image, self.new_folder() / "layout", "made")
            self.run("manifest", "add", made, f"oci:{layout}:made")
        self.run("manifest", "push", "--all", "--tls-verify=false", made, f"docker://{reference}")

    def pull(self, reference: str, platform: str = "linux/amd64") -> Arrived:
        """Forget all images, pull this one, and say what arrived."""
        self.forget_images()
        _, _, architecture = platform.partition("/")
        self.run("pull", "--quiet", "--tls-verify=false", "--arch", architecture, reference)
        return self.held(reference)

    def try_pull(self, reference: str) -> Done:
        """Forget all images and pull, whatever comes of it."""
        self.forget_images()
        return self.attempt("pull", "--quiet", "--tls-verify=false", reference)

    def held(self, reference: str) -> Arrived:
        """What the store has under a reference."""
        target = self.new_folder() / "saved"  # `dir:` changes nothing; other targets convert the configuration
        self.run("push", "--quiet", reference, f"dir:{target}")
        (image,) = read_images(target)
        return image

    def forget_images(self) -> None:
        """Remove every image and with them every layer, so that a pull has to fetch all of it."""
        if self.run(*self._listing()).lines():
            self.run("rmi", "--all", "--force")

    def new_folder(self) -> Path:
        """An empty folder."""
        folder = self.machine.work / f"{self.program}-{next(_numbers)}"
        folder.mkdir()
        return folder

    def _listing(self) -> tuple[str, ...]:
        return ("images", "--all", "--quiet")

    def _environment(self) -> dict[str, str]:
        return {
            "REGISTRY_AUTH_FILE": str(self.authfile),
            "CONTAINERS_STORAGE_CONF": str(self.store / "storage.conf"),
            "BUILDAH_ISOLATION": "chroot",
        }


def _nobody(folder: Path) -> Path:
    """A file of credentials with none in it: podman wants the file that it is pointed to."""
    authfile = folder / "auth.json"
    authfile.write_text("{}")
    return authfile


def new_podman(machine: Machine, registry: str, *, program: str = "podman", driver: str = "vfs") -> Podman:
    """The program over an empty store, for somebody who has not logged in.

    `vfs` works on every file system; `overlay` is what people use.
    """
    store = machine.work / f"{program}-store-{next(_numbers)}"
    store.mkdir()
    (store / "storage.conf").write_text(STORAGE.format(driver=driver, store=store))
    configuration = machine.work / "home" / ".config" / "containers"
    configuration.mkdir(parents=True, exist_ok=True)
    (configuration / "policy.json").write_text(POLICY)
    return Podman(machine, store, _nobody(store), registry, program=program)
