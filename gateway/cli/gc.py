"""`sluice gc`: the sweep that a worker runs every hour, now, or only a look at what it would remove."""

import secrets
from typing import Final

import click

from gateway.app import Services
from gateway.cli.help import Command
from gateway.cli.options import json_option, with_settings
from gateway.cli.output import Listing, amount, moment
from gateway.cli.services import run_services
from gateway.config import Settings
from gateway.jobs import hold_lease
from storage import SweepReport

_LEASE: Final = "garbage"  # the same as the workers' job: one sweep at a time in the whole installation


@click.command("gc", cls=Command)
@click.option("--dry-run", is_flag=True, help="List every blob that would go, with bytes and reason; change nothing.")
@json_option
@with_settings
def command(*, dry_run: bool, as_json: bool, settings: Settings) -> None:
    """Remove what nothing references any more.

    A server does this every hour by itself (garbage.interval_s). Nothing goes before its grace period is over, so what
    was deleted a moment ago is listed with the time when it goes.

    Examples:
      sluice gc --dry-run
      sluice gc --dry-run --json | jq 'map(.stored_bytes) | add'
      sluice gc
    """
    if as_json and not dry_run:
        raise click.UsageError("--json is for --dry-run")
    if dry_run:

        async def look(services: Services) -> None:
            await _look(services, as_json=as_json)

        run_services(settings, look)
    elif not run_services(settings, _sweep):
        raise click.ClickException("not all could be done; what is in trouble was kept, and the next run tries again")


async def _look(services: Services, *, as_json: bool) -> None:
    now, blobs, stored_bytes, due, due_bytes = int(services.clock()), 0, 0, 0, 0
    names = services.content.storage_names()
    with Listing("digest", "stored_bytes", "storage", "goes_at", "reason", as_json=as_json) as listing:
        async with services.sweep.prospects() as prospects:
            async for doomed in prospects:
                listing.add(
                    [
                        {
                            "digest": str(doomed.digest),
                            "stored_bytes": doomed.stored_bytes,
                            "storage": names.get(doomed.storage_id, "not configured"),
                            "goes_at": moment(max(doomed.not_before, now)),
                            "reason": doomed.reason,
                        }
                    ]
                )
                blobs, stored_bytes = blobs + 1, stored_bytes + doomed.stored_bytes
                if doomed.not_before <= now:
                    due, due_bytes = due + 1, due_bytes + doomed.stored_bytes
    if not as_json:
        click.echo(f"{blobs} blobs ({amount(stored_bytes)}) would go, {due} of them ({amount(due_bytes)}) now")


async def _sweep(services: Services) -> bool:
    """One whole run under the lease; False if there was trouble."""
    holder = secrets.token_hex(8)
    async with hold_lease(_LEASE, database=services.database, clock=services.clock, holder=holder) as lease:
        if lease is None:
            raise click.ClickException("a server is collecting garbage just now: try again in some minutes")
        report = await services.sweep.run()
        _tell(report)
        lease.ended_well = not report.trouble
    if lease.is_lost:
        click.echo("stopped: the collection could no longer be kept to this process alone", err=True)
        return False
    return lease.ended_well


def _tell(report: SweepReport) -> None:
    click.echo(f"removed {report.removed_blobs} blobs ({amount(report.removed_bytes)})")
    click.echo(f"marked {report.condemned_blobs} blobs, which go after the grace period (garbage.grace_s)")
    click.echo(f"purged {report.purged_manifests} deleted manifests, expired {report.expired_uploads} upload sessions")
    for line in report.trouble:
        click.echo(f"trouble: {line}", err=True)
