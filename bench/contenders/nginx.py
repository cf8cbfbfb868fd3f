"""nginx with static files that answer a registry's paths: no registry, but the floor that any server stands on.

Pull only, no tokens. Blobs are plain files below `/v2/NAME/blobs/`, manifests below `/v2/NAME/manifests/`, with their
media types listed in the configuration; sendfile and open_file_cache on, access log off.
"""

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.contenders.certificates import make_pair
from bench.contenders.contender import ContenderFailed, Endpoint, Server, Start, Trait
from bench.contenders.ports import free_port
from bench.contenders.setup import ask
from bench.content import OCI_MANIFEST, Blob, Document
from bench.processes import ProcessFailed, ProcessTree, start

_SEARCH: Final = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/nginx/sbin"

_CONFIGURATION: Final = """\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log error;
events {{ worker_connections 8192; }}
http {{
    {log}
    {rate}
    sendfile on;
    tcp_nopush off;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    open_file_cache max=1000 inactive=600s;
    client_body_temp_path {directory}/temporary;
    proxy_temp_path {directory}/temporary;
    fastcgi_temp_path {directory}/temporary;
    uwsgi_temp_path {directory}/temporary;
    scgi_temp_path {directory}/temporary;
    default_type application/octet-stream;
    server {{
        listen 127.0.0.1:{port}{tls};
        root {directory}/files;
        location = /v2/ {{ default_type application/json; return 200 "{{}}"; }}
        location ~ /manifests/ {{ default_type {manifest}; }}
    }}
}}
"""
_LOG: Final = """\
log_format asked '$request_method $uri $status $body_bytes_sent';
    access_log {directory}/asked asked;"""
ASKED: Final = re.compile(r"(\S+) (\S+) (\d{3}) (\d+)")
"""A line of the log: method, path, status, bytes of the body that were sent."""
_TLS: Final = """ ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {key}"""


@dataclass(frozen=True, slots=True)
class Nginx:
    """One master, one worker. `is_logging`: each request is a line in the file `asked`, see `ASKED`."""

    name: str = "nginx"
    is_logging: bool = False
    bytes_per_s: int | None = None
    """What each connection gets at most."""

    @property
    def traits(self) -> frozenset[Trait]:
        """None: it only serves files."""
        return frozenset()

    def missing(self) -> str | None:
        """The program must be installed."""
        return None if _program() else "nginx is not installed (Debian package nginx-light)"

    def start(self, how: Start) -> Server:
        """Start it with a configuration of its own, away from the system's."""
        program = _program()
        if program is None:
            raise ContenderFailed(self.missing() or "")
        port = free_port()
        (how.directory / "files").mkdir()
        (how.directory / "temporary").mkdir()
        certificate, tls = None, ""
        if how.setting.tls:
            pair = make_pair(how.directory, "tls")
            certificate = pair.certificate_path
            tls = _TLS.format(certificate=certificate, key=pair.key_path)
        path = how.directory / "nginx.conf"
        log = _LOG.format(directory=how.directory) if self.is_logging else "access_log off;"
        rate = f"limit_rate {self.bytes_per_s};" if self.bytes_per_s else ""
        path.write_text(
            _CONFIGURATION.format(
                directory=how.directory, port=port, tls=tls, manifest=OCI_MANIFEST, log=log, rate=rate
            )
        )
        # A worker drops to `nobody` when started by root and then needs a way into our private directory.
        user = ["-g", "user root;"] if _is_root() else []
        command: list[str | Path] = [program, "-p", how.directory, "-c", path, "-e", how.directory / "error.log", *user]
        tree = start(command, log=how.directory / "log", cores=how.cores.server, directory=how.directory)
        server = NginxServer(Endpoint("127.0.0.1", port, certificate), tree, how.directory / "files")
        try:
            tree.wait_until(lambda: ask(server.endpoint, "GET", "/").status > 0)
        except ProcessFailed as error:
            server.stop()
            raise ContenderFailed(f"{self.name}: {error}") from error
        return server


class NginxServer:
    """A running nginx."""

    def __init__(self, endpoint: Endpoint, tree: ProcessTree, files: Path) -> None:
        self.endpoint = endpoint
        self.processes: ProcessTree | None = tree
        self._tree = tree
        self._files = files

    @property
    def version(self) -> str:
        """As the program says it."""
        said = subprocess.run([_program() or "nginx", "-v"], capture_output=True, text=True, check=False)
        found = re.search(r"nginx/(\S+)", said.stderr)
        return f"nginx {found[1] if found else 'of unknown version'}"

    def name(self, image: str) -> str:
        """Names as long as sluice's."""
        return f"bench/load/{image}"

    def authorization(self, *names: str, push: bool = False) -> str | None:  # noqa: ARG002 - it asks nobody
        """None."""
        return None

    def put_blob(self, name: str, blob: Blob) -> None:
        """Write the file."""
        path = self._place(name, "blobs", blob.digest)
        if path.exists():
            return
        with path.open("wb") as file:
            for chunk in blob.chunks():
                file.write(chunk)

    def put_manifest(self, name: str, manifest: Document, *tags: str) -> None:
        """Write one file per reference."""
        for reference in (manifest.digest, *tags):
            self._place(name, "manifests", reference).write_bytes(manifest.body)

    def files_of(self, blob: Blob) -> Sequence[Path]:
        """The file, under whatever name it was put."""
        return list(self._files.rglob(blob.digest))

    def stop(self) -> None:
        """SIGTERM and wait."""
        self._tree.stop(deadline_s=5)

    def _place(self, name: str, kind: str, reference: str) -> Path:
        directory = self._files / "v2" / name / kind
        directory.mkdir(parents=True, exist_ok=True)
        return directory / reference


def _program() -> str | None:
    return shutil.which("nginx", path=_SEARCH)


def _is_root() -> bool:
    return Path("/proc/self").stat().st_uid == 0
