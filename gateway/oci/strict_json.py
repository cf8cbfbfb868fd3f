"""JSON objects from strangers, read so that no other reader can understand them differently, within bounded memory.

Python's own reader takes UTF-16, a BOM, NaN, 1e999 and duplicate keys, keeps lone surrogates, and recurses as deep as
it is told to (security row C2). Here all of these are refused, depth and size of the result before anything is built:
4 MiB of `[[],[],…]` would otherwise be 99 MiB of lists (C3). Knows nothing of manifests; types of values are the
caller's to check, above all that a size is an `int` and neither a `bool` nor a `float`.

Pure CPU. From `LARGE_BYTES` on the caller runs it in a thread, behind a limiter, as memory is `MAX_TOKENS` each.
"""

import json
from collections import Counter
from itertools import accumulate
from typing import Final

MAX_DEPTH: Final = 64
"""Objects and lists within each other. Manifests need 5; far below where any reader's stack ends."""

MAX_TOKENS: Final = 300_000
"""Opening brackets, colons and commas together; each brings at most one value or key.

A 4 MiB index with the shortest honest children (200 bytes with a platform, 13 tokens) has 273,000, so nothing honest
is refused. What it bounds: the worst inputs known (short distinct keys, an emoji in each) peak at 57 MiB while read.
"""

LARGE_BYTES: Final = 16 * 1024
"""From here on, do not read it on the loop: `manifest.parse` takes 0.9 ms for 80 short descriptors in 16 KiB."""

_MAX_INTEGER_LITERAL: Final = 20  # a sign and the 19 digits of 2**63; also far below Python's limit of 4,300 digits
_NOT_STRUCTURE: Final = bytes(set(range(256)) - set(b'"{}[]:,'))
_STEP: Final = {ord("{"): 1, ord("["): 1, ord("}"): -1, ord("]"): -1}


class JsonInvalid(ValueError):
    """The bytes are no JSON object that every reader understands alike; the message says why, in ASCII."""


def loads(content: bytes) -> dict[str, object]:
    """The object that `content` holds; raises `JsonInvalid`, which the same bytes will always do again.

    Values are dict, list, str, int (at most 20 characters), finite float, bool and None. Time is linear in the length.
    """
    text = _decode(content)
    _check_structure(content)
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise JsonInvalid(f"not valid JSON: {error.msg} at character {error.pos}") from error
    if not isinstance(value, dict):
        raise JsonInvalid("a JSON object is expected")
    if b"\\ud" in content or b"\\uD" in content:
        _check_surrogates(value)
    return value


def _decode(content: bytes) -> str:
    if content.startswith(b"\xef\xbb\xbf"):
        raise JsonInvalid("a byte order mark is not allowed")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise JsonInvalid(f"not valid UTF-8 at byte {error.start}") from error


def _check_structure(content: bytes) -> None:
    """Refuse what is too deep or too many, without building it.

    For valid JSON the count is exact. Text that is not valid is judged rightly up to its first error, which is as far
    as the reader goes after us.
    """
    # Escapes stand in strings only. Pairs of backslashes go first, so a quote still behind a backslash is escaped.
    bare = content.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NOT_STRUCTURE)
    if bare.count(b'"') > 2 * (MAX_TOKENS + 1):  # each string needs a token before it
        raise JsonInvalid(f"more than {MAX_TOKENS} values")
    outside = b"".join(bare.split(b'"')[::2])
    closing = outside.count(b"}") + outside.count(b"]")
    if len(outside) - closing > MAX_TOKENS:
        raise JsonInvalid(f"more than {MAX_TOKENS} values")
    if closing > MAX_TOKENS:
        raise JsonInvalid("not valid JSON: unbalanced brackets")
    steps = map(_STEP.__getitem__, outside.translate(None, b":,"))
    if max(accumulate(steps), default=0) > MAX_DEPTH:
        raise JsonInvalid(f"nested deeper than {MAX_DEPTH} levels")


def _check_surrogates(value: dict[str, object]) -> None:
    """Refuse escapes of half a character: `str` holds them, UTF-8 does not, and other readers replace them."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise JsonInvalid("a string holds a lone surrogate") from error


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        (twice, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise JsonInvalid(f"duplicate key {twice[:80]!a}")
    return value


def _integer(literal: str) -> int:
    if len(literal) > _MAX_INTEGER_LITERAL:
        raise JsonInvalid(f"an integer of {len(literal)} characters")
    return int(literal)


def _float(literal: str) -> float:
    value = float(literal)
    if value in {float("inf"), float("-inf")}:
        raise JsonInvalid("a number beyond the range of floating point")
    return value


def _constant(literal: str) -> object:
    raise JsonInvalid(f"{literal} is not JSON")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
)
