"""Rights: computed from rows as they are now, narrowed by credential and token, never by names."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.access.actions import ALL_ACTIONS, ROLE_ACTIONS, Action, Role
from gateway.access.principal import ANONYMOUS, NO_LIMITS, Limits, Principal, TokenAccess
from gateway.access.rights import (
    EVERYBODY,
    is_admin,
    is_auditor,
    manages_project,
    may_read_catalog,
    project_rights,
    readable_repositories,
    rights,
    sees_everything,
    visible_to,
)
from storage import AccountRecord, ProjectRecord, RepositoryRecord, Transaction
from storage.metadata import grants, projects, repositories
from tests.gateway.access.house import START, House

PULL = frozenset({Action.PULL})
PULL_ONLY = Limits(actions=PULL)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("place", ["project", "repository"])
async def test_a_role_gives_its_actions_where_it_was_given(house: House, role: Role, place: str) -> None:
    """A2, A3: an account without a role has nothing; with one, exactly the role's actions, there and nowhere else."""
    here, sibling, elsewhere = await _three_places(house)
    user = await house.user()
    caller = Principal(user)
    assert await _rights(house, caller, here) == set()
    if place == "project":
        await house.accounts.put_grant(user.id, role, project_id=here.project_id)
    else:
        await house.accounts.put_grant(user.id, role, repository_id=here.id)

    assert await _rights(house, caller, here) == ROLE_ACTIONS[role]
    assert await _rights(house, caller, sibling) == (ROLE_ACTIONS[role] if place == "project" else set())
    assert await _rights(house, caller, elsewhere) == set()


async def test_roles_on_both_add_up_and_end_at_once(house: House) -> None:
    """A17: two roles are held together; taking one away counts at the next look."""
    here, *_ = await _three_places(house)
    user = await house.user()
    await house.accounts.put_grant(user.id, Role.READER, project_id=here.project_id)
    grant = await house.accounts.put_grant(user.id, Role.MAINTAINER, repository_id=here.id)
    assert await _rights(house, Principal(user), here) == ROLE_ACTIONS[Role.MAINTAINER]
    await house.accounts.remove_grant(grant.id)

    assert await _rights(house, Principal(user), here) == PULL


async def test_a_role_that_is_not_known_gives_nothing(house: House) -> None:
    """A role written by a newer version is no right here."""
    here, *_ = await _three_places(house)
    user = await house.user()

    def grant(tx: Transaction) -> None:
        grants.put(tx, account_id=user.id, repository_id=here.id, role="owner", now=START)

    await house.database.transaction(grant)

    assert await _rights(house, Principal(user), here) == set()


async def test_admins_do_everything_auditors_read_everything(house: House) -> None:
    """An admin has every right everywhere, an auditor pull, without any role; the auditor's own roles add to it."""
    here, sibling, _ = await _three_places(house)
    admin = await house.accounts.create_user("root", None, is_admin=True)
    auditor = await house.accounts.create_user("aud", None, is_auditor=True)
    await house.accounts.put_grant(auditor.id, Role.WRITER, repository_id=here.id)

    assert await _rights(house, Principal(admin), here) == ALL_ACTIONS
    assert await _rights(house, Principal(auditor), here) == ROLE_ACTIONS[Role.WRITER]
    assert await _rights(house, Principal(auditor), sibling) == PULL


async def test_anonymous_read_is_pull_for_everybody_and_nothing_else(house: House) -> None:
    """A1: a public repository can be pulled by anybody, with or without an account; others by nobody."""
    public = await house.repository("acme", "public", anonymous_read=True)
    private = await house.repository("acme", "private")
    user = Principal(await house.user())

    for caller in (ANONYMOUS, user):
        assert await _rights(house, caller, public) == PULL
        assert await _rights(house, caller, private) == set()


@pytest.mark.parametrize("name", ["scanner-x", "admin", "library", "acme"])
async def test_no_right_hangs_on_a_name(house: House, name: str) -> None:
    """A14: users and robots of any name, equal to a project or an admin's usual one, have nothing by it."""
    here, *_ = await _three_places(house)
    user = await house.user(name)
    robot = await house.accounts.create_robot(name)

    for account in (user, robot):
        caller = Principal(account)
        assert await _rights(house, caller, here) == set()
        assert not is_admin(caller)
        assert not is_auditor(caller)


