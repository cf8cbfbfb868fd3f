"""What fetches from other registries opens with a worker and ends with it; commands beside it open none."""

import os
from pathlib import Path

import pytest

from gateway.app import open_services
from gateway.config import Settings
from storage import Digest
from storage.hotset_files import Entry


def settings_of(data: Path) -> Settings:
    """Settings with this data directory."""
    return Settings.model_validate({"storage": {"data": data}})


async def test_who_serves_no_pulls_fetches_nothing(data_directory: Path) -> None:
    """A command that runs beside the workers asks nobody, and leaves their arrivals alone."""
    async with open_services(settings_of(data_directory), hot=False) as services:
        assert services.fetching is None
    assert not (data_directory / "arrivals").exists()


async def test_what_is_raised_inside_comes_out_as_it_is(data_directory: Path) -> None:
    """Not in a group for each of the nurseries that are opened here."""
    with pytest.raises(LookupError, match="inside"):
        async with open_services(settings_of(data_directory)):
            raise LookupError("inside")


async def test_arrivals_that_nobody_came_back_for_are_removed(data_directory: Path) -> None:
    """The job does it in each worker: growing files of ten minutes ago go, those of now stay."""
    async with open_services(settings_of(data_directory)) as services:
        assert services.fetching is not None
        (job,) = services.fetching.jobs()
        place = data_directory / "arrivals" / "default"
        old, new = (place / str(Entry(key, Digest.of(b""), 1000).name) for key in ("1/old", "1/new"))
        for file in (old, new):
            file.write_bytes(b"some")
        os.utime(old, (0, 0))

        await job.run()

        assert not old.exists()
        assert new.exists()
