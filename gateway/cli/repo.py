"""`sluice repo`: repositories, their settings, and manifests that were deleted by mistake."""

import time
from collections.abc import Callable
from typing import Any, TypedDict, TypeVar, Unpack

import click

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
from gateway.policy.naming import MAX_RULES
from gateway.repositories.hosted import HostedRepository
from storage import Content, Digest, DigestInvalid, RepositoryRecord, Transaction
from storage.metadata import repositories, storages
from storage.metadata.repositories import RepositoryChanges

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

_PAGE = 1000


class Wishes(TypedDict):
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
    return command


@click.group("repo", cls=Group)
def command() -> None:
    """Repositories: add, list, change, delete; restore a manifest.

    Examples:
      sluice repo add team-a/images --immutable-tag 'v*'
      sluice repo set team-a/images --anonymous-read
      sluice repo restore team-a/images/app@sha256:...
    """


@command.command()
@click.argument("name", type=FULL_NAME)
@click.option("--storage", metavar="NAME", help="Named storage; default: storage.default.")
@_wishes
@with_settings
def add(name: str, *, storage: str | None, settings: Settings, **wishes: Unpack[Wishes]) -> None:
    """Add a hosted repository to a project.

    Examples:
      sluice repo add team-a/images
      sluice repo add team-a/releases --immutable-tag '*' --anonymous-read
      sluice repo add team-a/archive --storage archive --alias team-a-archive
    """
    place = storage or settings.storage.default
    if place not in settings.storage.storages:
        known = ", ".join(sorted(settings.storage.storages))
        raise click.UsageError(f"storage {place} is not configured; known: {known}")
    if wishes["redirect_pulls"]:
        _require_redirects(settings, place)

    async def work(session: Session) -> None:
        project = await session.project(name.partition("/")[0])

        def create(tx: Transaction) -> RepositoryRecord:
            return repositories.create(
                tx,
                project_id=project.id,
                name=name.partition("/")[2],
                description=wishes["description"] or "",
                format="docker",
                repository_type="hosted",
                storage_id=storages.ensure(tx, place),
                flat_alias_prefix=wishes["alias"],
                is_catch_all=bool(wishes["catch_all"]),
                anonymous_read=bool(wishes["anonymous_read"]),
                immutable_tags=_rules(wishes),
                redirect_pulls=bool(wishes["redirect_pulls"]),
                now=session.now(),
            )

        await session.database.transaction(create)
        click.echo(f"added repository {name}; next: docker push HOST/{name}/IMAGE:TAG")

    run(settings, work)


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
        columns = ("name", "storage", "flat_alias_prefix", "is_catch_all", "anonymous_read", "immutable_tags")
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
        row = _row(await session.repository(name))
        if as_json:
            with Listing(as_json=True) as listing:
                listing.add([row])
            return
        with Listing("setting", "value", as_json=False) as listing:
            listing.add([{"setting": key, "value": value} for key, value in row.items()])

    run(settings, work)


@command.command("set")
@click.argument("name", type=FULL_NAME)
@_wishes
@click.option("--no-alias", is_flag=True, help="Take the prefix away.")
@click.option("--no-immutable-tags", is_flag=True, help="Take all rules away; other rules can be named beside it.")
@with_settings
def change(name: str, *, no_alias: bool, no_immutable_tags: bool, settings: Settings, **wishes: Unpack[Wishes]) -> None:
    """Change settings; what is not named stays. Rules for tags are replaced, not added.

    Examples:
      sluice repo set team-a/images --anonymous-read --alias team-a
      sluice repo set team-a/images --immutable-tag 'v*' --immutable-tag 'release-*'
      sluice repo set team-a/images --no-alias --no-catch-all
    """
    changes = _changes(wishes)
    if no_alias:
        changes["flat_alias_prefix"] = None
    if no_immutable_tags:
        changes.setdefault("immutable_tags", ())
    if not changes:
        raise click.UsageError("nothing to change: see `sluice repo set --help`")

    async def work(session: Session) -> None:
        repository = await session.repository(name)
        if wishes["redirect_pulls"]:
            _require_redirects(settings, repository.storage)
        await session.database.transaction(repositories.update, repository.id, now=session.now(), **changes)
        click.echo(f"changed {', '.join(sorted(changes))} of {name}")

    run(settings, work)


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
        tags = await repository.restore_manifest(image, digest)
        click.echo(f"restored {manifest}; its tags now: {', '.join(tags) or 'none'}")

    run(settings, work)