async def test_a_robot_of_a_project_has_nothing_outside_it(house: House) -> None:
    """A14: even with a row that says so, such a robot has no right in another project and does not see it."""
    here, _, elsewhere = await _three_places(house)
    robot = await house.accounts.create_robot("ci", project_id=here.project_id)

    def grant(tx: Transaction) -> None:
        for place in (here, elsewhere):
            grants.put(tx, account_id=robot.id, repository_id=place.id, role="admin", now=START)

    await house.database.transaction(grant)

    assert await _rights(house, Principal(robot), here) == ALL_ACTIONS
    assert await _rights(house, Principal(robot), elsewhere) == set()
    assert await _readable(house, Principal(robot)) == {here.id}


async def test_the_limits_of_a_credential_only_take_away(house: House) -> None:
    """A5: an admin's token limited to pull in one repository can pull there and do nothing else anywhere."""
    here, sibling, elsewhere = await _three_places(house)
    admin = await house.accounts.create_user("root", None, is_admin=True)
    narrow = Principal(admin, limits=Limits(actions=PULL, repository_ids=frozenset({here.id})))
    in_project = Principal(admin, limits=Limits(project_ids=frozenset({here.project_id})))

    assert [await _rights(house, narrow, place) for place in (here, sibling, elsewhere)] == [PULL, set(), set()]
    assert [await _rights(house, in_project, place) for place in (here, sibling, elsewhere)] == [
        ALL_ACTIONS,
        ALL_ACTIONS,
        set(),
    ]


async def test_a_push_only_credential_does_not_pull(house: House) -> None:
    """A4: what a credential does not name it does not have, not even on a public repository."""
    public = await house.repository(anonymous_read=True)
    user = await house.user()
    await house.accounts.put_grant(user.id, Role.WRITER, repository_id=public.id)

    assert await _rights(house, Principal(user, limits=Limits(actions=frozenset({Action.PUSH}))), public) == {
        Action.PUSH
    }


async def test_a_registry_token_counts_for_its_name_and_its_repository(house: House) -> None:
    """ACC-09, A15: another image of the same repository, or the same name in another repository, is not meant."""
    here, sibling, _ = await _three_places(house)
    user = await house.user()
    await house.accounts.put_grant(user.id, Role.WRITER, project_id=here.project_id)
    caller = Principal(user, token_access=(TokenAccess("acme/one/app", here.id, PULL),))

    assert await _rights(house, caller, here, "acme/one/app") == PULL
    for name in ("acme/one/app/sub", "acme/one", "app", None):
        assert await _rights(house, caller, here, name) == set()
    assert await _rights(house, caller, sibling, "acme/one/app") == set()


async def test_a_registry_token_gives_nothing_that_is_not_held(house: House) -> None:
    """A3, TOK-21: an entry is a bound, not a right; without a role, or after losing it, it is worth nothing."""
    here, *_ = await _three_places(house)
    everything = (TokenAccess("acme/one/app", here.id, ALL_ACTIONS),)
    user = await house.user()

    for caller in (Principal(user, token_access=everything), Principal(None, token_access=everything)):
        assert await _rights(house, caller, here, "acme/one/app") == set()


async def test_an_anonymous_token_is_bound_like_any_other(house: House) -> None:
    """An anonymous caller with a token pulls what the token names, if it is public."""
    public = await house.repository(anonymous_read=True)
    caller = Principal(None, token_access=(TokenAccess("acme/images/a", public.id, PULL),), catalog=False)

    assert await _rights(house, caller, public, "acme/images/a") == PULL
    assert await _rights(house, caller, public, "acme/images/b") == set()


some_ids = st.none() | st.frozensets(st.integers(1, 3))


