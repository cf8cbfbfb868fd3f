"""`sluice config`: shows, checks and explains; mistakes are all listed and nothing is shown of secrets."""

from pathlib import Path

from gateway.config import Settings, load, reference
from tests.gateway.cli.command import Sluice, run


def test_the_effective_tree_is_a_configuration(tmp_path: Path) -> None:
    """File, environment and options together, as a file that gives the same again."""
    file = tmp_path / "sluice.toml"
    file.write_text("[server]\nworkers = 3\n[limits]\ntags_page = 7\n")
    environ = {"SLUICE_SERVER__WORKERS": "4", "SLUICE_ACCESS__SECRET_KEY": "0123456789abcdef" * 2}

    shown = run("config", "show", "--config", str(file), "--data", "elsewhere", environ=environ)
    copy = tmp_path / "copy.toml"
    copy.write_text(shown.out.replace("***", "0123456789abcdef" * 2))
    loaded = load(file=copy)

    assert shown.code == 0
    assert "0123456789abcdef" not in shown.out
    assert (loaded.server.workers, loaded.limits.tags_page, loaded.storage.data) == (4, 7, Path("elsewhere"))


def test_the_file_can_be_named_by_a_variable(tmp_path: Path) -> None:
    """As containers do; the option wins."""
    file = tmp_path / "sluice.toml"
    file.write_text("[server]\nworkers = 3\n")

    assert "workers = 3" in run("config", "show", environ={"SLUICE_CONFIG": str(file)}).out


def test_all_mistakes_are_listed_with_exit_code_2(tmp_path: Path) -> None:
    """By every command that loads the configuration."""
    file = tmp_path / "sluice.toml"
    file.write_text("[server]\nworkers = 0\nlisen = 'x'\n")

    for words in (["config", "check"], ["config", "show"], ["user", "list"], ["serve"]):
        outcome = run(*words, "--config", str(file), environ={"SLUICE_LOGS__LEVEL": "loud"})
        assert outcome.code == 2
        assert "server.workers = 0: must be a whole number from 1 to 1024, or auto" in outcome.err
        assert "server.lisen: unknown key; did you mean listen?" in outcome.err
        assert "SLUICE_LOGS__LEVEL" in outcome.err


def test_a_good_configuration_is_said_to_be(sluice: Sluice) -> None:
    """Exit code 0."""
    assert sluice.good("config", "check").out == (
        f"the configuration is good: listens on {Settings().server.listen}, storages default\n"
    )


def test_the_reference_is_printed_or_written(tmp_path: Path) -> None:
    """The same page."""
    file = tmp_path / "configuration.md"

    printed = run("config", "reference")
    run("config", "reference", "--write", str(file))

    assert printed.out == reference() == file.read_text(encoding="utf-8")
