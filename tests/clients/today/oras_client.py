"""oras, the command: copies images and files between folders and registries, and attaches files to images."""

import itertools
from dataclasses import dataclass, replace
from pathlib import Path

from tests.clients.images import Arrived, Image, Index, read_images, write_layout
from tests.clients.machines import Done, Machine

_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class OrasCommand:
    """oras with one person's credentials in `authfile`."""

    machine: Machine
    authfile: Path
    registry: str
    keeps_bytes: bool = True
    mounts: bool = False

    def attempt(self, *words: str | Path, given: str | None = None) -> Done:
        """`oras WORDS` for one registry, whatever comes of it."""
        return self.machine.attempt("oras", *words, "--plain-http", "--registry-config", self.authfile, given=given)

    def run(self, *words: str | Path) -> Done:
        """`oras WORDS`, which must succeed."""
        done = self.attempt(*words)
        assert done.succeeded, str(done)
        return done

    def run_in(self, folder: Path, *words: str) -> Done:
        """`oras WORDS` in a folder, from where files are named without a path, which must succeed."""
        inside = ("sh", "-c", 'cd "$1" && shift && exec oras "$@"', "sh", folder)
        return self.machine.run(*inside, *words, "--plain-http", "--registry-config", self.authfile)

    def login(self, user: str, password: str) -> Done:
        """Log in somebody new; the credentials are forgotten."""
        return replace(self, authfile=self.new_folder() / "oras.json").keep_login(user, password)

    def keep_login(self, user: str, password: str) -> Done:
        """Log in and keep it."""
        return self.attempt("login", "--username", user, "--password-stdin", self.registry, given=password)

    def push(self, image: Image, reference: str) -> None:
        """Copy the image from a folder."""
        self._push(image, reference)

    def push_index(self, index: Index, reference: str) -> None:
        """Copy the index and all of its images from a folder."""
        self._push(index, reference)

    def pull(self, reference: str, platform: str = "linux/amd64") -> Arrived:
        """Copy the image into a new folder, and say what arrived."""
        target = self.new_folder() / "pulled"
        done = self._copy_out(reference, target, "--platform", platform)
        assert done.succeeded, str(done)
        (image,) = read_images(target)
        return image

    def try_pull(self, reference: str) -> Done:
        """Copy the image into a new folder, whatever comes of it."""
        return self._copy_out(reference, self.new_folder() / "pulled")

    def new_folder(self) -> Path:
        """An empty folder."""
        folder = self.machine.work / f"oras-{next(_numbers)}"
        folder.mkdir()
        return folder

    def _push(self, made: Image | Index, reference: str) -> None:
        layout = write_layout(made, self.new_folder() / "layout", "made")
        how = ("--to-plain-http", "--to-registry-config", self.authfile)
        self.machine.run("oras", "cp", *how, "--from-oci-layout", f"{layout}:made", reference)

    def _copy_out(self, reference: str, target: Path, *words: str) -> Done:
        how = ("--from-plain-http", "--from-registry-config", self.authfile)
        return self.machine.attempt("oras", "cp", *how, *words, reference, "--to-oci-layout", f"{target}:it")
