"""`sluice fsck`: read everything that is stored and compare it with what is on record."""

import click

from gateway.app import Services
from gateway.cli.help import Command
from gateway.cli.options import json_option, with_settings
from gateway.cli.output import Listing, amount
from gateway.cli.services import run_services
from gateway.config import Settings
from storage import Finding, Fsck, FsckTotals


@click.command("fsck", cls=Command)
@click.option("--repair", is_flag=True, help="Put damaged blobs and orphans into quarantine.")
@json_option
@with_settings
def command(*, repair: bool, as_json: bool, settings: Settings) -> None:
    """Check every stored byte; reads all of it, beside a running server.

    Kinds of findings: missing (on record, not stored), damaged (other bytes than on record), unreadable (the disk said
    so), orphan (stored, not on record), healed (marked before, sound now). A blob that is missing or was repaired heals
    with the next push of an image that has it; quarantined bytes are kept. The exit code is 1 if anything was found.

    Examples:
      sluice fsck
      sluice fsck --repair
      sluice fsck --json | jq -r '.[].images[]'
    """

    async def work(services: Services) -> FsckTotals:
        fsck = Fsck(
            services.database,
            services.content,
            repair=repair,
            grace_s=services.settings.garbage.grace_s,
            clock=services.clock,
        )
        with Listing(
            "kind", "digest", "stored_bytes", "storage", "repaired", "detail", "images", as_json=as_json
        ) as found:
            async with fsck.findings() as findings:
                async for finding in findings:
                    found.add([_row(finding)])
        return fsck.totals

    totals = run_services(settings, work)
    click.echo(
        f"checked {totals.blobs} blobs ({amount(totals.read_bytes)}), found {totals.findings} problems", err=as_json
    )
    if totals.findings:
        hint = "" if repair else "; `sluice fsck --repair` puts damaged ones aside"
        raise click.ClickException(f"{totals.findings} problems{hint}")


def _row(finding: Finding) -> dict[str, object]:
    return {
        "kind": finding.kind,
        "digest": str(finding.digest),
        "stored_bytes": finding.stored_bytes,
        "storage": finding.storage,
        "key": finding.key,
        "repaired": finding.repaired,
        "detail": finding.detail,
        "images": list(finding.images),
    }
