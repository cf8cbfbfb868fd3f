"""Registry tokens that docker-registry 2.8 believes: signed by us, so that no token server has to run beside it.

RS256, what most token servers use and what is cheapest for the registry to check. Format: distribution's "Token
authentication implementation"; the key is named by its fingerprint, as libtrust makes it.
"""

import base64
import hashlib
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bench.contenders.certificates import make_pair

ISSUER: Final = "bench"
SERVICE: Final = "bench-registry"
_LIFETIME_S: Final = 3600
_FINGERPRINT_BYTES: Final = 30  # libtrust: the first 240 bits, in groups of four base32 letters


@dataclass(frozen=True, slots=True)
class Issuer:
    """Signs tokens; `certificate_path` is what the registry is to trust."""

    key: rsa.RSAPrivateKey
    certificate_path: Path

    @classmethod
    def make(cls, directory: Path) -> Self:
        """With a new key in this directory."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        return cls(key, make_pair(directory, "tokens", key=key).certificate_path)

    def authorization(self, names: Sequence[str], *, push: bool) -> str:
        """The Authorization header for these repositories."""
        now = int(time.time())
        actions = ["pull", "push"] if push else ["pull"]
        claims = {
            "iss": ISSUER,
            "sub": "bench",
            "aud": SERVICE,
            "exp": now + _LIFETIME_S,
            "nbf": now - 60,
            "iat": now,
            "jti": uuid.uuid4().hex,
            "access": [{"type": "repository", "name": name, "actions": actions} for name in names],
        }
        head = {"typ": "JWT", "alg": "RS256", "kid": self._fingerprint()}
        signed = f"{_part(head)}.{_part(claims)}"
        signature = self.key.sign(signed.encode(), PKCS1v15(), SHA256())
        return f"Bearer {signed}.{_text(signature)}"

    def _fingerprint(self) -> str:
        public = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        letters = base64.b32encode(hashlib.sha256(public).digest()[:_FINGERPRINT_BYTES]).decode().rstrip("=")
        return ":".join(letters[start : start + 4] for start in range(0, len(letters), 4))


def _part(value: Mapping[str, object]) -> str:
    return _text(json.dumps(value, separators=(",", ":")).encode())


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
