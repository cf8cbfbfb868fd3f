"""`sluice bench list`: what can be measured, and against whom."""

import json

import click

from bench.cases.case import Scale, suits
from bench.cases.catalog import all_cases
from bench.contenders.catalog import all_contenders
from bench.targets import BUCKET_TARGETS, TARGETS


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for other programs.")
@click.option("--quick", is_flag=True, help="As `run --quick` would measure.")
def command(*, as_json: bool, quick: bool) -> None:
    """Show cases and contenders, and who takes part in what.

    \b
    Examples:
      sluice bench list
      sluice bench list --json
    """  # noqa: D301  # click's mark
    cases, contenders = all_cases(Scale.QUICK if quick else Scale.FULL), all_contenders()
    promised = {target.case for target in (*TARGETS, *BUCKET_TARGETS)}
    if as_json:
        rows = [
            {
                "case": case.name,
                "summary": case.summary,
                "unit": case.unit,
                "cores": case.cores,
                "has_target": case.name in promised,
                "contenders": [each.name for each in contenders if suits(case, each)],
            }
            for case in cases
        ]
        missing = {each.name: each.missing() for each in contenders}
        click.echo(json.dumps({"cases": rows, "contenders": missing}, indent=2))
        return
    for case in cases:
        mark = "*" if case.name in promised else " "
        taking = ", ".join(each.name for each in contenders if suits(case, each))
        click.echo(f"{mark} {case.name:<24} {case.summary} (per {case.unit}; {taking})")
    click.echo("\n* a target is about it, so it is in the set figures, or in s3 where its name says so\n")
    for each in contenders:
        click.echo(f"  {each.name:<24} {each.missing() or 'ready'}")
