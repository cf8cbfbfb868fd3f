"""crane: pushes, pulls and copies images, and lists and deletes them."""

import itertools
from dataclasses import dataclass, replace
from pathlib import Path

from tests.clients.images import Arrived, Image, Index, read_images, write_layout
from tests.clients.machines import Done, Machine

_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Crane:
    """crane with one person's credentials in the folder `config`. It speaks plain HTTP to loopback unasked."""

    machine: Machine
    config: Path
    registry: str
    keeps_bytes: bool = True
    mounts: bool = False

    def attempt(self, *words: str | Path, given: str | None = None) -> Done:
        """`crane WORDS`, whatever comes of it."""
        return self.machine.attempt("crane", *words, given=given, environment={"DOCKER_CONFIG": str(self.config)})

    def run(self, *words: str | Path) -> Done:
        """`crane WORDS`, which must succeed."""
        done = self.attempt(*words)
        assert done.succeeded, str(done)
        return done

    def login(self, user: str, password: str) -> Done:
        """Try the credentials of somebody new."""
        return replace(self, config=self.new_folder()).keep_login(user, password)

    def keep_login(self, user: str, password: str) -> Done:
        """Keep the credentials, and ask for the list of images, because crane itself does not try them."""
        kept = self.attempt("auth", "login", self.registry, "--username", user, "--password-stdin", given=password)
        return self.attempt("catalog", self.registry) if kept.succeeded else kept

    def push(self, image: Image, reference: str) -> None:
        """Push the image from a folder."""
        self.run("push", write_layout(image, self.new_folder() / "layout", "made"), reference)

    def push_index(self, index: Index, reference: str) -> None:
        """Push the index and all of its images from a folder."""
        self.run("push", write_layout(index, self.new_folder() / "layout", "made"), reference)

    def pull(self, reference: str, platform: str = "linux/amd64") -> Arrived:
        """Fetch the image into a new folder, and say what arrived."""
        target = self.new_folder() / "pulled"
        self.run("pull", "--format=oci", "--platform", platform, reference, target)
        (image,) = read_images(target)
        return image

    def try_pull(self, reference: str) -> Done:
        """Fetch the image into a new folder, whatever comes of it."""
        return self.attempt("pull", "--format=oci", reference, self.new_folder() / "pulled")

    def new_folder(self) -> Path:
        """An empty folder."""
        folder = self.machine.work / f"crane-{next(_numbers)}"
        folder.mkdir()
        return folder
