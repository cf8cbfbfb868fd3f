"""Options of `sluice repo` for what a repository has beside its name: an upstream, members, addresses.

An option that can be repeated replaces what was there; with an empty value it takes everything away.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal, TypedDict, TypeVar

import click

from gateway.access.sealing import Sealer
from gateway.access.secret_key import secret_key
from gateway.access.upstream_credentials import UpstreamCredentials
from gateway.cli.options import Named
from gateway.cli.passwords import ask_password
from gateway.config import Settings
from gateway.policy import naming, upstreams
from gateway.repositories.furnishing import PROXY, Furnishing, Hands, Member, WrongSetting
from gateway.repositories.virtual_settings import VIRTUAL
from gateway.upstream.http import Credential
from gateway.upstream.settings import KeepByAge, TtlRule, UpstreamSettings
from storage import AddressKind, RepositoryRecord, Transaction
from storage.metadata import repositories

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

VARIABLE: Final = "SLUICE_UPSTREAM_PASSWORD"
_NO_FILE: Final = Path()
"""What an empty value becomes."""


class FurnishingWishes(TypedDict):
    """What `furnishing_options` collect; None and () where nothing was said."""

    remote_url: tuple[str, ...]
    cache_ttl: int | None
    ttl_rule: tuple[TtlRule | None, ...]
    negative_ttl: int | None
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    platform: tuple[str, ...]
    ca: Path | None
    private_network: tuple[str, ...]
    login_host: tuple[str, ...]
    offline: bool | None
    budget_reserve: int | None
    when_deleted: Literal["keep", "drop"] | None
    when_denied: Literal["unknown", "failure"] | None
    connect_timeout: float | None
    idle_timeout: float | None
    max_bytes: int | None
    max_age_days: int | None
    pulled_in_days: int | None
    username: str | None
    password_stdin: bool
    no_credentials: bool
    member: tuple[Member | None, ...]
    push_to: str | None
    on_member_failure: Literal["stop", "skip"] | None
    host_name: tuple[str, ...]
    catch_all_host: tuple[str, ...]
    namespace: tuple[str, ...]


class _OrNothing(Named):
    """As `Named`, but an empty value stands for none at all."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return "" if value == "" else super().convert(value, param, ctx)


class _Rule(click.ParamType[TtlRule | None]):
    name = "GLOB=SECONDS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> TtlRule | None:
        if value == "" or isinstance(value, TtlRule):
            return value or None
        glob, _, seconds = str(value).rpartition("=")
        try:
            tags, ttl_s = naming.tag_glob(glob), int(seconds)
        except ValueError:
            self.fail(f"{value!r}: use GLOB=SECONDS, such as 'sha-*=604800'", param, ctx)
        if not 0 <= ttl_s <= upstreams.MAX_TTL_S:
            self.fail(f"{value!r}: use 0 to {upstreams.MAX_TTL_S} seconds", param, ctx)
        return TtlRule(tags, ttl_s)


class _Member(click.ParamType[Member | None]):
    name = "PROJECT/REPOSITORY[=PATTERN,!PATTERN...]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Member | None:
        if value == "" or isinstance(value, Member):
            return value or None
        full_name, _, patterns = str(value).partition("=")
        try:
            naming.full_name(full_name)
            given = [each for each in patterns.split(",") if each]
            include = tuple(upstreams.image_pattern(each) for each in given if not each.startswith("!"))
            exclude = tuple(upstreams.image_pattern(each[1:]) for each in given if each.startswith("!"))
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)
        return Member(full_name, include, exclude)


_SECONDS: Final = click.IntRange(0, upstreams.MAX_TTL_S)
_DAYS: Final = click.IntRange(1, 36500)
_DAYS_OR_NONE: Final = click.IntRange(0, 36500)
_PATIENCE: Final = click.FloatRange(0.1, 600)
_PATTERN: Final = _OrNothing("PATTERN", upstreams.image_pattern)
_ADDRESS: Final = _OrNothing("HOST[:PORT]", upstreams.address)

