"""skopeo: copies images between folders and registries, and keeps no state but its credentials."""

import itertools
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.clients.images import Arrived, Image, Index, read_images, write_layout
from tests.clients.machines import Done, Machine

_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Skopeo:
    """skopeo with one person's credentials in `authfile`."""

    machine: Machine
    authfile: Path
    registry: str
    keeps_bytes: bool = True
    mounts: bool = True

    def attempt(self, command: str, *words: str | Path, given: str | None = None) -> Done:
        """`skopeo COMMAND WORDS` with the credentials, whatever comes of it."""
        return self.machine.attempt(
            "skopeo", "--insecure-policy", command, "--authfile", self.authfile, *words, given=given
        )

    def run(self, command: str, *words: str | Path) -> Done:
        """`skopeo COMMAND WORDS`, which must succeed."""
        done = self.attempt(command, *words)
        assert done.succeeded, str(done)
        return done

    def with_authfile(self) -> "Skopeo":
        """The same for somebody who has not logged in."""
        return replace(self, authfile=self.new_folder() / "auth.json")

    def login(self, user: str, password: str) -> Done:
        """Log in somebody new; the credentials are forgotten."""
        return self.with_authfile().keep_login(user, password)

    def keep_login(self, user: str, password: str) -> Done:
        """Log in and keep it."""
        words = ("--tls-verify=false", "--username", user, "--password-stdin", self.registry)
        return self.attempt("login", *words, given=password)

    def write(self, made: Image | Index) -> Path:
        """A new OCI layout with this under the tag `made`."""
        return write_layout(made, self.new_folder() / "layout", "made")

    def push(self, image: Image, reference: str) -> None:
        """Bring the image in and push it."""
        self.run("copy", "--dest-tls-verify=false", f"oci:{self.write(image)}:made", f"docker://{reference}")

    def push_index(self, index: Index, reference: str) -> None:
        """Bring all images in and push them under one reference."""
        self.run("copy", "--all", "--dest-tls-verify=false", f"oci:{self.write(index)}:made", f"docker://{reference}")

    def pull(self, reference: str, platform: str = "linux/amd64") -> Arrived:
        """Copy the image into a new folder, and say what arrived."""
        _, _, architecture = platform.partition("/")
        target = self.new_folder() / "pulled"
        self.run(
            "copy",
            "--src-tls-verify=false",
            "--override-arch",
            architecture,
            f"docker://{reference}",
            f"oci:{target}:it",
        )
        (image,) = read_images(target)
        return image

    def try_pull(self, reference: str) -> Done:
        """Copy the image into a new folder, whatever comes of it."""
        return self.attempt("copy", "--src-tls-verify=false", f"docker://{reference}", f"oci:{self.new_folder()}/it:it")

    def tags(self, name: str) -> list[str]:
        """The tags of an image, given without tag."""
        listing = json.loads(self.run("list-tags", "--tls-verify=false", f"docker://{name}").output)
        return list(listing["Tags"])

    def raw(self, reference: str) -> bytes:
        """The manifest's own bytes."""
        return self.run("inspect", "--raw", "--tls-verify=false", f"docker://{reference}").output.encode()

    def inspect(self, reference: str) -> dict[str, Any]:
        """What skopeo says about an image."""
        value: dict[str, Any] = json.loads(self.run("inspect", "--tls-verify=false", f"docker://{reference}").output)
        return value

    def delete(self, reference: str) -> Done:
        """Delete by tag, which skopeo does by the digest behind it."""
        return self.run("delete", "--tls-verify=false", f"docker://{reference}")

    def new_folder(self) -> Path:
        """An empty folder."""
        folder = self.machine.work / f"skopeo-{next(_numbers)}"
        folder.mkdir()
        return folder
