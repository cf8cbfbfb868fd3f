"""What a 401 says about how to log in: all of its WWW-Authenticate fields, read into challenges. Pure.

RFC 9110, section 11. The field is written by strangers: what is malformed gives no challenge, and never an exception.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Final

HEADER: Final = "www-authenticate"
MAX_CHALLENGES: Final = 16
MAX_FIELD: Final = 8192
"""Characters of a field that is read at all; a guess, registries' have some hundred."""
_TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105  # the grammar's word
_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
_PARAMETER: Final = re.compile(rf"({_TOKEN})[ \t]*=[ \t]*({_TOKEN}|{_QUOTED})(?=[ \t]*(?:,|$))")
_SCHEME: Final = re.compile(rf"({_TOKEN})(?:[ \t]+|(?=,)|$)")
_TOKEN68: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*(?=[ \t]*(?:,|$))")
_BETWEEN: Final = re.compile(r"[ \t,]*")
_ESCAPED: Final = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to log in: `scheme` in lower case, parameters with names in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    def parameter(self, name: str) -> str:
        """Its value; empty where it is missing."""
        return self.parameters.get(name, "")


def challenges_of(headers: Iterable[tuple[str, str]]) -> list[Challenge]:
    """All challenges in these fields (names in lower case), in order, at most `MAX_CHALLENGES`."""
    values = (value for name, value in headers if name == HEADER and len(value) <= MAX_FIELD)
    return list(islice(chain.from_iterable(map(_challenges, values)), MAX_CHALLENGES))


def choose(challenges: Sequence[Challenge]) -> Challenge | None:
    """The one to answer: the first Bearer with a realm, else the first Basic, else none."""
    for challenge in challenges:
        if challenge.scheme == "bearer" and challenge.parameter("realm"):
            return challenge
    return next((challenge for challenge in challenges if challenge.scheme == "basic"), None)


def _challenges(value: str) -> Iterator[Challenge]:
    """Read one field. At what cannot be read the field ends: what came before it counts."""
    place = _skip(value, 0)
    while place < len(value) and (scheme := _SCHEME.match(value, place)):
        place = scheme.end()
        parameters: dict[str, str] = {}
        if (alone := _TOKEN68.match(value, place)) and _PARAMETER.match(value, place) is None:
            place = _skip(value, alone.end())
        else:
            place = _read_parameters(value, place, parameters)
        yield Challenge(scheme[1].lower(), parameters)


def _read_parameters(value: str, place: int, parameters: dict[str, str]) -> int:
    place = _skip(value, place)
    while parameter := _PARAMETER.match(value, place):
        text = parameter[2]
        if text.startswith('"'):
            text = _ESCAPED.sub(r"\1", text[1:-1])
        parameters.setdefault(parameter[1].lower(), text)
        place = _skip(value, parameter.end())
    return place


def _skip(value: str, place: int) -> int:
    between = _BETWEEN.match(value, place)
    return between.end() if between else place
