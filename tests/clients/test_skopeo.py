"""skopeo pushes, pulls, lists, copies whole repositories and deletes."""

import json

import pytest

from tests.clients.client_contract import PLATFORMS, ClientContract
from tests.clients.images import arrival, make_image, make_index, read_images, sha256
from tests.clients.registry import Registry, is_spared, is_upload
from tests.clients.skopeo_client import Skopeo

pytestmark = pytest.mark.clients


class TestSkopeo(ClientContract):
    """What every client does."""

    @pytest.fixture
    def client(self, skopeo: Skopeo) -> Skopeo:
        """skopeo, logged in."""
        return skopeo


def test_list_tags(skopeo: Skopeo, registry: Registry) -> None:
    """list-tags gives every tag of an image, in the order of their bytes."""
    name = registry.new_name()
    image = make_image(layers=2)
    for tag in ("b", "1.0", "a", "B"):
        skopeo.push(image, registry.reference(name, tag))

    with registry.watch() as seen:
        assert skopeo.tags(f"{registry.address}/{name}") == ["1.0", "B", "a", "b"]

    assert [each.path for each in seen if each.status == 200].count(f"/v2/{name}/tags/list") == 2  # pages of three


def test_inspect(skopeo: Skopeo, registry: Registry) -> None:
    """Inspect tells the digest, and with --raw gives the manifest byte for byte."""
    image = make_image()
    reference = registry.reference(registry.new_name(), "1.0")
    skopeo.push(image, reference)

    assert skopeo.raw(reference) == image.manifest
    assert skopeo.inspect(reference)["Digest"] == sha256(image.manifest)


def test_copy_all_keeps_every_byte(skopeo: Skopeo, registry: Registry) -> None:
    """An index copied from image to image inside the gateway has the same digest, and no layer travels twice."""
    index = make_index(*PLATFORMS)
    first, second = registry.new_name(), registry.new_name(registry.second)
    skopeo.push_index(index, registry.reference(first, "1.0"))

    with registry.watch() as seen:
        skopeo.run(
            *("copy", "--all", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false"),
            f"docker://{registry.reference(first, '1.0')}",
            f"docker://{registry.reference(second, '1.0')}",
        )

    assert registry.stored(second, "1.0").digest == sha256(index.manifest)
    layers = {layer for image in index.images for layer in image.layers}
    assert len([each for each in seen if is_spared(each)]) >= len(layers)
    assert max((each.body_bytes for each in seen if is_upload(each)), default=0) <= max(
        len(image.config) for image in index.images
    )


def test_sync(skopeo: Skopeo, registry: Registry) -> None:
    """A repository goes to a folder and from there to another repository, with all of its tags."""
    source = registry.new_name()
    images = {tag: make_image(layers=2) for tag in ("1.0", "1.1", "latest")}
    for tag, image in images.items():
        skopeo.push(image, registry.reference(source, tag))
    folder = skopeo.new_folder()

    skopeo.run(
        *("sync", "--src-tls-verify=false", "--src", "docker", "--dest", "dir"), f"{registry.address}/{source}", folder
    )
    skopeo.run(
        *("sync", "--dest-tls-verify=false", "--src", "dir", "--dest", "docker"),
        folder,
        f"{registry.address}/{registry.second}",
    )

    arrived = f"{registry.second}/{source.rpartition('/')[2]}"
    assert registry.tags(arrived) == sorted(images)
    for tag, image in images.items():
        assert registry.stored(arrived, tag).images == [arrival(image)]


def test_a_sync_sends_what_is_nowhere_here(skopeo: Skopeo, registry: Registry) -> None:
    """Into the same place again, and into a repository that has none of it: no byte of a blob travels."""
    source = registry.new_name()
    for tag in ("1.0", "1.1"):
        skopeo.push(make_image(layers=3), registry.reference(source, tag))
    folder = skopeo.new_folder()
    skopeo.run(
        *("sync", "--src-tls-verify=false", "--src", "docker", "--dest", "dir"), f"{registry.address}/{source}", folder
    )

    for target in (registry.first, registry.second):
        with registry.watch() as seen:
            skopeo.run(
                *("sync", "--dest-tls-verify=false", "--src", "dir", "--dest", "docker"),
                folder,
                f"{registry.address}/{target}",
            )

        assert [str(each) for each in seen if is_upload(each)] == []
        assert registry.tags(f"{target}/{source.rpartition('/')[2]}") == ["1.0", "1.1"]


def test_delete(skopeo: Skopeo, registry: Registry) -> None:
    """Delete removes the image and all its tags, asks for every right by a star, and what is left still pulls."""
    name = registry.new_name()
    doomed, kept = make_image(layers=2), make_image(layers=2)
    for tag, image in (("old", doomed), ("older", doomed), ("new", kept)):
        skopeo.push(image, registry.reference(name, tag))

    with registry.watch() as seen:
        skopeo.delete(registry.reference(name, "old"))

    assert registry.tags(name) == ["new"]
    assert not skopeo.try_pull(registry.reference(name, "older")).succeeded
    assert skopeo.pull(registry.reference(name, "new")) == arrival(kept)
    scopes = [scope for each in seen for scope in each.query.get("scope", [])]
    assert scopes == [f"repository:{name}:*"]
    assert [each.status for each in seen if each.method == "DELETE"] == [202]


def test_an_immutable_tag(skopeo: Skopeo, registry: Registry) -> None:
    """Where tags may not be moved, the same image goes again and another is refused with the rule's name."""
    name = registry.new_name(registry.immutable)
    reference = registry.reference(name, "1.0")
    image = make_image(layers=2)
    skopeo.push(image, reference)

    skopeo.push(image, reference)
    other = skopeo.write(make_image(layers=2))
    done = skopeo.attempt("copy", "--dest-tls-verify=false", f"oci:{other}:made", f"docker://{reference}")

    assert not done.succeeded
    assert "immutable by rule '*'" in done.text, str(done)
    assert registry.stored(name, "1.0").images == [arrival(image)]


def test_a_tls_greeting_is_answered_at_once(skopeo: Skopeo, registry: Registry) -> None:
    """The TLS greeting that skopeo sends to a plain port first costs it no waiting."""
    reference = registry.reference(registry.new_name(), "1.0")

    with registry.watch() as seen:
        skopeo.push(make_image(layers=2), reference)

    greetings = [each for each in seen if each.method == "TLS"]
    assert greetings
    assert all(each.ended_s - each.started_s < 5 for each in greetings)  # a head is waited for for 10 s


def test_pull_by_digest(skopeo: Skopeo, registry: Registry) -> None:
    """A digest names an image as well as a tag does."""
    image = make_image()
    name = registry.new_name()
    skopeo.push(image, registry.reference(name, "1.0"))

    assert skopeo.pull(registry.reference(name, sha256(image.manifest))) == arrival(image)


def test_archives(skopeo: Skopeo, registry: Registry) -> None:
    """An image that comes back as an archive for docker is the same image."""
    image = make_image()
    reference = registry.reference(registry.new_name(), "1.0")
    skopeo.push(image, reference)
    path = skopeo.new_folder() / "image.tar"

    skopeo.run("copy", "--src-tls-verify=false", f"docker://{reference}", f"docker-archive:{path}:it:1.0")

    (arrived,) = read_images(path)
    assert arrived.diff_ids == image.diff_ids
    assert json.loads(image.config)["rootfs"]["diff_ids"] == list(arrived.diff_ids)
