"""The server's settings come from the configuration, whole and checked."""

from dataclasses import replace
from pathlib import Path

import pytest

from gateway.config import Server
from gateway.wire.settings import WireSettings


def test_settings_are_what_the_operator_chose() -> None:
    """Every limit of the server section arrives under the same name."""
    server = Server(
        header_timeout_s=1,
        idle_timeout_s=2,
        send_idle_timeout_s=3,
        drain_timeout_s=4,
        max_connections=5,
        tls_certificate=Path("chain.pem"),
        tls_key=Path("key.pem"),
    )

    settings = WireSettings.of(server)

    assert settings.tls
    for name in ("header_timeout_s", "idle_timeout_s", "send_idle_timeout_s", "drain_timeout_s", "max_connections"):
        assert getattr(settings, name) == getattr(server, name)
    assert (settings.tls_certificate, settings.tls_key) == (Path("chain.pem"), Path("key.pem"))


def test_lm_01_heads_have_room_for_large_tokens() -> None:
    """A head may be twice as large as an Authorization field of 16 KiB (row LM-01)."""
    assert WireSettings.of(Server()).header_bytes == 32 * 1024


def test_a_certificate_without_its_key_is_an_error() -> None:
    """Half of TLS is none; it must not start in the clear."""
    with pytest.raises(ValueError, match="tls_key"):
        replace(WireSettings.of(Server()), tls_certificate=Path("chain.pem"))
