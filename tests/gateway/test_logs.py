"""Events: one line each whatever their values hold, in JSON and in text, ours and those of libraries; no secrets."""

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest
import structlog
from pydantic import SecretStr

from gateway.access.accounts import FirstAdmin
from gateway.logs import configure, get_logger

HOSTILE = 'v1\r\n{"event":"forged"}\x1b[31mred\x00\x85\u2028\x0b\tend'
"""Line ends of every kind, a colour, a NUL (security row C14)."""
FORMS: tuple[Literal["text"], Literal["json"]] = ("text", "json")


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """Takes what went to standard error since it was last asked; both logging systems are as they were afterwards."""
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield lambda: capsys.readouterr().err
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)


def events(text: str) -> list[dict[str, Any]]:
    """The lines of a JSON log; each must be an object."""
    return [json.loads(line) for line in text.splitlines()]


def fail_with(secret: str, message: str) -> None:
    """Raise from a frame that holds a secret."""
    raise ValueError(message)


def test_an_event_has_its_name_its_module_its_level_a_time_and_its_fields(written: Callable[[], str]) -> None:
    """A collector finds everything under a name of its own."""
    configure(level="info", form="json")

    get_logger("gateway.somewhere").info("blob_stored", size_bytes=3, repository="common/images")

    (event,) = events(written())
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "event": "blob_stored",
        "level": "info",
        "module": "gateway.somewhere",
        "size_bytes": 3,
        "repository": "common/images",
    }


@pytest.mark.parametrize("form", FORMS)
def test_c14_a_value_cannot_begin_a_line(written: Callable[[], str], form: Literal["text", "json"]) -> None:
    """C14: line ends, escapes and NUL in a value, a key's context or an object's text stay within the event's line."""
    configure(level="info", form=form)

    with structlog.contextvars.bound_contextvars(request_id=HOSTILE):
        get_logger("m").warning("client_refused", user_agent=HOSTILE, tags=[HOSTILE], tight="\x1b[2J")

    (line,) = written().splitlines()
    assert line.isascii() or line.isprintable()
    assert "\x1b" not in line
    if form == "json":
        assert json.loads(line)["user_agent"] == HOSTILE


@pytest.mark.parametrize("form", FORMS)
def test_c14_an_error_cannot_forge_an_event(written: Callable[[], str], form: Literal["text", "json"]) -> None:
    """C14: what an exception says is one JSON value, or indented text in which nothing is a control character."""
    configure(level="info", form=form)
    try:
        fail_with("-", HOSTILE)
    except ValueError as error:
        get_logger("m").error("request_failed", exc_info=error)

    text = written()
    first, *others = text.splitlines()
    assert "request_failed" in first
    assert all(line.startswith("    ") and line.isprintable() for line in others)
    if form == "json":
        assert others == []
        assert json.loads(first)["exception"][0]["exc_value"] == HOSTILE
    else:
        assert "fail_with" in text


@pytest.mark.parametrize("form", FORMS)
def test_t16_tracebacks_show_no_local_variables(written: Callable[[], str], form: Literal["text", "json"]) -> None:
    """T16: a frame's variables may hold a password; the traceback names files and lines only."""
    configure(level="info", form=form)
    password = "hunter2-" * 2
    try:
        fail_with(password, "it went wrong")
    except ValueError as error:
        get_logger("m").error("request_failed", exc_info=error)

    text = written()
    assert "it went wrong" in text
    assert "hunter2" not in text


@pytest.mark.parametrize("form", FORMS)
def test_secrets_print_as_stars(written: Callable[[], str], form: Literal["text", "json"]) -> None:
    """A secret setting and the first password have types that do not print what they hold."""
    configure(level="info", form=form)

    get_logger("m").info("settings", key=SecretStr("hunter2"), admin=FirstAdmin("admin", "hunter2", is_random=True))

    text = written()
    assert "hunter2" not in text
    assert "***" in text


@pytest.mark.parametrize("form", FORMS)
def test_what_libraries_warn_of_becomes_an_event(written: Callable[[], str], form: Literal["text", "json"]) -> None:
    """Standard logging goes the same way in the same form, with arguments and traceback, and is as harmless."""
    configure(level="info", form=form)
    library, password = logging.getLogger("some.package"), "hunter2-" * 2

    library.warning("odd answer from %s", HOSTILE)
    library.info("chatter")
    try:
        fail_with(password, "inner")
    except ValueError:
        library.exception("gave up")

    text = written()
    assert "chatter" not in text
    assert "hunter2" not in text
    assert "\x1b" not in text
    if form == "json":
        first, second = events(text)
        assert (first["event"], first["level"], first["module"]) == ("library_message", "warning", "some.package")
        assert first["text"] == f"odd answer from {HOSTILE}"
        assert (second["text"], second["exception"][0]["exc_value"]) == ("gave up", "inner")


def test_a_library_that_logs_nonsense_ends_nothing(written: Callable[[], str]) -> None:
    """A record whose arguments do not fit its text is reported and forgotten."""
    configure(level="info", form="json")

    logging.getLogger("some.package").warning("%d apples", "no")
    get_logger("m").info("still_here")

    assert json.loads(written().splitlines()[-1])["event"] == "still_here"


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_less_important_events_are_left_out(written: Callable[[], str], level: str, expected: list[str]) -> None:
    """`level` is the least important level that is written."""
    configure(level=level, form="json")
    log = get_logger("m")

    for each in ("debug", "info", "warning", "error"):
        getattr(log, each)("said", importance=each)

    assert [event["importance"] for event in events(written())] == expected


def test_the_last_call_counts(written: Callable[[], str]) -> None:
    """A command that configures twice writes everything once, in the second form."""
    configure(level="error", form="text")
    configure(level="info", form="json")

    logging.getLogger("some.package").warning("once")
    get_logger("m").info("once")

    assert len(events(written())) == 2
