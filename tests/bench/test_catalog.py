"""The lists of all cases and contenders."""

import pytest

from bench.cases import catalog as cases
from bench.cases.case import Scale
from bench.contenders import catalog as contenders


@pytest.mark.parametrize("scale", Scale)
def test_names_of_cases_are_unique_and_the_same_at_each_scale(scale: Scale) -> None:
    """Reports, targets and baselines name cases by nothing else."""
    names = [case.name for case in cases.all_cases(scale)]

    assert len(set(names)) == len(names)
    assert names == [case.name for case in cases.all_cases(Scale.FULL)]


def test_names_of_contenders_are_unique() -> None:
    """As for them."""
    names = [each.name for each in contenders.all_contenders()]

    assert len(set(names)) == len(names)
