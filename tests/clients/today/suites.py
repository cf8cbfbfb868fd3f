"""Which Debian suites today's clients come from, where they are kept, and whether they are there.

`prepare.py` fills the folders; the tests only look. A folder that is not complete is never entered.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

BOTH: Final = ("docker.io", "docker-cli", "podman", "skopeo", "containerd", "runc", "oras", "cosign")


@dataclass(frozen=True, slots=True)
class Suite:
    """A Debian release and the packages that the tests want of it.

    `rolling`: it is not released yet, so that its versions move and its index may be past its date on a machine whose
    mirror lags; then the signature still counts and the date does not.
    """

    name: str
    packages: tuple[str, ...]
    rolling: bool

    def __str__(self) -> str:
        return self.name

    @property
    def folder(self) -> Path:
        """The root of the installed system."""
        return clients_directory() / self.name

    @property
    def mark(self) -> Path:
        """The file that says which packages the folder has in full."""
        return clients_directory() / f"{self.name}.complete"

    @property
    def obstacle(self) -> Path:
        """The file that says why the folder could not be filled when that was last tried."""
        return clients_directory() / f"{self.name}.obstacle"

    @property
    def wanted(self) -> str:
        """What the mark says when everything is there."""
        return "\n".join(self.packages)

    def complete(self) -> bool:
        """Whether the folder holds every package of the table."""
        return self.mark.is_file() and self.mark.read_text() == self.wanted

    def reason(self) -> str:
        """Why the suite cannot be used, as half a sentence; only meant for a suite that is not complete."""
        if self.obstacle.is_file():
            return f"Debian {self.name} could not be prepared: {self.obstacle.read_text()}"
        return f"Debian {self.name} is not prepared: run `make clients` as root"


SUITES: Final = (
    Suite("trixie", BOTH, rolling=False),
    Suite("forky", (*BOTH, "crane", "notation"), rolling=True),
)


def with_package(name: str) -> list[Suite]:
    """The suites that have a package."""
    return [suite for suite in SUITES if name in suite.packages]


def clients_directory() -> Path:
    """Where the suites are kept: `SLUICE_CLIENTS_DIR`, or `.clients` in the project."""
    return Path(os.environ.get("SLUICE_CLIENTS_DIR") or Path(__file__).resolve().parents[3] / ".clients")
