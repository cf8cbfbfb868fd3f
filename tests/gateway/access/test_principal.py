"""Limits of credentials: their text form, how they combine, and where they reach."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.actions import Action
from gateway.access.principal import ANONYMOUS, NO_LIMITS, Limits

some_ids = st.none() | st.frozensets(st.integers(1, 9), max_size=4)
limits = st.builds(
    Limits,
    actions=st.none() | st.frozensets(st.sampled_from(Action)),
    repository_ids=some_ids,
    project_ids=some_ids,
    epoch=st.none() | st.integers(0, 99),
)


@given(limits)
def test_limits_survive_their_text(value: Limits) -> None:
    """What is written to a credential's row is read back equal."""
    assert Limits.from_json(value.to_json()) == value


def test_no_limits_need_no_text() -> None:
    """An unlimited credential has null in its row."""
    assert NO_LIMITS.to_json() is None


@pytest.mark.parametrize(
    "text",
    ['{"actions":["pull"],"tags":["v*"]}', '{"actions":["fly"]}', "[]", "7", "{", '{"repository_ids":["1"]}'],
)
def test_limits_that_are_not_understood_are_refused(text: str) -> None:
    """A5: a narrowing written by a newer version, or damaged, must not be read as none."""
    with pytest.raises(ValueError):  # noqa: PT011 - any message
        Limits.from_json(text)


@given(limits, limits, st.integers(1, 9), st.integers(1, 9))
def test_narrowing_allows_what_both_allow(one: Limits, other: Limits, project_id: int, repository_id: int) -> None:
    """A5: a credential made through another one reaches nothing that either does not."""
    both = one.narrowed_by(other)

    def reaches(value: Limits) -> bool:
        return value.allows_place(project_id=project_id, repository_id=repository_id)

    assert reaches(both) == (reaches(one) and reaches(other))
    for action in Action:
        assert _allows(both, action) == (_allows(one, action) and _allows(other, action))


def test_a_credential_for_repositories_does_not_reach_their_project() -> None:
    """Limits on repositories leave nothing of the project as such."""
    value = Limits(repository_ids=frozenset({3}))

    assert value.allows_place(project_id=1, repository_id=3)
    assert not value.allows_place(project_id=1, repository_id=None)


def test_empty_limits_reach_nothing() -> None:
    """An empty set is not the same as no set."""
    assert not Limits(repository_ids=frozenset()).allows_place(project_id=1, repository_id=1)
    assert not Limits(actions=frozenset()).is_unlimited


def test_anonymous_is_nobody() -> None:
    """The anonymous caller has no account, no name and no way to the catalog."""
    assert ANONYMOUS.is_anonymous
    assert ANONYMOUS.name == ""
    assert not ANONYMOUS.catalog


def _allows(value: Limits, action: Action) -> bool:
    return value.actions is None or action in value.actions
