"""Fetches today's registry clients: a Debian suite of each kind into a folder, from the machine's own mirror.

    python -m tests.clients.today.prepare [SUITE ...]

Made once and kept; a second call finds it complete and ends at once. An interrupted call leaves the packages that it
has fetched, and the next goes on from there. Two at the same time wait for each other. Nothing of this machine is
changed: mounts live in a namespace of their own and end with it. What cannot be had is no failure: the reason is
kept beside the folder, and the tests are skipped with it.
"""

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.clients.namespaces import obstacle
from tests.clients.today.suites import SUITES, Suite, clients_directory
from tests.system_packages import SEARCH_PATH

PROBE_S: Final = 10.0
STEP_S: Final = 600.0  # a guess: ten times what a quick mirror takes
NO_SERVICES: Final = "#!/bin/sh\nexit 101\n"
INSTALL: Final = """set -eu
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
cp /etc/resolv.conf "$1/etc/resolv.conf"
exec chroot "$1" sh -euc 'apt-get -qq update && apt-get -qq -y install "$@" && apt-get clean' sh {words}
"""


class Unavailable(Exception):
    """The suite cannot be had here and now; the text says why, as half a sentence."""


def prepare(suite: Suite) -> None:
    """Fill the suite's folder unless it is complete. Raises `Unavailable`; a later call may fare better."""
    clients_directory().mkdir(parents=True, exist_ok=True)
    with _alone(suite):
        if suite.complete():
            return
        suite.mark.unlink(missing_ok=True)
        _need_programs()
        mirror = _mirror(suite)
        base = clients_directory() / f"{suite.name}.base"
        if not base.exists():
            _bootstrap(suite, mirror)
            base.touch()
        _install(suite, mirror)
        suite.mark.write_text(suite.wanted)


def _need_programs() -> None:
    if reason := obstacle():
        raise Unavailable(reason)
    if shutil.which("debootstrap", path=SEARCH_PATH) is None:
        raise Unavailable("debootstrap is not installed")


def _mirror(suite: Suite) -> str:
    """The first mirror of the machine's own apt sources that has the suite."""
    for mirror in _mirrors():
        try:
            index = f"{mirror}/dists/{suite.name}/InRelease"  # a mirror is http or https: see _mirrors
            with urllib.request.urlopen(index, timeout=PROBE_S):  # noqa: S310
                return mirror
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            continue
    raise Unavailable("no Debian mirror of this machine's apt sources has it or answers")


def _mirrors() -> list[str]:
    if shutil.which("apt-get", path=SEARCH_PATH) is None:
        return []
    form = "$(ORIGIN)|$(LABEL)|$(REPO_URI)"
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", form, "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
        timeout=PROBE_S,
    )
    rows = [line.split("|") for line in listed.stdout.splitlines()]
    found = [row[2].rstrip("/") for row in rows if row[:2] == ["Debian", "Debian"] and row[2].startswith("http")]
    return list(dict.fromkeys(found))


def _bootstrap(suite: Suite, mirror: str) -> None:
    shutil.rmtree(suite.folder, ignore_errors=True)
    packages = clients_directory() / "packages"  # what was fetched stays for the next try
    packages.mkdir(exist_ok=True)
    _step(
        f"{suite.name}: base system",
        *("unshare", "--mount", "debootstrap", "--variant=minbase", "--include=ca-certificates"),
        f"--cache-dir={packages}",
        *(suite.name, str(suite.folder), mirror, "sid"),  # the script of that name is for every newer suite
    )


def _install(suite: Suite, mirror: str) -> None:
    root = suite.folder
    (root / "etc/apt/sources.list").write_text(f"deb {mirror} {suite.name} main\n")
    settings = ['APT::Install-Recommends "false";', 'Acquire::Retries "3";', 'Dpkg::Use-Pty "0";']
    if suite.rolling:
        settings.append('Acquire::Check-Valid-Until "false";')
    (root / "etc/apt/apt.conf.d/90clients").write_text("\n".join([*settings, *_proxy()]) + "\n")
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text(NO_SERVICES)
    policy.chmod(0o755)
    script = INSTALL.format(words=" ".join(suite.packages))
    _step(f"{suite.name}: clients", "unshare", "--mount", "sh", "-c", script, "sh", str(root))


def _proxy() -> list[str]:
    """The machine's own proxy for apt, in apt's words, if it has one."""
    dumped = subprocess.run(["apt-config", "dump", "Acquire::http::Proxy"], capture_output=True, text=True, check=False)
    return dumped.stdout.splitlines()


def _step(what: str, *command: str) -> None:
    """Run one step, with its output in a file that is named where it fails."""
    log = clients_directory() / "prepare.log"
    environment = {**os.environ, "PATH": SEARCH_PATH, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    print(f"Fetching today's clients, {what}", flush=True)
    with log.open("ab") as output:
        try:
            done = subprocess.run(
                ["setpriv", "--pdeathsig", "KILL", *command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
                timeout=STEP_S,
            )
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"{what} took longer than {STEP_S:.0f} s") from error
    if done.returncode != 0:
        raise Unavailable(f"{what} ended with {done.returncode}, see {log.name} beside the folder")


@contextmanager
def _alone(suite: Suite) -> Iterator[None]:
    with Path(clients_directory() / f"{suite.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # given back when the file closes, also by a kill
        yield


def main() -> int:
    """Prepare the suites that are named, or all of them; 0 also where one cannot be had."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [suite.name for suite in SUITES]
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"one of {', '.join(names)}; default: all")
    wanted = parser.parse_args().suites or names
    if unknown := sorted(set(wanted) - set(names)):
        parser.error(f"no such suite: {', '.join(unknown)}")
    for suite in SUITES:
        if suite.name not in wanted or suite.complete():
            continue
        began = time.monotonic()
        try:
            prepare(suite)
        except Unavailable as reason:
            suite.obstacle.write_text(str(reason))
            print(suite.reason(), flush=True)
        else:
            suite.obstacle.unlink(missing_ok=True)
            print(f"{suite.name} is ready after {time.monotonic() - began:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
