"""Roles and what they allow."""

import itertools

from gateway.access.actions import ALL_ACTIONS, ROLE_ACTIONS, TOKEN_ACTIONS, Action, Role


def test_each_role_allows_what_the_one_before_does_and_more() -> None:
    """Reader, writer, maintainer, admin: strictly growing, from pull alone to everything."""
    steps = [ROLE_ACTIONS[role] for role in Role]

    assert steps[0] == {Action.PULL}
    assert steps[-1] == ALL_ACTIONS
    assert all(before < after for before, after in itertools.pairwise(steps))


def test_deleting_is_apart_from_pushing() -> None:
    """ACC-10: a writer can push and not delete."""
    assert Action.DELETE not in ROLE_ACTIONS[Role.WRITER]
    assert Action.DELETE in ROLE_ACTIONS[Role.MAINTAINER]


def test_tokens_carry_no_management() -> None:
    """A registry token can hold pull, push and delete, never settings or roles."""
    assert {Action.PULL, Action.PUSH, Action.DELETE} == TOKEN_ACTIONS
