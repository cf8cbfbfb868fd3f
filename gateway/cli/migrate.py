"""`sluice migrate`: the database's schema to this version's, and a whole installation to another place."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from gateway.cli.help import Command
from gateway.cli.moving import carry_key, load_new, open_new, open_old, shared_storages
from gateway.cli.options import with_settings
from gateway.cli.output import amount
from gateway.cli.session import perform, require_installation
from gateway.config import Settings
from gateway.installation import database_of
from storage import LostBlob, Move, MoveTotals, Pool

_PARALLEL: Final = 4


@click.command("migrate", cls=Command)
@click.option(
    "--to",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Move the installation: to the one that this configuration file describes.",
)
@click.option("--verify", is_flag=True, help="With --to: read every moved blob back and hash it.")
@click.option("--replace", is_flag=True, help="With --to: overwrite what the new installation has got on its own.")
@click.option(
    "--keep-blobs",
    is_flag=True,
    help="With --to: storages that lie in the same place in both stay there; the old one must never run again.",
)
@click.option(
    "--parallel",
    type=click.IntRange(1, 64),
    metavar="N",
    help=f"With --to: blobs copied at once; default {_PARALLEL}.",
)
@with_settings
def command(
    *, target: Path | None, verify: bool, replace: bool, keep_blobs: bool, parallel: int | None, settings: Settings
) -> None:
    """Bring the database to this version, or move the whole installation elsewhere.

    Without --to: the schema becomes this version's, all or nothing. A server does the same when it starts. Make a
    backup first: there is no way back.

    With --to: all blobs and rows go to another installation, such as from SQLite and a directory to PostgreSQL and a
    bucket, or back. Storages keep their names; each that is in use must be configured in FILE. Settings of the new
    installation come from FILE alone, not from the environment. It gets the old one's secret key if it has none.

    The old installation is not changed and may serve meanwhile; the new one must not run yet. First move while the old
    one runs, which takes as long as its bytes take. Then stop the old one and run the same command again: it brings
    what was pushed since, and the rows as they are then. Interrupted, it goes on where it was.

    Open uploads do not move: clients begin them anew. A blob that cannot be read is told and left out; the next push of
    it heals that, and the exit code is 1. Where only the database moves, --keep-blobs leaves the bytes in their place;
    after the last run the old installation may not touch them any more.

    Examples:
      sluice migrate --data /var/lib/sluice
      sluice migrate --data /var/lib/sluice --to /etc/sluice-cluster.toml
      sluice migrate --config /etc/sluice-cluster.toml --to /etc/sluice-single.toml --verify
    """
    if target is None:
        if verify or replace or keep_blobs or parallel is not None:
            raise click.UsageError("--verify, --replace, --keep-blobs and --parallel go with --to")
        _migrate(settings)
        return
    new = load_new(target)
    shared = shared_storages(settings, new)
    if shared and not keep_blobs:
        raise click.ClickException(
            f"storage {', '.join(shared)} lies in the same place in both: give the new one a place of its own, "
            "or leave the bytes there with --keep-blobs"
        )
    totals = _move(settings, new, shared=shared, verify=verify, replace=replace, parallel=parallel or _PARALLEL)
    _tell(totals)


def _migrate(settings: Settings) -> None:
    require_installation(settings)

    async def work() -> None:
        async with database_of(settings) as database:
            before = await database.revision()
            await database.migrate()
            after = await database.revision()
        came_from = "it had already" if before == after else f"before it had {before or 'none'}"
        click.echo(f"the database has schema {after}; {came_from}")

    perform(work)


def _move(
    old: Settings, new: Settings, *, shared: Sequence[str], verify: bool, replace: bool, parallel: int
) -> MoveTotals:
    async def work() -> MoveTotals:
        async with open_old(old) as source, open_new(new) as target:
            warning = await Pool("secret_key", 1).run(carry_key, old, new)
            if warning is not None:
                click.echo(f"Warning: {warning}", err=True)
            move = Move(
                source,
                target,
                keys=warning is None,
                shared=shared,
                replace=replace,
                reread=verify,
                workers=parallel,
            )
            _, size_bytes = await move.size()
            with _progress(size_bytes) as advance:
                return await move.run(advance)

    try:
        return perform(work)
    except ValueError as error:  # a secret key cannot be used; the message says what to do
        raise click.ClickException(str(error)) from error
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt) is not None:
            raise click.Abort from group
        raise


@contextmanager
def _progress(size_bytes: int) -> Iterator[Callable[[int], None]]:
    """Gives what moves a bar of so many bytes on; nobody but people gets to see it."""
    if not sys.stderr.isatty() or not size_bytes:
        yield lambda _: None
        return

    def shown(done: int | None) -> str | None:
        return None if done is None else f"{amount(done)} of {amount(size_bytes)}"

    bar = click.progressbar(length=size_bytes, label="blobs", file=sys.stderr, item_show_func=shown)
    with bar:
        yield lambda more: bar.update(more, bar.pos + more)


def _tell(totals: MoveTotals) -> None:
    click.echo(
        f"copied {totals.copied_blobs} blobs ({amount(totals.copied_bytes)}), {totals.kept_blobs} were there already; "
        f"moved {totals.rows} rows"
    )
    for lost in totals.lost:
        click.echo(_line(lost))
    if totals.lost_blobs:
        raise click.ClickException(
            f"{totals.lost_blobs} blobs could not be read and were left out; the rest is complete. "
            "The next push of an image that has them heals it"
        )


def _line(lost: LostBlob) -> str:
    images = ", ".join(lost.images) or "no image"
    return f"lost {lost.digest} ({amount(lost.size_bytes)}, storage {lost.storage}): {lost.detail}; needed by {images}"
