"""A suite is used only when it is complete, and what stands in the way is said."""

from pathlib import Path

import pytest

from tests.clients.today import prepare
from tests.clients.today.suites import SUITES, Suite, clients_directory

SUITE = Suite("nosuch", ("one", "two"), rolling=False)


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of clients that is empty."""
    monkeypatch.setenv("SLUICE_CLIENTS_DIR", str(tmp_path))
    return tmp_path


def test_the_folder_can_be_chosen(folder: Path) -> None:
    """SLUICE_CLIENTS_DIR says where suites are kept."""
    assert clients_directory() == folder
    assert SUITES[0].folder == folder / "trixie"


def test_complete_means_these_packages(folder: Path) -> None:
    """A suite is complete with exactly the packages that are wanted today; a changed list means preparing again."""
    assert not SUITE.complete()

    SUITE.mark.write_text(SUITE.wanted)

    assert SUITE.complete()
    assert not Suite("nosuch", ("one", "two", "three"), rolling=False).complete()


def test_what_stood_in_the_way_is_the_reason(folder: Path) -> None:
    """The reason of a skip is what the last attempt said, or that there was none."""
    assert SUITE.reason() == "Debian nosuch is not prepared: run `make clients` as root"

    SUITE.obstacle.write_text("it needs root")

    assert SUITE.reason() == "Debian nosuch could not be prepared: it needs root"


def test_a_suite_that_no_mirror_has(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Without a mirror that answers, nothing is fetched and the reason is kept for the tests."""
    monkeypatch.setattr(prepare, "SUITES", (SUITE,))
    monkeypatch.setattr(prepare, "_need_programs", lambda: None)
    monkeypatch.setattr(prepare, "_mirrors", lambda: ["http://127.0.0.1:9"])
    monkeypatch.setattr("sys.argv", ["prepare"])

    assert prepare.main() == 0

    assert SUITE.reason().endswith("no Debian mirror of this machine's apt sources has it or answers")
    assert not SUITE.complete()
    assert not SUITE.folder.exists()


def test_a_complete_suite_costs_nothing(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Preparing what is complete starts no program."""
    monkeypatch.setattr(prepare, "SUITES", (SUITE,))
    monkeypatch.setattr(prepare, "_step", lambda *_: pytest.fail("a program was started"))
    monkeypatch.setattr("sys.argv", ["prepare"])
    SUITE.mark.write_text(SUITE.wanted)

    assert prepare.main() == 0
