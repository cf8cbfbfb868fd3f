"""Long lists, page by page: the tags of an image, and the catalog of images.

A million tags are put once per server, through the API: half of them in one image, the others a hundred to an image.
docker-registry keeps a directory per tag, gives all of them in one answer, in no order and whatever page is asked for
(2.8), and filling it takes a request per tag. So it meets us at one page of a thousand tags only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from bench.cases.case import Case, Outcome, Scale, Stand
from bench.cases.traffic import authorized
from bench.contenders.contender import ContenderFailed, Setting, Trait
from bench.contenders.setup import ask
from bench.drivers.tagging import tag
from bench.jobs import Job
from bench.records import Unit

if TYPE_CHECKING:
    from bench.contenders.sluice import SluiceServer

PAGE: Final = 1000
WALKERS: Final = 4
_TAGS_PER_IMAGE: Final = 100
_LONG: Final = "long"
_TAGS_PER_JOB: Final = 100_000
_OWN_SERVER: Final = Setting(environment=(("SLUICE_LIMITS__TAGS_PAGE", "10000"),))
"""The default, but said: so that these cases have a server to themselves and others no database of a million rows."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A list of `tags` tags in one image, or of the names of many images."""

    name: str
    summary: str
    tags: int
    """In the image with the long list."""
    images: int
    """Images beside it, of a hundred tags each."""
    seconds: float
    catalog: bool = False
    """Walk the images' names instead of the tags."""
    setting: Setting = _OWN_SERVER
    needs: frozenset[Trait] = frozenset({Trait.LISTS})
    only: frozenset[str] = frozenset()
    cores: int = 1

    @property
    def unit(self) -> Unit:
        """Pages, in thousands."""
        return Unit.KILO_REQUESTS

    def prepare(self, stand: Stand) -> None:
        """Put all tags, unless the last of them is there. Raises ContenderFailed when one is refused."""
        for images in self._parts(stand):
            name, count = images[-1]
            headers = self._headers(stand, name, push=True)
            last = f"/v2/{name}/manifests/{tag(count - 1)}"
            if ask(stand.server.endpoint, "HEAD", last, headers=headers).status == 200:
                continue
            several = Trait.OURS in stand.contender.traits
            arguments = {"images": images, "authorization": headers.get("Authorization"), "several": several}
            outcome = stand.drive(Job("bench.drivers.tagging", stand.server.endpoint, arguments))
            if outcome.errors:
                raise ContenderFailed(outcome.complaints[0])

    def measure(self, stand: Stand) -> Outcome:
        """A process with all walkers, who begin evenly spread over a long list."""
        long = stand.server.name(_LONG)
        count = self.images + 1 if self.catalog else self.tags
        spread = [count * number // WALKERS for number in range(WALKERS)] if count > PAGE else []
        arguments = {
            "path": "/v2/_catalog" if self.catalog else f"/v2/{long}/tags/list",
            "key": "repositories" if self.catalog else "tags",
            "page": PAGE,
            "entries": count,
            "starts": [_image(stand, place) if self.catalog else tag(place) for place in spread] or [""] * WALKERS,
            "headers": self._headers(stand, long),
            "seconds": self.seconds,
        }
        return stand.drive(Job("bench.drivers.pages", stand.server.endpoint, arguments))

    def _parts(self, stand: Stand) -> Sequence[Sequence[tuple[str, int]]]:
        """Name and number of tags of all images, in parts of up to 100,000 tags."""
        per_part = _TAGS_PER_JOB // _TAGS_PER_IMAGE
        images = [(_image(stand, number), _TAGS_PER_IMAGE) for number in range(self.images)]
        small = [images[start : start + per_part] for start in range(0, self.images, per_part)]
        return [*small, [(stand.server.name(_LONG), self.tags)]]

    def _headers(self, stand: Stand, name: str, *, push: bool = False) -> Mapping[str, str]:
        """A sluice takes the login for everything, the catalog too; with the others there is one image."""
        if Trait.OURS in stand.contender.traits:
            return {"Authorization": cast("SluiceServer", stand.server).basic()}  # what the trait says
        if push:
            authorization = stand.server.authorization(name, push=True)
            return {"Authorization": authorization} if authorization else {}
        return authorized(stand, name)


def _image(stand: Stand, number: int) -> str:
    return stand.server.name(f"image-{number:06d}")


def cases(scale: Scale) -> tuple[Case, ...]:
    """A thousand tags with peers, then a million (20,000 when it must be quick) in tags and catalog."""
    full = scale is Scale.FULL
    seconds = 4.0 if full else 1.0
    tags, images, few = (500_000, 5_000, 1_000) if full else (10_000, 100, 500)
    total = tags + images * _TAGS_PER_IMAGE
    by = f"in pages of {PAGE} by {WALKERS} clients"
    ours = frozenset({Trait.LISTS, Trait.OURS})
    return (
        Listing("tags-list-short", f"tags/list of {few:,} tags {by}", few, 0, seconds, setting=Setting()),
        Listing(
            "tags-list-long",
            f"tags/list of {tags:,} tags, of {total:,} in all, {by}",
            tags,
            images,
            seconds,
            needs=ours,
        ),
        Listing(
            "catalog-long",
            f"The catalog of {images + 1:,} images of {total:,} tags {by}",
            tags,
            images,
            seconds,
            catalog=True,
            needs=ours,
        ),
    )
