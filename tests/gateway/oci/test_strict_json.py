"""Strict JSON: agrees with the plain reader on plain documents, refuses what readers disagree about, stays small."""

import json
import time
import tracemalloc
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.oci.strict_json import MAX_TOKENS, JsonInvalid, loads

MIB = 2**20
_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
_LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**62), 2**62), st.floats(allow_nan=False, allow_infinity=False), _TEXTS
)
_VALUES = st.recursive(_LEAVES, lambda inner: st.one_of(st.lists(inner), st.dictionaries(_TEXTS, inner)), max_leaves=15)
OBJECTS = st.dictionaries(_TEXTS, _VALUES, max_size=5)


@pytest.mark.slow
@given(value=OBJECTS, escaped=st.booleans(), indent=st.sampled_from([None, 2]))
def test_valid_documents_read_as_by_the_plain_reader(
    value: dict[str, object], *, escaped: bool, indent: int | None
) -> None:
    """Whatever the layout and escaping, a valid object is read as `json` reads it."""
    content = json.dumps(value, ensure_ascii=escaped, indent=indent).encode("utf-8")
    assert loads(content) == json.loads(content) == value


@given(st.text('{}[]:,"\\ua0d8tn1.e- \n', max_size=25))
@example('{"a":"\\\\"}')
@example('{"a":"\\\\\\""}')
@example('{"[":"]"}')
def test_what_is_accepted_reads_as_by_the_plain_reader(text: str) -> None:
    """Of arbitrary text nothing is accepted that `json` refuses, and nothing is read differently."""
    try:
        value = loads(text.encode("utf-8"))
    except JsonInvalid:
        return
    assert value == json.loads(text)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" ",
        b"[]",
        b"1",
        b'"a"',
        b"null",
        b"{",
        b"}",
        b"{}{}",
        b"{} x",
        b'{"a":1,}',
        b"{'a':1}",
        b'{"a":01}',
        b'{"a":+1}',
        b'{"a":.5}',
        b'{"a":"\t"}',
        b'{"a":"\x00"}',
        b'{"a":"\\x41"}',
        b'{"a":"\\u12"}',
        b'{"a":1]',
        b'{"a":"',
        b'{"a":"\\"}',
        b"\\",
        b"{} // comment",
    ],
)
def test_mp_07_what_is_no_json_object_is_refused(content: bytes) -> None:
    """Empty bodies, other values than objects, and broken syntax are errors."""
    with pytest.raises(JsonInvalid):
        loads(content)


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-8-sig", "latin-1"]
)
def test_c2_only_utf_8_without_a_mark_is_read(encoding: str) -> None:
    """The encodings that Python would detect by itself, and others, are refused."""
    with pytest.raises(JsonInvalid):
        loads('{"a":"é"}'.encode(encoding))


def test_c2_overlong_and_surrogate_bytes_are_refused() -> None:
    """UTF-8 that decodes to half characters or uses too many bytes is not UTF-8."""
    for sequence in (b"\xed\xa0\x80", b"\xc0\x80", b"\xf5\x80\x80\x80", b"\x80"):
        with pytest.raises(JsonInvalid, match="UTF-8"):
            loads(b'{"a":"' + sequence + b'"}')


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_c2_numbers_that_are_not_finite_are_refused(literal: str) -> None:
    """NaN and infinities are no JSON, and a number beyond floating point is an infinity to some readers."""
    with pytest.raises(JsonInvalid):
        loads(f'{{"a":[{literal}]}}'.encode())


@pytest.mark.parametrize(
    "text",
    ['{"a":1,"a":1}', '{"b":{"a":1,"c":2,"a":3}}', '{"a":1,"\\u0061":2}', '{"b":[{"a":1,"a":null}]}', '{"":1,"":1}'],
)
def test_c2_duplicate_keys_are_refused_at_every_level(text: str) -> None:
    """Readers differ on whether the first or the last counts, so neither does; escapes do not hide a key."""
    with pytest.raises(JsonInvalid, match="duplicate key"):
        loads(text.encode())


