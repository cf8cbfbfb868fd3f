"""What docs/scaling.md tells an operator to copy can be used as it stands."""

import json
import re
from pathlib import Path
from typing import Final

import pytest

from gateway.config import S3Storage, load
from gateway.config.schema import keys

PAGE: Final = (Path(__file__).resolve().parents[1] / "docs" / "scaling.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The blocks of the page in that language; there must be some, or nothing would be tested."""
    found = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert found, language
    return found


@pytest.mark.parametrize("text", blocks("toml"))
def test_each_configuration_loads(text: str, tmp_path: Path) -> None:
    """And has a bucket in it."""
    file = tmp_path / "sluice.toml"
    file.write_text(text, encoding="utf-8")

    assert isinstance(load(file=file).storage.storages["main"], S3Storage)


def test_the_policy_is_json() -> None:
    """With a statement for the bucket and one for what is in it."""
    (text,) = blocks("json")

    assert [each["Resource"].endswith("/*") for each in json.loads(text)["Statement"]] == [False, True]


def test_settings_that_the_page_names_exist() -> None:
    """Each `section.key` in backticks is one."""
    known = {key.dotted for key in keys()}
    named = set(re.findall(r"`((?:server|storage|access|lane|garbage|scrub)\.[a-z_]+)", PAGE))

    assert len(named) > 5
    assert named <= known
