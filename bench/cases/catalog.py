"""The list of all cases, in the order in which reports show them."""

from bench.cases.case import Case, Scale


def all_cases(scale: Scale) -> tuple[Case, ...]:
    """Every case at a scale. Names are unique."""
    raise NotImplementedError
