"""Token scopes and the challenge that asks for them.

Source: distribution's token documents; protocol rows CH-02 to CH-08, TOK-02 to TOK-04. Knows the grammar only: what a
scope grants is decided by `gateway.access`.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from gateway.oci.names import is_name

REPOSITORY: Final = "repository"
REGISTRY: Final = "registry"

ACTIONS: Final = ("pull", "push", "delete", "*")
"""All there are, in the order in which they are written. `*` is everything that the caller has (TOK-04)."""

MAX_SCOPES: Final = 64
"""Scopes looked at in one request. Clients send up to three; a token for many would outgrow header limits (TOK-18)."""

_SCOPE: Final = re.compile(r"([a-z]+)(?:\([a-zA-Z0-9_-]*\))?:([^ ]+):([^: ]+)")
_ADDRESS: Final = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?:[0-9]{1,5}")
_REGISTRY_NAME: Final = re.compile(r"[a-z]{1,32}")
_QUOTABLE: Final = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+")  # visible ASCII and space, without " and \
_SCHEME_WORD: Final = re.compile(r"basic|bearer", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Scope:
    """Actions on one resource. `kind` is `repository` or `registry`; `name` follows the grammar of its kind.

    A repository's name may begin with `host:port/`, as some clients write it (TOK-03).
    """

    kind: str
    name: str
    actions: frozenset[str]


def parse_scopes(texts: Iterable[str]) -> tuple[Scope, ...]:
    """The scopes in several parameters, each one scope or several with spaces between (TOK-02), in order of appearance.

    Scopes of one resource are joined. Malformed scopes, other kinds and unknown actions are ignored, never an error
    (TOK-03, T12), and so is all after the first `MAX_SCOPES`: less is granted then, never more.
    """
    actions: dict[tuple[str, str], frozenset[str]] = {}
    each_text = (text for several in texts for text in several.split(" ") if text)
    for scope in _well_formed(islice(each_text, MAX_SCOPES)):
        resource = (scope.kind, scope.name)
        actions[resource] = actions.get(resource, frozenset()) | scope.actions
    return tuple(Scope(kind, name, granted) for (kind, name), granted in actions.items())


def format_scope(scope: Scope) -> str:
    """`kind:name:actions`, actions in the order of `ACTIONS`."""
    return f"{scope.kind}:{scope.name}:{','.join(action for action in ACTIONS if action in scope.actions)}"


def challenge(*, realm: str, service: str, scope: str | None, error: str | None) -> str:
    """The value of `WWW-Authenticate` (CH-02 to CH-08): all quoted, in the order realm, service, scope, error.

    `realm` is an absolute URL, `scope` one of `format_scope` or several with spaces between (CH-06), `error` is
    `invalid_token` or `insufficient_scope`. Raises ValueError, before anything is sent, for an empty value, one with
    quotes, backslashes, control or non-ASCII characters, a realm that is not http(s), and a service with `basic` or
    `bearer` in it: some clients take the last such word of the header for the scheme (CH-05). In a repository's name
    the word cannot be helped.
    """
    if not realm.startswith(("http://", "https://")):
        raise ValueError(f"realm must be an absolute http or https URL, not {realm[:80]!a}")
    if _SCHEME_WORD.search(service):
        raise ValueError(f"service {service[:80]!a} must not contain the words basic or bearer")
    parameters = {"realm": realm, "service": service, "scope": scope, "error": error}
    return "Bearer " + ",".join(_parameter(name, value) for name, value in parameters.items() if value is not None)


def _well_formed(texts: Iterable[str]) -> Iterator[Scope]:
    for text in texts:
        match = _SCOPE.fullmatch(text)
        if match is None:
            continue
        kind, name = match[1], match[2]
        actions = frozenset(match[3].split(",")).intersection(ACTIONS)
        if actions and _is_resource(kind, name):
            yield Scope(kind, name, actions)


def _is_resource(kind: str, name: str) -> bool:
    if kind == REGISTRY:
        return _REGISTRY_NAME.fullmatch(name) is not None
    if kind != REPOSITORY:
        return False
    address, _, rest = name.partition("/")
    return is_name(name) or (_ADDRESS.fullmatch(address) is not None and is_name(rest))


def _parameter(name: str, value: str) -> str:
    if not _QUOTABLE.fullmatch(value):
        raise ValueError(f"{name} {value[:80]!a} cannot be quoted in a challenge")
    return f'{name}="{value}"'