@given(
    limits=st.builds(
        Limits,
        actions=st.none() | st.frozensets(st.sampled_from(Action)),
        repository_ids=some_ids,
        project_ids=some_ids,
    ),
    entries=st.none()
    | st.lists(
        st.builds(TokenAccess, st.sampled_from(["a", "b"]), st.integers(1, 3), st.frozensets(st.sampled_from(Action)))
    ),
    name=st.sampled_from(["a", "b"]) | st.none(),
)
@settings(max_examples=60)
def test_nothing_that_narrows_ever_widens(limits: Limits, entries: list[TokenAccess] | None, name: str | None) -> None:
    """A5: with any limits and any token, an admin has a part of what each of them allows, and never more."""
    admin = AccountRecord(1, "a", "user", "", True, False, True, 1, None, None, START, START)  # noqa: FBT003 - a row
    place = _place(repository_id=2, project_id=3)
    caller = Principal(admin, limits=limits, token_access=None if entries is None else tuple(entries))
    held = rights(_NO_TRANSACTION, caller, place, name)

    assert held <= (ALL_ACTIONS if limits.actions is None else limits.actions)
    if not limits.allows_place(project_id=3, repository_id=2):
        assert held == set()
    if entries is not None:
        assert held <= {
            action for each in entries if each.name == name and each.repository_id == 2 for action in each.actions
        }


# --- management ------------------------------------------------------------------------------------------------------


async def test_management_follows_roles(house: House) -> None:
    """A22: settings need maintainer, roles need admin of the place; a writer manages nothing."""
    here, *_ = await _three_places(house)
    project = await _project(house, here)
    outcomes = {}
    for role in Role:
        user = await house.user(role.value)
        await house.accounts.put_grant(user.id, role, project_id=project.id)
        outcomes[role] = await _managed(house, Principal(user), here, project)

    assert await house.database.read(project_rights, Principal(await house.user("nobody")), project) == set()
    assert outcomes == {
        Role.READER: (False, False, False, False),
        Role.WRITER: (False, False, False, False),
        Role.MAINTAINER: (True, False, True, False),
        Role.ADMIN: (True, True, True, True),
    }


async def test_a_role_on_a_repository_does_not_reach_its_project(house: House) -> None:
    """The admin of one repository manages that one, not the project around it."""
    here, *_ = await _three_places(house)
    user = await house.user()
    await house.accounts.put_grant(user.id, Role.ADMIN, repository_id=here.id)

    assert await _managed(house, Principal(user), here, await _project(house, here)) == (True, True, False, False)


async def test_narrowed_callers_do_not_manage(house: House) -> None:
    """A5, A22: an admin with a token for pull, for places, or with a registry token is no admin; nor is a guest."""
    here, *_ = await _three_places(house)
    project = await _project(house, here)
    admin = Principal(await house.accounts.create_user("root", None, is_admin=True))
    assert await _managed(house, admin, here, project) == (True,) * 4
    assert is_admin(admin)
    assert is_auditor(admin)
    by_token = replace(admin, token_access=(TokenAccess("x", here.id, ALL_ACTIONS),))
    pull_only = replace(admin, limits=PULL_ONLY)
    placed = replace(admin, limits=Limits(repository_ids=frozenset({here.id})))

    for caller in (by_token, pull_only, ANONYMOUS):
        assert await _managed(house, caller, here, project) == (False,) * 4
    for caller in (by_token, pull_only, placed, ANONYMOUS):
        assert not is_admin(caller)
        assert not is_auditor(caller)
    assert await _managed(house, placed, here, project) == (True, True, False, False)


async def test_an_auditor_reads_and_manages_nothing(house: House) -> None:
    """A28: an auditor sees all settings and changes none."""
    here, *_ = await _three_places(house)
    auditor = Principal(await house.accounts.create_user("aud", None, is_auditor=True))

    assert is_auditor(auditor)
    assert not is_admin(auditor)
    assert await _managed(house, auditor, here, await _project(house, here)) == (False,) * 4
    assert await house.database.read(project_rights, auditor, await _project(house, here)) == PULL


# --- listings --------------------------------------------------------------------------------------------------------


