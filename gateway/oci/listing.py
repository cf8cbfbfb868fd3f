"""Listings in pages: `n` and `last` in, a document and a `Link` out (distribution-spec "Listing tags"; rows TG, CT).

Knows neither where the names come from nor how they are ordered: the order is bytewise (TG-02), and the database's.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote, urlencode

from gateway.oci.errors import Code, RegistryError, shown
from gateway.oci.names import MAX_NAME_LENGTH

_NUMBER: Final = re.compile(r"[0-9]+")
_NOT_IN_ENTRY: Final = re.compile(r"[^\x01-\x7f]")
_AFTER_EVERY_ENTRY: Final = "\x7f"  # sorts where any character that is not ASCII would
_CONVERTED_DIGITS: Final = 9  # more is above every cap, and int() has a limit


def page_size(n_text: str | None, *, cap: int) -> int:
    """How many entries a page has at most: `n`, but never above `cap`, which also holds without `n` (TG-07, C7).

    0 is an empty page without a Link (TG-04). Anything but digits raises UNSUPPORTED with status 400 (TG-05).
    """
    if n_text is None:
        return cap
    if not _NUMBER.fullmatch(n_text):
        raise RegistryError(Code.UNSUPPORTED, f"n={shown(n_text)} is not a number of entries", status=400)
    digits = n_text.lstrip("0") or "0"
    return min(int(digits), cap) if len(digits) <= _CONVERTED_DIGITS else cap


def cursor(last: str | None) -> str:
    """`last` as the database may compare it; "" starts at the beginning. It need not name an entry (TG-06).

    Entries are ASCII and at most 255 long, so what follows that length, or a NUL, cannot change which of them come
    after it; a megabyte of `last` and characters that databases refuse end here (C7).
    """
    bounded = (last or "")[:MAX_NAME_LENGTH]
    stop = _NOT_IN_ENTRY.search(bounded)
    if stop is None:
        return bounded
    return bounded[: stop.start()] + ("" if stop[0] == "\0" else _AFTER_EVERY_ENTRY)


def next_link(path: str, *, last: str, n: int | None, extra: Mapping[str, str] | None = None) -> str:
    """The value of `Link` for the next page (TG-03): relative, one link, quoted rel, no raw `;` in the URL.

    `path` is the path of this listing; `n` is what the client asked, None if it did not; `extra` are the other
    parameters to keep, such as the filter of referrers (RF-10).
    """
    query = {"last": last, **({} if n is None else {"n": str(n)}), **(extra or {})}
    return f'<{quote(path, safe="/:")}?{urlencode(query, quote_via=quote, safe="")}>; rel="next"'


def tags_document(name: str, tags: Sequence[str]) -> bytes:
    """The body of a tags list (TG-01); no tags are `[]`, never null (TG-09). `name` is what the client asked for."""
    return _document({"name": name, "tags": list(tags)})


def catalog_document(names: Sequence[str]) -> bytes:
    """The body of the catalog (CT-01)."""
    return _document({"repositories": list(names)})


def _document(value: dict[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")
