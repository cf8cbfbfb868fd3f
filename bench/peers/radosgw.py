"""The S3 service on which registries are compared: Ceph's radosgw with its bytes on disk, one for all contenders.

It is started when the first of them needs it and killed when the last one has stopped. It tells what each bucket was
asked for, from its own log of requests: nothing stands between a contender and the service.
"""

import base64
import hashlib
import hmac
import http.client
import re
import shutil
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Final, Literal

from bench.contenders.contender import ContenderFailed
from bench.contenders.ports import port_block
from bench.peers.ceph import ACCESS_KEY_ID, PROGRAMS, SECRET_ACCESS_KEY, Cluster, Command
from bench.processes import Cores, ProcessFailed, ProcessTree, start

_SEARCH: Final = "/usr/bin:/usr/sbin:/bin:/sbin:/usr/local/bin"
_CAPACITY_BYTES: Final = 48 << 30  # of a sparse file
_READY_S: Final = 60.0
_RUN_S: Final = 60.0
_LOGGED_S: Final = 10.0
_LINE: Final = re.compile(r'beast: \S+: \S+ - \S+ \[[^]]*\] "(\S+) /([^/?\s]+)\S* HTTP/1\.[01]" (\d{3}) (\d+) ')


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a bucket was asked for in an interval. `read_bytes` were sent by the service."""

    requests: Mapping[str, int]
    read_bytes: int

    @property
    def count(self) -> int:
        """Requests of every method."""
        return sum(self.requests.values())


@dataclass(frozen=True, slots=True)
class BucketPlace:
    """A bucket of its own for one server, and how it is reached."""

    service: "Radosgw"
    name: str

    @property
    def url(self) -> str:
        """Of the service."""
        return f"http://127.0.0.1:{self.service.port}"

    @property
    def access_key_id(self) -> str:
        """Who may do anything in it."""
        return ACCESS_KEY_ID

    @property
    def secret_access_key(self) -> str:
        """The secret of that key."""
        return SECRET_ACCESS_KEY

    def mark(self) -> int:
        """A point in time to ask for the traffic since; everything answered before lies before it."""
        return self.service.logged_bytes()

    def traffic(self, since: int) -> Traffic:
        """What came since a mark."""
        return self.service.traffic(self.name, since)

    def release(self) -> None:
        """Its server has stopped."""
        self.service.release()


@dataclass(slots=True, eq=False)
class Radosgw:
    """The service, running as long as somebody has a bucket of it. Blocking; one thread only.

    `store`: figures are for bytes on disk; in memory it starts sooner, which is enough to see that something works.
    """

    store: Literal["bluestore", "memstore"] = "bluestore"
    port: int = 0
    _users: int = 0
    _folder: Path | None = None
    _running: list[ProcessTree] = field(default_factory=list)
    _ports: ExitStack = field(default_factory=ExitStack)
    _log: Path = Path()

    def missing(self) -> str | None:
        """Why it cannot be started here, or None."""
        absent = [name for name in PROGRAMS if not shutil.which(name, path=_SEARCH)]
        return f"{', '.join(absent)} not installed (Debian packages ceph-mon, ceph-osd, radosgw)" if absent else None

    def bucket(self, directory: Path, cores: Cores) -> BucketPlace:
        """A new bucket; the service is started beside `directory` if it does not run. Raises ContenderFailed.

        It shares the load's cores, so that it takes none from the server under test.
        """
        if not self._users:
            self._start(directory, cores)
        self._users += 1
        name = f"bench-{uuid.uuid4().hex[:12]}"
        try:
            status = self._ask("PUT", f"/{name}")
        except OSError as error:
            self.release()
            raise ContenderFailed(f"radosgw: {error}") from error
        if status != 200:
            self.release()
            raise ContenderFailed(f"radosgw answered {status} to PUT of a bucket")
        return BucketPlace(self, name)

    def release(self) -> None:
        """A bucket is needed no more; the last one ends the service."""
        self._users -= 1
        if self._users == 0:
            self._stop()

    def logged_bytes(self) -> int:
        """How long the log is once everything that was answered by now is in it."""
        mark = uuid.uuid4().hex
        size = self._log.stat().st_size
        self._ask("GET", f"/bench-mark-{mark}")
        until = time.monotonic() + _LOGGED_S
        while time.monotonic() < until:
            with self._log.open("rb") as log:
                log.seek(size)
                found = log.read().find(f"/bench-mark-{mark} ".encode())
            if found >= 0:
                return size + found
            time.sleep(0.02)
        raise ContenderFailed("radosgw does not write its log")

    def traffic(self, bucket: str, since: int) -> Traffic:
        """What the bucket was asked for since that length of the log."""
        until = self.logged_bytes()
        with self._log.open("rb") as log:
            log.seek(since)
            text = log.read(until - since).decode(errors="replace")
        requests: Counter[str] = Counter()
        read_bytes = 0
        for method, asked, _, sent in _LINE.findall(text):
            if asked == bucket:
                requests[method] += 1
                read_bytes += int(sent) if method == "GET" else 0
        return Traffic(requests, read_bytes)

    # --- processes --------------------------------------------------------------------------------------------------

    def _start(self, directory: Path, cores: Cores) -> None:
        self.port = self._ports.enter_context(port_block())
        folder = directory.parent / f"radosgw-{uuid.uuid4().hex[:8]}"
        cluster = Cluster(folder, self.port, store=self.store, capacity_bytes=_CAPACITY_BYTES)
        self._folder, self._log = folder, cluster.log
        environment = {"PATH": _SEARCH, "LC_ALL": "C"}

        def run(command: Command) -> None:
            words = [str(word) for word in command]
            ended = subprocess.run(words, capture_output=True, env=environment, timeout=_RUN_S, check=False)
            if ended.returncode:
                raise ProcessFailed(f"{words[0]} ended with {ended.returncode}: {ended.stderr.decode()[-1000:]}")

        def begin(command: Command, log: Path) -> ProcessTree:
            words = ["setpriv", "--pdeathsig", "KILL", *command]  # nothing outlives the suite, however it ends
            return start(words, log=log, cores=cores.load, environment=environment)

        def wait(process: ProcessTree, ready: Callable[[], bool]) -> None:
            process.wait_until(ready, deadline_s=_READY_S)

        try:
            for process in cluster.bring_up(run=run, start=begin, wait=wait):
                self._running.append(process)
        except (ProcessFailed, OSError, subprocess.SubprocessError) as error:
            self._stop()
            raise ContenderFailed(f"radosgw: {error}") from error

    def _stop(self) -> None:
        for process in self._running:
            process.kill()
        self._running.clear()
        self._ports.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _ask(self, method: str, path: str) -> int:
        """One signed request without a body (signature version 2, which needs no more than this); its status."""
        date = formatdate(usegmt=True)
        signed = hmac.digest(SECRET_ACCESS_KEY.encode(), f"{method}\n\n\n{date}\n{path}".encode(), hashlib.sha1)
        authorization = f"AWS {ACCESS_KEY_ID}:{base64.b64encode(signed).decode()}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_READY_S)
        try:
            connection.request(method, path, headers={"Date": date, "Authorization": authorization})
            reply = connection.getresponse()
            reply.read()
        except http.client.HTTPException as error:
            raise ConnectionError(f"{method} {path}: {error!r}") from error
        finally:
            connection.close()
        return reply.status
