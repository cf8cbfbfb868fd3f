#!/usr/bin/env python3
"""The programs that come from the operating system and that some tests drive: what they are, and how to get them.

Runs on a bare Python 3.11 (it is what prepares the machine) and knows nothing of Sluice. `install` brings in what is
missing where apt can do so as root, and starts no service; `report` says what is missing and which tests that costs.
Both are quick when nothing is missing, and neither fails because a program cannot be had: those tests are skipped.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SEARCH_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
"""Only where the distribution installs: a program of the same name earlier on PATH may be something else."""

POLICY = Path("/usr/sbin/policy-rc.d")
"""Debian asks this program before a package may start its service; exit code 101 means no."""

APT = ("apt-get", "-qq", "-o", "Dpkg::Use-Pty=0", "-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=120")
APT_DEADLINE_S = 1200  # a guess: half a gigabyte through a slow mirror
INSTALL = ("install", "--yes", "--no-install-recommends")
UNWANTED = {"ceph-mon": ("ceph-mgr-",)}
"""What apt is told to leave out of a package (a minus at the end says so): a hundred others that it can do without."""


@dataclass(frozen=True, slots=True)
class Program:
    """One program, the packages that may carry it (first that exists wins), and the tests that go without it."""

    name: str
    packages: tuple[str, ...]
    needed_for: str
    also_in: str = ""  # a glob of folders beside SEARCH_PATH

    def path(self) -> Path | None:
        """Where the program is, or None. Asks the file system each time."""
        if found := shutil.which(self.name, path=SEARCH_PATH):
            return Path(found)
        folders = sorted(Path("/").glob(self.also_in.lstrip("/"))) if self.also_in else []
        return next((folder / self.name for folder in reversed(folders) if (folder / self.name).exists()), None)


PROGRAMS = (
    Program("dockerd", ("docker.io",), "clients: docker"),
    # Newer Debian ships the command line apart from the daemon.
    Program("docker", ("docker-cli", "docker.io"), "clients: docker"),
    Program("podman", ("podman",), "clients: podman"),
    Program("buildah", ("buildah",), "clients: buildah"),
    Program("skopeo", ("skopeo",), "clients: skopeo"),
    Program("containerd", ("containerd",), "clients: containerd"),
    Program("ctr", ("containerd",), "clients: containerd"),
    Program("runc", ("runc",), "clients: docker and containerd"),
    Program("debootstrap", ("debootstrap",), "clients: the newer docker, podman, skopeo, containerd, oras, crane"),
    Program("docker-registry", ("docker-registry",), "clients: a second registry as peer and upstream"),
    Program("nginx", ("nginx-light", "nginx"), "protocol: behind a reverse proxy"),
    Program("initdb", ("postgresql",), "postgres", also_in="/usr/lib/postgresql/*/bin"),
    Program("ceph-mon", ("ceph-mon",), "s3: Ceph's radosgw"),
    Program("ceph-osd", ("ceph-osd",), "s3: Ceph's radosgw"),
    Program("radosgw", ("radosgw",), "s3: Ceph's radosgw"),
    Program("swift-proxy-server", ("swift-proxy",), "s3: Swift's s3api"),
    Program("swift-account-server", ("swift-account",), "s3: Swift's s3api"),
    Program("swift-container-server", ("swift-container",), "s3: Swift's s3api"),
    Program("swift-object-server", ("swift-object",), "s3: Swift's s3api"),
    Program("memcached", ("memcached",), "s3: Swift's s3api"),
)


def missing() -> list[Program]:
    """The programs that are not on this machine, in the order of the table."""
    return [program for program in PROGRAMS if program.path() is None]


def obstacle() -> str | None:
    """Why nothing can be installed here, as half a sentence, or None where apt can be used."""
    if shutil.which("apt-get") is None:
        return "there is no apt-get"
    if os.geteuid() != 0:
        return "apt-get needs root"
    return None


def install() -> None:
    """Install what is missing, one package after the other where all at once fails.

    Never raises for a package that cannot be had; `report` names it.
    """
    absent = missing()
    if not absent:
        return
    if reason := obstacle():
        print(f"System programs are not installed: {reason}.", flush=True)
        return
    print(f"Installing for the tests: {', '.join(program.name for program in absent)}", flush=True)
    _apt("update")
    packages = sorted({package for program in absent if (package := _available(program))})
    with _services_held_back():
        if packages and not _apt(*_wanted(*packages)):
            for package in packages:
                _apt(*_wanted(package))


def report() -> list[str]:
    """One line for each program that is missing, naming its package and the tests that are left out; else none."""
    lines = [
        f"left out: {program.needed_for}: {program.name} is not installed (Debian package {program.packages[0]})"
        for program in missing()
    ]
    if lines and (reason := obstacle()):
        lines.append(f"left out: the programs above could not be installed because {reason}")
    return lines


def _available(program: Program) -> str | None:
    for package in program.packages:
        answer = subprocess.run(["apt-cache", "policy", package], capture_output=True, text=True, check=False)
        candidates = [line for line in answer.stdout.splitlines() if "Candidate:" in line]
        if any("(none)" not in line for line in candidates):
            return package
    return None


def _wanted(*packages: str) -> list[str]:
    """The words for apt that install these, and what has to be said about them."""
    unwanted = [each for package in packages for each in UNWANTED.get(package, ())]
    return [*INSTALL, *packages, *unwanted]


def _apt(*words: str) -> bool:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "l"}
    try:
        done = subprocess.run(
            [*APT, *words], env=environment, check=False, stdin=subprocess.DEVNULL, timeout=APT_DEADLINE_S
        )
    except subprocess.TimeoutExpired:
        print(f"apt-get {words[0]} did not end within {APT_DEADLINE_S} s", flush=True)
        return False
    return done.returncode == 0


@contextmanager
def _services_held_back() -> Iterator[None]:
    """No package may start its service meanwhile: the tests run their own, on their own ports and folders."""
    if POLICY.exists() or POLICY.is_symlink():  # somebody has a policy already; it is theirs to keep
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def main() -> int:
    """Run one of the two commands; the exit code is 0 also when something could not be had."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["install", "report"])
    command = parser.parse_args().command
    if command == "install":
        install()
    else:
        print(*report(), sep="\n", end="\n" if missing() else "")
    return 0


if __name__ == "__main__":
    sys.exit(main())
