"""oras of today: files, what is attached to them, lists and deletion."""

import json
import os

import pytest

from tests.clients.images import make_image, sha256
from tests.clients.registry import Registry
from tests.clients.today.oras_client import OrasCommand

pytestmark = pytest.mark.clients


def test_files(oras: OrasCommand, registry: Registry) -> None:
    """Files that were pushed come back byte for byte."""
    folder = oras.new_folder()
    content = os.urandom(100_000)
    (folder / "file.bin").write_bytes(content)
    reference = registry.reference(registry.new_name(), "1.0")

    oras.run_in(folder, "push", reference, "--artifact-type", "application/x.test", "file.bin:application/x.test")
    oras.run("pull", reference, "--output", folder / "pulled")

    assert (folder / "pulled" / "file.bin").read_bytes() == content


def test_attach_and_discover(oras: OrasCommand, registry: Registry) -> None:
    """What is attached to an image is found by asking what refers to it, by type too, and needs no tag for that."""
    name = registry.new_name()
    reference = registry.reference(name, "1.0")
    image = make_image(layers=2)
    oras.push(image, reference)
    folder = oras.new_folder()
    (folder / "note.txt").write_text(f"{name}\n")

    with registry.watch() as seen:
        for kind in ("application/x.note", "application/x.other"):
            oras.run(
                *("attach", reference, "--artifact-type", kind, "--disable-path-validation"),
                f"{folder}/note.txt:text/plain",
            )

    puts = [each for each in seen if each.method == "PUT" and "/manifests/" in each.path]
    assert {each.answer_header("oci-subject") for each in puts} == {sha256(image.manifest)}
    assert registry.tags(name) == ["1.0"]
    found = json.loads(
        oras.run("discover", "--format", "json", "--artifact-type", "application/x.note", reference).output
    )
    (entry,) = found.get("referrers") or found["manifests"]
    assert entry["artifactType"] == "application/x.note"


def test_tags_and_repositories(oras: OrasCommand, registry: Registry) -> None:
    """The tags of an image and the names of images are listed."""
    name = registry.new_name()
    tags = ["1.0", "2.0", "3.0", "4.0"]
    for tag in tags:
        oras.push(make_image(layers=2), registry.reference(name, tag))

    assert oras.run("repo", "tags", f"{registry.address}/{name}").lines() == tags
    assert name in oras.run("repo", "ls", registry.address).lines()


def test_delete(oras: OrasCommand, registry: Registry) -> None:
    """A manifest that is deleted is gone, by its digest and by its tag."""
    name = registry.new_name()
    image = make_image(layers=2)
    oras.push(image, registry.reference(name, "1.0"))

    oras.run("manifest", "delete", "--force", registry.reference(name, sha256(image.manifest)))

    assert registry.tags(name) == []
    assert not oras.try_pull(registry.reference(name, "1.0")).succeeded


def test_copy_with_what_refers_to_it(oras: OrasCommand, registry: Registry) -> None:
    """An image copied with what is attached to it has that in the other repository too, and mounts its layers."""
    first, second = registry.new_name(), registry.new_name(registry.second)
    image = make_image()
    oras.push(image, registry.reference(first, "1.0"))
    folder = oras.new_folder()
    (folder / "note.txt").write_text(f"{first}\n")
    oras.run(
        *("attach", registry.reference(first, "1.0"), "--artifact-type", "application/x.note"),
        *("--disable-path-validation", f"{folder}/note.txt:text/plain"),
    )

    copied = oras.machine.run(
        *("oras", "cp", "--recursive", "--from-plain-http", "--to-plain-http"),
        *("--from-registry-config", oras.authfile, "--to-registry-config", oras.authfile),
        *(registry.reference(first, "1.0"), registry.reference(second, "1.0")),
    )

    assert copied.succeeded
    assert registry.stored(second, "1.0").digest == sha256(image.manifest)
    found = json.loads(oras.run("discover", "--format", "json", registry.reference(second, "1.0")).output)
    assert len(found.get("referrers") or found["manifests"]) == 1
