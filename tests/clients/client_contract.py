"""What a registry client must be able to do against Sluice, as tests: a client's own test file inherits the suite.

    class TestMyClient(ClientContract):
        @pytest.fixture
        def client(self, ...) -> Client: ...

Every image is made for its test, so each test stands alone, whatever ran before it. What was sent and what arrived are
compared by the bytes: at the gateway by asking for every blob, at the client by unpacking what it exports.
"""

import re
from typing import Protocol

from tests.clients.images import Arrived, Image, Index, arrival, make_image, make_index, sha256
from tests.clients.machines import Done
from tests.clients.registry import Registry, is_spared, is_upload
from tests.served import ADMIN

PLATFORMS = ("linux/amd64", "linux/arm64", "linux/s390x")
REFUSED = re.compile(r"unauthorized|invalid username/password|incorrect user name or password", re.IGNORECASE)
UNKNOWN = re.compile(r"manifest unknown|not found|MANIFEST_UNKNOWN", re.IGNORECASE)


class Client(Protocol):
    """One client as a person uses it. References are full names such as `host:port/project/repository/image:tag`."""

    keeps_bytes: bool
    """Whether it pushes an image's manifest as it was made; others compress the layers anew."""
    mounts: bool
    """Whether it asks for blobs that are in another repository of the same registry, or mounts them, by one digest."""

    def login(self, user: str, password: str) -> Done:
        """Try these credentials, in a folder that no other call of the client sees."""
        ...

    def push(self, image: Image, reference: str) -> None:
        """Bring the image in and push it, as somebody who is logged in."""
        ...

    def push_index(self, index: Index, reference: str) -> None:
        """Bring all images in and push them under one reference."""
        ...

    def pull(self, reference: str, platform: str = "linux/amd64") -> Arrived:
        """Forget all images, pull this one, and say what arrived."""
        ...

    def try_pull(self, reference: str) -> Done:
        """Forget all images and pull, whatever comes of it."""
        ...


class ClientContract:
    """Login, push, push again, push elsewhere, pull, several platforms, and errors one can act upon."""

    def test_login(self, client: Client) -> None:
        """The right password is accepted."""
        done = client.login(*ADMIN)

        assert done.succeeded, str(done)

    def test_login_with_a_wrong_password(self, client: Client) -> None:
        """A wrong password ends in an error that says so, and not in success."""
        done = client.login(ADMIN[0], "not-the-password")

        assert not done.succeeded
        assert REFUSED.search(done.text), str(done)

    def test_push_and_pull(self, client: Client, registry: Registry) -> None:
        """What was pushed lies in the registry byte for byte, and comes back as it was."""
        image = make_image()
        name = registry.new_name()

        client.push(image, registry.reference(name, "1.0"))
        stored = registry.stored(name, "1.0")
        pulled = client.pull(registry.reference(name, "1.0"))

        assert stored.images == [arrival(image)]
        assert pulled == arrival(image)
        if client.keeps_bytes:
            assert stored.digest == sha256(image.manifest)

    def test_push_again(self, client: Client, registry: Registry) -> None:
        """Pushing what is there already uploads no blob."""
        image = make_image()
        reference = registry.reference(registry.new_name(), "1.0")
        client.push(image, reference)

        with registry.watch() as seen:
            client.push(image, reference)

        assert seen
        assert [each for each in seen if is_upload(each)] == []

    def test_push_to_another_repository(self, client: Client, registry: Registry) -> None:
        """The same image arrives in another repository too; who asks before it sends, sends no layer."""
        image = make_image()
        first, second = registry.new_name(), registry.new_name(registry.second)
        client.push(image, registry.reference(first, "1.0"))

        with registry.watch() as seen:
            client.push(image, registry.reference(second, "1.0"))

        assert registry.stored(second, "1.0").images == [arrival(image)]
        if client.mounts:
            assert len([each for each in seen if is_spared(each)]) >= len(image.tars)
            assert [each for each in seen if is_upload(each) and each.body_bytes > len(image.config)] == []

    def test_several_platforms(self, client: Client, registry: Registry) -> None:
        """An index arrives with all of its images, and each platform pulls its own."""
        index = make_index(*PLATFORMS)
        name = registry.new_name()

        client.push_index(index, registry.reference(name, "multi"))
        stored = registry.stored(name, "multi")
        pulled = [client.pull(registry.reference(name, "multi"), platform) for platform in PLATFORMS]

        expected = [arrival(image) for image in index.images]
        assert sorted(stored.images, key=str) == sorted(expected, key=str)
        assert pulled == expected
        if client.keeps_bytes:
            assert stored.digest == sha256(index.manifest)

    def test_pull_of_what_is_not_there(self, client: Client, registry: Registry) -> None:
        """Pulling an unknown tag ends in an error that says so."""
        name = registry.new_name()
        client.push(make_image(layers=2), registry.reference(name, "1.0"))

        done = client.try_pull(registry.reference(name, "2.0"))

        assert not done.succeeded
        assert UNKNOWN.search(done.text), str(done)
