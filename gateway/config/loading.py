"""From a TOML file, the environment and the command line to the tree, or to the list of everything that is wrong.

The models judge; this file only collects, remembers where each value came from, and says so in each complaint. Values
of the file keep their TOML types (a text is no number); the environment has only text, which is read as the type that
the key takes.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from gateway.config.overlaps import overlaps
from gateway.config.schema import ANY_NAME, PREFIX, Key, fits, is_named, keys, sections_of
from gateway.config.settings import Settings
from gateway.config.storages import KINDS, UNKNOWN_KIND

OTHER_VARIABLES: Final = {
    "SLUICE_ADMIN_PASSWORD": "password of the administrator that the first start makes; default: a random one",
    "SLUICE_CONFIG": "the configuration file, as `--config`",
    "SLUICE_PASSWORD": "the password for `sluice user add` and `sluice user passwd`, instead of the prompt",
    "SLUICE_UPSTREAM_PASSWORD": "the password for `sluice repo set --username`, instead of the prompt",
    "SLUICE_CRASH_ROUNDS": "how often the crash test of this project kills the server",
}
"""Variables of ours that are no settings, and what they are for."""

# Kubernetes puts these into every pod of a namespace with a service called `sluice` or `sluice-...`.
_KUBERNETES: Final = re.compile(
    r"SLUICE_(?:[A-Z0-9]+_)*(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9]+)*|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_[A-Z]+)?)?)"
)
_BOOLEANS: Final = {"true": True, "false": False}  # as TOML writes them, in any case
_SHOWN_CHARACTERS: Final = 80
_NAME_ITSELF: Final = "[key]"  # how pydantic says that not the value under a name is wrong, but the name
_NOTHING: Final = object()
_MAX_FILE_BYTES: Final = 1 << 20  # a thousand named storages fit; a device or a disk image does not

Tree = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong. `given` is None if it may be a secret or is not there; `reason` says what is allowed."""

    source: str
    key: str
    given: str | None
    reason: str

    def __str__(self) -> str:
        place = f"{self.source}: {self.key}" if self.key else self.source
        return f"{place}{'' if self.given is None else f' = {self.given}'}: {self.reason}"


