"""`sluice repo`: repositories, their settings, and manifests that were deleted by mistake."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar, Unpack

import click

from gateway.cli.furnishing import (
    FurnishingWishes,
    command_hands,
    furnishing_of,
    furnishing_options,
    in_options,
    is_wanted,
    require_upstream_of_proxy,
    upstream_row,
    what,
)
from gateway.cli.help import Group
from gateway.cli.options import (
    FULL_NAME,
    GLOB,
    PREFIX,
    SEGMENT,
    description_option,
    json_option,
    with_settings,
    yes_option,
)
from gateway.cli.output import Listing, Row, moment
from gateway.cli.session import Session, run
from gateway.config import S3Storage, Settings
from gateway.oci.errors import RegistryError
from gateway.policy.naming import MAX_RULES
from gateway.repositories.furnishing import HOSTED, PROXY, Furnishing, Hands, WrongSetting, furnish
from gateway.repositories.hosted import HostedRepository
from gateway.repositories.virtual_settings import VIRTUAL, virtual_of
from gateway.upstream.settings import upstream_of
from storage import (
    AddressKind,
    Content,
    Digest,
    DigestInvalid,
    MemberRecord,
    Pool,
    RepositoryRecord,
    Transaction,
)
from storage.metadata import addresses, members, repositories, storages, upstreams
from storage.metadata.repositories import RepositoryChanges

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

_PAGE = 1000


class Wishes(FurnishingWishes):
    """What `_wishes` collect; None where nothing was said."""

    description: str | None
    alias: str | None
    catch_all: bool | None
    anonymous_read: bool | None
    immutable_tags: tuple[str, ...]
    redirect_pulls: bool | None


def _wishes(command: FunctionT) -> FunctionT:
    for option in (
        click.option(
            "--immutable-tag",
            "immutable_tags",
            type=GLOB,
            multiple=True,
            help="Tags that fit are never moved or deleted; repeatable.",
        ),
        click.option(
            "--redirect-pulls/--no-redirect-pulls",
            default=None,
            help="Send clients in the storage's redirect_networks to the bucket itself for blobs.",
        ),
        click.option("--anonymous-read/--no-anonymous-read", default=None, help="Everybody may pull."),
        click.option("--catch-all/--no-catch-all", default=None, help="Names that lead nowhere else lead here."),
        click.option("--alias", type=PREFIX, help="Names below this prefix lead here too."),
        description_option,
    ):
        command = option(command)
    return furnishing_options(command)


@click.group("repo", cls=Group)
def command() -> None:
    """Repositories: add, list, change, delete; restore a manifest.

    Examples:
      sluice repo add team-a/images --immutable-tag 'v*'
      sluice repo add common/dockerhub-proxy --type proxy --remote-url docker.io
      sluice repo set team-a/images --anonymous-read
      sluice repo restore team-a/images/app@sha256:...
    """


@command.command()
@click.argument("name", type=FULL_NAME)
@click.option("--storage", metavar="NAME", help="Named storage; default: storage.default.")
@click.option(
    "--type",
    "repository_type",
    type=click.Choice([HOSTED, PROXY, VIRTUAL]),
    default=HOSTED,
    show_default=True,
    help="hosted: pushed to; proxy: fetched from another registry; virtual: others under one name.",
)
@_wishes
@with_settings
def add(name: str, *, storage: str | None, repository_type: str, settings: Settings, **wishes: Unpack[Wishes]) -> None:
    """Add a repository to a project.

    A hosted one that has a --remote-url fetches from there what it has not, and keeps it: for moving away from another
    registry. Options that can be repeated are taken away with an empty value.

    Examples:
      sluice repo add team-a/images
      sluice repo add team-a/releases --immutable-tag '*' --anonymous-read
      sluice repo add team-a/archive --storage archive --alias team-a-archive
      sluice repo add common/dockerhub-proxy --type proxy --remote-url docker.io --namespace docker.io
      sluice repo add common/all --type virtual --member team-a/images --member common/dockerhub-proxy='library/*'
    """
    furnishing = furnishing_of(wishes, repository_type)
    require_upstream_of_proxy(furnishing, repository_type)
    place = storage or settings.storage.default
    if place not in settings.storage.storages:
        known = ", ".join(sorted(settings.storage.storages))
        raise click.UsageError(f"storage {place} is not configured; known: {known}")
    if wishes["redirect_pulls"]:
        _require_redirects(settings, place)

    async def work(session: Session) -> None:
        project = await session.project(name.partition("/")[0])
        hands = await _hands(settings, furnishing)

        def create(tx: Transaction) -> RepositoryRecord:
            record = repositories.create(
                tx,
                project_id=project.id,
                name=name.partition("/")[2],
                description=wishes["description"] or "",
                format="docker",
                repository_type=repository_type,
                storage_id=storages.ensure(tx, place),
                flat_alias_prefix=wishes["alias"],
                is_catch_all=bool(wishes["catch_all"]),
                anonymous_read=bool(wishes["anonymous_read"]),
                immutable_tags=_rules(wishes),
                redirect_pulls=bool(wishes["redirect_pulls"]),
                now=session.now(),
            )
            return _furnished(tx, record, furnishing, hands=hands, now=session.now())

        await session.database.transaction(create)
        act = "push" if repository_type == HOSTED else "pull"
        click.echo(f"added repository {name}; next: docker {act} HOST/{name}/IMAGE:TAG")

    run(settings, work)


async def _hands(settings: Settings, furnishing: Furnishing) -> Hands | None:
    """What it takes to furnish; None if there is nothing to."""
    return await Pool("secret_key", 1).run(command_hands, settings) if is_wanted(furnishing) else None


def _furnished(
    tx: Transaction, record: RepositoryRecord, furnishing: Furnishing, *, hands: Hands | None, now: int
) -> RepositoryRecord:
    """See `furnish`; without hands there is nothing to do. `ClickException` for what does not go together."""
    if hands is None:
        return record
    try:
        return furnish(tx, record, furnishing, hands=hands, now=now)
    except WrongSetting as wrong:
        raise click.ClickException(in_options(wrong, furnishing)) from wrong


def _require_redirects(settings: Settings, storage: str) -> None:
    if not isinstance(settings.storage.storages.get(storage), S3Storage):
        raise click.UsageError(f"--redirect-pulls is for repositories in a bucket; the storage {storage} is none")


def _rules(wishes: Wishes) -> tuple[str, ...]:
    if len(wishes["immutable_tags"]) > MAX_RULES:
        raise click.UsageError(f"at most {MAX_RULES} rules")
    return wishes["immutable_tags"]


@command.command("list")
@click.option("--project", type=SEGMENT, help="Only repositories of this project.")
@json_option
@with_settings
def list_all(*, project: str | None, as_json: bool, settings: Settings) -> None:
    """List repositories by name.

    Examples:
      sluice repo list
      sluice repo list --project team-a --json
    """

    async def work(session: Session) -> None:
        if project is not None:
            await session.project(project)
        columns = (
            "name",
            "repository_type",
            "storage",
            "flat_alias_prefix",
            "is_catch_all",
            "anonymous_read",
            "immutable_tags",
        )
        with Listing(*columns, as_json=as_json) as listing:
            after = ""
            while page := await session.database.survey(
                repositories.page, project=project, after=after, limit=_PAGE, readable_by=None
            ):
                listing.add([_row(each) for each in page])
                after = page[-1].full_name

    run(settings, work)


def _row(record: RepositoryRecord) -> Row:
    return {
        "name": record.full_name,
        "format": record.format,
        "repository_type": record.repository_type,
        "storage": record.storage,
        "description": record.description,
        "flat_alias_prefix": record.flat_alias_prefix,
        "is_catch_all": record.is_catch_all,
        "anonymous_read": record.anonymous_read,
        "immutable_tags": list(record.immutable_tags),
        "redirect_pulls": record.redirect_pulls,
        "created_at": moment(record.created_at),
        "updated_at": moment(record.updated_at),
    }


@command.command()
@click.argument("name", type=FULL_NAME)
@json_option
@with_settings
def show(name: str, *, as_json: bool, settings: Settings) -> None:
    """Show one repository with all its settings.

    Examples:
      sluice repo show common/docker-hosted
    """

    async def work(session: Session) -> None:
        row = await session.database.read(_whole_row, await session.repository(name))
        if as_json:
            with Listing(as_json=True) as listing:
                listing.add([row])
            return
        with Listing("setting", "value", as_json=False) as listing:
            listing.add([{"setting": key, "value": value} for key, value in row.items()])

    run(settings, work)


def _whole_row(tx: Transaction, record: RepositoryRecord) -> Row:
    known = addresses.names_of(tx, record.id)
    row = {
        **_row(record),
        "host_names": known[AddressKind.HOST],
        "catch_all_hosts": known[AddressKind.CATCH_ALL],
        "namespaces": known[AddressKind.NAMESPACE],
    }
    if upstream := upstream_of(record.settings):
        row |= {**upstream_row(upstream), "credential_count": len(upstreams.credentials(tx, record.id))}
    if record.repository_type == VIRTUAL:
        row["on_member_failure"] = virtual_of(record.settings).on_member_failure
        row["members"] = [_member(each) for each in members.of(tx, record.id)]
    return row


def _member(record: MemberRecord) -> str:
    """As it is written for --member, and whether pushes go there."""
    patterns = ",".join([*record.include, *(f"!{each}" for each in record.exclude)])
    return f"{record.repository.full_name}{'=' if patterns else ''}{patterns}{' (push)' if record.is_default else ''}"


@command.command("set")
@click.argument("name", type=FULL_NAME)
@_wishes
@click.option("--no-alias", is_flag=True, help="Take the prefix away.")
@click.option("--no-immutable-tags", is_flag=True, help="Take all rules away; other rules can be named beside it.")
@click.option("--no-upstream", is_flag=True, help="A hosted repository fetches nothing from elsewhere any more.")
@with_settings
def change(
    name: str,
    *,
    no_alias: bool,
    no_immutable_tags: bool,
    no_upstream: bool,
    settings: Settings,
    **wishes: Unpack[Wishes],
) -> None:
    """Change settings; what is not named stays. What can be repeated is replaced, not added to.

    A new address of an upstream ends the credentials that were for the one before, unless they are given with it.

    Examples:
      sluice repo set team-a/images --anonymous-read --alias team-a
      sluice repo set team-a/images --immutable-tag 'v*' --immutable-tag 'release-*'
      sluice repo set team-a/images --no-alias --no-catch-all
      SLUICE_UPSTREAM_PASSWORD=... sluice repo set common/dockerhub-proxy --username ci
    """
    changes = _changes(wishes)
    if no_alias:
        changes["flat_alias_prefix"] = None
    if no_immutable_tags:
        changes.setdefault("immutable_tags", ())

    async def work(session: Session) -> None:
        repository = await session.repository(name)
        if wishes["redirect_pulls"]:
            _require_redirects(settings, repository.storage)
        furnishing = furnishing_of(wishes, repository.repository_type)
        if no_upstream:
            furnishing = _without_upstream(repository, furnishing)
        if not changes and not is_wanted(furnishing):
            raise click.UsageError("nothing to change: see `sluice repo set --help`")
        hands = await _hands(settings, furnishing)

        def update(tx: Transaction) -> None:
            record = repositories.update(tx, repository.id, now=session.now(), **changes)
            if record is not None:
                _furnished(tx, record, furnishing, hands=hands, now=session.now())

        await session.database.transaction(update)
        click.echo(f"changed {', '.join([*sorted(changes), *what(furnishing)])} of {name}")

    run(settings, work)


def _without_upstream(repository: RepositoryRecord, furnishing: Furnishing) -> Furnishing:
    if repository.repository_type != HOSTED:
        raise click.UsageError(
            f"{repository.full_name} is a {repository.repository_type} repository, --no-upstream is for hosted ones: "
            "set a proxy --offline, or delete it"
        )
    if furnishing.upstream or furnishing.credentials:
        raise click.UsageError("--no-upstream and options for an upstream contradict each other")
    return replace(furnishing, ends_upstream=True)


def _changes(wishes: Wishes) -> RepositoryChanges:
    changes: RepositoryChanges = {}
    if wishes["description"] is not None:
        changes["description"] = wishes["description"]
    if wishes["alias"] is not None:
        changes["flat_alias_prefix"] = wishes["alias"]
    if wishes["catch_all"] is not None:
        changes["is_catch_all"] = wishes["catch_all"]
    if wishes["anonymous_read"] is not None:
        changes["anonymous_read"] = wishes["anonymous_read"]
    if wishes["redirect_pulls"] is not None:
        changes["redirect_pulls"] = wishes["redirect_pulls"]
    if wishes["immutable_tags"]:
        changes["immutable_tags"] = _rules(wishes)
    return changes


@command.command()
@click.argument("name", type=FULL_NAME)
@yes_option
@with_settings
def delete(name: str, *, yes: bool, settings: Settings) -> None:
    """Remove a repository with all its images. This cannot be undone.

    Examples:
      sluice repo delete team-a/old
      sluice repo delete team-a/old --yes
    """
    if not yes:
        click.confirm(f"Remove the repository {name} with ALL its images? This cannot be undone.", abort=True)

    async def work(session: Session) -> None:
        repository = await session.repository(name)
        await session.database.transaction(repositories.delete, repository.id)
        click.echo(f"deleted repository {name}; `sluice gc` gives the space back after the grace period")

    run(settings, work)


@command.command()
@click.argument("manifest", metavar="PROJECT/REPOSITORY/IMAGE@DIGEST")
@with_settings
def restore(manifest: str, *, settings: Settings) -> None:
    """Undo the deletion of a manifest, with the tags that it had and nobody has taken since.

    It works until the undelete window (garbage.undelete_s) is over. An index needs its children too: restore each.

    Examples:
      sluice repo restore team-a/images/app@sha256:1f4e...
    """
    name, at, digest_text = manifest.rpartition("@")
    project, _, rest = name.partition("/")
    repository_name, _, image = rest.partition("/")
    if not at or not image:
        raise click.UsageError(f"{manifest!r} is not PROJECT/REPOSITORY/IMAGE@DIGEST")
    try:
        digest = Digest.parse(digest_text)
    except DigestInvalid as error:
        raise click.UsageError(str(error)) from error

    async def work(session: Session) -> None:
        record = await session.repository(f"{project}/{repository_name}")
        content = Content(session.database, {})  # restoring moves rows only
        repository = HostedRepository(record, database=session.database, content=content, clock=time.time)
        try:
            tags = await repository.restore_manifest(image, digest)
        except RegistryError as error:
            raise click.ClickException(
                f"{error.message} among what was deleted from {name} since garbage.undelete_s: nothing is restored"
            ) from error
        click.echo(f"restored {manifest}; its tags now: {', '.join(tags) or 'none'}")

    run(settings, work)
