"""From a repository's row to what serves it, by its type."""

import dataclasses

import pytest

from gateway.repositories.contract import WritableRepository
from gateway.repositories.opening import opener
from gateway.repositories.routing import image_in
from storage import Unavailable
from tests.gateway.repositories.shelf import IMAGE, NOBODY, Shelf


async def test_a_hosted_row_opens_a_hosted_repository(shelf: Shelf) -> None:
    """What was opened serves that very row, with the rows and bytes of the process."""
    scene = shelf.scene
    open_repository = opener(database=scene.database, content=scene.content, clock=scene.clock)
    digest = await shelf.image("v1")

    opened = open_repository(shelf.record, NOBODY)

    assert isinstance(opened, WritableRepository)
    assert opened.record is shelf.record
    assert (await opened.manifest("app", digest)).document.content == IMAGE


async def test_a_type_of_a_newer_version_is_trouble_of_ours(shelf: Shelf) -> None:
    """A row that this program is too old for is unavailable, with the next step, and never looks empty."""
    scene = shelf.scene
    open_repository = opener(database=scene.database, content=scene.content, clock=scene.clock)

    with pytest.raises(Unavailable, match=r"common/hosted .*'teleport': upgrade Sluice"):
        open_repository(dataclasses.replace(shelf.record, repository_type="teleport"), NOBODY)


async def test_settings_of_a_newer_version_are_trouble_of_ours(shelf: Shelf) -> None:
    """While replicas are replaced one by one: names lead to the repository, and that is unavailable here."""
    scene = shelf.scene
    open_repository = opener(database=scene.database, content=scene.content, clock=scene.clock)
    record = dataclasses.replace(shelf.record, repository_type="proxy", settings='{"upstream": {"teleport": 1}}')

    assert image_in(record, "nginx") == "nginx"
    with pytest.raises(Unavailable, match="newer version"):
        open_repository(record, NOBODY)
