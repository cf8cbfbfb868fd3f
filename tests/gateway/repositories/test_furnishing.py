"""What a repository has beside its name: what is kept, what is written, and where secrets end."""

import json

import pytest

from gateway.repositories.furnishing import Furnishing, Hands, Member, WrongSetting, furnish
from gateway.upstream.http import Credential
from storage import AddressKind, Database, RepositoryRecord, Transaction
from storage.metadata import addresses, members, projects, repositories, storages, upstreams

NOW, LATER = 1_800_000_000, 1_800_000_100
URL = "https://one.example.com"


def _seal(credential: Credential, repository_id: int, position: int) -> bytes:
    return f"{credential.username}/{repository_id}/{position}".encode()


def _find(tx: Transaction, full_name: str) -> RepositoryRecord | None:
    project, _, name = full_name.partition("/")
    return repositories.find(tx, project, name)


class _Guarded:
    """Remembers which fields had to be allowed."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    @property
    def hands(self) -> Hands:
        """With these everything is allowed."""
        return Hands(_seal, self.asked.append, _find)


async def _make(database: Database, name: str, repository_type: str, settings: str = "{}") -> RepositoryRecord:
    def make(tx: Transaction) -> RepositoryRecord:
        project = projects.find(tx, "team") or projects.create(tx, name="team", description="", now=NOW)
        return repositories.create(
            tx,
            project_id=project.id,
            name=name,
            description="",
            format="docker",
            repository_type=repository_type,
            storage_id=storages.ensure(tx, "default"),
            flat_alias_prefix=None,
            is_catch_all=False,
            anonymous_read=False,
            immutable_tags=(),
            settings=settings,
            now=NOW,
        )

    return await database.transaction(make)


async def _furnish(
    database: Database, record: RepositoryRecord, wanted: Furnishing, hands: Hands | None = None
) -> RepositoryRecord:
    def work(tx: Transaction) -> RepositoryRecord:
        now = repositories.get(tx, record.id)
        assert now is not None
        return furnish(tx, now, wanted, hands=hands or _Guarded().hands, now=LATER)

    return await database.transaction(work)


async def _sealed(database: Database, record: RepositoryRecord) -> list[bytes]:
    return await database.read(upstreams.credentials, record.id)


async def test_what_is_not_known_here_is_left_alone(database: Database) -> None:
    """Settings of others in the same row survive every change of ours."""
    record = await _make(database, "hub", "proxy", '{"other":{"a":1},"upstream":{"urls":["https://one.example.com"]}}')

    after = await _furnish(database, record, Furnishing(upstream={"cache_ttl_s": 5}))

    document = json.loads(after.settings)
    assert document["other"] == {"a": 1}
    assert document["upstream"] == {"urls": [URL], "cache_ttl_s": 5}


async def test_what_changes_nothing_writes_nothing(database: Database) -> None:
    """The row keeps its time: every write of it ends what is remembered of answers."""
    record = await _make(database, "hub", "proxy", json.dumps({"upstream": {"urls": [URL]}}))

    same = await _furnish(database, record, Furnishing(upstream={"urls": (URL,)}))

    assert same.updated_at == NOW


async def test_credentials_are_sealed_for_their_place(database: Database) -> None:
    """Each for its own position, so that rows cannot be exchanged."""
    record = await _make(database, "hub", "proxy", json.dumps({"upstream": {"urls": [URL]}}))

    await _furnish(database, record, Furnishing(credentials=(Credential("a", "x"), Credential("b", "y"))))
    both = await _sealed(database, record)
    await _furnish(database, record, Furnishing(upstream={"urls": (URL, "https://two.example.com")}))

    assert both == [f"a/{record.id}/0".encode(), f"b/{record.id}/1".encode()]
    assert await _sealed(database, record) == []


async def test_other_credentials_make_other_settings(database: Database) -> None:
    """So that what is remembered by the settings, in any process, ends with them; and nobody reads a secret there."""
    record = await _make(database, "hub", "proxy", json.dumps({"upstream": {"urls": [URL]}}))
    given = [(), (Credential("a", "x"),), (Credential("a", "x"), Credential("b", "y")), (Credential("b", "y"),)]

    rows = [await _furnish(database, record, Furnishing(credentials=each)) for each in given]
    same = await _furnish(database, record, Furnishing(upstream={"urls": (URL,)}))
    without = await _furnish(database, record, Furnishing(credentials=()))

    assert len({each.settings for each in rows}) == len(given)
    assert (same.settings, without.settings) == (rows[-1].settings, rows[0].settings)
    assert all(len(each.settings) < 120 for each in rows)


async def test_an_upstream_that_comes_back_has_no_old_credentials(database: Database) -> None:
    """Taking the fallback away and giving another one does not revive what the first was asked with."""
    record = await _make(database, "images", "hosted")
    first = Furnishing(upstream={"urls": (URL,)}, credentials=(Credential("a", "x"),))

    await _furnish(database, record, first)
    ended = await _furnish(database, record, Furnishing(ends_upstream=True))
    await _furnish(database, record, Furnishing(upstream={"urls": (URL,)}))

    assert ended.settings == "{}"
    assert await _sealed(database, record) == []


async def test_a_proxy_keeps_an_upstream(database: Database) -> None:
    """Without one it could only fail; a hosted repository can do without."""
    record = await _make(database, "images", "proxy")
    given = await _furnish(database, record, Furnishing(upstream={"urls": (URL,)}))

    with pytest.raises(WrongSetting, match="name another one"):
        await _furnish(database, given, Furnishing(ends_upstream=True))


@pytest.mark.parametrize(
    ("before", "after", "asked"),
    [
        ({}, {"urls": (URL,)}, []),
        ({}, {"urls": ("http://one.example.com",)}, ["remote_url"]),
        ({"urls": ["http://one.example.com"]}, {"cache_ttl_s": 1}, []),
        ({"urls": [URL]}, {"private_networks": ("10.0.0.0/8",)}, ["private_networks"]),
        ({"urls": [URL], "private_networks": ["10.0.0.0/8"]}, {"urls": ("https://two.example.com",)}, ["remote_url"]),
        ({"urls": [URL], "private_networks": ["10.0.0.0/8"]}, {"private_networks": ()}, []),
        ({"urls": [URL], "token_hosts": ["a.example"]}, {"token_hosts": ()}, []),
        ({"urls": [URL]}, {"token_hosts": ("a.example",)}, ["token_hosts"]),
    ],
)
async def test_what_reaches_further_has_to_be_allowed(
    database: Database, before: dict[str, list[str]], after: dict[str, object], asked: list[str]
) -> None:
    """Only where it is new: what was allowed once may stay, and less is always allowed."""
    record = await _make(database, "hub", "proxy", json.dumps({"upstream": before} if before else {}))
    guarded = _Guarded()

    await _furnish(database, record, Furnishing(upstream=after), guarded.hands)

    assert guarded.asked == asked


async def test_a_refusal_leaves_everything_as_it_was(database: Database) -> None:
    """All or nothing: not even credentials that were fine are written."""
    record = await _make(database, "hub", "proxy", json.dumps({"upstream": {"urls": [URL]}}))

    def never(field: str) -> None:
        raise WrongSetting(field, "never")

    wanted = Furnishing(
        upstream={"cache_ttl_s": 1}, credentials=(Credential("a", "x"),), addresses={AddressKind.HOST: ("a.example",)}
    )
    with pytest.raises(WrongSetting, match="host_names: never"):
        await _furnish(database, record, wanted, Hands(_seal, never, _find))

    assert await database.read(repositories.get, record.id) == record
    assert await _sealed(database, record) == []


async def test_members_and_addresses_are_written(database: Database) -> None:
    """In the order given; addresses that stay are not asked for again."""
    record = await _make(database, "all", "virtual")
    for name in ("one", "two"):
        await _make(database, name, "hosted")
    wanted = Furnishing(
        members=(Member("team/two", include=("a/*",)), Member("team/one", is_default=True)),
        on_member_failure="skip",
        addresses={AddressKind.NAMESPACE: ("docker.io",)},
    )
    guarded = _Guarded()

    after = await _furnish(database, record, wanted, guarded.hands)
    await _furnish(database, record, wanted, guarded.hands)
    inside = await database.read(members.of, record.id)

    assert [(each.repository.name, each.include, each.is_default) for each in inside] == [
        ("two", ("a/*",), False),
        ("one", (), True),
    ]
    assert json.loads(after.settings) == {"virtual": {"on_member_failure": "skip"}}
    assert (await database.read(addresses.names_of, record.id))[AddressKind.NAMESPACE] == ("docker.io",)
    assert guarded.asked == ["namespaces"]