_OPTIONS: Final = (
    click.option(
        "--remote-url",
        type=Named("URL", upstreams.remote_url),
        multiple=True,
        help="The registry to fetch from: docker.io, https://ghcr.io, ...; repeatable for several addresses of one.",
    ),
    click.option("--cache-ttl", type=_SECONDS, help="Seconds that a tag is believed without asking again."),
    click.option("--ttl-rule", type=_Rule(), multiple=True, help="Other times for some tags; the first that fits."),
    click.option("--negative-ttl", type=_SECONDS, help="Seconds that `not found` is believed."),
    click.option("--include", type=_PATTERN, multiple=True, help="Only images that fit, as the upstream names them."),
    click.option("--exclude", type=_PATTERN, multiple=True, help="No images that fit."),
    click.option(
        "--platform",
        type=_OrNothing("OS/ARCH", upstreams.platform),
        multiple=True,
        help="Fetched ahead when an index is pulled.",
    ),
    click.option(
        "--ca",
        type=click.Path(path_type=Path, dir_okay=False),
        help="File with the authorities (PEM) of the upstream's certificate, besides the system's; '': none.",
    ),
    click.option(
        "--private-network",
        type=_OrNothing("NETWORK", upstreams.network),
        multiple=True,
        help="Loopback or private addresses that may be dialled all the same.",
    ),
    click.option("--login-host", type=_ADDRESS, multiple=True, help="Another host that may be sent the credentials."),
    click.option("--offline/--online", default=None, help="Serve what is cached and never ask."),
    click.option("--budget-reserve", type=click.IntRange(0), help="Pulls to keep in reserve: stale copies before."),
    click.option("--when-deleted", type=click.Choice(["keep", "drop"]), help="Tags that the upstream has no more."),
    click.option(
        "--when-denied",
        type=click.Choice(["unknown", "failure"]),
        help="What 401 and 403 mean for tags that were never pulled; failure: no other member of a view stands in.",
    ),
    click.option("--connect-timeout", type=_PATIENCE, help="Seconds in which a connection must be made; default 5."),
    click.option("--idle-timeout", type=_PATIENCE, help="Seconds without a byte until it is given up; default 30."),
    click.option(
        "--max-bytes", type=click.IntRange(0), metavar="BYTES", help="How large the cache may grow; 0: no bound."
    ),
    click.option(
        "--max-age-days",
        type=_DAYS_OR_NONE,
        help="What came before goes from the cache (0: nothing for its age),",
    ),
    click.option("--pulled-in-days", type=_DAYS, help="but not what was pulled in the last so many days."),
    click.option("--username", metavar="NAME", help=f"Log in there; the password comes from {VARIABLE} or a prompt,"),
    click.option("--password-stdin", is_flag=True, help="or from standard input."),
    click.option("--no-credentials", is_flag=True, help="Log in there no more."),
    click.option("--member", type=_Member(), multiple=True, help="Of a virtual repository, in order; repeatable."),
    click.option("--push-to", type=Named("PROJECT/REPOSITORY", naming.full_name), help="The member that pushes go to."),
    click.option("--on-member-failure", type=click.Choice(["stop", "skip"]), help="Whether to search on past it."),
    click.option("--host-name", type=_ADDRESS, multiple=True, help="A host that serves this repository alone."),
    click.option(
        "--catch-all-host", type=_ADDRESS, multiple=True, help="A host where names that lead nowhere else lead here."
    ),
    click.option("--namespace", type=_ADDRESS, multiple=True, help="A registry that this one mirrors (`?ns=`)."),
)


def furnishing_options(command: FunctionT) -> FunctionT:
    """Give a command all of them."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def furnishing_of(given: FurnishingWishes, repository_type: str) -> Furnishing:
    """What they ask for, of a repository of that type; reads the password. `UsageError` for what does not go together.

    With a virtual repository `--include` and the like make no sense; what does not fit is refused when it is written.
    """
    changes = _changes(given)
    credentials = _credentials(given)
    addresses = {
        AddressKind.HOST: given["host_name"],
        AddressKind.CATCH_ALL: given["catch_all_host"],
        AddressKind.NAMESPACE: given["namespace"],
    }
    return Furnishing(
        upstream=changes if changes or (credentials and repository_type != VIRTUAL) else None,
        credentials=credentials,
        members=_members(given),
        on_member_failure=given["on_member_failure"],
        addresses={kind: _named(names) for kind, names in addresses.items() if names},
    )


def is_wanted(furnishing: Furnishing) -> bool:
    """Whether it would change anything."""
    return furnishing != Furnishing()


def what(furnishing: Furnishing) -> list[str]:
    """What it changes, in words."""
    named = {
        "upstream": furnishing.upstream is not None or furnishing.ends_upstream,
        "credentials": furnishing.credentials is not None,
        "members": furnishing.members is not None,
        "on_member_failure": furnishing.on_member_failure is not None,
        **{f"addresses ({kind})": True for kind in furnishing.addresses},
    }
    return [name for name, is_changed in named.items() if is_changed]


def in_options(wrong: WrongSetting, furnishing: Furnishing) -> str:
    """What is wrong, with the option in place of the management API's field."""
    field, _, rest = wrong.field.removeprefix("fallback.").partition(".")
    number, _, part = rest.partition(".")
    if field != "members":
        option = f"--{field.replace('_', '-')}"
    elif number and furnishing.members:
        option = f"--{'push-to' if part == 'default' else 'member'} {furnishing.members[int(number)].repository}"
    else:
        option = "--member"
    return f"{option}: {wrong.reason}"


def require_upstream_of_proxy(furnishing: Furnishing, repository_type: str) -> None:
    """`UsageError` for a new proxy of nothing."""
    if repository_type == PROXY and not (furnishing.upstream or {}).get("urls"):
        raise click.UsageError("a proxy needs --remote-url, such as --remote-url docker.io")