async def test_listings_are_of_what_the_caller_reads(house: House) -> None:
    """A20: for each kind of caller, the listing holds a repository exactly if the caller may pull from it."""
    here, sibling, elsewhere = await _three_places(house)
    public = await house.repository("globex", "public", anonymous_read=True)
    user = await house.user()
    await house.accounts.put_grant(user.id, Role.READER, project_id=here.project_id)
    await house.accounts.put_grant(user.id, Role.WRITER, repository_id=elsewhere.id)
    admin = await house.accounts.create_user("root", None, is_admin=True)
    auditor = await house.accounts.create_user("aud", None, is_auditor=True)
    every = [here, sibling, elsewhere, public, await house.repository("initech", "secret")]
    limits = [
        NO_LIMITS,
        PULL_ONLY,
        Limits(actions=frozenset({Action.PUSH})),
        Limits(repository_ids=frozenset({sibling.id, elsewhere.id})),
        Limits(project_ids=frozenset({elsewhere.project_id})),
    ]

    for account in (user, admin, auditor, await house.user("nobody")):
        for limit in limits:
            caller = Principal(account, limits=limit)
            pulled = {each.id for each in every if Action.PULL in await _rights(house, caller, each)}
            assert await _readable(house, caller) == pulled
            assert (pulled == {each.id for each in every}) == sees_everything(caller)


async def test_the_catalog_needs_an_account_and_for_tokens_its_scope(house: House) -> None:
    """ACC-07: anonymous callers and tokens without `registry:catalog:*` list nothing at all."""
    await house.repository(anonymous_read=True)
    user = await house.user()

    assert may_read_catalog(Principal(user))
    assert may_read_catalog(Principal(user, token_access=(), catalog=True))
    for caller in (ANONYMOUS, Principal(None, token_access=()), Principal(user, token_access=(), catalog=False)):
        assert not may_read_catalog(caller)
        assert await _readable(house, caller) == set()
    assert not may_read_catalog(Principal(user, limits=Limits(actions=frozenset({Action.PUSH}))))


async def test_the_parameter_of_listings(house: House) -> None:
    """A20: guests, narrowed callers and registry tokens list what is public, accounts their own, admins all."""
    user = Principal(await house.user())
    admin = Principal(await house.accounts.create_user("root", None, is_admin=True))
    assert user.account is not None

    assert visible_to(ANONYMOUS) == EVERYBODY
    assert visible_to(user) == user.account.id
    assert visible_to(admin) is None
    for caller in (replace(admin, token_access=()), replace(admin, limits=Limits(actions=frozenset()))):
        assert visible_to(caller) == EVERYBODY


_NO_TRANSACTION: Transaction = None  # type: ignore[assignment]  # an admin's rights ask for no row


def _place(*, repository_id: int, project_id: int) -> RepositoryRecord:
    return RepositoryRecord(
        id=repository_id,
        project_id=project_id,
        project="p",
        name="r",
        description="",
        format="docker",
        repository_type="hosted",
        storage_id=1,
        storage="default",
        flat_alias_prefix=None,
        is_catch_all=False,
        anonymous_read=False,
        immutable_tags=(),
        created_at=START,
        updated_at=START,
    )


async def _three_places(house: House) -> tuple[RepositoryRecord, RepositoryRecord, RepositoryRecord]:
    """Two repositories of one project, and one of another."""
    return (
        await house.repository("acme", "one"),
        await house.repository("acme", "two"),
        await house.repository("globex", "one"),
    )


async def _project(house: House, repository: RepositoryRecord) -> ProjectRecord:
    project = await house.database.read(projects.get, repository.project_id)
    assert project is not None
    return project


async def _rights(
    house: House, caller: Principal, repository: RepositoryRecord, name: str | None = "any"
) -> frozenset[Action]:
    return await house.database.read(rights, caller, repository, name)


async def _managed(
    house: House, caller: Principal, repository: RepositoryRecord, project: ProjectRecord
) -> tuple[bool, ...]:
    """Settings and roles of the repository, then of the project."""

    def look(tx: Transaction) -> tuple[bool, ...]:
        return (
            Action.CONFIGURE in rights(tx, caller, repository, None),
            Action.GRANT in rights(tx, caller, repository, None),
            manages_project(tx, caller, project),
            manages_project(tx, caller, project, action=Action.GRANT),
        )

    return await house.database.read(look)


async def _readable(house: House, caller: Principal) -> set[int]:
    def look(tx: Transaction) -> set[int]:
        found = readable_repositories(tx, caller)
        if found is None:
            found = [each.id for each in repositories.page(tx, project=None, after="", limit=1000, readable_by=None)]
        return set(found)

    return await house.database.survey(look)
