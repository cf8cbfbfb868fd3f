"""A PostgreSQL server of the tests' own, with the means to make it fail: a throw-away cluster in a folder.

It listens on a loopback port and on a socket in its folder. The product connects as `sluice`, who is no superuser, so
that limits of connections hold for it; tests that look from outside connect as `postgres`. Nothing survives the block.
"""

import itertools
import os
import pwd
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import psycopg

from bench.contenders.ports import port_block
from tests.servers.processes import Process, run, start, wait_until

_STOPPED_S: Final = 20.0
_MIGRATED: Final = "migrated"
_SETTINGS: Final = {
    "fsync": "off",  # the machine does not die; commits are written, or a kill would lose some
    "full_page_writes": "off",
    "max_connections": "80",
    "shared_buffers": "32MB",
    "autovacuum": "off",  # it holds template databases open at moments of its own choice
    "log_min_messages": "error",
    "timezone": "UTC",
}
Way = Literal["tcp", "socket"]


@dataclass(slots=True)
class PostgresServer:
    """A running cluster. What a test does to it lasts until `heal`."""

    folder: Path
    programs: Path
    port: int
    _process: Process | None = None
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _has_migrated: bool = False
    _is_read_only: bool = False

    def url_of(self, database: str, over: Way = "tcp", *, user: str = "sluice", port: int | None = None) -> str:
        """The URL of a database for the product. `port` may be that of a proxy in front of the server."""
        if over == "socket":
            return f"postgresql://{user}@/{database}?host={self.folder}&port={self.port}"
        return f"postgresql://{user}@127.0.0.1:{port or self.port}/{database}"

    def new_database(self, *, migrated: bool = True) -> str:
        """The name of a new database: empty, or with the newest tables and no rows. Remove it with `drop`."""
        name = f"test_{next(self._numbers)}"
        template = self._template() if migrated else "template0"
        self.execute(f"CREATE DATABASE {name} OWNER sluice TEMPLATE {template}")
        return name

    def drop(self, database: str) -> None:
        """Remove a database and cut whoever is connected to it."""
        self.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement as the superuser, outside of any transaction; its rows, if it gives any."""
        where = self.url_of(database, "socket", user="postgres")
        with psycopg.connect(where, autocommit=True, connect_timeout=10) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def start(self) -> None:
        """Start it and wait until it takes connections. Nothing where it runs."""
        if self._process is not None and self._process.is_running:
            return
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)  # of one that was killed
        options = [
            word
            for name, value in {
                **_SETTINGS,
                "listen_addresses": "127.0.0.1",
                "port": str(self.port),
                "unix_socket_directories": str(self.folder),
            }.items()
            for word in ("-c", f"{name}={value}")
        ]
        command: list[str | Path] = [self.programs / "postgres", "-D", self.folder / "data", *options]
        self._process = start(command, self.folder / "log", user=_owner())
        self._process.wait_ready(self._answers)

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop it in order: `fast` says good-bye to its clients, `immediate` does not. Nothing where it is down."""
        if self._process is None or not self._process.is_running:
            return
        self._process.popen.send_signal(signal.SIGINT if mode == "fast" else signal.SIGQUIT)
        self._process.popen.wait(_STOPPED_S)

    def kill(self) -> None:
        """End every process of it as kill -9 does; what it had committed is kept."""
        if self._process is not None:
            self._process.kill()

    def pause(self) -> None:
        """Let every process of it stand still: connections stay open and nothing is answered any more."""
        assert self._process is not None
        self._process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`. Nothing where it was not paused."""
        if self._process is not None and self._process.is_running:
            self._process.signal(signal.SIGCONT)

    def read_only(self, *, on: bool) -> None:
        """Refuse writes, on open connections too, as a server does that another one has replaced."""
        self.execute(f"ALTER SYSTEM SET default_transaction_read_only = {'on' if on else 'off'}")
        self.execute("SELECT pg_reload_conf()")
        said = "on" if on else "off"

        def is_known() -> bool:
            return self.execute("SHOW default_transaction_read_only") == [(said,)]

        assert wait_until(is_known, _STOPPED_S)
        self._is_read_only = on

    def limit_connections(self, database: str, count: int) -> None:
        """Let the product have only so many connections to a database; -1 for no limit. Open ones stay."""
        self.execute(f"ALTER DATABASE {database} CONNECTION LIMIT {count}")

    def cut_connections(self, database: str) -> int:
        """End every connection to a database from the server's side; how many there were."""
        pids = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"  # noqa: S608
        return len(self.execute(pids))

    def connections(self, database: str) -> int:
        """How many connections to a database are open."""
        counted = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'"  # noqa: S608
        return int(self.execute(counted)[0][0])

    def heal(self) -> None:
        """Whatever was done to it: it runs, answers, and takes writes again."""
        self.resume()
        self.start()
        if self._is_read_only:
            self.read_only(on=False)

    def _answers(self) -> bool:
        try:
            return self.execute("SELECT 1") == [(1,)]
        except psycopg.OperationalError:
            return False

    def _template(self) -> str:
        """The name of a database with all tables; made at the first call. Copying it takes some 30 ms."""
        if not self._has_migrated:
            self.drop(_MIGRATED)  # of a migration that failed, so that each test tells the same
            self.execute(f"CREATE DATABASE {_MIGRATED} OWNER sluice TEMPLATE template0")
            _migrate(self.url_of(_MIGRATED, "socket"))
            self._has_migrated = True
        return _MIGRATED


@contextmanager
def serve(folder: Path, programs: Path) -> Iterator[PostgresServer]:
    """A cluster of one's own while the block lasts. `programs` holds `initdb` and `postgres`.

    The path of `folder` must be short (a socket of at most 107 bytes lies in it) and open to other users.
    """
    owner = _owner()
    if owner is not None:
        os.chown(folder, pwd.getpwnam(owner).pw_uid, -1)
    data = folder / "data"
    run([programs / "initdb", "-D", data, "--auth=trust", "--username=postgres", "--no-sync", "-E", "UTF8"], user=owner)
    with port_block() as port:
        server = PostgresServer(folder, programs, port)
        try:
            server.start()
            server.execute("CREATE ROLE sluice LOGIN")
            yield server
        finally:
            server.kill()
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def standby(primary: PostgresServer, folder: Path) -> Iterator[PostgresServer]:
    """A copy of `primary` that takes reads only and stands still in time, as a standby does that is cut off.

    `folder` as for `serve`.
    """
    owner = _owner()
    if owner is not None:
        os.chown(folder, pwd.getpwnam(owner).pw_uid, -1)
    where: list[str | Path] = ["-h", primary.folder, "-p", str(primary.port), "-U", "postgres"]
    copying: list[str | Path] = [
        primary.programs / "pg_basebackup",
        *where,
        "-D",
        folder / "data",
        "--no-sync",
        "--checkpoint=fast",
    ]
    run(copying, user=owner)
    (folder / "data" / "standby.signal").touch()
    with port_block() as port:
        server = PostgresServer(folder, primary.programs, port)
        try:
            server.start()
            yield server
        finally:
            server.kill()
            shutil.rmtree(folder, ignore_errors=True)


def _owner() -> str | None:
    """Who runs it: the server refuses to run as root."""
    return "postgres" if os.geteuid() == 0 else None


def _migrate(url: str) -> None:
    import sqlalchemy as sa  # noqa: PLC0415 - only where tables are wanted

    from storage import migrations  # noqa: PLC0415

    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
    try:
        with engine.begin() as connection:
            migrations.upgrade(connection)
    finally:
        engine.dispose()
