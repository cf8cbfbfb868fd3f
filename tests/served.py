"""A real `sluice serve` process on loopback for tests, and a plain HTTP client that sends exactly what it is told.

`Served` starts the command a user would type, in a directory of its own, and stops it by its pid. The client is the
standard library's: no retries, no redirects, no decoding, so a test sees the wire.
"""

import base64
import contextlib
import hashlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from bench.contenders.ports import free_port

ADMIN: Final = ("admin", "correct-horse-battery")
_START_S: Final = 90.0
_STOP_S: Final = 60.0
Headers = Mapping[str, str] | list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came: header names in lower case; repeated headers in `all_headers`."""

    status: int
    headers: Mapping[str, str]
    all_headers: tuple[tuple[str, str], ...]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    def codes(self) -> list[str]:
        """The error codes of an OCI error document."""
        return [entry["code"] for entry in self.json()["errors"]]


@dataclass(slots=True)
class Served:
    """One gateway under test. Use `with Served(directory) as gateway:`."""

    directory: Path
    port: int = field(default_factory=free_port)
    environment: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    workers: int | None = 1
    """Processes: one, so that what a test sees of a process is all there is; None: what users get, one per core."""
    module: tuple[str, ...] = ("gateway",)
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Host and port, as clients write them before a name."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://{self.address}"

    @property
    def data(self) -> Path:
        """Its data directory."""
        return self.directory / "data"

    @property
    def log_path(self) -> Path:
        """Where its output goes."""
        return self.directory / "serve.log"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()

    def start(self) -> None:
        """Start the process and wait until it answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        where = ["serve", "--data", str(self.data), "--listen", self.address]
        if self.workers is not None and "--workers" not in self.arguments:
            where += ["--workers", str(self.workers)]
        command = [sys.executable, "-m", *self.module, *where]
        settings = {"SLUICE_ADMIN_PASSWORD": ADMIN[1], "SLUICE_LOGS__FORMAT": "json", **self.environment}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
        environment = {**inherited, **settings}
        with self.log_path.open("ab") as log:
            # A group of its own, so that `kill` reaches the workers too: it is they who write.
            self.process = subprocess.Popen(
                [*command, *self.arguments], env=environment, stdout=log, stderr=log, process_group=0
            )
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"sluice serve ended with {self.process.returncode}:\n{self.log()}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.request("GET", "/health").status == 200:
                    return
            time.sleep(0.05)  # a real process is being waited for, with a deadline
        raise AssertionError(f"sluice serve did not answer within {_START_S} s:\n{self.log()}")

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_STOP_S)

    def kill(self) -> None:
        """End it as kill -9 does, supervisor and workers at once: none has a chance to tidy up."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(_STOP_S)

    def log(self) -> str:
        """Everything it printed."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def connection(self, *, timeout_s: float = 30.0) -> http.client.HTTPConnection:
        """A fresh connection; close it."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        headers: Headers = (),  # type: ignore[assignment]  # an empty tuple is an empty list of pairs
        *,
        auth: tuple[str, str] | str | None = None,
        chunked: bool = False,
    ) -> Reply:
        """One request on a connection of its own. `auth`: (user, password) for Basic, a text for Bearer."""
        connection = self.connection()
        try:
            return send(connection, method, path, body, headers, auth=auth, chunked=chunked)
        finally:
            connection.close()

    def admin(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        headers: Headers = (),  # type: ignore[assignment]
        *,
        chunked: bool = False,
    ) -> Reply:
        """The same as the first administrator, by Basic."""
        return self.request(method, path, body, headers, auth=ADMIN, chunked=chunked)

    def token(self, *scopes: str, auth: tuple[str, str] | None = ADMIN) -> str:
        """A registry token for these scopes."""
        query = "&".join(f"scope={scope}" for scope in scopes)
        reply = self.request("GET", f"/v2/token?service=sluice&{query}", auth=auth)
        assert reply.status == 200, reply
        return str(reply.json()["token"])

    def api(self, method: str, path: str, value: object = None, *, auth: tuple[str, str] | str | None = ADMIN) -> Reply:
        """A call of the management API with a JSON body."""
        body = None if value is None else json.dumps(value).encode()
        headers = {"Content-Type": "application/json"} if body is not None else {}
        return self.request(method, path, body, headers, auth=auth)

    def push_blob(self, name: str, content: bytes, *, auth: tuple[str, str] | str | None = ADMIN) -> str:
        """Store a blob the way containerd does (POST, PUT) and give its digest."""
        digest = sha256(content)
        begun = self.request("POST", f"/v2/{name}/blobs/uploads/", b"", auth=auth)
        assert begun.status == 202, begun
        location = begun.headers["location"]
        joint = "&" if "?" in location else "?"
        finished = self.request("PUT", f"{location}{joint}digest={digest}", content, auth=auth)
        assert finished.status == 201, finished
        return digest

    def push_image(
        self, name: str, reference: str, *layers: bytes, auth: tuple[str, str] | str | None = ADMIN
    ) -> tuple[str, bytes]:
        """Store an OCI image of these layers and give its manifest's digest and bytes."""
        config = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
        manifest = image_manifest(config, *layers)
        for content in (config, *layers):
            self.push_blob(name, content, auth=auth)
        put = self.request(
            "PUT", f"/v2/{name}/manifests/{reference}", manifest, {"Content-Type": OCI_MANIFEST}, auth=auth
        )
        assert put.status == 201, put
        return sha256(manifest), manifest


OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"


def sha256(content: bytes) -> str:
    """The digest of some bytes, as text."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def descriptor(content: bytes, media_type: str) -> dict[str, object]:
    """A descriptor of some bytes."""
    return {"mediaType": media_type, "digest": sha256(content), "size": len(content)}


def image_manifest(config: bytes, *layers: bytes, **extra: object) -> bytes:
    """An OCI image manifest over these bytes."""
    value = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(config, OCI_CONFIG),
        "layers": [descriptor(layer, OCI_LAYER) for layer in layers],
        **extra,
    }
    return json.dumps(value).encode()


def image_index(*manifests: bytes, **extra: object) -> bytes:
    """An OCI index over these manifests."""
    value = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [descriptor(manifest, OCI_MANIFEST) for manifest in manifests],
        **extra,
    }
    return json.dumps(value).encode()


def authorization(auth: tuple[str, str] | str | None) -> dict[str, str]:
    """The header for Basic or Bearer credentials."""
    if auth is None:
        return {}
    if isinstance(auth, str):
        return {"Authorization": f"Bearer {auth}"}
    pair = base64.b64encode(":".join(auth).encode()).decode()
    return {"Authorization": f"Basic {pair}"}


def send(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | Iterator[bytes] | None = None,
    headers: Headers = (),  # type: ignore[assignment]
    *,
    auth: tuple[str, str] | str | None = None,
    chunked: bool = False,
) -> Reply:
    """One request on this connection, with exactly these headers besides Host and the body's framing."""
    pairs = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
    connection.putrequest(method, path, skip_accept_encoding=True)
    for name, value in (*pairs, *authorization(auth).items()):
        connection.putheader(name, value)
    if chunked:
        connection.putheader("Transfer-Encoding", "chunked")
    elif isinstance(body, bytes):
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body, encode_chunked=chunked)
    response = connection.getresponse()
    content = response.read()
    all_headers = tuple((name.lower(), value) for name, value in response.getheaders())
    return Reply(response.status, dict(all_headers), all_headers, content)
