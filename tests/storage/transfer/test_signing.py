"""The signatures are those of botocore, on fixed clocks, over any path, query, field and token."""

import datetime as dt
import hashlib
import string
from contextlib import AbstractContextManager
from dataclasses import dataclass
from unittest.mock import patch
from urllib.parse import parse_qsl, urlsplit

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.transfer import Credentials, Origin, Signer
from storage.transfer.signing import LONGEST_S, UNSIGNED_PAYLOAD, Pairs, target_of

ORIGIN = Origin("https", "s3.example.org", 443)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SEGMENT = TEXT | st.text(string.punctuation + " %+~", max_size=8)
PATHS = st.lists(SEGMENT, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
NAMES = st.text(string.ascii_letters + string.digits + "-_.~!*'()/:;,=&+ %", min_size=1, max_size=12)
QUERIES = st.lists(st.tuples(NAMES, SEGMENT), max_size=4, unique_by=lambda pair: pair[0])
FIELD_NAMES = st.text(string.ascii_letters + string.digits + "-", min_size=1, max_size=12).map(lambda name: "x-" + name)
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=16)
FIELDS = st.lists(st.tuples(FIELD_NAMES, VALUES), max_size=4)
CLOCKS = st.floats(min_value=0, max_value=4e9)
TOKENS = st.none() | st.text(string.ascii_letters + "+/=", min_size=1, max_size=40)
HASHES = st.just(UNSIGNED_PAYLOAD) | st.binary(max_size=4).map(lambda data: hashlib.sha256(data).hexdigest())
CREDENTIALS = st.builds(
    Credentials,
    access_key_id=st.text(string.ascii_uppercase, min_size=3, max_size=20),
    secret_access_key=st.text(string.ascii_letters + "/+", min_size=1, max_size=40),
    session_token=TOKENS,
)


def theirs(credentials: Credentials) -> botocore.credentials.Credentials:
    """The same in botocore's words."""
    return botocore.credentials.Credentials(
        credentials.access_key_id, credentials.secret_access_key, credentials.session_token
    )


def at(seconds: float) -> AbstractContextManager[object]:
    """Botocore's clock stands still."""
    moment = dt.datetime.fromtimestamp(int(seconds), tz=dt.UTC)
    return patch.object(botocore.auth, "get_current_datetime", lambda *_, **__: moment)


class TheirHeaders(botocore.auth.S3SigV4Auth):
    """Botocore's signer, told the payload's hash instead of being given the payload."""

    sha256 = UNSIGNED_PAYLOAD

    def payload(self, request: botocore.awsrequest.AWSRequest) -> str:
        """What stands for the payload."""
        return self.sha256


@dataclass(frozen=True)
class Asked:
    """A request to sign, and when."""

    credentials: Credentials
    method: str
    path: str
    query: list[tuple[str, str]]
    fields: list[tuple[str, str]]
    clock: float
    sha256: str


ASKED = st.builds(
    Asked,
    credentials=CREDENTIALS,
    method=st.sampled_from(["GET", "HEAD", "PUT", "POST", "DELETE"]),
    path=PATHS,
    query=QUERIES,
    fields=FIELDS,
    clock=CLOCKS,
    sha256=HASHES,
)


@settings(max_examples=30)  # each signs twice; a new run tries others
@given(asked=ASKED)
def test_headers_are_signed_as_botocore_does(asked: Asked) -> None:
    """For the same request at the same time both signers send the same Authorization."""
    signer = Signer("eu-west-3", clock=lambda: asked.clock)
    ours = dict(
        signer.headers(
            asked.credentials,
            asked.method,
            ORIGIN.authority,
            asked.path,
            asked.query,
            sha256=asked.sha256,
            extra=asked.fields,
        )
    )
    request = botocore.awsrequest.AWSRequest(asked.method, f"{ORIGIN}{target_of(asked.path, asked.query)}")
    for name, value in asked.fields:
        request.headers.add_header(name, value)
    with at(asked.clock):
        their_signer = TheirHeaders(theirs(asked.credentials), "s3", "eu-west-3")
        their_signer.sha256 = asked.sha256
        their_signer.add_auth(request)
    assert ours["authorization"] == request.headers["Authorization"]
    assert ours["x-amz-date"] == request.headers["X-Amz-Date"]
    assert ours["x-amz-content-sha256"] == request.headers["X-Amz-Content-SHA256"]
    assert ours.get("x-amz-security-token") == request.headers.get("X-Amz-Security-Token")


@settings(max_examples=30)
@given(credentials=CREDENTIALS, path=PATHS, query=QUERIES, clock=CLOCKS, expires_s=st.integers(1, LONGEST_S))
def test_urls_are_signed_as_botocore_does(
    credentials: Credentials, path: str, query: Pairs, clock: float, expires_s: int
) -> None:
    """A presigned URL has botocore's signature and says the same, in another order at most."""
    url = Signer("us-east-1", clock=lambda: clock).presign(credentials, "GET", ORIGIN, path, query, expires_s=expires_s)
    request = botocore.awsrequest.AWSRequest("GET", f"{ORIGIN}{target_of(path, query)}")
    with at(clock):
        botocore.auth.S3SigV4QueryAuth(theirs(credentials), "s3", "us-east-1", expires=expires_s).add_auth(request)
    ours, expected = urlsplit(url), urlsplit(request.url)
    assert (ours.scheme, ours.netloc, ours.path) == (expected.scheme, expected.netloc, expected.path)
    assert sorted(parse_qsl(ours.query, keep_blank_values=True)) == sorted(
        parse_qsl(expected.query, keep_blank_values=True)
    )


def test_query_is_ordered_by_name_before_value() -> None:
    """A name that another begins with comes first, though `=` sorts behind `-`."""
    assert target_of("/b", [("a-b", "1"), ("a", "2"), ("a", "1")]) == "/b?a=1&a=2&a-b=1"


def test_target_spells_reserved_characters_out() -> None:
    """What a server could read in two ways is encoded, what is unreserved is not."""
    assert target_of("/b/sha256:a b+~ü?.x", [("k", "/=&+ ")]) == "/b/sha256%3Aa%20b%2B~%C3%BC%3F.x?k=%2F%3D%26%2B%20"


def test_keys_are_made_once_a_day_and_secret() -> None:
    """The signing key of yesterday, and of another secret, is not used."""
    now = [0.0]
    signer = Signer("us-east-1", clock=lambda: now[0])

    def signature(secret: str) -> str:
        return dict(signer.headers(Credentials("A", secret), "GET", "h", "/", ()))["authorization"]

    def fresh(secret: str) -> str:
        other = Signer("us-east-1", clock=lambda: now[0])
        return dict(other.headers(Credentials("A", secret), "GET", "h", "/", ()))["authorization"]

    for day in range(20):
        now[0] = day * 86400.0
        for secret in ("one", "two"):
            assert signature(secret) == signature(secret) == fresh(secret)
    assert len(signer._keys) <= 16


@pytest.mark.parametrize("expires_s", [0, -1, LONGEST_S + 1])
def test_url_of_no_lifetime_is_refused(expires_s: int) -> None:
    """S3 would refuse it later, and elsewhere."""
    with pytest.raises(ValueError, match="1 to 604800 seconds"):
        Signer("us-east-1").presign(Credentials("A", "S"), "GET", ORIGIN, "/", expires_s=expires_s)


def test_secrets_are_not_shown() -> None:
    """Neither the secret nor the token is in what is printed of credentials."""
    shown = repr(Credentials("AKIA", "hush", "psst"))
    assert "AKIA" in shown
    assert "hush" not in shown
    assert "psst" not in shown
