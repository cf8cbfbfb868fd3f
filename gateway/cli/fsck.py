"""`sluice fsck`: read everything that is stored and compare it with what is on record."""

import click

from gateway.app import Services
from gateway.cli.help import Command
from gateway.cli.options import json_option, with_settings
from gateway.cli.output import Listing, amount
from gateway.cli.services import run_services
from gateway.config import Settings
from storage import Finding, Fsck, FsckTotals, Rebuild, RebuildTotals


@click.command("fsck", cls=Command)
@click.option("--repair", is_flag=True, help="Put damaged blobs and orphans into quarantine.")
@click.option("--rebuild", is_flag=True, help="Instead: put on record what is stored and unknown to the database.")
@click.option("--verify", is_flag=True, help="With --rebuild: hash each object before.")
@json_option
@with_settings
def command(*, repair: bool, rebuild: bool, verify: bool, as_json: bool, settings: Settings) -> None:
    """Check every stored byte; reads all of it, beside a running server.

    Kinds of findings: missing (on record, not stored), damaged (other bytes than on record), unreadable (the disk said
    so), orphan (stored, not on record), healed (marked before, sound now). A blob that is missing or was repaired heals
    with the next push of an image that has it; quarantined bytes are kept. The exit code is 1 if anything was found.

    --rebuild is for a database that was lost or restored from an old backup. It lists the stores and gives every object
    without a row one, so that pushes find it; of a bucket only the listing is read, unless --verify asks for the bytes.
    Images, tags and rights are in the database alone: they come from the backup or with the next push. What no image
    needs is removed after the grace period.

    Examples:
      sluice fsck
      sluice fsck --repair
      sluice fsck --json | jq -r '.[].images[]'
      sluice fsck --rebuild
    """
    if rebuild:
        if repair or as_json:
            raise click.UsageError("--rebuild goes with neither --repair nor --json")
        _rebuild(settings, verify=verify)
        return
    if verify:
        raise click.UsageError("--verify goes with --rebuild: without it every byte is read anyway")

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


def _rebuild(settings: Settings, *, verify: bool) -> None:
    async def work(services: Services) -> RebuildTotals:
        return await Rebuild(services.database, services.content, verify=verify, clock=services.clock).run()

    totals = run_services(settings, work)
    click.echo(
        f"looked at {totals.objects} objects: {totals.added} rows made, {totals.healed} healed, "
        f"{totals.kept} needed none"
    )
    for each in totals.unusable:
        click.echo(f"unusable {each.key} (storage {each.storage}): {each.detail}")
    if totals.unusable_objects:
        raise click.ClickException(f"{totals.unusable_objects} objects cannot be used; `sluice fsck` tells more")


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
