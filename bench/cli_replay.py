"""`sluice bench replay`: a trace is driven against a registry that runs already."""

import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import Progress

from bench import loads, trace, trace_content
from bench.cases.case import Outcome
from bench.contenders.contender import ContenderFailed, Endpoint, Server, Start
from bench.contenders.url import Url
from bench.jobs import Job, LoadFailed
from bench.processes import Cores
from bench.records import Latencies
from bench.replay import repeated
from bench.report.words import digits, size
from bench.trace import Trace, TraceInvalid

_USER, _PASSWORD = "BENCH_USER", "BENCH_PASSWORD"
_SLACK_S: Final = 120.0
"""After the last request was due, answers may take so long."""


@click.command("replay")
@click.argument("source", metavar="TRACE", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--url", required=True, metavar="URL", help=f"The registry; log-in from {_USER} and {_PASSWORD}.")
@click.option("--speed", type=click.FloatRange(1, 100), default=1.0, show_default=True, help="Times as fast.")
@click.option("--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="Load processes.")
@click.option("--prepare", is_flag=True, help="First push made-up content of the same sizes, and ask for that.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for other programs.")
def command(*, source: Path, url: str, speed: float, processes: int, prepare: bool, as_json: bool) -> None:
    """Drive the pulls of a trace against a registry, each when it is due; latencies count from then.

    A trace without names needs --prepare, or nothing that it asks for is there. Exit code 1 when an answer was not as
    recorded.

    \b
    Examples:
      BENCH_USER=ada sluice bench replay monday.trace --url http://127.0.0.1:8080 --prepare
      sluice bench replay monday.trace --url https://registry.example --speed 10 --processes 2
    """  # noqa: D301  # click's mark
    try:
        recorded = trace.read(source)
        if not repeated(recorded.visits):
            raise click.ClickException(f"{source} has no GET and no HEAD in it")
        outcome = _replayed(recorded, _server(url), speed=speed, processes=processes, prepare=prepare)
    except (TraceInvalid, ContenderFailed, LoadFailed, OSError) as error:
        raise click.ClickException(str(error)) from error
    skipped = len(recorded.visits) - len(repeated(recorded.visits))
    if as_json:
        click.echo(json.dumps(_told(outcome, skipped), indent=2))
    else:
        _tell(outcome, skipped)
    if outcome.errors:
        raise click.ClickException(f"{outcome.errors} answers were not as recorded")


def _server(url: str) -> Server:
    with tempfile.TemporaryDirectory() as nowhere:
        return Url(url, os.environ.get(_USER), os.environ.get(_PASSWORD)).start(
            Start(Path(nowhere), Cores(frozenset(), frozenset()))
        )


def _replayed(recorded: Trace, server: Server, *, speed: float, processes: int, prepare: bool) -> Outcome:
    played = _prepared(recorded, server) if prepare else recorded
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "trace"
        trace.write(played, path)
        jobs = [
            _job(server.endpoint, path, speed, (share, processes), played.length_s / speed + _SLACK_S)
            for share in range(processes)
        ]
        return loads.drive(jobs, tree=None, cores=Cores(frozenset(), frozenset()))


def _job(endpoint: Endpoint, path: Path, speed: float, share: tuple[int, int], deadline_s: float) -> Job:
    arguments: dict[str, Any] = {
        "trace_file": str(path),
        "speed": speed,
        "share": share[0],
        "shares": share[1],
        "user": os.environ.get(_USER),
        "password": os.environ.get(_PASSWORD),
    }
    return Job("bench.replay", endpoint, arguments, deadline_s=deadline_s)


def _prepared(recorded: Trace, server: Server) -> Trace:
    """Push what the trace asks for; the trace that asks for it by its new names."""
    names: dict[str, str] = {}
    wanted = trace_content.holdings(recorded)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for holding in progress.track(wanted, description="pushing content"):
            name = names[holding.image] = server.name(holding.image)
            server.put_blob(name, trace_content.CONFIG)
            for blob in holding.blobs:
                server.put_blob(name, blob)
            for manifest, tags in holding.manifests:
                server.put_manifest(name, manifest, *tags)
    return trace_content.rewritten(recorded, names)


def _told(outcome: Outcome, skipped: int) -> dict[str, Any]:
    late = outcome.recordings["late"].latencies() if "late" in outcome.recordings else None
    return {
        "requests": outcome.requests,
        "errors": outcome.errors,
        "not_repeated": skipped,
        "moved_bytes": outcome.moved_bytes,
        "wall_s": round(outcome.wall_s, 3),
        "client_cpu_s": round(outcome.client_cpu_s, 3),
        **{
            name: asdict(each) if each else None
            for name, each in (("first_byte", outcome.first_byte), ("whole", outcome.whole), ("late", late))
        },
        "complaints": list(outcome.complaints),
    }


def _tell(outcome: Outcome, skipped: int) -> None:
    click.echo(
        f"{outcome.requests} requests in {outcome.wall_s:.1f} s ({digits(outcome.requests / outcome.wall_s)}/s), "
        f"{size(outcome.moved_bytes)} ({size(outcome.moved_bytes / outcome.wall_s)}/s), {outcome.errors} errors; "
        f"{skipped} pushes and others were not repeated"
    )
    click.echo(f"{'ms':<12}{'p50':>10}{'p90':>10}{'p99':>10}{'p99.9':>10}{'max':>10}")
    late = outcome.recordings["late"].latencies() if "late" in outcome.recordings else None
    for name, each in (("first byte", outcome.first_byte), ("whole", outcome.whole), ("sent late", late)):
        if each is not None:
            click.echo(f"{name:<12}{''.join(f'{digits(ms):>10}' for ms in _quantiles(each))}")
    for complaint in outcome.complaints:
        click.echo(f"error: {complaint}", err=True)


def _quantiles(latencies: Latencies) -> tuple[float, ...]:
    return latencies.p50_ms, latencies.p90_ms, latencies.p99_ms, latencies.p999_ms, latencies.max_ms
