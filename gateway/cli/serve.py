"""`sluice serve`: prepare the installation, say where it is, and run the workers until told to stop."""

import gc
import mmap
import multiprocessing
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Final

import click
import trio

from gateway.access.accounts import FirstAdmin
from gateway.access.errors import AccessError
from gateway.app import build, open_services, running
from gateway.cli.first_start import PASSWORD_FILE, prepare
from gateway.cli.help import Command
from gateway.cli.options import config_option, data_option, load_settings
from gateway.config import Server, Settings
from gateway.logs import configure, get_logger
from gateway.wire.cores import usable_cores
from gateway.wire.descriptors import connections_within, files_within, raise_limit
from gateway.wire.heartbeat import Heartbeats
from gateway.wire.settings import WireSettings
from gateway.wire.sockets import ListenError, reserve
from gateway.wire.supervisor import supervise
from gateway.wire.worker import serve as serve_sockets
from gateway.wire.worker import stop_on_signals
from storage import StorageError

# After the drain, a worker's stores and jobs get this long before the supervisor kills it.
_CLOSE_S = 30.0
_COLLECT_AFTER: Final = 10_000
"""New objects between two looks for cycles; ours have few, and each look at the oldest ones stops everybody."""
_log = get_logger(__name__)
_LOCAL_NAMES = {"127.0.0.1", "[::1]", "0.0.0.0", "[::]"}  # noqa: S104  # compared, not bound


@click.command("serve", cls=Command)
@data_option
@config_option
@click.option("--listen", metavar="HOST:PORT", help="Where to listen; default 127.0.0.1:8080.")
@click.option("--workers", metavar="N|auto", help="Processes; default auto: one per core that it may use.")
def command(*, data: Path | None, config: Path | None, listen: str | None, workers: str | None) -> None:
    """Run the registry until SIGTERM or Ctrl-C, then let running requests end.

    Examples:
      sluice serve
      sluice serve --data /var/lib/sluice --listen 0.0.0.0:8080 --workers 2
      sluice serve --config /etc/sluice.toml
      SLUICE_ADMIN_PASSWORD=... sluice serve        # choose the first password yourself
    """
    settings = load_settings(
        data,
        config,
        {
            "server.listen": ("--listen", listen),
            "server.workers": ("--workers", int(workers) if workers and workers.isdecimal() else workers),
        },
    )
    configure(level=settings.logs.level, form=settings.logs.format)
    try:
        with _ended_by_sigterm():
            wire = WireSettings.of(settings.server, access_log=settings.logs.access)
            _require_usable(settings.server)
            admin = _prepare_apart(settings, os.environ.pop("SLUICE_ADMIN_PASSWORD", None))
            status = _supervise(settings, partial(_work, settings=settings, wire=wire, admin=admin))
    except (ListenError, StorageError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    sys.exit(status)


def _supervise(settings: Settings, work: Callable[..., None]) -> int:
    """Run the workers; the exit status."""
    server = settings.server
    workers = usable_cores() if server.workers == "auto" else server.workers
    heartbeats = Heartbeats(workers, silence_s=server.hang_timeout_s)
    return supervise(
        partial(work, announced=mmap.mmap(-1, 1), heartbeats=heartbeats),
        listen=server.listen,
        workers=workers,
        stop_timeout_s=server.drain_timeout_s + _CLOSE_S,
        heartbeats=heartbeats,
    )


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends this process well while nothing else listens for it: for process 1 of a container it has no default.

    Supervisor and workers take over as soon as they are there.
    """

    def end(_number: int, _frame: FrameType | None) -> None:
        sys.exit(0)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _require_usable(server: Server) -> None:
    """Raise what would stop the workers, before anything is made: the first password is shown only to who serves.

    Raises `ListenError` and OSError; the supervisor and the workers look again.
    """
    for sock in reserve(server.listen):
        sock.close()
    if server.tls_certificate is not None:
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(server.tls_certificate, server.tls_key)
        except OSError as error:  # bad PEM is one, too
            files = f"server.tls_certificate {server.tls_certificate} with server.tls_key {server.tls_key}"
            raise OSError(f"cannot use {files}: {error.strerror or error}") from error


def _prepare_apart(settings: Settings, password: str | None) -> FirstAdmin | None:
    """Prepare in a process of its own: it uses threads, and workers are forked from a process without any.

    Through the pipe comes the first administrator, None if there are accounts already, or a text that says what failed.
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_prepare_into, args=(theirs, settings, password))
    child.start()
    theirs.close()
    try:
        outcome = ours.recv()
    except EOFError:
        outcome = f"preparing the data directory {settings.storage.data} ended early; the lines above say why"
    except SystemExit:
        child.terminate()  # the next start goes on where it was
        child.join()
        raise
    child.join()
    if isinstance(outcome, str):
        raise click.ClickException(outcome)
    return outcome  # type: ignore[no-any-return]  # pipes are untyped; the other end is below


