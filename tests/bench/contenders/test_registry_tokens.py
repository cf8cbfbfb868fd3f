"""Tokens for docker-registry: what it wants to read in them, signed by the key that it was told to trust."""

import base64
import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from bench.contenders.registry_tokens import ISSUER, SERVICE, Issuer


def decoded(part: str) -> bytes:
    """Base64url without padding."""
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def test_a_token_says_who_may_do_what(tmp_path: Path) -> None:
    """A token names issuer, audience, repositories and actions, and is signed by the key that it names."""
    issuer = Issuer(rsa.generate_private_key(public_exponent=65537, key_size=2048), tmp_path)
    kind, _, token = issuer.authorization(["a/b", "c"], push=True).partition(" ")
    head, claims, signature = token.split(".")
    issuer.key.public_key().verify(decoded(signature), f"{head}.{claims}".encode(), PKCS1v15(), SHA256())
    value = json.loads(decoded(claims))
    assert kind == "Bearer"
    assert (value["iss"], value["aud"]) == (ISSUER, SERVICE)
    assert value["nbf"] <= value["iat"] < value["exp"]
    assert [(each["name"], each["actions"]) for each in value["access"]] == [
        ("a/b", ["pull", "push"]),
        ("c", ["pull", "push"]),
    ]
    groups = json.loads(decoded(head))["kid"].split(":")
    assert [len(group) for group in groups] == [4] * 12


def test_no_two_tokens_are_the_same(tmp_path: Path) -> None:
    """Each token has an identity of its own, so that fresh ones are fresh to the server's memory."""
    issuer = Issuer.make(tmp_path)
    first, second = (issuer.authorization(["a"], push=False) for _ in range(2))
    assert first != second
