"""Image names: made once, listed bytewise over all repositories that the caller may see."""

from storage import Database, Transaction
from storage.metadata import images
from tests.storage.metadata.pieces import image
from tests.storage.metadata.samples import NOW, repository


async def test_an_image_is_made_once(database: Database) -> None:
    """The same name in the same repository is the same image; elsewhere it is another one."""

    def act(tx: Transaction) -> None:
        first, second = repository(tx, "team/app"), repository(tx, "team/other")
        assert images.find(tx, first.id, "img") is None
        made = images.ensure(tx, first, "img", now=NOW)
        assert (made.repository_id, made.name, made.full_name) == (first.id, "img", "team/app/img")
        assert images.ensure(tx, first, "img", now=NOW + 1) == images.find(tx, first.id, "img") == made
        assert images.ensure(tx, second, "img", now=NOW).id != made.id

    await database.transaction(act)


async def test_pages_in_bytewise_order(database: Database) -> None:
    """Full names come in the order of their bytes, beyond a name that need not exist (rows CT-01, TG-02)."""
    names = [
        "team/app/1",
        "team/app/B",
        "team/app/Z",
        "team/app/_x",
        "team/app/a",
        "team/app/a%",
        "team/b/a",
        "zoo/b/é",
    ]

    def act(tx: Transaction) -> None:
        for name in reversed(names):
            image(tx, name)
        assert images.page(tx, after="", limit=100, repository_ids=None) == names
        assert images.page(tx, after="", limit=3, repository_ids=None) == names[:3]
        assert images.page(tx, after=names[2], limit=3, repository_ids=None) == names[3:6]
        assert images.page(tx, after="team/app/C", limit=1, repository_ids=None) == ["team/app/Z"]
        assert images.page(tx, after="zoo/b/é", limit=1, repository_ids=None) == []

    await database.transaction(act)


async def test_pages_of_some_repositories(database: Database) -> None:
    """Only the given repositories are listed; of none, nothing; of very many, all at once."""

    def act(tx: Transaction) -> None:
        places = [image(tx, f"team/r{number}/img").repository_id for number in range(4)]
        some = [places[3], places[1]]
        assert images.page(tx, after="", limit=9, repository_ids=some) == ["team/r1/img", "team/r3/img"]
        assert images.page(tx, after="team/r1/img", limit=9, repository_ids=iter(some)) == ["team/r3/img"]
        assert images.page(tx, after="", limit=9, repository_ids=[]) == []
        assert len(images.page(tx, after="", limit=9, repository_ids=range(20_000))) == 4

    await database.transaction(act)


async def test_pages_of_one_repository(database: Database) -> None:
    """Whole images by name, in bytewise order, beyond a name that need not exist; of this repository alone."""

    def act(tx: Transaction) -> None:
        made = [image(tx, f"team/app/{name}") for name in ("b", "a-b", "Z")]
        image(tx, "team/b/a")
        made.sort(key=lambda each: each.name)
        place = made[0].repository_id
        assert images.page_of_repository(tx, place, after="", limit=9) == made
        assert images.page_of_repository(tx, place, after="", limit=2) == made[:2]
        assert images.page_of_repository(tx, place, after="a", limit=9) == made[1:]
        assert images.page_of_repository(tx, place + 77, after="", limit=9) == []

    await database.transaction(act)
