"""One `audit` event in the log for each act that changes state or tried to: who, what, on what, with which outcome.

Names of changed fields are in it, values never: they may be secrets.
"""

from collections.abc import Sequence
from typing import Final

from gateway.access.principal import ANONYMOUS, Principal
from gateway.edge.call import Visit
from gateway.logs import get_logger

_MAX_CHARS: Final = 300
_log = get_logger(__name__)


def record(
    visit: Visit,
    *,
    act: str,
    concerns: str,
    outcome: str,
    principal: Principal = ANONYMOUS,
    fields: Sequence[str] = (),
) -> None:
    """Write the event. `outcome` is `ok` or the code of the refusal; `concerns` names the object."""
    _log.info(
        "audit",
        act=act,
        object=_on_one_line(concerns),
        outcome=outcome,
        account=principal.name,
        account_id=None if principal.account is None else principal.account.id,
        credential_id=principal.credential_id,
        ip=visit.client,
        user_agent=_on_one_line(visit.user_agent),
        request_id=visit.request_id,
        fields=list(fields),
    )


def _on_one_line(text: str) -> str:
    """What a stranger sent, unable to forge a line of the log or to speak to a terminal."""
    return "".join(each if each.isprintable() else "?" for each in text[:_MAX_CHARS])
