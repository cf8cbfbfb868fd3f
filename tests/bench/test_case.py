"""Which contenders a case takes."""

from dataclasses import dataclass, replace

import pytest

from bench.cases.case import Case, Scale, suits
from bench.cases.catalog import all_cases
from bench.contenders.catalog import all_contenders
from bench.contenders.contender import Trait

CASES = {case.name: case for case in all_cases(Scale.QUICK)}
CONTENDERS = all_contenders()


def taken(case: Case) -> set[str]:
    """The names of those that a case takes."""
    return {each.name for each in CONTENDERS if suits(case, each)}


@pytest.mark.parametrize(
    ("case", "names"),
    [
        ("blob-get-warm-1", {"sluice", "docker-registry", "docker-registry-open", "nginx"}),
        ("push-monolithic-1", {"sluice", "docker-registry", "docker-registry-open"}),
        ("blob-get-workers", {"sluice", "sluice-2-workers"}),
        ("s3-push-small", {"sluice-s3", "docker-registry-s3"}),
        ("s3-pull-warm-8", {"sluice-s3", "docker-registry-s3", "sluice"}),
    ],
)
def test_a_case_takes_who_has_what_it_needs(case: str, names: set[str]) -> None:
    """Static files take no pushes, and several workers only take part where they are named."""
    assert taken(CASES[case]) == names


def test_what_a_contender_lacks_keeps_it_out() -> None:
    """A case that needs our own API is about us alone."""

    @dataclass(frozen=True)
    class Ours:
        """A case of which only the needs matter."""

        needs: frozenset[Trait] = frozenset({Trait.OURS})
        only: frozenset[str] = frozenset()

    assert taken(Ours()) == {"sluice"}  # type: ignore[arg-type]  # `suits` looks at nothing else
    assert taken(replace(Ours(), needs=frozenset({Trait.OURS, Trait.LISTS}))) == {"sluice"}  # type: ignore[arg-type]
