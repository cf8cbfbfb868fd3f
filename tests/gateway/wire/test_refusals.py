"""The server's own answers."""

import json

import pytest

from gateway.wire.refusals import refusal


@pytest.mark.parametrize(("status", "code"), [(400, "UNSUPPORTED"), (431, "UNSUPPORTED"), (500, "UNAVAILABLE")])
def test_a_refusal_is_a_complete_answer(status: int, code: str) -> None:
    """Status line, JSON in the specification's form, exact length, close."""
    head, _, body = refusal(status, 'a "message"').partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"content-length: %d" % len(body) in head
    assert json.loads(body) == {"errors": [{"code": code, "message": 'a "message"'}]}


def test_a_full_worker_says_when_to_come_back() -> None:
    """503 has Retry-After."""
    assert b"retry-after: 1\r\n" in refusal(503, "full")


def test_head_has_the_same_head_and_no_body() -> None:
    """The length is that of the body that GET would get."""
    whole, bare = refusal(400, "no"), refusal(400, "no", without_body=True)

    assert whole.startswith(bare)
    assert bare.endswith(b"\r\n\r\n")
