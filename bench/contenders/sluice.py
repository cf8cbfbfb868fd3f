"""Our own server as users start it: `sluice serve` with an empty data directory, content pushed through its API."""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.contenders.certificates import make_pair
from bench.contenders.contender import ContenderFailed, Endpoint, Server, Start, Trait
from bench.contenders.ports import free_port
from bench.contenders.setup import Answer, TokenRealm, ask, put_blob, put_manifest
from bench.content import Blob, Document
from bench.processes import ProcessFailed, ProcessTree, split_cores, start

_ROOT: Final = Path(__file__).resolve().parents[2]
ADMIN: Final = "admin"
PROJECT: Final = "bench"
REPOSITORY: Final = "load"


@dataclass(frozen=True, slots=True)
class Sluice:
    """`sluice serve` from the installation that the suite runs in, or from another source tree (`root`)."""

    name: str = "sluice"
    workers: int = 1
    root: Path = _ROOT

    @property
    def traits(self) -> frozenset[Trait]:
        """Everything; several workers only in cases about that."""
        usual = {Trait.PUSH, Trait.TOKENS, Trait.LISTS, Trait.OURS}
        return frozenset(usual | {Trait.MANY_CORES} if self.workers > 1 else usual)

    def missing(self) -> str | None:
        """Never: it is installed with the suite."""
        return None

    def start(self, how: Start) -> Server:
        """Start it, make the repository, and wait until it takes content."""
        port = free_port()
        password = secrets.token_urlsafe(16)
        settings = {"SLUICE_ADMIN_PASSWORD": password, "SLUICE_LOGS__LEVEL": "warning"}
        certificate = None
        if how.setting.tls:
            pair = make_pair(how.directory, "tls")
            certificate = pair.certificate_path
            settings |= {
                "SLUICE_SERVER__TLS_CERTIFICATE": str(certificate),
                "SLUICE_SERVER__TLS_KEY": str(pair.key_path),
            }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
        environment = {**inherited, "PYTHONPATH": str(self.root), **settings, **dict(how.setting.environment)}
        where = ["--data", str(how.directory / "data"), "--listen", f"127.0.0.1:{port}", "--workers", str(self.workers)]
        command = [sys.executable, "-m", "gateway", "serve", *where, *how.setting.arguments]
        cores = how.cores.server if self.workers == 1 else split_cores(server_cores=self.workers).server
        tree = start(command, log=how.directory / "log", cores=cores, environment=environment, directory=how.directory)
        server = SluiceServer(Endpoint("127.0.0.1", port, certificate), tree, self.root, password)
        try:
            tree.wait_until(lambda: ask(server.endpoint, "GET", "/health").status == 200)
            server.make("projects", {"name": PROJECT})
            server.make("repos", {"project": PROJECT, "name": REPOSITORY})
        except (ProcessFailed, ContenderFailed, OSError) as error:
            server.stop()
            raise ContenderFailed(f"{self.name}: {error}") from error
        return server


class SluiceServer:
    """A running sluice."""

    def __init__(self, endpoint: Endpoint, tree: ProcessTree, root: Path, password: str) -> None:
        self.endpoint = endpoint
        self.processes: ProcessTree | None = tree
        self._tree = tree
        self._root = root
        self.directory = tree.log.parent
        """Where its data directory (`data`) is."""
        self._password = password

    @property
    def version(self) -> str:
        """As the program says it."""
        command = [sys.executable, "-m", "gateway", "--version"]
        environment = {**os.environ, "PYTHONPATH": str(self._root)}
        said = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        return f"sluice {said.stdout.split()[-1] if said.stdout else 'of unknown version'}"

    def name(self, image: str) -> str:
        """Below the one repository that is made at the start."""
        return f"{PROJECT}/{REPOSITORY}/{image}"

    def authorization(self, *names: str, push: bool = False) -> str | None:
        """A registry token of the administrator for these names."""
        return TokenRealm(self.endpoint, ADMIN, self._password).authorization(names, push=push)

    def put_blob(self, name: str, blob: Blob) -> None:
        """Push it."""
        put_blob(self.endpoint, name, blob, self.authorization(name, push=True))

    def put_manifest(self, name: str, manifest: Document, *tags: str) -> None:
        """Push it."""
        put_manifest(self.endpoint, name, manifest, [manifest.digest, *tags], self.authorization(name, push=True))

    def files_of(self, blob: Blob) -> Sequence[Path]:
        """The file of the default storage: its name begins with the digest."""
        storages = self.directory / "data" / "storages"
        return list(storages.rglob(f"{blob.digest.removeprefix('sha256:')}*"))

    def api(self, method: str, path: str, value: object = None) -> Answer:
        """A call of the management API (`/api/v1/PATH`) as the administrator, with a JSON body."""
        headers = {"Authorization": self.basic()}
        body = None
        if value is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(value).encode()
        return ask(self.endpoint, method, f"/api/v1/{path}", headers=headers, body=body)

    def make(self, path: str, value: object) -> object:
        """POST to the management API; the object made. Raises ContenderFailed."""
        answer = self.api("POST", path, value)
        if answer.status != 201:
            raise ContenderFailed(f"POST /api/v1/{path} gave {answer.status}: {answer.body[:500]!r}")
        return answer.json()

    def basic(self) -> str:
        """The administrator's Basic header."""
        return TokenRealm(self.endpoint, ADMIN, self._password).basic()

    def key(self) -> str:
        """A Bearer header with a new personal token of the administrator, as pipelines have: good for every image."""
        made = self.make("tokens", {"label": "bench"})
        if not isinstance(made, dict) or "secret" not in made:
            raise ContenderFailed("a new personal token has no secret")
        return f"Bearer {made['secret']}"

    @property
    def login(self) -> tuple[str, str]:
        """User and password, for clients that want them."""
        return ADMIN, self._password

    def stop(self) -> None:
        """SIGTERM and wait."""
        self._tree.stop()
