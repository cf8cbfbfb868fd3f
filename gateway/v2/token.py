"""The token endpoint: GET with Basic credentials (rows TOK), POST with a form (rows OAU).

Partial or empty grants are still 200; wrong credentials are 401; it never answers 429, which is fatal to nearly every
client (row TOK-22).
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import parse_qs

from quart import Response
from quart.wrappers import Request

from gateway.access.errors import BadCredentials, InvalidToken
from gateway.access.exchange import TokenAnswer
from gateway.access.principal import Principal
from gateway.edge.call import Visit
from gateway.edge.streams import read_whole
from gateway.oci.errors import Code, RegistryError
from gateway.oci.media_types import parse_content_type
from gateway.oci.scopes import format_scope, parse_scopes
from gateway.v2.answers import document
from gateway.v2.services import V2

_NO_STORE: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}
# A form with a password of 1 KiB, a token and 64 scopes stays below this.
_FORM_BYTES: Final = 32 * 1024
_FORM_FIELDS: Final = 100
_FORM_TYPE: Final = "application/x-www-form-urlencoded"


async def answer(v2: V2, visit: Visit, request: Request) -> Response:
    """A token for whoever this is, with the rights they hold on what they name."""
    if request.method == "POST":
        return await _post(v2, visit, request)
    principal = await _caller(v2, visit)
    offline = request.args.get("offline_token", "").lower() in {"true", "1"}
    granted = await _grant(v2, visit, principal, request.args.getlist("scope"), offline=offline)
    return document(_reply(granted), _NO_STORE)


async def _post(v2: V2, visit: Visit, request: Request) -> Response:
    if parse_content_type(request.headers.get("Content-Type")) != _FORM_TYPE:
        raise RegistryError(Code.UNSUPPORTED, f"send the form as {_FORM_TYPE}", status=400)
    form = _form(await read_whole(request, limit_bytes=_FORM_BYTES, idle_s=v2.body_idle_s))
    fields = {name: values[-1] for name, values in form.items()}
    match fields.get("grant_type"):
        case "password":
            principal = await _password(v2, visit, fields)
        case "refresh_token":
            principal = await _refresh(v2, fields)
        case _:
            return document({"error": "unsupported_grant_type"}, _NO_STORE, status=400)
    offline = fields.get("access_type") == "offline"
    granted = await _grant(v2, visit, principal, form.get("scope", []), offline=offline)
    reply = _reply(granted)
    reply["scope"] = " ".join(format_scope(scope) for scope in granted.granted)
    if fields["grant_type"] == "refresh_token":  # docker keeps using the one it sent (row OAU-03)
        reply.setdefault("refresh_token", fields["refresh_token"])
    return document(reply, _NO_STORE)


def _form(body: bytes) -> Mapping[str, list[str]]:
    try:
        return parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=_FORM_FIELDS)
    except ValueError:
        raise RegistryError(
            Code.UNSUPPORTED, f"the form has more than {_FORM_FIELDS} fields", status=400
        ) from None  # the body may hold a password


async def _grant(v2: V2, visit: Visit, principal: Principal, scopes: Sequence[str], *, offline: bool) -> TokenAnswer:
    try:
        return await v2.tokens.grant(principal, parse_scopes(scopes), offline=offline, door=visit.door)
    except InvalidToken:  # came by a registry token, or by a secret that was revoked a moment ago
        raise _refusal(v2) from None


async def _caller(v2: V2, visit: Visit) -> Principal:
    try:
        return await v2.guard.identify(visit)
    except RegistryError as error:
        if error.code is Code.UNAUTHORIZED:
            raise _refusal(v2) from None
        raise


async def _password(v2: V2, visit: Visit, fields: Mapping[str, str]) -> Principal:
    user, password = fields.get("username", ""), fields.get("password", "")
    if not user and not password:
        return await _caller(v2, visit)
    try:
        return await v2.guard.by_password(user, password)
    except BadCredentials:
        raise _refusal(v2) from None


async def _refresh(v2: V2, fields: Mapping[str, str]) -> Principal:
    try:
        return await v2.tokens.refresh(fields.get("refresh_token", ""), service=fields.get("service", ""))
    except (BadCredentials, InvalidToken):
        raise _refusal(v2) from None


def _refusal(v2: V2) -> RegistryError:
    header = f'Basic realm="{v2.service}"'
    return RegistryError(Code.UNAUTHORIZED, "incorrect user name or password", headers={"WWW-Authenticate": header})


def _reply(granted: TokenAnswer) -> dict[str, object]:
    issued = dt.datetime.fromtimestamp(granted.issued_at, dt.UTC)
    reply: dict[str, object] = {
        "token": granted.token,
        "access_token": granted.token,
        "expires_in": granted.expires_in_s,
        "issued_at": issued.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if granted.refresh_token is not None:
        reply["refresh_token"] = granted.refresh_token
    return reply