class ConfigInvalid(Exception):
    """The configuration cannot be used. `mistakes` holds all of them; retrying does not help."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__("\n".join(str(mistake) for mistake in mistakes))
        self.mistakes = tuple(mistakes)


@dataclass(frozen=True, slots=True)
class _Source:
    """Where some of the values came from, and what each key is called there."""

    name: str
    tree: Tree
    names: Mapping[tuple[str, ...], str]

    def calls(self, path: tuple[str, ...]) -> str:
        """The name under which the value at `path`, or what it is part of, was given."""
        for known, name in self.names.items():
            if known[: len(path)] == path[: len(known)]:
                return name
        return ".".join(path)


def load(
    *,
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, tuple[str, object]] | None = None,
) -> Settings:
    """The tree: defaults, under the TOML `file`, under `environ`, under `overrides` (key to option and value).

    `overrides` is for the command line: `{"server.listen": ("--listen", "127.0.0.1:0")}`; a value of None is not given.
    Raises `ConfigInvalid` with every mistake. Blocks while it reads the file; for the start.
    """
    mistakes: list[Mistake] = []
    sources = [
        _from_file(file, mistakes),
        _from_environment(environ or {}, mistakes),
        _from_options(overrides or {}, mistakes),
    ]
    merged: Tree = {}
    for source in sources:
        _merge(merged, source.tree)
    try:
        # As JSON, where strict means what TOML means: a text is a path, but no number.
        settings = Settings.model_validate_json(json.dumps(merged, default=str), strict=True)
    except ValidationError as error:
        mistakes += [_mistake(each, sources) for each in error.errors(include_url=False)]
    else:
        mistakes += _overlapping(settings, sources)
        if not mistakes:
            return settings
    raise ConfigInvalid(mistakes)


# --- sources ---------------------------------------------------------------------------------------------------------


def _from_file(file: Path | None, mistakes: list[Mistake]) -> _Source:
    tree: Tree = {}
    if file is not None:
        try:
            with file.open("rb") as opened:
                content = opened.read(_MAX_FILE_BYTES + 1)
            if len(content) > _MAX_FILE_BYTES:
                mistakes.append(Mistake(str(file), "", None, f"is larger than {_MAX_FILE_BYTES} bytes"))
            else:
                tree = tomllib.loads(content.decode("utf-8"))
        except OSError as error:
            mistakes.append(Mistake(str(file), "", None, f"cannot be read: {error.strerror or error}"))
        except UnicodeDecodeError:
            mistakes.append(Mistake(str(file), "", None, "is not UTF-8 text"))
        except RecursionError:
            mistakes.append(Mistake(str(file), "", None, "is nested too deeply"))
        except ValueError as error:  # tomllib's own error is one, and so is an integer of a thousand digits
            mistakes.append(Mistake(str(file), "", None, f"is not TOML: {error}"))
    return _Source(str(file), tree, {})


def _from_environment(environ: Mapping[str, str], mistakes: list[Mistake]) -> _Source:
    tree: Tree = {}
    names: dict[tuple[str, ...], str] = {}
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX) or variable in OTHER_VARIABLES:
            continue
        if (found := _key_of(variable)) is not None:
            key, path = found
            names[path] = variable
            if _is_text(text):
                _put(tree, path, _read(key, text))
            else:
                mistakes.append(Mistake("environment", variable, None, "is not UTF-8 text"))
        elif "__" in variable or not _KUBERNETES.fullmatch(variable):
            known = [key.variable for key in keys()] + list(OTHER_VARIABLES)
            mistakes.append(Mistake("environment", variable, None, f"unknown variable{_did_you_mean(variable, known)}"))
    return _Source("environment", tree, names)


def _from_options(overrides: Mapping[str, tuple[str, object]], mistakes: list[Mistake]) -> _Source:
    tree: Tree = {}
    names: dict[tuple[str, ...], str] = {}
    for dotted, (option, value) in overrides.items():
        path = tuple(dotted.split("."))
        names[path] = option
        if isinstance(value, str) and not _is_text(value):
            mistakes.append(Mistake("command line", option, None, "is not UTF-8 text"))
        elif value is not None:
            _put(tree, path, value)
    return _Source("command line", tree, names)


def _key_of(variable: str) -> tuple[Key, tuple[str, ...]] | None:
    """The key that a variable stands for, and its path with the operator's names in it."""
    parts = variable.removeprefix(PREFIX).split("__")
    if variable != variable.upper() or not all(parts):
        return None
    for key in keys():
        if len(key.path) == len(parts) and all(
            want in (ANY_NAME, part.lower()) for want, part in zip(key.path, parts, strict=True)
        ):
            return key, tuple(part.lower() for part in parts)
    return None


def _read(key: Key, text: str) -> object:
    """The value that a text in the environment stands for; the text itself where it stands for none, to be refused."""
    if not text and key.is_optional:
        return None  # container tools pass an unset variable as an empty one
    if key.is_list:
        return [part.strip() for part in text.split(",") if part.strip()]
    for kind in key.kinds:
        if kind is bool:
            return _BOOLEANS.get(text.strip().lower(), text)
        if kind in {int, float}:
            try:
                return kind(text.strip())
            except ValueError:
                return text
    return text


