"""Logging: one event per decision, a constant event name and fields. Text for people, JSON for collectors.

`structlog` in its synchronous form, written to standard error. Values that are secrets have a type that prints as
stars; nothing here looks for them in strings.
"""

import logging
import sys
from typing import Any, Literal

import structlog

Logger = structlog.typing.FilteringBoundLogger


def get_logger(name: str) -> Logger:
    """A logger whose events carry the name of the module they come from."""
    logger: Logger = structlog.get_logger(module=name)
    return logger


def configure(*, level: str, form: Literal["text", "json"]) -> None:
    """Set the whole process up; called once by the command line, before anything is logged."""
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if form == "json":
        processors += [_dict_tracebacks(), structlog.processors.JSONRenderer()]
    else:
        plain = structlog.dev.plain_traceback  # the default prints local variables: credentials among them (row T16)
        processors += [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    # Libraries use the standard logging; their warnings belong in the same place.
    logging.basicConfig(stream=sys.stderr, level=max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))


def _dict_tracebacks() -> structlog.processors.ExceptionRenderer:
    """Tracebacks as JSON without local variables, which hold credentials (row T16)."""
    return structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