def test_c2_the_same_key_in_different_objects_is_fine() -> None:
    """Only keys of one object can be duplicates."""
    assert loads(b'{"a":{"a":1},"b":[{"a":1},{"a":2}]}') == {"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]}


@pytest.mark.parametrize(
    "text", ['{"a":"\\ud800"}', '{"a":["\\uDFFF"]}', '{"\\ud83d":1}', '{"a":"\\ude00\\ud83d"}', '{"a":"\\\\\\ud800"}']
)
def test_c2_half_characters_are_refused(text: str) -> None:
    """A lone surrogate escape in any string, key or list is an error."""
    with pytest.raises(JsonInvalid, match="surrogate"):
        loads(text.encode())


def test_c2_pairs_and_escaped_backslashes_are_no_half_characters() -> None:
    """A pair of surrogates is one character, and a backslash before `ud800` may itself be escaped."""
    assert loads(b'{"a":"\\ud83d\\ude00","b":"\\\\ud800"}') == {"a": "\U0001f600", "b": "\\ud800"}


@pytest.mark.parametrize("digits", [20, 4300, 4301, 2**20])
def test_c2_huge_integers_are_refused_without_being_converted(digits: int) -> None:
    """Beyond 19 digits no size is meant, and converting would cost quadratic time or raise."""
    with pytest.raises(JsonInvalid, match="integer"):
        loads(b'{"a":' + b"9" * digits + b"1}")


@pytest.mark.parametrize("number", [2**63, -(2**63), 10**19, -(10**18)])
def test_c2_integers_of_64_bits_are_read_exactly(number: int) -> None:
    """Everything that another reader could hold as an integer is one."""
    assert loads(b'{"a":%d}' % number) == {"a": number}


def test_c2_a_byte_order_mark_is_named() -> None:
    """Editors add it unseen, so the message says what is wrong."""
    with pytest.raises(JsonInvalid, match="byte order mark"):
        loads(b"\xef\xbb\xbf{}")


def test_c2_depth_is_limited_before_reading() -> None:
    """64 levels are read, 65 and a million are refused, in lists and objects; brackets in strings do not count."""
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        deep = [b'{"a":' + opening * n + b"1" + closing * n + b"}" for n in (63, 64, 10**5)]
        assert loads(deep[0])
        for content in deep[1:]:
            with pytest.raises(JsonInvalid, match="deeper"):
                loads(content)
    assert loads(b'{"a":"' + b"[{" * 1000 + b'\\"[[["}')


def test_c2_depth_counts_what_is_open_not_what_was_opened() -> None:
    """Any number of siblings is flat, and siblings before it do not hide a deep one."""
    for sibling in (b"[],", b'{"b":1},', b'{"b":[]},'):
        assert loads(b'{"a":[' + sibling * 200 + b"1]}")
        with pytest.raises(JsonInvalid, match="deeper"):
            loads(b'{"a":[' + sibling * 200 + b"[" * 63 + b"]" * 63 + b"]}")


@pytest.mark.slow
def test_c3_the_number_of_values_is_limited_before_building() -> None:
    """As many tokens as allowed are read; more are refused, whatever they are."""
    fits = b'{"a":[' + b"0," * (MAX_TOKENS - 4) + b"0]}"
    assert len(loads(fits)["a"]) == MAX_TOKENS - 3  # type: ignore[arg-type]  # it is a list
    for content in (
        b'{"a":[' + b"0," * MAX_TOKENS + b"0]}",
        b"[" * 4 * MIB,
        b"]" * 4 * MIB,
        b'"' * 4 * MIB,
        b"," * 4 * MIB,
    ):
        with pytest.raises(JsonInvalid):
            loads(content)


def _list_of(item: Callable[[int], str], *, each: int) -> bytes:
    """An object with a list of as many items of `each` tokens as are allowed."""
    return ('{"a":[' + ",".join(map(item, range(MAX_TOKENS // each - 5))) + "]}").encode()


def _keys_of(key: Callable[[int], str]) -> bytes:
    """An object with as many keys as are allowed."""
    return ("{" + ",".join(f'"{key(n)}":"{key(n)[1:]}"' for n in range(MAX_TOKENS // 2 - 5)) + "}").encode()


@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(partial(_list_of, lambda _: "[]", each=2), id="lists"),
        pytest.param(partial(_list_of, lambda n: f'{{"k{n}":1}}', each=3), id="objects"),
        pytest.param(partial(_list_of, lambda n: f'"\U0001f600{n:04x}"', each=1), id="wide strings"),
        pytest.param(partial(_keys_of, lambda n: f"{n:05x}\U0001f600"), id="wide keys"),
        pytest.param(partial(bytes.replace, b"x" * (MIB + 2**18), b"x", b"[],"), id="megabytes of lists"),
        pytest.param(partial(bytes.ljust, b'{"a":"', 4 * MIB, b"\\"), id="megabytes of backslashes"),
        pytest.param(
            partial(bytes.replace, '{"a":"x\U0001f600"}'.encode(), b"x", b"x" * (4 * MIB - 16)),
            id="megabytes, one wide",
        ),
    ],
)
def test_c3_memory_stays_below_a_bound_for_the_worst_inputs(content: Callable[[], bytes]) -> None:
    """No 4 MiB of JSON makes the reader hold more than 64 MiB, refused or not (300 MiB for 20 at once, 4 reading)."""
    hostile = content()
    assert len(hostile) <= 4 * MIB
    tracemalloc.start()
    try:
        loads(hostile)
    except JsonInvalid:
        pass
    finally:
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak_bytes < 64 * MIB


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit", [b"[", b"]", b'"', b"\\", b'\\"', b'{"a":', b"[],", b'"a":1,', b"9", b"\\ud800", b" ", b'"\\\\",']
)
@pytest.mark.parametrize("start", [b'{"a":', b'{"a":"', b""])
def test_time_grows_no_faster_than_the_input(start: bytes, unit: bytes) -> None:
    """Sixteen times the input costs far less than the 256 times of a quadratic reader."""

    def seconds(size_bytes: int) -> float:
        content = start + unit * (size_bytes // len(unit))
        best = float("inf")
        for _ in range(3):
            began = time.thread_time()
            with pytest.raises(JsonInvalid):
                loads(content)
            best = min(best, time.thread_time() - began)
        return best

    assert seconds(2 * MIB) < 80 * max(seconds(MIB // 8), 0.0005)
