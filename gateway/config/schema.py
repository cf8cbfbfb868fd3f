"""The tree of settings as a list of keys: what each is called in the file and in the environment, and what it takes.

Read off the models, so that loading, rendering and the reference page cannot disagree with them.
"""

import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from gateway.config.settings import Settings

PREFIX: Final = "SLUICE_"
ANY_NAME: Final = "NAME"
"""In a path: a name that the operator chooses."""


@dataclass(frozen=True)
class Key:
    """One setting. `path` is where it stands in the file, `section` the model that it is a field of."""

    path: tuple[str, ...]
    field: FieldInfo
    section: type[BaseModel]

    @property
    def dotted(self) -> str:
        """As it is called in messages: `server.listen`."""
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        """As it is called in the environment: `SLUICE_SERVER__LISTEN`."""
        return PREFIX + "__".join(self.path).upper()

    @cached_property
    def kinds(self) -> tuple[Any, ...]:
        """The types it takes, without None and without constraints."""
        return tuple(kind for kind in _members(self.field.annotation) if kind is not types.NoneType)

    @property
    def is_optional(self) -> bool:
        """Whether it can be left without a value."""
        return types.NoneType in _members(self.field.annotation)

    @property
    def is_secret(self) -> bool:
        """Whether its value must never be shown."""
        return SecretStr in self.kinds

    @property
    def is_list(self) -> bool:
        """Whether it holds several texts."""
        return any(get_origin(kind) is tuple for kind in self.kinds)

    @property
    def allowed(self) -> str:
        """What it takes, in words."""
        return " or ".join(self._words(kind) for kind in self.kinds)

    def _words(self, kind: Any) -> str:
        if get_origin(kind) is Literal:
            return " or ".join(f"`{value}`" for value in get_args(kind))
        if kind is bool:
            return "`true` or `false`"
        if kind in {int, float}:
            return ("whole number" if kind is int else "number") + _bounds(self.field)
        return "list of texts" if self.is_list else "text"


def keys(model: type[BaseModel] = Settings, above: tuple[str, ...] = ()) -> Iterator[Key]:
    """Every key of the tree, in the order in which the models name them.

    A path comes several times where sections of several kinds can stand: once for each that has the key.
    """
    for name, field in model.model_fields.items():
        path = (*above, name)
        inside = sections_of(field)
        if not inside:
            yield Key(path, field, model)
        for each in inside:
            yield from keys(each, (*path, ANY_NAME) if is_named(field) else path)


def sections_of(field: FieldInfo) -> tuple[type[BaseModel], ...]:
    """The model of a section, or those that each of a set of named sections can have; nothing for a plain value."""
    kinds = _members(get_args(field.annotation)[1]) if is_named(field) else (field.annotation,)
    return tuple(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel))


def fits(path: tuple[str, ...], key: Key) -> bool:
    """Whether `path`, with the operator's names in it, is the key's, leads to it, or lies within its value."""
    return all(want in (ANY_NAME, part) for want, part in zip(key.path, path, strict=False))


def is_named(field: FieldInfo) -> bool:
    """Whether the field is a set of sections that the operator names."""
    return get_origin(field.annotation) is dict


def _members(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, each without its constraints; of anything else, itself."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        return tuple(member for part in get_args(annotation) for member in _members(part))
    return (annotation,)


def _bounds(field: FieldInfo) -> str:
    above = next((f" above {_number(each.gt)}" for each in field.metadata if isinstance(each, Gt)), "")
    least = next((f" from {_number(each.ge)}" for each in field.metadata if isinstance(each, Ge)), "")
    most = next((f", at most {_number(each.le)}" for each in field.metadata if isinstance(each, Le)), "")
    return (least or above) + most


def _number(value: Any) -> str:
    return f"{value:_}" if isinstance(value, int) else str(value)
