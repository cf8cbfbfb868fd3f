"""The table of system programs is right about this machine, and what is missing is said."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import system_packages
from tests.system_packages import PROGRAMS, Program

HERE = Program("sh", ("dash",), "nothing")
NOWHERE = Program("sluice-no-such-program", ("no-such-package",), "clients: none")
VERSION_FLAG = {"nginx": "-v"}
WITHOUT_VERSION = {f"swift-{each}-server" for each in ("account", "container", "object", "proxy")}


@pytest.mark.clients
@pytest.mark.parametrize("name", [each.name for each in PROGRAMS])
def test_a_program_runs(name: str, program: Callable[[str], Path]) -> None:
    """Each program of the table that is on the machine starts and tells its version, or how it is used."""
    flag = "--help" if name in WITHOUT_VERSION else VERSION_FLAG.get(name, "--version")
    command = [str(program(name)), flag]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)

    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert "Usage" in said if flag == "--help" else any(character.isdigit() for character in said)


def test_a_missing_program_is_reported_with_its_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report names the program, its package and the tests that are left out."""
    monkeypatch.setattr(system_packages, "PROGRAMS", (HERE, NOWHERE))

    first, *rest = system_packages.report()

    assert first == (
        "left out: clients: none: sluice-no-such-program is not installed (Debian package no-such-package)"
    )
    assert len(rest) == (system_packages.obstacle() is not None)


def test_nothing_is_said_or_done_when_nothing_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With every program present, install is silent and the report is empty."""
    monkeypatch.setattr(system_packages, "PROGRAMS", (HERE,))

    system_packages.install()

    assert capsys.readouterr().out == ""
    assert system_packages.report() == []


def test_the_manager_of_ceph_is_left_out() -> None:
    """The monitor is installed without the manager that it recommends; nothing is said about it to others."""
    assert system_packages._wanted("ceph-mon", "radosgw")[-3:] == ["ceph-mon", "radosgw", "ceph-mgr-"]
    assert system_packages._wanted("skopeo")[-1] == "skopeo"


def test_a_program_is_found_only_where_the_distribution_installs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A program of the same name elsewhere on PATH does not count: it may be something else."""
    impostor = tmp_path / NOWHERE.name
    impostor.write_text("#!/bin/sh\n")
    impostor.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    assert NOWHERE.path() is None


def test_the_newest_of_several_folders_wins(tmp_path: Path) -> None:
    """Of programs installed side by side by version, the highest version is taken."""
    for version in ("14", "15"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin" / NOWHERE.name).touch()
    wanted = Program(NOWHERE.name, (), "", also_in=f"{tmp_path}/*/bin")

    assert wanted.path() == tmp_path / "15" / "bin" / NOWHERE.name