def _prepare_into(pipe: Connection, settings: Settings, password: str | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        pipe.send(trio.run(partial(prepare, settings, password=password)))
    except AccessError as error:
        pipe.send(f"cannot make the administrator from SLUICE_ADMIN_PASSWORD: {error}")
    except (StorageError, OSError, ValueError) as error:
        pipe.send(f"{_cannot(settings)}: {error}")
    finally:
        pipe.close()


def _cannot(settings: Settings) -> str:
    """What did not work, when an installation could not be opened: not all of it may lie in the data directory."""
    storage = settings.storage
    if storage.database_url is None and all(each.kind == "directory" for each in storage.storages.values()):
        return f"cannot use the data directory {storage.data}"
    return "cannot open the installation"


def _work(
    number: int,
    sockets: Sequence[socket.socket],
    *,
    settings: Settings,
    wire: WireSettings,
    admin: FirstAdmin | None,
    announced: mmap.mmap,
    heartbeats: Heartbeats,
) -> None:
    """One worker's life, in its own process (or in ours, if there is only one)."""

    def announce(addresses: Sequence[str]) -> None:
        _spare_the_collector()
        if number == 0 and announced[0] == 0:  # once, also when the worker is started again
            announced[0] = 1
            click.echo(_welcome(settings, addresses, admin))

    async def work() -> None:
        fitted, kept_files = _fitted(wire, settings.lane.open_files)
        lane = settings.lane.model_copy(update={"open_files": kept_files})
        async with (
            # Signals first: for process 1 one that comes while services open would be lost, and the stop a kill.
            stop_on_signals() as stop,
            heartbeats.beating(number),
            open_services(settings.model_copy(update={"lane": lane})) as services,
            running(services),
        ):
            await serve_sockets(
                build(services),
                settings=fitted,
                sockets=sockets,
                stop=stop,
                recall=services.lane,
                on_ready=announce,
            )

    trio.run(work)


def _spare_the_collector() -> None:
    """Take all that the start has made out of Python's garbage collection.

    A full collection of those 130,000 objects stopped everybody for 85 to 108 ms, now and then; without them a
    manifest beside four pushes is answered within 7 ms where it was 50 to 70 (99th percentile).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)


def _fitted(wire: WireSettings, open_files: int) -> tuple[WireSettings, int]:
    """No more connections than the process may open files for, besides those it keeps open; and how many those are.

    Beyond that accepting would fail, instead of answering 503.
    """
    limit = raise_limit()
    kept = files_within(limit, wanted=open_files)
    allowed = connections_within(limit, wanted=wire.max_connections, kept=kept)
    if allowed < wire.max_connections:
        _log.warning("connections_limited", configured=wire.max_connections, effective=allowed, open_files=limit)
    return replace(wire, max_connections=allowed), kept


def _welcome(settings: Settings, addresses: Sequence[str], admin: FirstAdmin | None) -> str:
    """What a newcomer needs to see; the password only when it was just made."""
    lines = [f"Sluice listens on {', '.join(addresses)} and keeps its data in {settings.storage.data}"]
    if admin is not None:
        file = settings.storage.data / PASSWORD_FILE
        shown = f"{admin.password}  (shown once; also in {file}, which only you can read)"
        lines += [
            "",
            f"  administrator  {admin.name}",
            f"  password       {shown if admin.is_random else 'the one in SLUICE_ADMIN_PASSWORD'}",
        ]
    host = _docker_host(settings.server.external_url or addresses[0])
    lines += [
        "",
        "Try:",
        f"  docker login {host} -u admin",
        f"  docker tag myapp {host}/myapp:1.0",
        f"  docker push {host}/myapp:1.0",
        "",
    ]
    return "\n".join(lines)


def _docker_host(address: str) -> str:
    """The address as one writes it before an image's name."""
    scheme, _, place = address.partition("://")
    host, colon, port = place.rpartition(":")
    if colon and host in _LOCAL_NAMES:
        return f"localhost:{port}"
    if "." not in place and ":" not in place and place != "localhost":  # else docker takes it for a user of its hub
        return f"{place}:{443 if scheme == 'https' else 80}"
    return place
