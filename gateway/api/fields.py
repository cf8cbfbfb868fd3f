"""The types of fields in bodies and answers: names, globs, texts and times, each with its bound.

Everything is strict: a text is no number, an unknown field is an error (security row A22).
"""

import re
from datetime import UTC, datetime
from typing import Annotated, Final, TypeAlias

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer

from gateway.access.actions import Action
from gateway.oci.names import is_name

MAX_NAME_CHARS: Final = 100  # two of them, an image name and a host still fit into 255 (row GEN-02)
MAX_TEXT_CHARS: Final = 1000
MAX_RULES: Final = 100
MAX_GLOB_CHARS: Final = 128  # as long as a tag can be
_GLOB: Final = re.compile(r"[A-Za-z0-9_.*?!\[\]-]+")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")  # a line break and a tab are text


def _one_segment(text: str) -> str:
    if "/" in text or not is_name(text):
        raise ValueError("use lower-case letters and digits, with single '.', '_' or '-' (or '__') between them")
    return text


def _segments(text: str) -> str:
    if not is_name(text):
        raise ValueError("use segments of lower-case letters, digits, '.', '_' and '-', separated by '/'")
    return text


def _repository(text: str) -> str:
    if text.count("/") != 1 or not is_name(text):
        raise ValueError("use PROJECT/REPOSITORY")
    return text


def _glob(text: str) -> str:
    if not _GLOB.fullmatch(text):
        raise ValueError("use characters of tags and the wildcards '*', '?' and '[...]'")
    return text


def _plain(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("control characters are not allowed")
    return text


def _moment(value: datetime) -> datetime:
    return value.astimezone(UTC).replace(microsecond=0)


Name: TypeAlias = Annotated[
    str, Field(min_length=1, max_length=MAX_NAME_CHARS, examples=["team-a"]), AfterValidator(_one_segment)
]
"""Of a project or a repository: one segment of an image name."""
Prefix: TypeAlias = Annotated[
    str, Field(min_length=1, max_length=MAX_NAME_CHARS, examples=["team-a"]), AfterValidator(_segments)
]
RepositoryName: TypeAlias = Annotated[
    str, Field(max_length=2 * MAX_NAME_CHARS + 1, examples=["team-a/images"]), AfterValidator(_repository)
]
Glob: TypeAlias = Annotated[str, Field(min_length=1, max_length=MAX_GLOB_CHARS, examples=["v*"]), AfterValidator(_glob)]
Globs: TypeAlias = Annotated[list[Glob], Field(max_length=MAX_RULES)]
Text: TypeAlias = Annotated[str, Field(max_length=MAX_TEXT_CHARS), AfterValidator(_plain)]
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
