"""The tree keeps the architecture, and each rule of it catches what it is there to catch."""

from pathlib import Path

import pytest

from tests import architecture
from tests.architecture import RULES, Rule, Tree

ROOT = Path(__file__).resolve().parents[1]
DOC = '"""Doc."""\n'


@pytest.fixture(scope="module")
def project() -> Tree:
    """The project that the tests belong to."""
    return Tree(ROOT)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_project_keeps_the_rule(rule: Rule, project: Tree) -> None:
    """The project has no finding under any rule; each finding says what to do."""
    findings = list(rule(project))
    assert not findings, "\n".join(["", *findings])


OFFENCES = [
    (architecture.imports_are_absolute, "gateway/edge/guard.py", "from . import streams\n"),
    (architecture.imports_point_down, "storage/content.py", "import gateway.oci\n"),
    (architecture.imports_point_down, "gateway/oci/names.py", "from gateway.v2 import blobs\n"),
    (architecture.imports_point_down, "gateway/v2/blobs.py", "def f():\n    from gateway.api.users import User\n"),
    (architecture.everything_has_a_home, "gateway/novelty.py", ""),
    (architecture.everything_has_a_home, "gateway/__init__.py", "import gateway.config\n"),
    (architecture.everything_has_a_home, "gateway/edge/guard.py", "import gateway\n"),
    (architecture.wire_knows_no_registry, "gateway/wire/serve.py", "from storage import Digest\n"),
    (architecture.wire_knows_no_registry, "gateway/wire/serve.py", "import gateway.edge\n"),
    (architecture.wire_knows_no_registry, "gateway/edge/guard.py", "import gateway.wire.serve\n"),
    (architecture.nothing_imports_the_bench, "gateway/cli.py", "import bench.load\n"),
    (architecture.the_waist_is_narrow, "gateway/v2/blobs.py", "from storage.filesystem import FilesystemStore\n"),
    (architecture.the_waist_is_narrow, "gateway/v2/blobs.py", "from storage import filesystem\n"),
    (architecture.the_waist_is_narrow, "gateway/v2/blobs.py", "from storage.transfer import Client\n"),
    (architecture.the_waist_is_narrow, "gateway/upstream/http.py", "from storage.s3.store import S3Store\n"),
    (architecture.rows_know_no_bytes, "storage/metadata/blobs.py", "from storage.content import Content\n"),
    (architecture.rows_know_no_bytes, "storage/database.py", "import storage.sweep\n"),
    (architecture.rows_know_no_bytes, "storage/database_sqlite.py", "from storage.filesystem_layout import place\n"),
    (architecture.libraries_have_owners, "storage/content.py", "import boto3.session\n"),
    (architecture.libraries_have_owners, "gateway/upstream/http.py", "import anyio\n"),
    (architecture.libraries_have_owners, "gateway/access/keys.py", "from jwt import decode\n"),
    (architecture.libraries_have_owners, "gateway/policy/rules.py", "from quart import request\n"),
    (architecture.libraries_have_owners, "gateway/oci/names.py", "from sqlalchemy import select\n"),
    (architecture.names_say_something, "storage/utils.py", ""),
    (architecture.names_say_something, "gateway/common/names.py", ""),
    (architecture.names_say_something, "tests/storage/test_helpers.py", ""),
    (architecture.files_and_functions_are_short, "gateway/app.py", "x = 1\n" * 500),
    (architecture.files_and_functions_are_short, "gateway/app.py", "async def f():\n" + "    x = 1\n" * 60),
    (architecture.modules_have_contracts, "gateway/web/deep/page.py", ""),  # its folder is no package
    (architecture.sources_have_twins, "storage/content.py", "def f():\n    return 1\n" * 20),
    (architecture.nothing_names_a_machine, "docs/notes.md", "see /" + "root/notes\n"),
    (architecture.nothing_names_a_machine, "Makefile", "pip install --index-" + "url x\n"),
    (architecture.nothing_names_a_machine, "requirements.lock", "trio @ https:" + "//example.com\n"),
]


@pytest.fixture
def no_excuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small tree does not have the files that the project's own exceptions name."""
    monkeypatch.setattr(architecture, "WITHOUT_TWIN", {})


@pytest.mark.usefixtures("no_excuses")
@pytest.mark.parametrize(("rule", "path", "text"), OFFENCES, ids=lambda value: getattr(value, "__name__", None))
def test_a_rule_catches_its_offence(rule: Rule, path: str, text: str, tmp_path: Path) -> None:
    """A small tree with one offence has one finding under the rule, and it names the file or its folder."""
    findings = list(rule(_tree(tmp_path, {path: DOC + text})))

    assert len(findings) == 1
    assert findings[0].startswith((path, path.rpartition("/")[0] + "/:"))


def test_a_module_without_a_docstring_is_found(tmp_path: Path) -> None:
    """A file that does not say what it is for is named."""
    findings = list(architecture.modules_have_contracts(_tree(tmp_path, {"storage/digest.py": "x = 1\n"})))

    assert findings == ["storage/digest.py: no module docstring; say what it is for and what it must not know"]


def test_an_excuse_that_nobody_needs_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception outlives neither its file nor the day on which the file gets its test."""
    monkeypatch.setattr(architecture, "WITHOUT_TWIN", dict.fromkeys(("storage/gone.py", "storage/content.py"), "why"))
    long = DOC + "def f():\n    return 1\n" * 20
    tree = _tree(tmp_path, {"storage/content.py": long, "tests/storage/test_content.py": DOC})

    findings = list(architecture.sources_have_twins(tree))

    assert [finding.split()[3] for finding in findings] == ["storage/content.py,", "storage/gone.py,"]


@pytest.mark.usefixtures("no_excuses")
def test_what_the_architecture_allows_is_not_found(tmp_path: Path) -> None:
    """Imports downwards, exported names, owners and twins pass every rule."""
    tree = _tree(
        tmp_path,
        {
            "storage/__init__.py": DOC + "from storage.content import Content\n",
            "storage/content.py": DOC + "import trio\n" + "def f():\n    return 1\n" * 60,
            "storage/content_rows.py": DOC + "def f():\n    return 1\n" * 60,
            "storage/database_sqlite.py": DOC + "import sqlalchemy\n",
            "storage/metadata/__init__.py": DOC,
            "storage/metadata/tags.py": DOC + "import sqlalchemy\n",
            "gateway/v2/__init__.py": DOC,
            "gateway/v2/tags.py": DOC
            + "import quart\nfrom storage import Content\nfrom storage.metadata import tags\n",
            "gateway/wire/__init__.py": DOC,
            "gateway/wire/serve.py": DOC + "import hypercorn\nfrom gateway.config import Settings\n",
            "gateway/config.py": DOC + "x = 1\n" * 60,
            "gateway/__main__.py": DOC + "from gateway.cli import main\n",
            "gateway/cli.py": DOC + "import gateway.wire.serve\nimport gateway.app\n",
            "tests/storage/test_content.py": DOC,
        },
    )

    assert [finding for rule in RULES for finding in rule(tree)] == []


def _tree(root: Path, files: dict[str, str]) -> Tree:
    """A project of those files, in which the packages that the rules look for exist."""
    packages = dict.fromkeys(("storage/__init__.py", "gateway/__init__.py", "bench/__init__.py"), DOC)
    for path, text in {**packages, **files}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return Tree(root)