def command_hands(settings: Settings) -> Hands:
    """With these a command furnishes: whoever can read the data directory may do everything. Reads the secret key."""
    credentials = UpstreamCredentials(Sealer(secret_key(settings)))
    return Hands(credentials.seal, lambda _field: None, _find)


def _find(tx: Transaction, full_name: str) -> RepositoryRecord | None:
    project, _, name = full_name.partition("/")
    return repositories.find(tx, project, name)


def _changes(given: FurnishingWishes) -> Mapping[str, Any]:
    changes: dict[str, Any] = {
        "urls": given["remote_url"] or None,
        "cache_ttl_s": given["cache_ttl"],
        "negative_ttl_s": given["negative_ttl"],
        "is_offline": given["offline"],
        "budget_reserve": given["budget_reserve"],
        "when_deleted": given["when_deleted"],
        "when_denied": given["when_denied"],
        "connect_s": given["connect_timeout"],
        "idle_s": given["idle_timeout"],
        "max_bytes": given["max_bytes"],
        "ca_pem": _authorities(given["ca"]) if given["ca"] not in {None, _NO_FILE} else None,
        "keep_by_age": _kept(given),
        "include": _named(given["include"]) if given["include"] else None,
        "exclude": _named(given["exclude"]) if given["exclude"] else None,
        "platforms": _named(given["platform"]) if given["platform"] else None,
        "private_networks": _named(given["private_network"]) if given["private_network"] else None,
        "token_hosts": _named(given["login_host"]) if given["login_host"] else None,
        "ttl_rules": tuple(each for each in given["ttl_rule"] if each) if given["ttl_rule"] else None,
    }
    named = {name: value for name, value in changes.items() if value is not None}
    ends = {
        "max_bytes": given["max_bytes"] == 0,
        "keep_by_age": given["max_age_days"] == 0,
        "ca_pem": given["ca"] == _NO_FILE,
    }
    return named | {name: None for name, is_ended in ends.items() if is_ended}


def _named(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in names if name))


def _authorities(file: Path) -> str:
    try:
        return upstreams.ca_pem(file.read_text(encoding="ascii", errors="replace"))
    except OSError as error:
        raise click.UsageError(f"--ca {file}: {error.strerror or error}") from error
    except ValueError as error:
        raise click.UsageError(f"--ca {file}: {error}") from error


def _kept(given: FurnishingWishes) -> KeepByAge | None:
    if given["max_age_days"]:
        return KeepByAge(given["max_age_days"], given["pulled_in_days"])
    if given["pulled_in_days"] is not None:
        raise click.UsageError("--pulled-in-days goes with --max-age-days")
    return None


def _credentials(given: FurnishingWishes) -> tuple[Credential, ...] | None:
    if given["username"] is None:
        if given["password_stdin"]:
            raise click.UsageError("--password-stdin goes with --username")
        return () if given["no_credentials"] else None
    if given["no_credentials"]:
        raise click.UsageError("--username and --no-credentials contradict each other")
    if ":" in given["username"] or not given["username"].isprintable():
        raise click.UsageError("--username: holds a character that cannot be sent")
    secret = ask_password(from_stdin=given["password_stdin"], variable=VARIABLE)
    return (Credential(given["username"], secret),)


def _members(given: FurnishingWishes) -> tuple[Member, ...] | None:
    named, push_to = tuple(each for each in given["member"] if each), given["push_to"]
    if not given["member"]:
        if push_to is not None:
            raise click.UsageError("--push-to goes with all of the --member options")
        return None
    if push_to is not None and all(each.repository != push_to for each in named):
        raise click.UsageError(f"--push-to {push_to} is no --member")
    return tuple(replace(each, is_default=each.repository == push_to) for each in named)


def upstream_row(settings: UpstreamSettings | None) -> Mapping[str, object]:
    """An upstream as `sluice repo show` prints it; without the authorities, which are long."""
    if settings is None:
        return {}
    kept = settings.keep_by_age
    return {
        "remote_urls": list(settings.urls),
        "cache_ttl": settings.cache_ttl_s,
        "ttl_rules": [f"{each.tags}={each.ttl_s}" for each in settings.ttl_rules],
        "negative_ttl": settings.negative_ttl_s,
        "include": list(settings.include),
        "exclude": list(settings.exclude),
        "platforms": list(settings.platforms),
        "has_ca": settings.ca_pem is not None,
        "private_networks": list(settings.private_networks),
        "token_hosts": list(settings.token_hosts),
        "offline": settings.is_offline,
        "budget_reserve": settings.budget_reserve,
        "when_deleted": settings.when_deleted,
        "when_denied": settings.when_denied,
        "connect_timeout": settings.connect_s,
        "idle_timeout": settings.idle_s,
        "max_bytes": settings.max_bytes,
        "max_age_days": kept and kept.max_age_days,
        "pulled_in_days": kept and kept.match_pulled_in_last_days,
    }
