"""What a repository has beside its name: an upstream with credentials, members, addresses. Made and changed here.

For the management API and for commands, inside their transaction. What a single value may be was checked where it came
in; here is what fits together, who has to allow it, and what becomes of credentials:

- They are written sealed, and nothing here gives them back.
- They stay with the addresses that they were given for. Once an upstream has an origin (scheme, host, port) that it
  did not have before, they go, unless they come anew with it: whoever may change an address must not thereby learn a
  password that others entered.
- The settings have a mark of them as they are sealed, by which nobody learns anything. What processes remember of an
  upstream goes by the settings (`pulling.Pulling.key`), so that a "not found" that was told to others ends at once.
- An upstream that may dial private addresses keeps its own addresses, unless somebody agrees who may allow that.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from gateway.repositories.virtual_settings import VIRTUAL, VirtualSettings
from gateway.upstream.settings import UPSTREAM, UpstreamSettings, upstream_of
from storage import AddressKind, RepositoryRecord, Transaction
from storage.metadata import addresses, members, repositories, upstreams
from storage.metadata.members import NewMember

if TYPE_CHECKING:  # what asks upstreams takes an eighth of a second to load, which commands on rows need not wait for
    from gateway.upstream.http import Credential

HOSTED: Final = "hosted"
PROXY: Final = "proxy"

Seal: TypeAlias = "Callable[[Credential, int, int], bytes]"
"""Seals a credential for the repository of that id and its place there."""
Admit: TypeAlias = Callable[[str], None]
"""Raises unless the caller may decide about that field, which reaches beyond the repository."""
FindMember: TypeAlias = Callable[[Transaction, str], RepositoryRecord | None]
"""The repository `project/name`, if the caller may know of it."""


class WrongSetting(Exception):
    """A value does not go with others, or with what the repository is; `field` names it, `reason` says what to do."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Member:
    """A member as it is asked for, by its full name."""

    repository: str
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    is_default: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Furnishing:
    """What is to change; None, and kinds that are not there, stay.

    `upstream`: new values of fields of `UpstreamSettings`. `ends_upstream`: a hosted repository has none from now on.
    """

    upstream: Mapping[str, Any] | None = None
    ends_upstream: bool = False
    credentials: "Sequence[Credential] | None" = None
    members: Sequence[Member] | None = None
    on_member_failure: Literal["stop", "skip"] | None = None
    addresses: Mapping[AddressKind, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hands:
    """What furnishing needs of whoever asks for it."""

    seal: Seal
    admit: Admit
    find_member: FindMember


_MARK: Final = "credentials"
"""The key of the credentials' mark within a repository's settings."""
_ADDRESS_FIELDS: Final = {
    AddressKind.HOST: "host_names",
    AddressKind.CATCH_ALL: "catch_all_hosts",
    AddressKind.NAMESPACE: "namespaces",
}


def furnish(
    tx: Transaction, record: RepositoryRecord, wanted: Furnishing, *, hands: Hands, now: int
) -> RepositoryRecord:
    """Change the repository, whose row is as this transaction sees it; gives its new row.

    Raises `WrongSetting`, whatever `hands.admit` raises, and `Conflict` for addresses that others have and for members
    that would go in circles.
    """
    _require_fitting(record, wanted)
    settings = _Settings(record)
    if wanted.ends_upstream:
        settings.put(UPSTREAM, None)
        settings.put(_MARK, None)
        upstreams.put_credentials(tx, record.id, [])
    elif wanted.upstream is not None or wanted.credentials is not None or record.repository_type == PROXY:
        settings.put(UPSTREAM, _put_upstream(tx, record, wanted, hands))
        settings.put(_MARK, _mark(upstreams.credentials(tx, record.id)))
    if wanted.on_member_failure is not None:
        settings.put(VIRTUAL, VirtualSettings(wanted.on_member_failure).to_json())
    if wanted.members is not None:
        _put_members(tx, record, wanted.members, hands)
    for kind, names in wanted.addresses.items():
        _put_addresses(tx, record, kind, names, hands.admit)
    return settings.written(tx, now)


def _require_fitting(record: RepositoryRecord, wanted: Furnishing) -> None:
    kind = record.repository_type
    if kind == VIRTUAL and (wanted.upstream is not None or wanted.credentials is not None):
        raise WrongSetting("remote_url", "is for proxies; a virtual repository has members")
    if kind == PROXY and wanted.ends_upstream:
        raise WrongSetting("remote_url", "is what a proxy is for: name another one, or delete the repository")
    if kind != VIRTUAL and wanted.members is not None:
        raise WrongSetting("members", "is for virtual repositories")
    if kind != VIRTUAL and wanted.on_member_failure is not None:
        raise WrongSetting("on_member_failure", "is for virtual repositories")


class _Settings:
    """The row's settings on their way to others; what is not known here is left as it is."""

    def __init__(self, record: RepositoryRecord) -> None:
        self._record = record
        self._document: dict[str, Any] = json.loads(record.settings)
        self._is_changed = False

    def put(self, key: str, value: Mapping[str, Any] | str | None) -> None:
        """Set one part; None takes it away."""
        before = self._document.get(key)
        self._is_changed = self._is_changed or before != value
        if value is None:
            self._document.pop(key, None)
        else:
            self._document[key] = value

    def written(self, tx: Transaction, now: int) -> RepositoryRecord:
        """Write them, if they changed; the row as it is then."""
        if not self._is_changed:
            return self._record
        text = json.dumps(self._document, separators=(",", ":"), sort_keys=True)
        after = repositories.update(tx, self._record.id, now=now, settings=text)
        return self._record if after is None else after


# --- upstreams -------------------------------------------------------------------------------------------------------


def _put_upstream(tx: Transaction, record: RepositoryRecord, wanted: Furnishing, hands: Hands) -> Mapping[str, Any]:
    within = "" if record.repository_type == PROXY else "fallback."
    before, changes = upstream_of(record.settings), wanted.upstream or {}
    if before is None and not changes.get("urls"):
        raise WrongSetting(f"{within}remote_url", "is required: the address of the registry to fetch from")
    after = UpstreamSettings(**changes) if before is None else replace(before, **changes)
    if not after.urls:
        raise WrongSetting(f"{within}remote_url", "cannot be empty")
    for name in _reaching(before, after):
        hands.admit(f"{within}{name}")
    _put_credentials(tx, record.id, wanted.credentials, hands.seal, keep=_origins(after) <= _origins(before))
    document: Mapping[str, Any] = json.loads(after.to_json())
    return document


def _reaching(before: UpstreamSettings | None, after: UpstreamSettings) -> list[str]:
    """The fields whose change reaches beyond the repository: what may be dialled, and who may hear secrets."""
    old_urls = frozenset(before.urls if before else ())
    new_urls = [url for url in after.urls if url not in old_urls]
    found = []
    if any(url.startswith("http:") for url in new_urls):
        found.append("remote_url")
    if not set(after.private_networks) <= set(before.private_networks if before else ()):
        found.append("private_networks")
    elif after.private_networks and new_urls:
        found.append("remote_url")
    if not set(after.token_hosts) <= set(before.token_hosts if before else ()):
        found.append("token_hosts")
    return found


def _put_credentials(
    tx: Transaction, repository_id: int, given: "Sequence[Credential] | None", seal: Seal, *, keep: bool
) -> None:
    if given is not None:
        sealed = [seal(credential, repository_id, place) for place, credential in enumerate(given)]
        upstreams.put_credentials(tx, repository_id, sealed)
    elif not keep:
        upstreams.put_credentials(tx, repository_id, [])


def _mark(sealed: Sequence[bytes]) -> str | None:
    """Another one for other credentials, in another order too; None for none."""
    each = (hashlib.blake2b(one, digest_size=8).digest() for one in sealed)
    return hashlib.blake2b(b"".join(each), digest_size=8).hexdigest() if sealed else None


def _origins(settings: UpstreamSettings | None) -> frozenset[tuple[str, str]]:
    parts = [urlsplit(url) for url in (settings.urls if settings else ())]
    return frozenset((each.scheme, each.netloc) for each in parts)


# --- members and addresses -------------------------------------------------------------------------------------------


def _put_members(tx: Transaction, record: RepositoryRecord, wanted: Sequence[Member], hands: Hands) -> None:
    found: list[NewMember] = []
    inside = {each.repository.full_name: each.repository for each in members.of(tx, record.id)}
    for number, each in enumerate(wanted):
        member = inside.get(each.repository) or hands.find_member(tx, each.repository)
        if member is None:
            raise WrongSetting(f"members.{number}.repository", "there is no such repository, or none that you may see")
        if each.is_default and member.repository_type != HOSTED:
            raise WrongSetting(f"members.{number}.default", "pushes go to hosted repositories only")
        if any(member.id == other.member_id for other in found):
            raise WrongSetting(f"members.{number}.repository", "is a member already")
        found.append(NewMember(member.id, each.include, each.exclude, each.is_default))
    if sum(each.is_default for each in wanted) > 1:
        raise WrongSetting("members", "pushes can go to one member only: name one as default")
    members.put(tx, record.id, found)


def _put_addresses(
    tx: Transaction, record: RepositoryRecord, kind: AddressKind, names: Sequence[str], admit: Admit
) -> None:
    if set(names) != set(addresses.names_of(tx, record.id)[kind]):
        admit(_ADDRESS_FIELDS[kind])
        addresses.put(tx, record.id, kind, names)
