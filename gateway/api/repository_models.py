"""Bodies and answers about repositories. Which fields go together, and who may change them, the handlers say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field

from gateway.api.fields import Body, Globs, Moment, Name, Prefix, RepositoryName, Text, View, moment
from gateway.api.listing import Page
from gateway.api.upstream_fields import (
    Addresses,
    KeepByAgeField,
    Patterns,
    TtlRuleField,
    UpstreamFields,
    UpstreamView,
)
from gateway.repositories.furnishing import PROXY
from gateway.repositories.virtual_settings import VIRTUAL, virtual_of
from gateway.upstream.settings import upstream_of
from storage import AddressKind, MemberRecord, RepositoryRecord
from storage.metadata.members import MOST_MEMBERS


class MemberField(Body):
    """A member of a virtual repository: which images it serves there, and whether pushes go to it."""

    repository: RepositoryName
    include: Patterns = Field(default_factory=list)
    exclude: Patterns = Field(default_factory=list)
    default: bool = False


class Furniture(UpstreamFields):
    """What both making and changing can say of what a repository is furnished with."""

    fallback: UpstreamFields | None = Field(
        None,
        description="For hosted repositories: what is missing is fetched from there on pull and kept as its own. "
        "Null ends it.",
    )
    members: Annotated[list[MemberField], Field(max_length=MOST_MEMBERS)] | None = Field(
        None, description="For virtual repositories: searched in this order."
    )
    on_member_failure: Literal["stop", "skip"] | None = Field(
        None, description="For virtual repositories: whether the search goes past a member that fails."
    )
    host_names: Addresses | None = Field(
        None, description="Hosts that serve this repository alone, by image names. For admins."
    )
    catch_all_hosts: Addresses | None = Field(
        None, description="Hosts where names that no other repository serves lead here. For admins."
    )
    namespaces: Addresses | None = Field(
        None, description="Registries that this one mirrors for containerd (`?ns=`). For admins."
    )


class RepositoryCreate(Furniture):
    """A repository to make."""

    project: Name
    name: Name
    format: Literal["docker"] = "docker"
    repository_type: Literal["hosted", "proxy", "virtual"] = "hosted"
    description: Text = ""
    storage: Annotated[str, Field(max_length=100)] | None = Field(
        None, description="Named storage; null: the configured default."
    )
    flat_alias_prefix: Prefix | None = Field(
        None, description="Names below this prefix lead here, such as `team-a/app` for prefix `team-a`. For admins."
    )
    is_catch_all: bool = Field(
        default=False, description="Names that no other repository serves lead here. For admins."
    )
    anonymous_read: bool = Field(default=False, description="Everybody may pull, without an account.")
    immutable_tags: Globs = Field(
        default_factory=list, description="A tag that one of these globs fits is never moved or deleted."
    )
    redirect_pulls: bool = Field(
        default=False,
        description="Clients in the storage's `redirect_networks` fetch blobs from its bucket; for buckets only.",
    )


class RepositoryChange(Furniture):
    """What to change; what is left out stays. Name, project, type and storage stay for good."""

    description: Text = ""
    flat_alias_prefix: Prefix | None = None
    is_catch_all: bool = False
    anonymous_read: bool = False
    immutable_tags: Globs = Field(default_factory=list)
    redirect_pulls: bool = False


@dataclass(frozen=True, slots=True)
class Details:
    """What an answer tells of a repository beside its row: what this caller may know of it."""

    addresses: Mapping[AddressKind, tuple[str, ...]]
    members: Sequence[MemberRecord]
    credential_count: int


_NO_UPSTREAM: Final[dict[str, Any]] = dict.fromkeys(UpstreamView.model_fields)


class RepositoryView(View):
    """A repository. What other types have is null."""

    project: str
    name: str
    format: str
    repository_type: str
    description: str
    storage: str
    flat_alias_prefix: str | None
    is_catch_all: bool
    anonymous_read: bool
    immutable_tags: list[str]
    redirect_pulls: bool
    host_names: list[str]
    catch_all_hosts: list[str]
    namespaces: list[str]
    remote_url: str | None
    remote_urls: list[str] | None
    cache_ttl: int | None
    ttl_rules: list[TtlRuleField] | None
    negative_ttl: int | None
    include: list[str] | None
    exclude: list[str] | None
    platforms: list[str] | None
    ca: str | None
    private_networks: list[str] | None
    token_hosts: list[str] | None
    offline: bool | None
    budget_reserve: int | None
    when_deleted: str | None
    when_denied: str | None
    max_bytes: int | None
    keep_by_age: KeepByAgeField | None
    connect_timeout: float | None
    idle_timeout: float | None
    credential_count: int | None = Field(description="How many credentials are stored; they are never shown.")
    fallback: UpstreamView | None
    members: list[MemberField] | None = Field(description="Those that you may see.")
    on_member_failure: str | None
    created_at: Moment
    updated_at: Moment

    @classmethod
    def of(cls, record: RepositoryRecord, details: Details) -> Self:
        """The record as clients see it."""
        settings = upstream_of(record.settings)
        upstream = None if settings is None else UpstreamView.of(settings, details.credential_count)
        is_proxy, is_virtual = record.repository_type == PROXY, record.repository_type == VIRTUAL
        return cls(
            **(upstream.model_dump() if upstream is not None and is_proxy else _NO_UPSTREAM),
            project=record.project,
            name=record.name,
            format=record.format,
            repository_type=record.repository_type,
            description=record.description,
            storage=record.storage,
            flat_alias_prefix=record.flat_alias_prefix,
            is_catch_all=record.is_catch_all,
            anonymous_read=record.anonymous_read,
            immutable_tags=list(record.immutable_tags),
            redirect_pulls=record.redirect_pulls,
            host_names=list(details.addresses.get(AddressKind.HOST, ())),
            catch_all_hosts=list(details.addresses.get(AddressKind.CATCH_ALL, ())),
            namespaces=list(details.addresses.get(AddressKind.NAMESPACE, ())),
            fallback=None if is_proxy else upstream,
            members=[_member(each) for each in details.members] if is_virtual else None,
            on_member_failure=virtual_of(record.settings).on_member_failure if is_virtual else None,
            created_at=moment(record.created_at),
            updated_at=moment(record.updated_at),
        )


def _member(record: MemberRecord) -> MemberField:
    return MemberField(
        repository=record.repository.full_name,
        include=list(record.include),
        exclude=list(record.exclude),
        default=record.is_default,
    )


class RepositoryList(View):
    """A page of repositories."""

    items: list[RepositoryView]
    next: str | None = Field(description="`after` for the next page; null on the last.")


class RepositoryPage(Page):
    """Which repositories to list."""

    project: Name | None = None
