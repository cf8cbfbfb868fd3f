"""Pages: the cursor is the key of the last item shown."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.access.actions import Action
from gateway.access.principal import ANONYMOUS, Limits, Principal
from gateway.access.rights import EVERYBODY
from gateway.api.listing import reach, shown
from storage import AccountRecord


def person(*, is_admin: bool = False, is_auditor: bool = False, project_id: int | None = None) -> AccountRecord:
    """An account with id 7."""
    return AccountRecord(
        id=7,
        name="x",
        kind="user",
        description="",
        is_admin=is_admin,
        is_auditor=is_auditor,
        is_enabled=True,
        epoch=1,
        project_id=project_id,
        expires_at=None,
        created_at=0,
        updated_at=0,
    )


@given(st.lists(st.text(min_size=1), unique=True).map(sorted), st.integers(1, 5))
def test_pages_together_are_the_whole(keys: list[str], limit: int) -> None:
    """Reading on from each cursor shows every item once, in order, and ends."""
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        beyond = [key for key in keys if key > after]
        page, after = shown(beyond[: limit + 1], limit, lambda key: key)
        seen += page

    assert seen == keys


def test_how_far_each_caller_reaches() -> None:
    """SQL filters by account; rows are checked only where something narrows the caller beyond its account."""
    one_place = Limits(repository_ids=frozenset({1}))

    assert reach(ANONYMOUS) == (EVERYBODY, False)
    assert reach(Principal(person())) == (7, False)
    assert reach(Principal(person(is_admin=True))) == (None, False)
    assert reach(Principal(person(), limits=one_place)) == (7, True)
    assert reach(Principal(person(is_admin=True), limits=one_place)) == (None, True)
    assert reach(Principal(person(is_auditor=True), limits=Limits(actions=frozenset({Action.PULL})))) == (None, True)
    assert reach(Principal(person(project_id=3))) == (7, True)
    assert reach(Principal(person(), limits=Limits(actions=frozenset({Action.PUSH})))) == (EVERYBODY, True)
