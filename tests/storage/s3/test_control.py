"""Credentials come from where AWS's tools find them and are renewed; what is missing is said. S3 is not asked."""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from storage.s3.control import Control, certificates
from storage.s3.failures import Unreached
from storage.s3.settings import S3Settings
from storage.transfer import Credentials

pytestmark = pytest.mark.slow  # boto3 takes its time to read its own descriptions
ENDPOINT = "http://127.0.0.1:9"  # nobody listens there
GIVEN = S3Settings("pail", endpoint_url=ENDPOINT, access_key_id="given", secret_access_key="secret")
SOUGHT = S3Settings("pail", endpoint_url=ENDPOINT)


@pytest.fixture(autouse=True)
def no_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """AWS's files are looked for in an empty folder, and no machine is asked for its role."""
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return tmp_path


def connected(settings: S3Settings) -> Control:
    """A control plane that has looked for credentials."""
    control = Control(settings, connections=1)
    control.connect()
    return control


def test_given() -> None:
    """What the configuration says comes before everything else."""
    control = connected(GIVEN)
    assert control.credentials() == Credentials("given", "secret", None)
    assert control.source == "the configuration"


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is found, with the token of a session."""
    for name, value in (("ACCESS_KEY_ID", "env"), ("SECRET_ACCESS_KEY", "hidden"), ("SESSION_TOKEN", "token")):
        monkeypatch.setenv(f"AWS_{name}", value)
    control = connected(SOUGHT)
    assert control.credentials() == Credentials("env", "hidden", "token")
    assert control.source == "AWS's chain (env)"


def test_nowhere() -> None:
    """Without credentials it is said which ways there are to give some."""
    with pytest.raises(Unreached, match="no credentials were found; set access_key_id") as caught:
        connected(SOUGHT)
    assert not caught.value.passes


def test_profile_that_is_not_there() -> None:
    """A profile that no file has is named."""
    with pytest.raises(Unreached, match="nobody"):
        connected(S3Settings("pail", endpoint_url=ENDPOINT, profile="nobody"))


def test_renewed_credentials(no_home: Path) -> None:
    """Credentials that expire, as those of roles do, are fetched anew from their source before they do."""
    counter = no_home / "asked"
    program = no_home / "source.py"
    soon = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()  # within botocore's time for renewal
    answer = {"Version": 1, "SecretAccessKey": "secret", "SessionToken": "token", "Expiration": soon}
    program.write_text(
        f"import json, pathlib\ncounter = pathlib.Path({str(counter)!r})\n"
        "asked = len(counter.read_text()) + 1 if counter.exists() else 1\ncounter.write_text('x' * asked)\n"
        f"print(json.dumps({json.dumps(answer)} | {{'AccessKeyId': f'key-{{asked}}'}}))\n"
    )
    (no_home / "config").write_text(f"[profile role]\ncredential_process = {sys.executable} {program}\n")
    control = connected(S3Settings("pail", endpoint_url=ENDPOINT, profile="role"))
    first, second = control.credentials(), control.credentials()
    assert (first.secret_access_key, first.session_token) == ("secret", "token")
    assert first.access_key_id != second.access_key_id
    assert control.source == "AWS's chain (custom-process)"


def test_source_that_fails(no_home: Path) -> None:
    """A source that gives nothing is trouble with a message, and not an error of boto3."""
    (no_home / "config").write_text("[profile role]\ncredential_process = false\n")
    with pytest.raises(Unreached, match="custom-process"):
        connected(S3Settings("pail", endpoint_url=ENDPOINT, profile="role")).credentials()


def test_address_of_aws() -> None:
    """Without an endpoint it is AWS's own of the region."""
    settings = S3Settings("pail", region="eu-west-3", access_key_id="given", secret_access_key="secret")
    assert connected(settings).endpoint_url == "https://s3.eu-west-3.amazonaws.com"


def test_certificates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The setting comes before what AWS's tools would take, and that before the system's own."""
    assert certificates(GIVEN) is None
    monkeypatch.setenv("AWS_CA_BUNDLE", "from-environment.pem")
    assert certificates(GIVEN) == "from-environment.pem"
    own = S3Settings("pail", ca_file=tmp_path / "own.pem")
    assert certificates(own) == str(tmp_path / "own.pem")
