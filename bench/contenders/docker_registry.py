"""Debian's docker-registry (CNCF distribution 2.8), access log off, on its filesystem driver or another: a peer."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.contenders.certificates import make_pair
from bench.contenders.contender import ContenderFailed, Endpoint, Server, Start, Trait
from bench.contenders.ports import free_port
from bench.contenders.registry_tokens import ISSUER, SERVICE, Issuer
from bench.contenders.setup import ask, put_blob, put_manifest
from bench.content import Blob, Document
from bench.processes import ProcessFailed, ProcessTree, start

_NOT_INHERITED: Final = {"AWS_CA_BUNDLE"}  # its S3 driver panics on a bundle of more than one authority
_SEARCH: Final = "/usr/bin:/usr/local/bin:/usr/sbin"


@dataclass(frozen=True, slots=True)
class DockerRegistry:
    """`docker-registry serve`, asking for tokens unless `tokens` is off."""

    name: str = "docker-registry"
    tokens: bool = True
    driver: tuple[tuple[str, Any], ...] = ()
    """Of storage: its name and its parameters; empty: the filesystem's, below the server's directory."""
    upstream: str | None = None
    """The URL of the registry that it is a proxy of; then it takes no pushes."""

    @property
    def traits(self) -> frozenset[Trait]:
        """All that a registry does."""
        usual = frozenset({Trait.PUSH, Trait.LISTS})
        return usual | {Trait.TOKENS} if self.tokens else usual

    def missing(self) -> str | None:
        """Debian's package must be installed."""
        return None if _program() else "docker-registry is not installed (Debian package docker-registry)"

    def start(self, how: Start) -> Server:
        """Start it with a configuration of its own, away from the system's."""
        program = _program()
        if program is None:
            raise ContenderFailed(self.missing() or "")
        port = free_port()
        issuer = Issuer.make(how.directory) if self.tokens else None
        http: dict[str, Any] = {"addr": f"127.0.0.1:{port}"}
        certificate = None
        if how.setting.tls:
            pair = make_pair(how.directory, "tls")
            certificate = pair.certificate_path
            http["tls"] = {"certificate": str(certificate), "key": str(pair.key_path)}
        configuration: dict[str, Any] = {
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {
                **(dict(self.driver) or {"filesystem": {"rootdirectory": str(how.directory / "data")}}),
                "delete": {"enabled": True},
                "cache": {"blobdescriptor": "inmemory"},
            },
            "http": http,
        }
        if self.upstream is not None:
            configuration["proxy"] = {"remoteurl": self.upstream}
        if issuer is not None:
            trust = {"rootcertbundle": str(issuer.certificate_path), "issuer": ISSUER, "service": SERVICE}
            configuration["auth"] = {"token": {"realm": f"http://127.0.0.1:{port}/none", **trust}}
        path = how.directory / "registry.yml"
        path.write_text(json.dumps(configuration, indent=1))  # JSON is YAML
        tree = start(
            [program, "serve", path],
            log=how.directory / "log",
            cores=how.cores.server,
            environment={name: value for name, value in os.environ.items() if name not in _NOT_INHERITED},
            directory=how.directory,
        )
        server = DockerRegistryServer(Endpoint("127.0.0.1", port, certificate), tree, how.directory, issuer)
        try:
            tree.wait_until(lambda: ask(server.endpoint, "GET", "/v2/").status in {200, 401})
        except ProcessFailed as error:
            server.stop()
            raise ContenderFailed(f"{self.name}: {error}") from error
        return server


class DockerRegistryServer:
    """A running docker-registry."""

    def __init__(self, endpoint: Endpoint, tree: ProcessTree, directory: Path, issuer: Issuer | None) -> None:
        self.endpoint = endpoint
        self.processes: ProcessTree | None = tree
        self._tree = tree
        self._data = directory / "data"
        self._issuer = issuer

    @property
    def version(self) -> str:
        """As the program says it."""
        said = subprocess.run(
            [_program() or "docker-registry", "--version"], capture_output=True, text=True, check=False
        )
        found = re.search(r"\d+\.\d+\.\d+\S*", said.stdout)
        return f"docker-registry {found[0] if found else 'of unknown version'}"

    def name(self, image: str) -> str:
        """Names as long as sluice's."""
        return f"bench/load/{image}"

    def authorization(self, *names: str, push: bool = False) -> str | None:
        """A token that we sign; None where it asks for none."""
        return self._issuer.authorization(names, push=push) if self._issuer else None

    def put_blob(self, name: str, blob: Blob) -> None:
        """Push it."""
        put_blob(self.endpoint, name, blob, self.authorization(name, push=True))

    def put_manifest(self, name: str, manifest: Document, *tags: str) -> None:
        """Push it."""
        put_manifest(self.endpoint, name, manifest, [manifest.digest, *tags], self.authorization(name, push=True))

    def files_of(self, blob: Blob) -> Sequence[Path]:
        """The file that the filesystem driver keeps."""
        letters = blob.digest.removeprefix("sha256:")
        return [self._data / "docker/registry/v2/blobs/sha256" / letters[:2] / letters / "data"]

    def stop(self) -> None:
        """SIGTERM and wait."""
        self._tree.stop(deadline_s=5)


def _program() -> str | None:
    return shutil.which("docker-registry", path=_SEARCH)
