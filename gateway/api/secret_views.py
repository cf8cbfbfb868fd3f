"""What is shown of personal tokens and robot keys: everything but the secret, which is shown once, when it is made."""

from typing import Annotated, Self

from pydantic import Field

from gateway.access.accounts import DEFAULT_LIFETIME_S, MintedSecret
from gateway.access.actions import Action
from gateway.access.named_limits import project_names, repository_names
from gateway.access.principal import Limits, Principal
from gateway.access.rights import rights
from gateway.api.errors import Problem, Refused
from gateway.api.fields import Lifetime, Moment, Narrowing, View, moment, moment_or_none
from gateway.api.needs import sees_project
from storage import CredentialRecord, Transaction
from storage.metadata import projects, repositories


class SecretCreate(Narrowing):
    """A secret to make. What it can do is never more than what its account can."""

    label: Annotated[str, Field(max_length=128, examples=["laptop"])] = ""
    lifetime_s: Lifetime = Field(DEFAULT_LIFETIME_S, description="Seconds until it ends; a year unless said otherwise.")


class SecretView(View):
    """A secret's row. `actions`, `repositories` and `projects` are null where nothing is narrowed."""

    id: int
    label: str
    actions: list[str] | None
    repositories: list[str] | None
    projects: list[str] | None
    created_at: Moment
    expires_at: Moment | None
    last_used_at: Moment | None

    @classmethod
    def of(cls, tx: Transaction, record: CredentialRecord) -> Self:
        """The row as clients see it; places that are gone are left out."""
        limits = Limits.from_json(record.limits)
        return cls(
            id=record.id,
            label=record.label,
            actions=None if limits.actions is None else sorted(limits.actions),
            repositories=repository_names(tx, limits),
            projects=project_names(tx, limits),
            created_at=moment(record.created_at),
            expires_at=moment_or_none(record.expires_at),
            last_used_at=moment_or_none(record.last_used_at),
        )


class SecretList(View):
    """A page of secrets' rows."""

    items: list[SecretView]
    next: str | None = Field(description="`after` for the next page; null on the last.")


class NewSecret(SecretView):
    """A secret just made."""

    secret: str = Field(description="The secret itself. It is shown now and never again.")

    @classmethod
    def made(cls, tx: Transaction, minted: MintedSecret) -> Self:
        """The row with its secret."""
        return cls(**SecretView.of(tx, minted.credential).model_dump(), secret=minted.text)


def limits_of(tx: Transaction, principal: Principal, body: Narrowing) -> Limits:
    """What a body narrows a secret to; `Refused` for places that the caller cannot see."""
    problems: list[Problem] = []
    repository_ids, project_ids = set(), set()
    for number, full_name in enumerate(body.repositories or ()):
        project, _, name = full_name.partition("/")
        repository = repositories.find(tx, project, name)
        if repository is None or Action.PULL not in rights(tx, principal, repository, None):
            problems.append(Problem("there is no such repository, or none that you may see", f"repositories.{number}"))
        else:
            repository_ids.add(repository.id)
    for number, name in enumerate(body.projects or ()):
        found = projects.find(tx, name)
        if found is None or not sees_project(tx, principal, found):
            problems.append(Problem("there is no such project, or none that you may see", f"projects.{number}"))
        else:
            project_ids.add(found.id)
    if problems:
        raise Refused(400, "VALIDATION", *problems)
    return Limits(
        actions=None if body.actions is None else frozenset(body.actions),
        repository_ids=None if body.repositories is None else frozenset(repository_ids),
        project_ids=None if body.projects is None else frozenset(project_ids),
    )
