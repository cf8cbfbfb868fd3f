"""helm, by its own SDK: login, push, pull, tags and resolve of a chart made on the spot."""

import gzip
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import helm_python
import pytest

from tests.clients import helm_script
from tests.clients.images import make_tar, sha256
from tests.clients.machines import Done, Machine
from tests.clients.registry import Registry, is_upload
from tests.served import ADMIN
from tests.system_packages import SEARCH_PATH

pytestmark = pytest.mark.clients

NOBODY: Final = 65534
CHART_CONFIG: Final = "application/vnd.cncf.helm.config.v1+json"
CHART_LAYER: Final = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"


@dataclass(frozen=True, slots=True)
class Helm:
    """The SDK in processes of its own, as a user who may do nothing; `folder` is theirs."""

    machine: Machine
    folder: Path
    interpreter: str
    registry: str
    credentials: str = "registry.json"

    def attempt(self, *words: str | Path) -> Done:
        """One act, whatever comes of it."""
        command = [self.interpreter, self.folder / "helm_script.py", self.folder / self.credentials, *words]
        environment = {
            "PYTHONPATH": str(self.folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder),
        }
        return self.machine.attempt(*as_nobody(), *command, environment=environment)

    def act(self, *words: str | Path) -> Any:
        """One act that must succeed, and what it gave."""
        done = self.attempt(*words)
        assert done.succeeded, str(done)
        return json.loads(done.lines()[-1])

    def chart(self, name: str, version: str = "0.1.0") -> Path:
        """A chart that no registry has seen, as an archive."""
        about = f"apiVersion: v2\nname: {name}\nversion: {version}\ndescription: {os.urandom(4).hex()}\n"
        template = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}\n"
        tar = make_tar(
            {f"{name}/Chart.yaml": about.encode(), f"{name}/templates/map.yaml": template.encode()}, links=False
        )
        path = self.folder / f"{name}-{version}.tgz"
        path.write_bytes(gzip.compress(tar, mtime=0))
        path.chmod(0o644)
        return path

    def new_folder(self, name: str) -> Path:
        """A folder that the SDK may write to."""
        folder = self.folder / name
        folder.mkdir()
        give_away(folder)
        return folder


def as_nobody() -> tuple[str, ...]:
    """The words that make a command nobody's, where the tests run as root."""
    if os.geteuid() != 0:
        return ()
    return ("setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", "--no-new-privs", "--")


def give_away(path: Path) -> None:
    """Make this nobody's, where the tests run as root."""
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)


def interpreter_for_nobody() -> str | None:
    """A Python that nobody may run: our own lies below a home folder on some machines, the system's does not."""
    found = shutil.which("python3", path=SEARCH_PATH)
    for candidate in (sys.executable, found):
        if (
            candidate
            and subprocess.run([*as_nobody(), candidate, "-c", ""], check=False, capture_output=True).returncode == 0
        ):
            return candidate
    return None


@pytest.fixture(scope="module")
def helm(work: Path, machine: Machine, registry: Registry) -> Helm:
    """The SDK, logged in, with a copy of its own that nobody may read."""
    interpreter = interpreter_for_nobody()
    if interpreter is None:
        pytest.skip("helm: no Python that an unprivileged user may run")
    folder = work / "helm"
    folder.mkdir()
    shutil.copytree(Path(helm_python.__file__).parent, folder / "helm_python")
    shutil.copy(helm_script.__file__, folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    give_away(folder)
    new = Helm(machine, folder, interpreter, registry.address)
    new.act("login", registry.address, *ADMIN)
    return new


def test_login_with_a_wrong_password(helm: Helm, registry: Registry) -> None:
    """A wrong password ends in an error that says so."""
    stranger = Helm(helm.machine, helm.folder, helm.interpreter, helm.registry, credentials="stranger.json")

    done = stranger.attempt("login", registry.address, ADMIN[0], "not-the-password")

    assert not done.succeeded
    assert "unauthorized" in done.text.lower() or "401" in done.text, str(done)


def test_push_and_pull(helm: Helm, registry: Registry) -> None:
    """A chart lies in the registry as helm means it to, and comes back byte for byte."""
    archive = helm.chart("whole")
    target = helm.new_folder("pulled")

    helm.act("push", archive, f"oci://{registry.address}/{registry.first}")
    helm.act("pull", f"oci://{registry.address}/{registry.first}/whole", "0.1.0", target)

    stored = registry.stored(f"{registry.first}/whole", "0.1.0")
    assert stored.manifest["config"]["mediaType"] == CHART_CONFIG
    assert [layer["mediaType"] for layer in stored.manifest["layers"]] == [CHART_LAYER]
    assert stored.images[0].diff_ids == (sha256(archive.read_bytes()),)
    assert (target / archive.name).read_bytes() == archive.read_bytes()


def test_push_again(helm: Helm, registry: Registry) -> None:
    """Pushing the same chart again uploads no blob."""
    archive = helm.chart("again")
    helm.act("push", archive, f"oci://{registry.address}/{registry.first}")

    with registry.watch() as seen:
        helm.act("push", archive, f"oci://{registry.address}/{registry.first}")

    assert seen
    assert [each for each in seen if is_upload(each)] == []


def test_push_to_another_repository(helm: Helm, registry: Registry) -> None:
    """The same chart arrives in another repository too."""
    archive = helm.chart("twice")

    for repository in (registry.first, registry.second):
        helm.act("push", archive, f"oci://{registry.address}/{repository}")

    for repository in (registry.first, registry.second):
        assert registry.stored(f"{repository}/twice", "0.1.0").images[0].diff_ids == (sha256(archive.read_bytes()),)


def test_tags_and_resolve(helm: Helm, registry: Registry) -> None:
    """The versions of a chart are listed, newest first, and one is resolved to the digest that is stored."""
    for version in ("0.1.0", "0.10.0", "0.2.0", "0.3.0"):
        helm.act("push", helm.chart("several", version), f"oci://{registry.address}/{registry.first}")
    name = f"{registry.first}/several"

    assert helm.act("tags", f"{registry.address}/{name}") == ["0.10.0", "0.3.0", "0.2.0", "0.1.0"]
    assert helm.act("resolve", f"{registry.address}/{name}:0.2.0")["digest"] == registry.stored(name, "0.2.0").digest


def test_pull_of_what_is_not_there(helm: Helm, registry: Registry) -> None:
    """Pulling an unknown version ends in an error that says so."""
    helm.act("push", helm.chart("known"), f"oci://{registry.address}/{registry.first}")

    done = helm.attempt("pull", f"oci://{registry.address}/{registry.first}/known", "9.9.9", helm.new_folder("nothing"))

    assert not done.succeeded
    assert "not found" in done.text.lower(), str(done)
