"""Liveness and readiness, for load balancers and orchestrators: no credentials, no details of what failed."""

from typing import Literal

from gateway.api.fields import View
from gateway.api.services import Ask, Reply


class CheckView(View):
    """The state of one part."""

    status: Literal["ok", "failed"]


class HealthView(View):
    """The state of this worker; `checks` is empty where only liveness was asked."""

    status: Literal["ok", "failed"]
    checks: dict[str, CheckView]


async def live(ask: Ask) -> Reply:  # noqa: ARG001  # all handlers have one shape
    """200 as long as the process answers at all."""
    return Reply(HealthView(status="ok", checks={}))


async def ready(ask: Ask) -> Reply:
    """200 if the database and every storage can be used, else 503."""
    seen = await ask.api.checks.look(ask.api.database, ask.api.content)
    checks = {part: CheckView(status="ok" if passes else "failed") for part, passes in seen.items()}
    well = all(seen.values())
    return Reply(HealthView(status="ok" if well else "failed", checks=checks), status=200 if well else 503)
