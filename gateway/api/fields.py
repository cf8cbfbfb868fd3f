"""The types of fields in bodies and answers: names, globs, texts and times, each with its bound.

Everything is strict: a text is no number, an unknown field is an error (security row A22).
"""

from datetime import UTC, datetime
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer

from gateway.access.actions import Action
from gateway.policy import naming


def _moment(value: datetime) -> datetime:
    return value.astimezone(UTC).replace(microsecond=0)


Name: TypeAlias = Annotated[
    str, Field(min_length=1, max_length=naming.MAX_NAME_CHARS, examples=["team-a"]), AfterValidator(naming.segment)
]
"""Of a project or a repository: one segment of an image name."""
Prefix: TypeAlias = Annotated[
    str, Field(min_length=1, max_length=naming.MAX_NAME_CHARS, examples=["team-a"]), AfterValidator(naming.alias_prefix)
]
RepositoryName: TypeAlias = Annotated[
    str,
    Field(max_length=2 * naming.MAX_NAME_CHARS + 1, examples=["team-a/images"]),
    AfterValidator(naming.full_name),
]
Glob: TypeAlias = Annotated[
    str, Field(min_length=1, max_length=naming.MAX_GLOB_CHARS, examples=["v*"]), AfterValidator(naming.tag_glob)
]
Globs: TypeAlias = Annotated[list[Glob], Field(max_length=naming.MAX_RULES)]
Text: TypeAlias = Annotated[str, Field(max_length=naming.MAX_TEXT_CHARS), AfterValidator(naming.description)]
Lifetime: TypeAlias = Annotated[int, Field(gt=0, le=10 * 365 * 86400, examples=[86400])]
Moment: TypeAlias = Annotated[
    AwareDatetime,
    AfterValidator(_moment),
    PlainSerializer(lambda value: value.strftime("%Y-%m-%dT%H:%M:%SZ"), return_type=str, when_used="json"),
]
"""A time in UTC, to the second."""


class Body(BaseModel):
    """What a client sends: every field is known and has its own JSON type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class View(BaseModel):
    """What a client gets; every field is always there."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_serialization_defaults_required=True)


class Query(BaseModel):
    """The parameters of a URL."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Narrowing(Body):
    """What a secret can do of what its account can; null leaves everything."""

    actions: Annotated[list[Action], Field(min_length=1, max_length=len(Action))] | None = None
    repositories: Annotated[list[RepositoryName], Field(min_length=1, max_length=100)] | None = None
    projects: Annotated[list[Name], Field(min_length=1, max_length=100)] | None = None


def moment(seconds: int) -> datetime:
    """The time of a row."""
    return datetime.fromtimestamp(seconds, UTC)


def moment_or_none(seconds: int | None) -> datetime | None:
    """The time of a row that may have none."""
    return None if seconds is None else moment(seconds)
