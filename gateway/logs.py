"""Logging: one event per decision, a constant event name and fields. Text for people, JSON for collectors.

`structlog` in its synchronous form, written to standard error. Values that are secrets have a type that prints as
stars; nothing here looks for them in strings. Whatever bytes a value holds, it cannot begin a line or colour the
terminal (security row C14): in JSON every event is one line, in text only tracebacks take more, and these are indented.
"""

import logging
import sys
import traceback
from typing import Any, Final, Literal, TextIO

import structlog

Logger = structlog.typing.FilteringBoundLogger

_INDENT: Final = "    "


def get_logger(name: str) -> Logger:
    """A logger whose events carry the name of the module they come from."""
    logger: Logger = structlog.get_logger(module=name)
    return logger


def configure(*, level: str, form: Literal["text", "json"]) -> None:
    """Set the whole process up; called by the command line before anything is logged. A second call replaces the first.

    `level` is a name of the standard library's, in any case.
    """
    least = logging.getLevelNamesMapping()[level.upper()]
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if form == "json":
        processors += [_dict_tracebacks(), structlog.processors.JSONRenderer()]
    else:
        processors += [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), repr_native_str=True, exception_formatter=_write_traceback
            )
        ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    # Libraries use the standard logging; what they warn of becomes an event like ours.
    logging.basicConfig(handlers=[_Relay()], level=max(logging.WARNING, least), force=True)


class _Relay(logging.Handler):
    """Makes an event of what a library logs."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log it; a record that cannot be formatted is reported as the standard library does."""
        try:
            get_logger(record.name).log(
                record.levelno, "library_message", text=record.getMessage(), exc_info=record.exc_info
            )
        except Exception:  # noqa: BLE001  # logging must not end what it reports on
            self.handleError(record)


def _dict_tracebacks() -> structlog.processors.ExceptionRenderer:
    """Tracebacks as JSON without local variables, which hold credentials (row T16)."""
    return structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))


def _write_traceback(stream: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    """A traceback as text, without local variables; no line of it looks like an event, whatever the error says."""
    lines = "".join(traceback.format_exception(*exc_info)).splitlines()
    stream.writelines(f"\n{_INDENT}{_printable(line)}" for line in lines)


def _printable(line: str) -> str:
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in line)
