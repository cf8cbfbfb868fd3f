"""A trace: who asked for what and when, taken from an access log of Sluice, without secrets and, unless wanted, names.

Times are relative to the first request. Clients are numbers. Repository names, tags, digests and upload sessions are
replaced by others, the same one by the same one, so that sharing of layers stays visible; `keep_names` leaves names,
tags and digests as they are, for a replay against a copy of the registry. User agents and addresses are never kept,
nor is anything of a request line that does not have the form of the registry API (OCI distribution specification).

A trace file has a head line and a line per request, JSON each.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

FORMAT: Final = 1

_TARGET: Final = re.compile(
    r"/v2/(?:"
    r"|_catalog"
    r"|(?P<name>[a-z0-9][a-z0-9._/-]*)/(?:"
    r"tags/list"
    r"|manifests/(?P<reference>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}|[a-z0-9+._-]+:[A-Za-z0-9=_-]+)"
    r"|(?:blobs|referrers)/(?P<digest>[a-z0-9+._-]+:[A-Za-z0-9=_-]+)"
    r"|blobs/uploads/(?P<upload>[^/]*)"
    r"))"
)
_DIGEST: Final = re.compile(r"[a-z0-9+._-]+(?::|%3[Aa])[A-Za-z0-9=_-]+")
_LAST: Final = re.compile(r"[A-Za-z0-9._/-]+")


class TraceInvalid(Exception):
    """The file is no access log or no trace of this format. The message says what was found."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One request."""

    at_s: float
    """Since the first of the trace."""
    client: int
    method: str
    target: str
    status: int
    sent_bytes: int
    """Of the answer's body."""
    authorized: bool
    """Whether it came with an Authorization header."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in the order in which they began."""

    visits: Sequence[Visit]
    names_kept: bool
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Why lines of the log are not here -> how many."""

    @property
    def length_s(self) -> float:
        """From the first request to the last."""
        return self.visits[-1].at_s if self.visits else 0.0


def record(lines: Iterable[str], *, keep_names: bool) -> Trace:
    """Make a trace of an access log; holds one small value per request in memory, for sorting.

    Raises TraceInvalid when no line is of an access log.
    """
    left_out: Counter[str] = Counter()
    found = sorted(_requests(lines, left_out), key=lambda line: float(line["at"]))
    if not found and left_out["not a line of an access log"]:
        raise TraceInvalid("no line of it is of an access log; the setting logs.access makes Sluice write one")
    names = _Names(keep=keep_names)
    clients: dict[str, int] = {}
    visits = []
    for line in found:
        target = names.target(str(line["target"]))
        if target is None:
            left_out["not of the registry API"] += 1
            continue
        visits.append(
            Visit(
                at_s=round(float(line["at"]) - float(found[0]["at"]), 6),
                client=clients.setdefault(str(line["client"]), len(clients)),
                method=str(line["method"]),
                target=target,
                status=int(line["status"]),
                sent_bytes=int(line["sent_bytes"]),
                authorized=bool(line["authorized"]),
            )
        )
    return Trace(tuple(visits), keep_names, dict(left_out))


def write(trace: Trace, path: Path) -> None:
    """Write it; `read` gives it back equal."""
    head = {"trace": FORMAT, "names_kept": trace.names_kept, "left_out": trace.left_out}
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(head) + "\n")
        file.writelines(json.dumps(asdict(visit)) + "\n" for visit in trace.visits)


def read(path: Path) -> Trace:
    """A trace from its file. Raises TraceInvalid, also when there is none."""
    try:
        with path.open(encoding="utf-8") as file:
            head = json.loads(file.readline())
            if not isinstance(head, dict) or head.get("trace") != FORMAT:
                raise TraceInvalid(f"{path} is no trace of format {FORMAT}; `sluice bench record` makes one")
            visits = tuple(Visit(**json.loads(line)) for line in file)
        return Trace(visits, bool(head["names_kept"]), dict(head["left_out"]))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise TraceInvalid(f"{path}: {error}") from error


_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_FIELDS: Final = frozenset({"at", "client", "method", "target", "status", "sent_bytes", "authorized"})


def _requests(lines: Iterable[str], left_out: Counter[str]) -> Iterator[dict[str, Any]]:
    for text in filter(str.strip, lines):
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if isinstance(line, dict) and "lost" in line:
            left_out["lost by the log itself"] += int(line["lost"])
        elif not isinstance(line, dict) or not line.keys() >= _FIELDS:
            left_out["not a line of an access log"] += 1
        elif line["method"] not in _METHODS:
            left_out["of an unknown method"] += 1
        else:
            yield line


class _Names:
    """Replaces what names something, the same by the same."""

    def __init__(self, *, keep: bool) -> None:
        self._keep = keep
        self._known: dict[tuple[str, str], str] = {}
        self._count: Counter[str] = Counter()

    def target(self, target: str) -> str | None:
        """The target as it stands in the trace; None for what is not of the registry API."""
        path, _, query = target.partition("?")
        found = _TARGET.fullmatch(path)
        if found is None:
            return None
        name = found["name"]
        changed = [
            (found.span("name"), self._name(name or "")),
            (found.span("reference"), self._reference(found["reference"] or "")),
            (found.span("digest"), self._digest(found["digest"] or "")),
            (found.span("upload"), self._number("upload", found["upload"] or "", "u{}", always=True)),
        ]
        for (start, end), text in sorted(changed, reverse=True):
            if start < end:
                path = path[:start] + text + path[end:]
        kept = "&".join(filter(None, (self._parameter(each, of_tags=name is not None) for each in query.split("&"))))
        return f"{path}?{kept}" if kept else path

    def _parameter(self, parameter: str, *, of_tags: bool) -> str | None:
        name, _, value = parameter.partition("=")
        if name == "n" and value.isdigit():
            return parameter
        if name == "digest" and _DIGEST.fullmatch(value):
            return f"digest={self._digest(re.sub('%3[Aa]', ':', value))}"
        if name == "last" and _LAST.fullmatch(value):
            return f"last={self._reference(value) if of_tags else self._name(value)}"
        return None

    def _name(self, name: str) -> str:
        return "/".join(self._number("segment", segment, "n{}") for segment in name.split("/"))

    def _reference(self, reference: str) -> str:
        return self._digest(reference) if ":" in reference else self._number("tag", reference, "t{}")

    def _digest(self, digest: str) -> str:
        return self._number("digest", digest, "sha256:{:064x}")

    def _number(self, kind: str, text: str, form: str, *, always: bool = False) -> str:
        if not text or (self._keep and not always):
            return text
        known = self._known.get((kind, text))
        if known is None:
            self._count[kind] += 1
            known = self._known[kind, text] = form.format(self._count[kind])
        return known
