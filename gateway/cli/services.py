"""For commands that need the bytes too: all services of a worker, opened beside a running server."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import click

from gateway.app import Services, open_services
from gateway.cli.session import open_session, perform
from gateway.config import Settings

T = TypeVar("T")


def run_services(settings: Settings, work: Callable[[Services], Awaitable[T]]) -> T:
    """As `session.run`, with everything that a worker has."""

    async def opened() -> T:
        async with open_session(settings):
            pass  # it exists, is ours, and has this version's schema: `open_services` would make and migrate it
        async with open_services(settings, hot=False) as services:
            return await work(services)

    try:
        return perform(opened)
    except ValueError as error:  # the secret key cannot be used; the message says what to do
        raise click.ClickException(str(error)) from error
