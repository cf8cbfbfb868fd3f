"""Which cases are run against which contenders: the named sets, and what a command line picks. Starts nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

from bench import figures
from bench.cases.case import Case, Scale, suits
from bench.cases.catalog import all_cases
from bench.contenders.catalog import all_contenders
from bench.contenders.contender import Contender
from bench.contenders.url import Url
from bench.targets import TARGETS


class CaseSet(StrEnum):
    """A named choice of cases."""

    FIGURES = "figures"
    """Every case that a target is about: what docs/benchmarks.md shows."""
    SMOKE = "smoke"
    """The few whose ratios `make bench-smoke` watches, each against one peer."""
    S3 = "s3"
    """Registries over a bucket: what docs/benchmarks.md shows of these."""
    PROXY = "proxy"
    """Proxies of an upstream, and mirrors that skopeo keeps: what docs/benchmarks.md shows of these."""
    ALL = "all"


class NothingToRun(Exception):
    """A name or pattern fits nothing. The message says what there is."""


@dataclass(frozen=True, slots=True)
class Part:
    """Cases that meet the same contenders; a run is one part after the other."""

    cases: tuple[Case, ...]
    contenders: tuple[Contender, ...]


_PATTERNS: Final = {CaseSet.S3: ["s3-*"], CaseSet.PROXY: ["stampede-*", "skopeo-sync*"]}
"""Sets that are known by their cases' names."""
SMOKE: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("nginx", ("blob-get-warm-1",)),
    ("docker-registry", ("manifest-get", "manifest-head", "range-64k", "push-streamed-1")),
)
"""Peer -> the cases in which a change of ours is watched against it."""
SMOKE_RATIOS: Final = tuple((case, figures.CPU, "sluice", peer) for peer, cases in SMOKE for case in cases)
"""Case, figure, contender, peer."""


def full_ratios() -> tuple[tuple[str, str, str, str], ...]:
    """What targets compare: case, figure, contender, peer."""
    return tuple((each.case, each.figure, each.contender, each.peer) for each in TARGETS if each.peer)


def parts(
    case_set: CaseSet, scale: Scale, *, patterns: Sequence[str] = (), names: Sequence[str] = (), url: Url | None = None
) -> tuple[Part, ...]:
    """What to run. Raises NothingToRun.

    `patterns` choose from all cases instead of a set, `names` contenders. With a URL only that and the contenders that
    are named take part.
    """
    cases = all_cases(scale)
    if patterns:
        chosen = _matching(cases, patterns)
        case_set = CaseSet.ALL
    elif case_set is CaseSet.FIGURES:
        wanted = {target.case for target in TARGETS}
        chosen = tuple(case for case in cases if case.name in wanted)
    elif case_set in _PATTERNS:
        chosen = _matching(cases, _PATTERNS[case_set])
    else:
        chosen = cases
    contenders = _contenders(names, url)
    if case_set is CaseSet.SMOKE:
        made = [_part(cases, [*of_peer], _with_peer(contenders, peer, url)) for peer, of_peer in SMOKE]
    else:
        made = [Part(_played(chosen, contenders), contenders)]
    found = tuple(part for part in made if part.cases and part.contenders)
    if not found:
        raise NothingToRun("none of these contenders can take part in any of these cases; see `sluice bench list`")
    return found


def left_out(names: Sequence[str]) -> list[str]:
    """Why contenders that nobody named cannot take part here."""
    return [f"{each.name}: {why}" for each in all_contenders() if (why := each.missing()) and not names]


def _part(cases: Sequence[Case], names: Sequence[str], contenders: tuple[Contender, ...]) -> Part:
    return Part(_played(tuple(case for case in cases if case.name in names), contenders), contenders)


def _with_peer(contenders: Sequence[Contender], peer: str, url: Url | None) -> tuple[Contender, ...]:
    kept = {"sluice", peer, url.name if url else peer}
    return tuple(each for each in contenders if each.name in kept)


def _played(cases: Sequence[Case], contenders: Sequence[Contender]) -> tuple[Case, ...]:
    """Those in which somebody takes part; a URL speaks TLS or does not, so nobody asks it for the other."""
    plain = all(isinstance(each, Url) and each.url.startswith("http:") for each in contenders)
    return tuple(
        case for case in cases if any(suits(case, each) for each in contenders) and not (plain and case.setting.tls)
    )


def _matching(cases: Sequence[Case], patterns: Sequence[str]) -> tuple[Case, ...]:
    for pattern in patterns:
        if not any(fnmatchcase(case.name, pattern) for case in cases):
            raise NothingToRun(f"no case is called {pattern}; there are {', '.join(case.name for case in cases)}")
    return tuple(case for case in cases if any(fnmatchcase(case.name, pattern) for pattern in patterns))


def _contenders(names: Sequence[str], url: Url | None) -> tuple[Contender, ...]:
    known = {each.name: each for each in all_contenders()}
    for name in names:
        if name not in known:
            raise NothingToRun(f"no contender is called {name}; there are {', '.join(known)}")
        if why := known[name].missing():
            raise NothingToRun(why)
    if names or url:
        picked = [known[name] for name in dict.fromkeys(names)]
        return (*picked, url) if url else tuple(picked)
    return tuple(each for each in known.values() if not each.missing() and each.name != "docker-registry-open")
