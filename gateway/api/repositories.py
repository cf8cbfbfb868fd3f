"""Repositories: made, listed, changed and removed. Their images are the registry API's business."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from gateway.access.actions import Action
from gateway.access.principal import Principal
from gateway.access.rights import is_admin, is_auditor, manages_project, rights
from gateway.api import audit
from gateway.api.errors import denied, invalid, not_found
from gateway.api.listing import shown, visible_repositories
from gateway.api.needs import sees_project
from gateway.api.repository_models import (
    Details,
    Furniture,
    MemberField,
    RepositoryChange,
    RepositoryCreate,
    RepositoryList,
    RepositoryPage,
    RepositoryView,
)
from gateway.api.services import Ask, Reply
from gateway.api.upstream_fields import FIELDS, changes_of, credentials_of
from gateway.config import S3Storage
from gateway.repositories.furnishing import HOSTED, PROXY, Furnishing, Hands, Member, furnish
from gateway.repositories.virtual_settings import VIRTUAL
from storage import AddressKind, Conflict, RepositoryRecord, Transaction
from storage.metadata import addresses, members, projects, repositories, upstreams

# Both reach beyond the project: they decide where names lead that other projects' people use.
_FOR_ADMINS = ("flat_alias_prefix", "is_catch_all")
_WHY = "only admins may change where names outside the project lead"
_WHY_NOT: Final = {
    "private_networks": "only admins may let private addresses be dialled",
    "token_hosts": "only admins may let further hosts have credentials",
    "remote_url": "only admins may name an address without TLS, or another one where private addresses may be dialled",
}
_NAMED: Final = 5
"""Virtual repositories in one message."""
_ADDRESSES: Final = {
    "host_names": AddressKind.HOST,
    "catch_all_hosts": AddressKind.CATCH_ALL,
    "namespaces": AddressKind.NAMESPACE,
}
_OF_ROW: Final = (
    "description",
    "flat_alias_prefix",
    "is_catch_all",
    "anonymous_read",
    "immutable_tags",
    "redirect_pulls",
)


async def list_all(ask: Ask) -> Reply:
    """Those that the caller can read, by full name."""
    return Reply(await ask.api.database.survey(_list, ask.principal, ask.parameters(RepositoryPage)))


def _list(tx: Transaction, principal: Principal, page: RepositoryPage) -> RepositoryList:
    found = visible_repositories(tx, principal, project=page.project, after=page.after, limit=page.limit + 1)
    items, following = shown(found, page.limit, lambda record: record.full_name)
    return RepositoryList(items=[_view(tx, principal, each) for each in items], next=following)


async def get(ask: Ask) -> Reply:
    """One repository."""
    return Reply(await ask.api.database.read(_view, ask.principal, ask.subject.repository))


def _view(tx: Transaction, principal: Principal, record: RepositoryRecord) -> RepositoryView:
    """What this caller may know of it: members that they cannot read are not named to them."""
    sees_all = is_auditor(principal) or Action.CONFIGURE in rights(tx, principal, record, None)
    inside = members.of(tx, record.id) if record.repository_type == VIRTUAL else []
    details = Details(
        addresses=addresses.names_of(tx, record.id),
        members=[each for each in inside if sees_all or Action.PULL in rights(tx, principal, each.repository, None)],
        credential_count=len(upstreams.credentials(tx, record.id)),
    )
    return RepositoryView.of(record, details)


async def create(ask: Ask) -> Reply:
    """A new one, in a project that the caller maintains."""
    body = ask.given(RepositoryCreate)
    storage_id = _storage_id(ask, body.storage)
    if body.redirect_pulls:
        _require_redirects(ask, body.storage or ask.api.settings.storage.default)
    _require_tag_rules_of_hosted(body.repository_type, body)
    wanted = _furnishing(body, body.repository_type)

    def make(tx: Transaction) -> RepositoryView:
        record = _create(tx, ask.principal, body, storage_id, ask.api.now())
        record = furnish(tx, record, wanted, hands=_hands(ask), now=ask.api.now())
        return _view(tx, ask.principal, record)

    view = await ask.api.database.transaction(make)
    name = f"{view.project}/{view.name}"
    return Reply(view, concerns=name, headers={"Location": f"/api/v1/repos/{name}"})


def _storage_id(ask: Ask, name: str | None) -> int:
    name = name or ask.api.settings.storage.default
    try:
        return ask.api.content.storage_id(name)
    except KeyError:
        known = ", ".join(sorted(ask.api.settings.storage.storages))
        raise invalid("storage", f"is not configured; known: {known}") from None


def _require_redirects(ask: Ask, storage: str) -> None:
    """Refuse redirects to where nobody but us can read."""
    if not isinstance(ask.api.settings.storage.storages.get(storage), S3Storage):
        raise invalid("redirect_pulls", f"is for repositories in a bucket; the storage {storage} is none")


def _create(
    tx: Transaction, principal: Principal, body: RepositoryCreate, storage_id: int, now: int
) -> RepositoryRecord:
    project = projects.find(tx, body.project)
    if project is None or not sees_project(tx, principal, project):
        raise invalid("project", "there is no such project, or none that you may see")
    if not manages_project(tx, principal, project, action=Action.CONFIGURE):
        raise denied("this is for maintainers of the project", "project")
    _require_admin(principal, [field for field in _FOR_ADMINS if getattr(body, field)])
    return repositories.create(
        tx,
        project_id=project.id,
        name=body.name,
        description=body.description,
        format=body.format,
        repository_type=body.repository_type,
        storage_id=storage_id,
        flat_alias_prefix=body.flat_alias_prefix,
        is_catch_all=body.is_catch_all,
        anonymous_read=body.anonymous_read,
        immutable_tags=body.immutable_tags,
        redirect_pulls=body.redirect_pulls,
        now=now,
    )


def _require_admin(principal: Principal, fields: list[str]) -> None:
    if fields and not is_admin(principal):
        raise denied(_WHY, fields[0])


async def change(ask: Ask) -> Reply:
    """Other settings; at once, everywhere."""
    body, before = ask.given(RepositoryChange), ask.subject.repository
    changes: Any = body.model_dump(include=set(_OF_ROW), exclude_unset=True)
    moved = [each for each in _FOR_ADMINS if each in changes and changes[each] != getattr(before, each)]
    _require_admin(ask.principal, moved)
    if changes.get("redirect_pulls"):
        _require_redirects(ask, before.storage)
    _require_tag_rules_of_hosted(before.repository_type, body)
    wanted = _furnishing(body, before.repository_type)

    def update(tx: Transaction) -> RepositoryView:
        record = repositories.get(tx, before.id)  # as it is now: others may have changed it since it was looked at
        if record is not None and changes:
            record = repositories.update(tx, record.id, now=ask.api.now(), **changes)
        if record is None:
            raise not_found()
        return _view(tx, ask.principal, furnish(tx, record, wanted, hands=_hands(ask), now=ask.api.now()))

    return Reply(await ask.api.database.transaction(update), concerns=before.full_name)


def _require_tag_rules_of_hosted(repository_type: str, body: RepositoryCreate | RepositoryChange) -> None:
    if repository_type != HOSTED and body.immutable_tags:
        raise invalid("immutable_tags", "is for hosted repositories; nothing is pushed to others")


def _furnishing(body: Furniture, repository_type: str) -> Furnishing:
    """What the body asks for beside the row."""
    if repository_type != PROXY and (wrong := [name for name in FIELDS if getattr(body, name) is not None]):
        where = "in `fallback` for hosted repositories" if repository_type == HOSTED else "for proxies"
        raise invalid(wrong[0], f"goes {where}")
    if repository_type != HOSTED and body.fallback is not None:
        raise invalid("fallback", "is for hosted repositories")
    given = body.model_fields_set
    furnishing = Furnishing(
        members=None if body.members is None else [_member(each) for each in body.members],
        on_member_failure=body.on_member_failure,
        addresses={
            kind: tuple(dict.fromkeys(getattr(body, name) or ())) for name, kind in _ADDRESSES.items() if name in given
        },
    )
    if repository_type == PROXY:
        return replace(furnishing, upstream=changes_of(body), credentials=credentials_of(body))
    if repository_type != HOSTED or "fallback" not in given:
        return furnishing
    if body.fallback is None:
        return replace(furnishing, ends_upstream=True)
    return replace(
        furnishing,
        upstream=changes_of(body.fallback, within="fallback.") or {},
        credentials=credentials_of(body.fallback, within="fallback."),
    )


def _member(given: MemberField) -> Member:
    return Member(given.repository, tuple(given.include), tuple(given.exclude), given.default)


def _hands(ask: Ask) -> Hands:
    return Hands(ask.api.credentials.seal, _admitting(ask.principal), _finding(ask.principal))


def _admitting(principal: Principal) -> Callable[[str], None]:
    def admit(field: str) -> None:
        if not is_admin(principal):
            raise denied(_WHY_NOT.get(field.removeprefix("fallback."), _WHY), field)

    return admit


def _finding(principal: Principal) -> Callable[[Transaction, str], RepositoryRecord | None]:
    def find(tx: Transaction, full_name: str) -> RepositoryRecord | None:
        project, _, name = full_name.partition("/")
        found = repositories.find(tx, project, name)
        return found if found is not None and Action.PULL in rights(tx, principal, found, None) else None

    return find


async def delete(ask: Ask) -> Reply:
    """Remove it with its images, sessions and roles; blobs that nothing else needs go with the next sweeps.

    Virtual repositories that the caller has no say in lose the member, which the audit says of each of them.
    """
    repository = ask.subject.repository
    bereft = await ask.api.database.transaction(_delete, ask.principal, repository.id)
    if bereft is None:
        raise not_found()
    for view in bereft:
        audit.record(
            ask.visit,
            act="repository.lose_member",
            concerns=f"{view.full_name} without {repository.full_name}",
            outcome="ok",
            principal=ask.principal,
            fields=["members"],
        )
    return Reply(concerns=repository.full_name)


def _delete(tx: Transaction, principal: Principal, repository_id: int) -> list[RepositoryRecord] | None:
    """The virtual repositories that lost it as a member; None if there was no such repository.

    Whoever may take it out by themselves does that first, as names that it had come from other members then: `Conflict`
    names these. Those of others hold nobody up, or any project could keep another one's repositories for ever.
    """
    record = repositories.get(tx, repository_id)
    if record is None:
        return None
    around = members.virtuals_of(tx, repository_id)
    held = [(each, rights(tx, principal, each, None)) for each in around]
    mine = [(each, may) for each, may in held if Action.CONFIGURE in may or each.project_id == record.project_id]
    if mine:
        raise Conflict(_take_out_first([each for each, may in mine if Action.PULL in may]))
    members.take_out(tx, repository_id, of=[each.id for each in around])
    try:
        repositories.delete(tx, repository_id)
    except Conflict:  # it names a view, which the caller may not see
        raise Conflict("it became a member of a virtual repository this very moment: try again") from None
    return around


def _take_out_first(seen: Sequence[RepositoryRecord]) -> str:
    """Names only what the caller may see: a narrowed credential may hide some of the project's own."""
    if not seen:
        return "it is a member of a virtual repository of its project that you may not see: ask a maintainer"
    names = ", ".join(each.full_name for each in seen[:_NAMED])
    more = f" and {len(seen) - _NAMED} more" if len(seen) > _NAMED else ""
    return f"it is a member of the virtual repository {names}{more}: take it out there first"
