"""Keys and certificates of a run: usable by TLS servers, and private."""

import ssl
import stat
from pathlib import Path

from bench.contenders.certificates import make_pair


def test_a_pair_fits_and_is_private(tmp_path: Path) -> None:
    """OpenSSL takes key and certificate as a pair, and nobody else can read the key."""
    pair = make_pair(tmp_path, "tls")
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(pair.certificate_path, pair.key_path)
    assert stat.S_IMODE(pair.key_path.stat().st_mode) == 0o600
