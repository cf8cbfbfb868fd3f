"""What a scripted upstream answers when nothing is wrong: the pull half of the distribution API, over a `Shelf`."""

import json
import re
from dataclasses import dataclass, field
from urllib.parse import quote

from tests.served import OCI_INDEX, sha256
from tests.upstream.login import Authentication, Nobody
from tests.upstream.script import Delivery, Fields, Seen
from tests.upstream.shelf import Shelf

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_JSON = ("Content-Type", "application/json")


@dataclass(slots=True)
class Budget:
    """How many manifests may be fetched: what Docker Hub says in its `ratelimit-*` fields. HEAD is free."""

    limit: int = 100
    window_s: int = 21_600
    remaining: int = 100

    def fields(self) -> Fields:
        """What every answer about a manifest carries."""
        named = (("ratelimit-limit", self.limit), ("ratelimit-remaining", self.remaining))
        return [(name, f"{value};w={self.window_s}") for name, value in named]


@dataclass(slots=True)
class Registry:
    """The rules of one upstream. All fields may be changed at any time; see `ScriptedUpstream` for what they mean."""

    shelf: Shelf = field(default_factory=Shelf)
    auth: Authentication = field(default_factory=Nobody)
    budget: Budget | None = None
    page_size: int = 1000
    has_referrers_api: bool = True
    has_etags: bool = True
    counted_pulls: int = 0
    """Manifests that were fetched (GET), as Docker Hub counts them."""

    def answer(self, seen: Seen, origin: str) -> Delivery:
        """What is answered to this request."""
        if seen.kind == "token":
            return self.auth.token(seen) or _error(404, "UNSUPPORTED")
        refusal = self.auth.refusal(seen, origin)
        if refusal is not None:
            return refusal
        if seen.method not in {"GET", "HEAD"}:
            return _error(405, "UNSUPPORTED")
        answers = {
            "manifests": self._manifest,
            "blobs": self._blob,
            "tags": self._tags,
            "referrers": self._referrers,
        }
        if seen.kind in answers:
            return answers[seen.kind](seen)
        return Delivery(200, [_JSON], b"{}") if seen.kind == "base" else _error(404, "NAME_UNKNOWN")

    def _manifest(self, seen: Seen) -> Delivery:
        spent = self._spend(seen)
        if spent is not None:
            return spent
        fields = self.budget.fields() if self.budget else []
        manifest = self.shelf.find_manifest(seen.name, seen.reference)
        if manifest is None:
            delivery = _error(404, "MANIFEST_UNKNOWN")
            delivery.fields += fields
            return delivery
        fields += [("Content-Type", manifest.media_type), ("Docker-Content-Digest", manifest.digest)]
        if self.has_etags:
            fields.append(("ETag", f'"{manifest.digest}"'))
            if manifest.digest in (seen.header("if-none-match") or ""):
                return Delivery(304, fields, b"")
        return Delivery(200, fields, manifest.content, manifest.content)

    def _spend(self, seen: Seen) -> Delivery | None:
        if seen.method != "GET":
            return None
        if self.budget is not None:
            if self.budget.remaining == 0:
                delivery = _error(429, "TOOMANYREQUESTS")
                delivery.fields += self.budget.fields()
                return delivery
            self.budget.remaining -= 1
        self.counted_pulls += 1
        return None

    def _blob(self, seen: Seen) -> Delivery:
        content = self.shelf.blobs.get(seen.name, {}).get(seen.reference)
        if content is None:
            return _error(404, "BLOB_UNKNOWN")
        fields = [
            ("Content-Type", "application/octet-stream"),
            ("Docker-Content-Digest", seen.reference),
            ("Accept-Ranges", "bytes"),
        ]
        span = span_of(seen.header("range"), len(content))
        if span is None:
            return Delivery(200, fields, content, content)
        if not span:
            return Delivery(416, [("Content-Range", f"bytes */{len(content)}")], b"")
        fields.append(("Content-Range", f"bytes {span.start}-{span.stop - 1}/{len(content)}"))
        return Delivery(206, fields, content[span.start : span.stop], content, span.start)

    def _tags(self, seen: Seen) -> Delivery:
        known = self.shelf.tags.get(seen.name)
        if known is None:
            return _error(404, "NAME_UNKNOWN")
        last = seen.query.get("last", [""])[0]
        size = min(self.page_size, int(seen.query.get("n", [str(self.page_size)])[0]))
        names = [name for name in sorted(known) if name > last]
        fields: Fields = [_JSON]
        if len(names) > size:
            names = names[:size]
            fields.append(("Link", f'</v2/{seen.name}/tags/list?n={size}&last={quote(names[-1])}>; rel="next"'))
        return Delivery(200, fields, json.dumps({"name": seen.name, "tags": names}).encode())

    def _referrers(self, seen: Seen) -> Delivery:
        if not self.has_referrers_api:
            return _error(404, "NOT_FOUND")
        return Delivery(200, [("Content-Type", OCI_INDEX)], self.shelf.referrers(seen.name, seen.reference))


def span_of(value: str | None, size_bytes: int) -> range | None:
    """The bytes that a Range field asks for; None: all; empty: what does not exist."""
    found = _RANGE.fullmatch(value or "")
    if found is None:
        return None
    first, last = found.groups()
    if not first:
        return range(max(0, size_bytes - int(last or 0)), size_bytes)
    return range(int(first), min(size_bytes, int(last) + 1 if last else size_bytes))


def _error(status: int, code: str) -> Delivery:
    document = {"errors": [{"code": code, "message": "said the scripted upstream", "detail": sha256(code.encode())}]}
    return Delivery(status, [_JSON], json.dumps(document).encode())
