"""Which cases meet which contenders."""

import pytest

from bench import sets
from bench.cases.case import Scale, suits
from bench.cases.catalog import all_cases
from bench.contenders.url import Url
from bench.sets import CaseSet, NothingToRun, parts
from bench.targets import BUCKET_TARGETS, TARGETS


def chosen(case_set: CaseSet, **words: object) -> list[tuple[list[str], list[str]]]:
    """Names of the cases and contenders of each part."""
    found = parts(case_set, Scale.QUICK, **words)  # type: ignore[arg-type]  # as a command line gives them
    return [([case.name for case in part.cases], [each.name for each in part.contenders]) for part in found]


def test_the_default_set_is_what_targets_are_about() -> None:
    """Every promise is measured by `sluice bench run` as it stands, and nothing else."""
    ((cases, _),) = chosen(CaseSet.FIGURES, names=["sluice", "sluice-2-workers"])

    assert set(cases) == {case.name for case in all_cases(Scale.QUICK)} & {target.case for target in TARGETS}


def test_every_part_of_the_smoke_set_meets_its_peer_only() -> None:
    """It has to be quick."""
    wanted = [*dict.fromkeys(["sluice", *(peer for peer, _ in sets.SMOKE)])]
    here = [each for each in wanted if each == "sluice" or not any(each in why for why in sets.left_out(()))]

    found = chosen(CaseSet.SMOKE, names=here)

    assert found
    for cases, contenders in found:
        assert contenders[0] == "sluice"
        assert len(contenders) <= 2
        assert all(len(contenders) == 1 or cases == list(dict(sets.SMOKE)[contenders[1]]) for _ in cases)


def test_patterns_choose_cases_and_names_contenders() -> None:
    """As on the command line."""
    assert chosen(CaseSet.FIGURES, patterns=["manifest-g*t", "blob-head"], names=["sluice"]) == [
        (["manifest-get", "blob-head"], ["sluice"])
    ]


def test_a_url_takes_part_alone_and_in_what_it_can() -> None:
    """Nobody else is started, and a plain port is not asked for TLS."""
    ((cases, contenders),) = chosen(CaseSet.ALL, url=Url("http://127.0.0.1:1"))

    assert contenders == ["url"]
    assert "blob-get-warm-1" in cases
    assert "blob-get-tls" not in cases
    assert "blob-get-tls" in chosen(CaseSet.ALL, url=Url("https://127.0.0.1:1"))[0][0]


def test_every_case_that_is_run_has_somebody_who_takes_part() -> None:
    """Cases about others are left out without a word."""
    for part in parts(CaseSet.ALL, Scale.QUICK, names=["sluice"]):
        assert all(any(suits(case, each) for each in part.contenders) for case in part.cases)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"patterns": ["nonsense-*"]}, "no case is called nonsense"),
        ({"names": ["apache"]}, "no contender is called apache"),
        ({"patterns": ["manifest-get-workers"], "url": Url("http://127.0.0.1:1")}, "can take part"),
    ],
)
def test_what_fits_nothing_is_told(words: dict[str, object], why: str) -> None:
    """With what there is."""
    with pytest.raises(NothingToRun, match=why):
        chosen(CaseSet.FIGURES, **words)


def test_the_set_of_buckets_has_every_such_case_and_whom_they_meet() -> None:
    """Ours over a bucket, the peer over the same, and ours over a directory for comparison."""
    ((cases, contenders),) = chosen(CaseSet.S3, names=["sluice", "sluice-s3"])

    assert cases == [case.name for case in all_cases(Scale.QUICK) if case.name.startswith("s3-")]
    assert set(cases) >= {target.case for target in BUCKET_TARGETS}
    assert contenders == ["sluice", "sluice-s3"]
