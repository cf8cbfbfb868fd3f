"""cosign and notation of today sign an image in the gateway with a key made on the spot, and verify it."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients.images import make_image, sha256
from tests.clients.machines import Done, Machine
from tests.clients.registry import Registry
from tests.clients.skopeo_client import Skopeo
from tests.clients.today.suites import with_package
from tests.served import ADMIN

pytestmark = pytest.mark.clients

TRUST_POLICY = """{"version": "1.0", "trustPolicies": [{"name": "test", "registryScopes": ["*"],
 "signatureVerification": {"level": "strict"}, "trustStores": ["ca:test.example"], "trustedIdentities": ["*"]}]}"""


@dataclass(frozen=True, slots=True)
class Cosign:
    """cosign with a key pair in `folder`, logged in."""

    machine: Machine
    folder: Path

    def attempt(self, *words: str | Path) -> Done:
        """`cosign WORDS`, whatever comes of it."""
        environment = {"DOCKER_CONFIG": str(self.folder), "COSIGN_PASSWORD": "sesame", "HOME": str(self.folder)}
        return self.machine.attempt("cosign", *words, environment=environment)

    def run(self, *words: str | Path) -> Done:
        """`cosign WORDS`, which must succeed."""
        done = self.attempt(*words)
        assert done.succeeded, str(done)
        return done

    def sign(self, reference: str) -> None:
        """Sign what is under a digest, without telling any log in the world."""
        # Version 3 wants to be told that there is no service to sign with; version 2 does not know the word.
        offline = ["--tlog-upload=false"]
        if "--use-signing-config" in self.run("sign", "--help").text:
            offline.append("--use-signing-config=false")
        self.run("sign", "--yes", *offline, "--allow-http-registry", "--key", self.folder / "cosign.key", reference)

    def try_verify(self, reference: str) -> Done:
        """Verify what is under a digest by the public key."""
        how = ("--insecure-ignore-tlog=true", "--allow-http-registry", "--key", self.folder / "cosign.pub")
        return self.attempt("verify", *how, reference)


@pytest.fixture
def cosign(guest: Machine, registry: Registry, tmp_path: Path) -> Cosign:
    """cosign, logged in, with a new key pair."""
    folder = guest.work / tmp_path.name
    folder.mkdir()
    new = Cosign(guest, folder)
    new.run("generate-key-pair", "--output-key-prefix", folder / "cosign")
    new.run("login", registry.address, "--username", ADMIN[0], "--password", ADMIN[1])
    return new


def test_cosign(cosign: Cosign, skopeo: Skopeo, registry: Registry) -> None:
    """An image that was signed verifies, and one that was not does not."""
    name = registry.new_name()
    signed, unsigned = make_image(layers=2), make_image(layers=2)
    skopeo.push(signed, registry.reference(name, "signed"))
    skopeo.push(unsigned, registry.reference(name, "unsigned"))

    cosign.sign(registry.reference(name, sha256(signed.manifest)))

    verified = cosign.try_verify(registry.reference(name, sha256(signed.manifest)))
    assert verified.succeeded, str(verified)
    assert not cosign.try_verify(registry.reference(name, sha256(unsigned.manifest))).succeeded


@pytest.mark.parametrize("suite", with_package("notation"), indirect=True, ids=str)
def test_notation(guest: Machine, skopeo: Skopeo, registry: Registry, tmp_path: Path) -> None:
    """An image that was signed verifies, its signature refers to it, and an image that was not does not verify."""
    home = guest.work / tmp_path.name
    home.mkdir()
    environment = {"HOME": str(home), "NOTATION_USERNAME": ADMIN[0], "NOTATION_PASSWORD": ADMIN[1]}
    name = registry.new_name()
    signed, unsigned = make_image(layers=2), make_image(layers=2)
    skopeo.push(signed, registry.reference(name, "signed"))
    skopeo.push(unsigned, registry.reference(name, "unsigned"))
    guest.run("notation", "cert", "generate-test", "--default", "test.example", environment=environment)
    (home / "policy.json").write_text(TRUST_POLICY)
    guest.run("notation", "policy", "import", "--force", home / "policy.json", environment=environment)
    subject = registry.reference(name, sha256(signed.manifest))

    guest.run("notation", "sign", "--insecure-registry", subject, environment=environment)

    guest.run("notation", "verify", "--insecure-registry", subject, environment=environment)
    other = registry.reference(name, sha256(unsigned.manifest))
    assert not guest.attempt("notation", "verify", "--insecure-registry", other, environment=environment).succeeded
    referrers = registry.gateway.admin("GET", f"/v2/{name}/referrers/{sha256(signed.manifest)}").json()["manifests"]
    assert [entry["artifactType"] for entry in referrers] == ["application/vnd.cncf.notary.signature"]
