"""The head of an answer on the wire: nothing an application says can become two fields, or contradict the server."""

from email.utils import parsedate_to_datetime

import pytest

from gateway.wire.answers import date_line, field_lines, opening


def test_a_status_has_its_reason() -> None:
    """Known statuses carry the standard's words; others are still well-formed lines."""
    assert opening(206) == b"HTTP/1.1 206 Partial Content\r\n"
    assert opening(599) == b"HTTP/1.1 599 \r\n"


def test_fields_become_lines_in_order() -> None:
    """Repeated fields stay apart, bytes stay what they are."""
    fields = [(b"oci-tag", b"a"), (b"oci-tag", b"b"), (b"X-Odd", b"\tcaf\xe9 ")]

    assert field_lines(fields) == b"oci-tag: a\r\noci-tag: b\r\nX-Odd: \tcaf\xe9 \r\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"a", b"b\r\nset-cookie: c"),
        (b"a", b"b\n"),
        (b"a", b"\x00"),
        (b"a\r\nb", b""),
        (b"", b"x"),
        (b"a b", b"x"),
        (b"a:", b"x"),
        (b"Transfer-Encoding", b"chunked"),
        (b"date", b"yesterday"),
    ],
)
def test_what_would_be_something_else_on_the_wire_is_refused(name: bytes, value: bytes) -> None:
    """Response splitting, and what only the server may say."""
    with pytest.raises(ValueError, match="no header field"):
        field_lines([(name, value)])


def test_the_date_is_one() -> None:
    """The line is what RFC 9110 asks for, in GMT, and stays the same within a second."""
    line = date_line()

    assert line.startswith(b"date: ")
    assert line.endswith(b" GMT\r\n")
    assert abs((parsedate_to_datetime(date_line()[6:].decode()) - parsedate_to_datetime(line[6:].decode())).seconds) < 2
