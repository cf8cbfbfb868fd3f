"""The Python client for OCI artifacts: files in, the same files out, in whole requests and in chunks."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.clients import oras_script
from tests.clients.images import sha256
from tests.clients.machines import Done, Machine
from tests.clients.registry import Registry, is_upload
from tests.served import ADMIN

pytestmark = pytest.mark.clients

SCRIPT = Path(oras_script.__file__)


@dataclass(frozen=True, slots=True)
class Oras:
    """The library in processes of its own, with one person's name and password."""

    machine: Machine
    host: str
    credentials: tuple[str, str] = ADMIN

    def attempt(self, *words: str | Path) -> Done:
        """One act, whatever comes of it."""
        nowhere = {"DOCKER_HOST": "unix:///nowhere"}  # it would ask a docker daemon to log in
        return self.machine.attempt(sys.executable, SCRIPT, self.host, *self.credentials, *words, environment=nowhere)

    def act(self, *words: str | Path) -> Any:
        """One act that must succeed, and what it gave."""
        done = self.attempt(*words)
        assert done.succeeded, str(done)
        return json.loads(done.lines()[-1])


@pytest.fixture
def oras(machine: Machine, registry: Registry) -> Oras:
    """The library, as the administrator."""
    return Oras(machine, registry.address)


@pytest.fixture
def files(tmp_path: Path) -> dict[Path, bytes]:
    """Two files that no registry has seen."""
    made = {tmp_path / "large.bin": os.urandom(300_000), tmp_path / "small.txt": f"{tmp_path}\n".encode()}
    for path, content in made.items():
        path.write_bytes(content)
    return made


def test_push_and_pull(oras: Oras, registry: Registry, files: dict[Path, bytes], tmp_path: Path) -> None:
    """Files that were pushed lie in the registry byte for byte, and come back as they were."""
    name = registry.new_name()
    target = registry.reference(name, "1.0")
    (tmp_path / "pulled").mkdir()

    assert oras.act("push", target, *files) == 201
    pulled = [Path(path) for path in oras.act("pull", target, tmp_path / "pulled")]

    (stored,) = registry.stored(name, "1.0").images
    assert list(stored.diff_ids) == [sha256(content) for content in files.values()]
    assert {path.name: path.read_bytes() for path in pulled} == {path.name: files[path] for path in files}


def test_push_with_a_wrong_password(oras: Oras, registry: Registry, files: dict[Path, bytes]) -> None:
    """A wrong password ends in an error, and nothing is there."""
    name = registry.new_name()
    stranger = Oras(oras.machine, oras.host, (ADMIN[0], "not-the-password"))

    done = stranger.attempt("push", registry.reference(name, "1.0"), *files)

    assert not done.succeeded
    assert "authentication" in done.text, str(done)
    assert registry.tags(name) == []


def test_one_token_serves_a_whole_push(oras: Oras, registry: Registry, files: dict[Path, bytes]) -> None:
    """The library asks for one token, by what its first request lacks, and that token carries the right to push too."""
    with registry.watch() as seen:
        oras.act("push", registry.reference(registry.new_name(), "1.0"), *files)

    tokens = [each for each in seen if each.path == "/v2/token"]
    assert {each.status for each in tokens} == {200}
    scopes = {scope for each in tokens for scope in each.query["scope"]}
    assert {scope.rpartition(":")[2] for scope in scopes} == {"pull"}
    assert [each.status for each in seen if each.path.endswith("/manifests/1.0") and each.method == "PUT"] == [201]


def test_push_again(oras: Oras, registry: Registry, files: dict[Path, bytes]) -> None:
    """Pushing the same files again uploads none of them."""
    target = registry.reference(registry.new_name(), "1.0")
    oras.act("push", target, *files)

    with registry.watch() as seen:
        oras.act("push", target, *files)

    assert seen
    assert [each for each in seen if is_upload(each)] == []


def test_push_to_another_repository(oras: Oras, registry: Registry, files: dict[Path, bytes], tmp_path: Path) -> None:
    """The same files arrive in another repository too."""
    first, second = registry.new_name(), registry.new_name(registry.second)
    (tmp_path / "pulled").mkdir()

    for name in (first, second):
        oras.act("push", registry.reference(name, "1.0"), *files)

    assert registry.stored(first, "1.0").images == registry.stored(second, "1.0").images


def test_push_in_chunks(oras: Oras, registry: Registry, files: dict[Path, bytes]) -> None:
    """A file sent as several PATCHes, each with its Content-Range, is the file."""
    name = registry.new_name()

    with registry.watch() as seen:
        oras.act("push-chunked", registry.reference(name, "1.0"), "100000", *files)

    patches = [each for each in seen if each.method == "PATCH"]
    assert "100000-199999" in {each.header("content-range") for each in patches}
    assert {each.status for each in patches} == {202}
    (stored,) = registry.stored(name, "1.0").images
    assert list(stored.diff_ids) == [sha256(content) for content in files.values()]


def test_tags_and_delete(oras: Oras, registry: Registry, files: dict[Path, bytes]) -> None:
    """Tags are listed, and one that is deleted is gone while the other image stays."""
    name = registry.new_name()
    first, second = files
    oras.act("push", registry.reference(name, "1.0"), first)
    oras.act("push", registry.reference(name, "2.0"), second)
    container = f"{registry.address}/{name}"

    assert oras.act("tags", container) == ["1.0", "2.0"]
    assert oras.act("delete", container, "1.0") is True
    assert oras.act("tags", container) == ["2.0"]
    assert registry.tags(name) == ["2.0"]