def _is_text(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:  # bytes that are no UTF-8 come as lone surrogates
        return False
    return True


def _put(tree: Tree, path: tuple[str, ...], value: object) -> None:
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
    tree[path[-1]] = value


def _merge(into: Tree, tree: Tree) -> None:
    """Lay `tree` over `into`. What should be a table and is not stays, to be refused."""
    for name, value in tree.items():
        below = into.get(name)
        if isinstance(value, dict) and isinstance(below, dict):
            _merge(below, value)
        elif isinstance(value, dict) and name not in into:
            into[name] = {}
            _merge(into[name], value)
        elif not isinstance(value, dict):
            into[name] = value


def _overlapping(settings: Settings, sources: Sequence[_Source]) -> list[Mistake]:
    mistakes: list[Mistake] = []
    for path, given, reason in overlaps(settings):
        source = next((each for each in reversed(sources) if _at(each.tree, path) is not _NOTHING), None)
        where, called = ("default", ".".join(path)) if source is None else (source.name, source.calls(path))
        mistakes.append(Mistake(where, called, _shown(given), reason))
    return mistakes


# --- complaints ------------------------------------------------------------------------------------------------------


def _mistake(error: Mapping[str, Any], sources: Sequence[_Source]) -> Mistake:
    """A complaint of the models in the words of the operator."""
    place, value = _untagged(error["loc"]), error["input"]
    if error["type"] == UNKNOWN_KIND:
        place, value = (*place, "kind"), value.get("kind")
    missing = error["type"] == "missing"
    source = _origin(place[:-1] if missing else place, value, sources)
    path = tuple(str(part) for part in place if part != _NAME_ITSELF)
    name, called = ("default", ".".join(path)) if source is None else (source.name, source.calls(path))
    unknown = error["type"] == "extra_forbidden"
    # An unknown key may be a misspelt secret.
    given = None if unknown or missing or source is None or _may_be_secret(path, value) else _shown(value)
    return Mistake(name, called, given, _unknown(path, sources) if unknown else _reason(error))


def _untagged(place: tuple[Any, ...]) -> tuple[Any, ...]:
    """Where an error is, without the kind of section that pydantic puts after the name of a named one."""
    fields: Mapping[str, Any] = Settings.model_fields
    for index, part in enumerate(place):
        field = fields.get(part)
        if field is None:
            break
        kinds = sections_of(field)
        if is_named(field):
            return place[: index + 2] + place[index + 3 :] if len(kinds) > 1 and _is_tag(place[index + 2 :]) else place
        fields = kinds[0].model_fields if kinds else {}
    return place


def _is_tag(rest: tuple[Any, ...]) -> bool:
    return bool(rest) and rest[0] != _NAME_ITSELF


def _origin(place: Sequence[object], given: object, sources: Sequence[_Source]) -> _Source | None:
    """The last source that gave the value in question, else the last that gave any there; None for a default."""
    there = [(each, _at(each.tree, place)) for each in reversed(sources)]
    there = [(each, value) for each, value in there if value is not _NOTHING]
    same = [each for each, value in there if value == given]
    return next(iter(same or [each for each, _ in there]), None)


def _at(tree: object, path: Sequence[object]) -> object:
    for part in path:
        if part == _NAME_ITSELF:
            return path[-2]
        try:
            tree = tree[part]  # type: ignore[index]  # a table or a list, or else it has nothing there
        except (TypeError, LookupError):
            return _NOTHING
    return tree


def _may_be_secret(path: tuple[str, ...], value: object) -> bool:
    """Whether the value at `path` is a secret or could hold one, as a URL does that names a user.

    A number where a table belongs is neither.
    """
    if isinstance(value, str) and "@" in value:
        return True
    secret = [key for key in keys() if key.is_secret and fits(path, key)]
    if isinstance(value, int | float):
        secret = [key for key in secret if len(key.path) <= len(path)]
    return bool(secret)


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."


def _reason(error: Mapping[str, Any]) -> str:
    if error["type"] in {"model_type", "model_attributes_type", "dict_type"}:
        return "must be a table"
    if error["type"] == "missing":
        return "must be set"
    message: str = error["msg"]
    return message.removeprefix("Value error, ").replace("Input should be", "must be")


def _unknown(path: tuple[str, ...], sources: Sequence[_Source]) -> str:
    """What an unknown key could have been."""
    known = [key for key in keys() if fits(path[:-1], key) and len(key.path) >= len(path)]
    if ANY_NAME in known[0].path[: len(path)]:  # which kind of section it stands in, is said beside it
        given = [_at(each.tree, (*path[:-1], "kind")) for each in reversed(sources)]
        kind = next((each for each in given if each is not _NOTHING), KINDS[0])
        known = [key for key in known if key.section.model_fields["kind"].default == kind]
    return f"unknown key{_did_you_mean(path[-1], list(dict.fromkeys(key.path[len(path) - 1] for key in known)))}"


def _did_you_mean(given: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(given, known, n=1, cutoff=0.7)
    if close:
        return f"; did you mean {close[0]}?"
    few = 12
    return f"; known: {', '.join(sorted(known))}" if len(known) <= few else "; see `sluice config reference`"
