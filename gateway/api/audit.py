"""One `audit` event in the log for each act that changes state or tried to: who, what, on what, with which outcome.

Names of changed fields are in it, values never: they may be secrets.
"""

from collections.abc import Sequence

from gateway.access.principal import ANONYMOUS, Principal
from gateway.edge.call import Visit
from gateway.logs import get_logger

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
        object=concerns,
        outcome=outcome,
        account=principal.name,
        account_id=None if principal.account is None else principal.account.id,
        credential_id=principal.credential_id,
        ip=visit.client,
        user_agent=visit.user_agent,
        request_id=visit.request_id,
        fields=list(fields),
    )
