"""The lifecycle rules that we ask of a bucket, beside those of others. Pure.

They are the last resort: what a crash leaves behind is dropped by the sweeper first.
"""

from typing import Final

from storage.s3.keys import BLOBS, PROBE, STAGING

Rules = list[dict[str, object]]
_OURS: Final = "sluice"


def with_ours(rules: Rules, *, root: str, days: int) -> Rules:
    """All rules that the bucket should have: those of others as they are and in their order, then ours for `root`."""
    ours = _ours(root, days)
    names = {rule["ID"] for rule in ours}
    theirs = [rule for rule in rules if rule.get("ID") not in names]
    present = [rule for rule in rules if rule.get("ID") in names]
    return (
        rules
        if sorted(map(repr, map(_canonical, present))) == sorted(map(repr, map(_canonical, ours)))
        else theirs + ours
    )


def _ours(root: str, days: int) -> Rules:
    """Unfinished uploads lie at blob keys; `staging/` and `probe/` hold whole objects."""
    place = root.replace("/", "-") + _OURS
    return [
        _rule(f"{place}-uploads", f"{root}{BLOBS}", AbortIncompleteMultipartUpload={"DaysAfterInitiation": days}),
        _rule(f"{place}-staging", f"{root}{STAGING}", Expiration={"Days": days}),
        _rule(f"{place}-probe", f"{root}{PROBE}", Expiration={"Days": days}),
    ]


def _rule(name: str, prefix: str, **action: object) -> dict[str, object]:
    return {"ID": name, "Status": "Enabled", "Filter": {"Prefix": prefix}, **action}


def _canonical(rule: dict[str, object]) -> list[tuple[str, object]]:
    return sorted(rule.items())
