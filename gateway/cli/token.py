"""`sluice token`: personal access tokens of users."""

from typing import Unpack

import click

from gateway.access.account_names import USER
from gateway.access.secrets import SecretKind
from gateway.cli.help import Group
from gateway.cli.options import json_option, with_settings
from gateway.cli.secrets import Narrowing, narrowing_options, print_secrets, show, wanted
from gateway.cli.session import Session, run
from gateway.config import Settings


@click.group("token", cls=Group)
def command() -> None:
    """Personal access tokens of users, to be used in place of the password.

    Examples:
      sluice token create ada --label laptop > token.txt
      docker login registry.example -u ada --password-stdin < token.txt
      sluice token list ada
    """


@command.command()
@click.argument("user")
@narrowing_options
@with_settings
def create(user: str, *, settings: Settings, **given: Unpack[Narrowing]) -> None:
    """Make a token of a user and print it.

    Examples:
      sluice token create ada --label laptop > token.txt
      sluice token create ada --action pull --repo team-a/images --days 7
    """

    async def work(session: Session) -> None:
        account = await session.account(user, USER)
        want = await wanted(session, given)
        minted = await session.accounts.create_personal_token(
            account.id, label=want.label, limits=want.limits, lifetime_s=want.lifetime_s
        )
        show(minted, f"the token of {account.name}")

    run(settings, work)


@command.command("list")
@click.argument("user")
@json_option
@with_settings
def list_all(user: str, *, as_json: bool, settings: Settings) -> None:
    """List the tokens of a user, without their secrets.

    Examples:
      sluice token list ada
      sluice token list ada --json
    """

    async def work(session: Session) -> None:
        account = await session.account(user, USER)
        await print_secrets(session, account.id, SecretKind.PERSONAL, as_json=as_json)

    run(settings, work)


@command.command()
@click.argument("user")
@click.argument("token_id", metavar="ID", type=click.IntRange(min=1))
@with_settings
def revoke(user: str, token_id: int, *, settings: Settings) -> None:
    """End a token, and what was made through it, at once.

    Examples:
      sluice token list ada                         # shows the ids
      sluice token revoke ada 17
    """

    async def work(session: Session) -> None:
        account = await session.account(user, USER)
        await session.accounts.revoke(account.id, token_id)
        click.echo(f"ended token {token_id} of {account.name}")

    run(settings, work)
