"""Personal tokens of the caller. Admins may end, and auditors may list, those of others; nobody sees a secret again."""

from typing import Annotated

from pydantic import Field

from gateway.access.accounts import MintedSecret
from gateway.access.principal import Principal
from gateway.access.rights import is_admin, is_auditor
from gateway.access.secrets import SecretKind
from gateway.api.errors import denied, invalid, not_found
from gateway.api.listing import Page, shown
from gateway.api.secret_views import NewSecret, SecretCreate, SecretList, SecretView, limits_of
from gateway.api.services import Ask, Reply
from storage import AccountRecord, CredentialRecord, Transaction
from storage.metadata import accounts, credentials

MAX_ID = 2**63 - 1


class TokenPage(Page):
    """Which tokens to list."""

    account: Annotated[str, Field(max_length=100)] | None = Field(
        None, description="Another user's name, for auditors and admins; without it, the caller's own."
    )


async def list_all(ask: Ask) -> Reply:
    """Oldest first, expired ones too."""
    page = ask.parameters(TokenPage)
    if page.account is not None and not is_auditor(ask.principal):
        raise denied("other people's tokens are for auditors and admins", "account")
    after = secret_cursor(page.after)

    def look(tx: Transaction) -> SecretList:
        account = ask.subject.account if page.account is None else accounts.find(tx, page.account)
        if account is None:
            raise not_found()
        return secrets_of(tx, account, SecretKind.PERSONAL, after=after, limit=page.limit)

    return Reply(await ask.api.database.survey(look))


async def create(ask: Ask) -> Reply:
    """A new token of the caller; its secret is in this answer and never shown again."""
    body, account = ask.given(SecretCreate), ask.subject.account
    limits = await ask.api.database.read(limits_of, ask.principal, body)
    minted = await ask.api.accounts.create_personal_token(
        account.id,
        label=body.label,
        limits=limits,
        lifetime_s=body.lifetime_s,
        parent_id=ask.principal.credential_id,
    )
    return await new_secret(ask, minted, concerns=f"{account.name}:{minted.credential.id}")


async def delete(ask: Ask) -> Reply:
    """End a token and what was made through it; at once, everywhere."""
    number = secret_id(ask.path["token"])
    credential = await ask.api.database.read(_find, ask.principal, number)
    if credential is None:
        raise not_found()
    await ask.api.accounts.revoke(credential.account_id, number)
    return Reply(concerns=str(number))


def _find(tx: Transaction, principal: Principal, number: int) -> CredentialRecord | None:
    """A personal token that the caller may end."""
    credential = credentials.get(tx, number)
    if credential is None or credential.kind != SecretKind.PERSONAL:
        return None
    is_own = principal.account is not None and credential.account_id == principal.account.id
    return credential if is_own or is_admin(principal) else None


# --- for robots' keys too -------------------------------------------------------------------------------------------


def secrets_of(tx: Transaction, account: AccountRecord, kind: SecretKind, *, after: int, limit: int) -> SecretList:
    """A page of the account's secrets of one kind."""
    found = credentials.of_account(tx, account.id, kind, after=after, limit=limit + 1)
    items, following = shown(found, limit, lambda record: str(record.id))
    return SecretList(items=[SecretView.of(tx, each) for each in items], next=following)


async def new_secret(ask: Ask, minted: MintedSecret, *, concerns: str) -> Reply:
    """The one answer that holds a secret."""
    return Reply(await ask.api.database.read(NewSecret.made, minted), concerns=concerns)


def secret_cursor(text: str) -> int:
    """The cursor of a list of secrets; `Refused` for what is none."""
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()) or int(text) > MAX_ID:
        raise invalid("after", "is not the `next` of a page")
    return int(text)


def secret_id(text: str) -> int:
    """The id in a path; what is no number is the id of nothing."""
    if not (text.isascii() and text.isdigit()) or int(text) > MAX_ID:
        raise not_found()
    return int(text)
