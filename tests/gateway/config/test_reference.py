"""The reference page is what the code says."""

from pathlib import Path

from gateway.config import DirectoryStorage, load, reference
from gateway.config.schema import keys

PAGE = Path(__file__).resolve().parents[3] / "docs" / "configuration.md"


def test_the_page_is_up_to_date() -> None:
    """`docs/configuration.md` is what `sluice config reference --write` would write."""
    assert PAGE.read_text(encoding="utf-8") == reference(), "run: sluice config reference --write docs/configuration.md"


def test_every_key_is_on_the_page() -> None:
    """Each with its default and its meaning, in the section where it stands."""
    page = reference()

    for key in keys():
        section = page.partition(f"## [{'.'.join(key.path[:-1])}]\n")[2].partition("\n## ")[0]
        assert f"| `{key.path[-1]}` | {key.allowed} |" in section


def test_the_example_on_the_page_is_valid(tmp_path: Path) -> None:
    """Who copies the example gets a configuration that loads."""
    file = tmp_path / "example.toml"
    file.write_text(reference().partition("```toml\n")[2].partition("```")[0], encoding="utf-8")

    loaded = load(file=file)

    assert loaded.storage.storages["archive"] == DirectoryStorage(path=Path("/mnt/large/sluice"), compression="auto")
    assert loaded.storage.storages["main"].kind == "s3"


def test_sections_of_several_kinds_have_a_table_for_each() -> None:
    """Under one heading, each with its own keys; what must be set says so."""
    section = reference().partition("## [storage.storages.NAME]\n")[2].partition("\n## ")[0]
    directory, bucket = section.split("### kind = ")[1:]

    assert "| `compression` |" in directory
    assert "| `compression` |" not in bucket
    assert "| `bucket` | text | must be set |" in bucket
