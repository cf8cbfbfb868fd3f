"""containerd, by `ctr`, pushes and pulls."""

import pytest

from tests.clients.client_contract import PLATFORMS, ClientContract
from tests.clients.containerd_client import Ctr
from tests.clients.images import arrival, make_image, make_index, sha256
from tests.clients.registry import Registry
from tests.served import ADMIN

pytestmark = pytest.mark.clients

MIRROR = """[host."{url}"]
  capabilities = ["pull", "resolve"]
  override_path = true
"""


class TestContainerd(ClientContract):
    """What every client does."""

    @pytest.fixture
    def client(self, ctr: Ctr) -> Ctr:
        """The command line with credentials."""
        return ctr


def test_token_by_password(ctr: Ctr, registry: Registry) -> None:
    """The first refusal tells containerd what to ask for, and it asks by POST with name and password."""
    name = registry.new_name()

    with registry.watch() as seen:
        ctr.push(make_image(), registry.reference(name, "1.0"))

    refused = [each for each in seen if each.status == 401]
    assert refused
    for each in refused:
        challenge = each.answer_header("www-authenticate")
        assert challenge.startswith("Bearer ")
        assert f'scope="repository:{name}:pull' in challenge
    tokens = [each for each in seen if each.path == "/v2/token"]
    assert tokens
    for each in tokens:
        assert (each.method, each.status) == ("POST", 200)
        assert each.form["grant_type"] == ["password"]
        assert (each.form["username"], each.form["password"]) == ([ADMIN[0]], [ADMIN[1]])


def test_pull_of_all_platforms(ctr: Ctr, registry: Registry) -> None:
    """A pull of all platforms fetches the index and everything below it, byte for byte."""
    index = make_index(*PLATFORMS)
    reference = registry.reference(registry.new_name(), "multi")
    ctr.push_index(index, reference)
    ctr.forget_images()

    ctr.run("content", "fetch", "--plain-http", "--user", ":".join(ADMIN), "--all-platforms", reference)

    held = set(ctr.run("content", "list", "--quiet").lines())
    assert {sha256(content) for content in (index.manifest, *index.blobs())} <= held


def test_whole_blobs_in_one_request(ctr: Ctr, registry: Registry) -> None:
    """Each upload begins by POST, and the PUT that ends it carries the whole blob."""
    with registry.watch() as seen:
        ctr.push(make_image(layers=2), registry.reference(registry.new_name(), "1.0"))

    puts = [each for each in seen if each.method == "PUT" and "/blobs/uploads/" in each.path]
    assert [each.status for each in puts] == [201] * 3
    assert all(each.body_bytes > 0 for each in puts)
    assert [each for each in seen if each.method == "PATCH"] == []


def test_a_cut_pull_goes_on(ctr: Ctr, registry: Registry) -> None:
    """A layer whose connection breaks half-way is fetched from there on, not from the start."""
    image = make_image(layers=2, layer_bytes=3_000_000)
    name = registry.new_name()
    reference = registry.reference(name, "1.0")
    ctr.push(image, reference)
    layer = sha256(image.layers[0])
    registry.tap.cut_answer(lambda each: each.path.endswith(layer), after_bytes=1_000_000)

    with registry.watch() as seen:
        assert ctr.pull(reference) == arrival(image)

    first, second = [each for each in seen if each.path.endswith(layer) and each.status in {200, 206}]
    assert first.status == 200
    assert second.status == 206
    assert int(second.header("range").removeprefix("bytes=").rstrip("-")) > 0
    assert second.answer_bytes < len(image.layers[0])


def test_a_mirror_of_another_registry(ctr: Ctr, registry: Registry) -> None:
    """As a mirror, asked with the other registry's name in the query, the gateway gives what lies under the path.

    Which is the repository that stands for that registry; for others it would be 404.
    """
    registry.must("PATCH", f"/api/v1/repos/{registry.first}", {"namespaces": ["registry.example"]})
    image = make_image(layers=2)
    name = f"{registry.first}/some/tool"
    ctr.push(image, registry.reference(name, "1.0"))
    hosts = ctr.new_folder() / "registry.example"
    hosts.mkdir()
    (hosts / "hosts.toml").write_text(MIRROR.format(url=f"http://{registry.address}/v2/{registry.first}"))

    with registry.watch() as seen:
        pulled = ctr.pull_by("registry.example/some/tool:1.0", "--hosts-dir", hosts.parent)

    assert pulled == arrival(image)
    assert {each.query["ns"][0] for each in seen if f"/{name}/" in each.path} == {"registry.example"}
    scopes = {scope for each in seen for scope in " ".join(each.form.get("scope", [])).split()}
    assert f"repository:{name}:pull" in scopes
