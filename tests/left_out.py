"""What a test run left out and why, as the last lines that it prints.

Called with the folder of pytest's JUnit reports and the stages that should have written one. Reads those and asks
`system_packages` what the machine lacks. It decides nothing: the run's own exit code says whether it passed.
"""

import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

from tests import system_packages


def skipped(folder: Path) -> Counter[str]:
    """How many tests gave which reason for being skipped, over all reports in the folder."""
    reasons: Counter[str] = Counter()
    for path in sorted(folder.glob("*.xml")):
        for element in ET.parse(path).iter("skipped"):  # noqa: S314 - pytest wrote it a moment ago
            if element.get("type") == "pytest.skip":  # an expected failure is reported by the same element
                reasons[element.get("message") or "no reason given"] += 1
    return reasons


def unreached(folder: Path, stages: list[str]) -> list[str]:
    """One line for each stage that wrote no report because a step before it failed."""
    return [
        f"all {stage} tests: a step before them failed" for stage in stages if not (folder / f"{stage}.xml").exists()
    ]


def summary(reasons: Counter[str], further: list[str]) -> str:
    """The closing text: one line for each reason, most tests first, then the further lines as they are."""
    lines = [f"  {count} x {reason}" for reason, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))]
    lines += [f"  {line}" for line in further]
    return "\n".join(["Left out of this run, and why:", *lines]) if lines else "Nothing was left out of this run."


if __name__ == "__main__":
    reports = Path(sys.argv[1])
    print(summary(skipped(reports), [*unreached(reports, sys.argv[2:]), *system_packages.report()]))
