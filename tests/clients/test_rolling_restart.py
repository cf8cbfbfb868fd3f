"""Two gateways behind nginx are restarted in turn under load: no pull fails, pushes succeed by the client's own retry.

nginx has exactly the configuration that docs/operations.md recommends, on ports of this test.
"""

import http.client
import os
import random
import re
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bench.contenders.ports import free_port
from tests.served import (
    ADMIN,
    OCI_MANIFEST,
    Headers,
    Reply,
    Served,
    authorization,
    image_manifest,
    send,
    sha256,
)
from tests.servers.nginx import nginx

pytestmark = [pytest.mark.clients, pytest.mark.timeout(180)]

PULLERS, SLOW_PULLERS, PUSHERS, RESTARTS = 12, 4, 4, 6
TRIES = 5
"""What docker allows a layer."""
NAME = "common/docker-hosted/rolling"
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "operations.md"


def recommended(port: int, first: int, second: int) -> str:
    """The configuration of the document, on these ports and without TLS."""
    (block,) = re.findall(r"```nginx\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    replaced = [("listen 443 ssl", f"listen 127.0.0.1:{port}"), (":8081 ", f":{first} "), (":8082 ", f":{second} ")]
    for before, after in replaced:
        assert block.count(before) == 1
        block = block.replace(before, after)
    return re.sub(r"^ *ssl_certificate.*\n", "", block, flags=re.MULTILINE)


class Refused(Exception):
    """An answer that was not the expected one."""


@dataclass
class Load:
    """What all clients share: where they ask, when they stop, and what they have seen."""

    port: int
    over: threading.Event = field(default_factory=threading.Event)
    pulled: int = 0
    pushed: dict[str, bytes] = field(default_factory=dict)
    retried: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def connection(self) -> http.client.HTTPConnection:
        """To nginx."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=40)

    def pull(self, image: bytes, contents: dict[str, bytes]) -> None:
        """Pull the image over and over on one connection, as a runner does; nothing is tried again."""
        connection = self.connection()
        try:
            while not self.over.is_set():
                token = self._token(connection)
                for _ in range(5):
                    manifest = ask(connection, "GET", f"/v2/{NAME}/manifests/v1", auth=token)
                    assert manifest.body == image
                    for digest, content in contents.items():
                        assert ask(connection, "GET", f"/v2/{NAME}/blobs/{digest}", auth=token).body == content
                    with self._lock:
                        self.pulled += 1
        except Exception as error:  # noqa: BLE001  # whatever it is, it is a failed pull
            self.failed.append(f"pull: {error!r}")
        finally:
            connection.close()

    def pull_slowly(self, digest: str, size_bytes: int) -> None:
        """Take a second and a half for a blob, so that restarts come in the middle of it."""
        try:
            while not self.over.is_set():
                connection = self.connection()
                connection.request("GET", f"/v2/{NAME}/blobs/{digest}", headers=authorization(ADMIN))
                answer = connection.getresponse()
                taken = 0
                while part := answer.read(size_bytes // 50):
                    taken += len(part)
                    self.over.wait(0.03)
                connection.close()
                assert (answer.status, taken) == (200, size_bytes)
                with self._lock:
                    self.pulled += 1
        except Exception as error:  # noqa: BLE001  # the same
            self.failed.append(f"slow pull: {error!r}")

    def push(self, number: int) -> None:
        """Push one new image after the other; each step may be tried again, as docker does."""
        chance = random.Random(number)
        count = 0
        while not self.over.is_set():
            count += 1
            layer = chance.randbytes(chance.randrange(1000, 3_000_000))
            config = b'{"architecture":"amd64","os":"linux","author":"%d-%d"}' % (number, count)
            manifest = image_manifest(config, layer)
            tag = f"p{number}-{count}"
            try:
                for content in (config, layer):
                    self._until_it_works(self._push_blob, content)
                self._until_it_works(self._put, f"/v2/{NAME}/manifests/{tag}", manifest)
            except Refused as error:
                self.failed.append(f"push {tag}: {error}")
                return
            self.pushed[tag] = manifest

    def _until_it_works(self, step: Callable[..., None], *what: object) -> None:
        for attempt in range(TRIES):
            try:
                step(*what)
            except (Refused, OSError, http.client.HTTPException) as error:
                self.retried.append(repr(error))
                if attempt == TRIES - 1:
                    raise Refused(f"after {TRIES} tries: {error!r}") from error
                self.over.wait(0.2 * (attempt + 1))  # the client's own pause
            else:
                return

    def _push_blob(self, content: bytes) -> None:
        connection = self.connection()
        try:
            begun = ask(connection, "POST", f"/v2/{NAME}/blobs/uploads/", b"", expected=202)
            place = begun.headers["location"].removeprefix(f"http://127.0.0.1:{self.port}")
            pieces = (content[at : at + 65536] for at in range(0, len(content), 65536))
            sent = send(connection, "PATCH", place, pieces, auth=ADMIN, chunked=True)
            if sent.status != 202:
                raise Refused(sent)
            place = sent.headers["location"].removeprefix(f"http://127.0.0.1:{self.port}")
            ask(connection, "PUT", f"{place}{'&' if '?' in place else '?'}digest={sha256(content)}", b"", expected=201)
        finally:
            connection.close()

    def _put(self, path: str, manifest: bytes) -> None:
        connection = self.connection()
        try:
            ask(connection, "PUT", path, manifest, headers={"Content-Type": OCI_MANIFEST}, expected=201)
        finally:
            connection.close()

    def _token(self, connection: http.client.HTTPConnection) -> str:
        query = f"service=sluice&scope=repository:{NAME}:pull"
        return str(ask(connection, "GET", f"/v2/token?{query}").json()["token"])


def ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | None = None,
    *,
    headers: Headers = (),  # type: ignore[assignment]  # an empty tuple is an empty list of pairs
    auth: tuple[str, str] | str = ADMIN,
    expected: int = 200,
) -> Reply:
    """One request, whose answer must have that status."""
    reply = send(connection, method, path, body, headers, auth=auth)
    if reply.status != expected:
        raise Refused(method, path, reply)
    return reply


def test_restarts_in_turn_cost_no_pull(program: Callable[[str], Path], tmp_path: Path) -> None:
    """Six restarts under 16 pullers and 4 pushers: 0 failed pulls, 0 pushes that fail after the client's retries.

    Each gateway ends with status 0 within its deadline, and all that was acknowledged is there afterwards.
    """
    environment = {"SLUICE_SERVER__TRUSTED_PROXIES": "127.0.0.1", "SLUICE_SERVER__DRAIN_TIMEOUT_S": "20"}
    gateways = [Served(tmp_path, environment=environment) for _ in range(2)]
    with ExitStack() as stack:
        for gateway in gateways:
            stack.enter_context(gateway)
        port = free_port()
        servers = recommended(port, *(each.port for each in gateways))
        stack.enter_context(nginx(program("nginx"), tmp_path / "nginx", servers))
        layers = [os.urandom(300_000), os.urandom(5_000)]
        _, image = gateways[0].push_image(NAME, "v1", *layers)
        large = os.urandom(24 << 20)
        digest = gateways[0].push_blob(NAME, large)
        load = Load(port)
        contents = {sha256(layer): layer for layer in layers}
        clients = [threading.Thread(target=load.pull, args=(image, contents)) for _ in range(PULLERS)]
        clients += [threading.Thread(target=load.pull_slowly, args=(digest, len(large))) for _ in range(SLOW_PULLERS)]
        clients += [threading.Thread(target=load.push, args=(number,)) for number in range(PUSHERS)]
        for client in clients:
            client.start()
        stack.callback(load.over.set)

        drained_s = []
        for number in range(RESTARTS):
            gateway = gateways[number % 2]
            before = load.pulled, len(load.pushed)
            begun = time.monotonic()
            assert gateway.stop() == 0
            drained_s.append(time.monotonic() - begun)
            gateway.start()
            wait_for_progress(load, *before)
        load.over.set()
        for client in clients:
            client.join()
        print(
            f"\n{load.pulled} pulls, {len(load.pushed)} pushes with {len(load.retried)} steps tried again, "
            f"{len(load.failed)} failures; the longest drain took {max(drained_s):.1f} s"
        )

        assert load.failed == []
        assert max(drained_s) < 20
        for tag, manifest in load.pushed.items():
            assert gateways[0].admin("GET", f"/v2/{NAME}/manifests/{tag}").body == manifest
        assert [gateway.stop() for gateway in gateways] == [0, 0]


def wait_for_progress(load: Load, pulled: int, pushed: int) -> None:
    """Until images were pulled and pushed since then, so that each restart meets clients at work."""
    deadline = time.monotonic() + 30
    while not load.failed and (load.pulled <= pulled + PULLERS or len(load.pushed) <= pushed):
        assert time.monotonic() < deadline
        load.over.wait(0.02)
