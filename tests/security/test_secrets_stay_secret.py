"""Security row T16: planted secrets are found nowhere but in the one answer that shows each of them.

Not in the log, in other answers, in a process list, nor in any file of the data directory; also when requests fail.
"""

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode

import pytest

from tests.people import unique
from tests.served import Reply, Served

pytestmark = pytest.mark.slow  # a server of its own, whose every file is read

ADMIN_PASSWORD: Final = "CANARY-admin-7f3a91c2d4"
FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}
SECRET_KEY: Final = "CANARY-secret-key-" + "0123456789abcdef" * 2


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that logs all it can, with a canary as its administrator's password and another as its secret key."""
    environment = {
        "SLUICE_ADMIN_PASSWORD": ADMIN_PASSWORD,
        "SLUICE_ACCESS__SECRET_KEY": SECRET_KEY,
        "SLUICE_LOGS__LEVEL": "debug",
    }
    directory = tmp_path_factory.mktemp("canaries")
    with Served(directory, environment=environment, arguments=("--workers", "2")) as served:
        yield served


class Planter:
    """Sends requests that hold canaries, and keeps every secret with every answer that must not have one."""

    def __init__(self, gateway: Served) -> None:
        self.gateway = gateway
        self.admin = ("admin", ADMIN_PASSWORD)
        self.secrets = [ADMIN_PASSWORD, SECRET_KEY]
        self.answers: list[bytes] = []

    def canary(self, stem: str) -> str:
        """A new secret of ours."""
        self.secrets.append(unique(f"CANARY-{stem}"))
        return self.secrets[-1]

    def keep(self, reply: Reply) -> Reply:
        """Remember an answer that must show no secret."""
        self.answers.append(repr(reply.all_headers).encode() + reply.body)
        return reply

    def shown(self, reply: Reply, *names: str) -> str:
        """The secret that an answer shows, and must show only there."""
        value = reply.json()
        secrets = [str(value[name]) for name in names]
        self.secrets += secrets
        rest = {name: entry for name, entry in value.items() if name not in {*names, "access_token", "refresh_token"}}
        self.answers.append(json.dumps(rest).encode())
        return secrets[0]


def test_t16_secrets_are_found_nowhere(gateway: Served) -> None:
    """Passwords, keys and tokens, right, wrong, misplaced and malformed: none is in the log, an answer or a file."""
    planter = Planter(gateway)
    accounts(planter)
    wrong_logins(planter)
    misplaced(planter)
    failures(planter)

    assert len(planter.secrets) >= 30
    forms = [form.encode() for secret in planter.secrets for form in written(secret)]
    called = command_lines(gateway)
    gateway.stop()  # so that all is written that would be
    places = {"the log": gateway.log().encode(), "the process list": called}
    places |= {f"answer {number}": answer for number, answer in enumerate(planter.answers)}
    places |= {str(path): path.read_bytes() for path in files(gateway)}
    found = [(place, form) for place, content in places.items() for form in forms if form in content]
    assert found == []


def accounts(planter: Planter) -> None:
    """Make users, tokens, robots and keys, log in with them in every way, change and end them."""
    gateway, admin = planter.gateway, planter.admin
    password, renewed = planter.canary("password"), planter.canary("renewed")
    user = unique("user")
    planter.keep(gateway.api("POST", "/api/v1/users", {"name": user, "password": password}, auth=admin))
    changes = {"password": renewed, "current_password": password}
    assert planter.keep(gateway.api("PATCH", f"/api/v1/users/{user}", changes, auth=(user, password))).status == 200
    login = (user, renewed)
    personal = planter.shown(gateway.api("POST", "/api/v1/tokens", {"label": "x"}, auth=login), "secret")
    robot = unique("sa$robot")
    planter.keep(gateway.api("POST", "/api/v1/robots", {"name": robot}, auth=admin))
    key = planter.shown(gateway.api("POST", f"/api/v1/robots/{robot}/keys", {}, auth=admin), "secret")
    for name, secret in ((user, renewed), ("<token>", personal), (robot, key)):
        got = gateway.request("GET", "/v2/token?service=sluice&offline_token=true", auth=(name, secret))
        token = planter.shown(got, "token", "refresh_token")
        form = {"grant_type": "password", "username": name, "password": secret, "access_type": "offline"}
        posted = gateway.request("POST", "/v2/token", urlencode(form).encode(), FORM)
        planter.shown(posted, "token", "refresh_token")
        for auth in ((name, secret), token):
            planter.keep(gateway.request("GET", "/v2/", auth=auth))
            planter.keep(gateway.request("GET", "/v2/nowhere/x/tags/list", auth=auth))
            planter.keep(gateway.api("GET", "/api/v1/tokens", auth=auth))
    for path in ("users", "robots", f"robots/{robot}/keys", f"tokens?account={user}"):
        planter.keep(gateway.api("GET", f"/api/v1/{path}", auth=admin))
    assert planter.keep(gateway.api("DELETE", f"/api/v1/users/{user}", auth=admin)).status == 204
    planter.keep(gateway.request("GET", "/v2/", auth=("x", personal)))


def wrong_logins(planter: Planter) -> None:
    """Send what is no login, by every way that takes one."""
    gateway = planter.gateway
    for name in ("admin", "nobody", "sa$robot"):
        planter.keep(gateway.request("GET", "/v2/", auth=(name, planter.canary("wrong"))))
        form = {"grant_type": "password", "username": name, "password": planter.canary("form")}
        planter.keep(gateway.request("POST", "/v2/token", urlencode(form).encode(), FORM))
        fields = {"password": planter.canary("own"), "current_password": planter.canary("current")}
        planter.keep(gateway.api("PATCH", "/api/v1/users/admin", fields, auth=planter.admin))
    for text in ("x", "sluice_pat_", "sluice_key_", "eyJhbGciOiJIUzI1NiJ9."):
        planter.keep(gateway.request("GET", "/v2/a/tags/list", auth=f"{text}{planter.canary('bearer')}"))
    refresh = {"grant_type": "refresh_token", "service": "sluice", "refresh_token": planter.canary("refresh")}
    planter.keep(gateway.request("POST", "/v2/token", urlencode(refresh).encode(), FORM))
    for scheme in ("Digest", "Negotiate", "Basic", "AWS4-HMAC-SHA256"):
        header = {"Authorization": f"{scheme} {planter.canary('scheme')}"}
        planter.keep(gateway.request("GET", "/v2/", headers=header))
    twice = [
        ("Authorization", f"Bearer {planter.canary('first')}"),
        ("Authorization", f"Bearer {planter.canary('second')}"),
    ]
    planter.keep(gateway.request("GET", "/v2/", headers=twice))


def misplaced(planter: Planter) -> None:
    """Put secrets where they do not belong and where a mistake might be quoted back."""
    gateway, admin = planter.gateway, planter.admin
    bodies: list[Callable[[str], object]] = [
        lambda secret: {"name": "UPPER", "password": secret},
        lambda secret: {"name": unique("user"), "password": {"nested": secret}},
        lambda secret: {"name": unique("user"), "password": [secret]},
        lambda secret: {"name": unique("user"), "passwort": secret},
        lambda secret: {"name": unique("user"), "password": secret * 100},
        lambda secret: {"name": unique("user"), "password": f"sluice_pat_{secret}"},
        lambda secret: [secret],
        lambda secret: secret,
    ]
    for body in bodies:
        reply = gateway.api("POST", "/api/v1/users", body(planter.canary("body")), auth=admin)
        assert planter.keep(reply).status == 400
    broken = f'{{"password": "{planter.canary("broken")}'.encode()
    planter.keep(gateway.request("POST", "/api/v1/users", broken, {"Content-Type": "application/json"}, auth=admin))
    many = "&".join(["scope=repository:a:pull"] * 200) + f"&password={planter.canary('many')}&grant_type=password"
    planter.keep(gateway.request("POST", "/v2/token", many.encode(), FORM))
    for name in ("access_token", "password", "token"):
        planter.keep(gateway.request("GET", f"/v2/token?{name}={planter.canary('query')}", auth=admin))
        planter.keep(gateway.request("GET", f"/api/v1/users?{name}={planter.canary('query')}", auth=admin))
    headers = {"X-Api-Key": planter.canary("header"), "Cookie": f"session={planter.canary('cookie')}"}
    planter.keep(gateway.request("GET", "/v2/a/tags/list", headers=headers))
    place = f"https://robot:{planter.canary('url')}@registry.example/x"
    planter.keep(gateway.request("POST", f"/v2/a/blobs/uploads/?from={quote(place)}&mount=x", b"", auth=admin))


def failures(planter: Planter) -> None:
    """Let requests with good credentials fail: storage that is away, and a body that ends early."""
    gateway, admin = planter.gateway, planter.admin
    name = f"{make_place_as(planter)}/app"
    token = planter.shown(
        gateway.request("GET", f"/v2/token?service=sluice&scope=repository:{name}:*", auth=admin), "token"
    )
    gateway.push_image(name, "v1", b"layer", auth=admin)
    begun = gateway.request("POST", f"/v2/{name}/blobs/uploads/", b"", auth=token)
    directory = gateway.data / "storages"
    directory.rename(directory.with_name("away"))
    for auth in (token, admin):
        reply = gateway.request("PATCH", begun.headers["location"], b"x" * 1000, auth=auth)
        assert planter.keep(reply).status == 503
    directory.with_name("away").rename(directory)
    connection = gateway.connection()
    connection.putrequest("PUT", f"/v2/{name}/manifests/v2")
    connection.putheader("Authorization", f"Bearer {token}")
    connection.putheader("Content-Length", "1000")
    connection.endheaders(b"{")
    connection.close()


def make_place_as(planter: Planter) -> str:
    """A repository, made by the administrator with the canary."""
    project = unique("project")
    for path, value in (("projects", {"name": project}), ("repos", {"project": project, "name": "images"})):
        reply = planter.gateway.api("POST", f"/api/v1/{path}", value, auth=planter.admin)
        assert planter.keep(reply).status == 201
    return f"{project}/images"


def written(secret: str) -> Iterator[str]:
    """Ways in which a secret may stand somewhere: as it is, escaped, and within Basic credentials."""
    yield secret
    if quote(secret, safe="") != secret:
        yield quote(secret, safe="")
    for user in ("admin", "nobody", "x"):
        yield base64.b64encode(f"{user}:{secret}".encode()).decode().rstrip("=")[len(user) * 2 : -4]


def command_lines(gateway: Served) -> bytes:
    """How the supervisor and its workers were called, as everybody on the machine can see."""
    assert gateway.process is not None
    lines = b""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (entry / "stat").exists():
            group = (entry / "stat").read_text().rpartition(")")[2].split()[2]
            if int(group) == gateway.process.pid:
                lines += (entry / "cmdline").read_bytes()
    assert b"serve" in lines
    return lines


def files(gateway: Served) -> list[Path]:
    """Every file of the data directory; none is left out for being a database or a log of one."""
    found = [path for path in gateway.data.rglob("*") if path.is_file()]
    assert [path for path in found if path.name == "sluice.db"]
    return found
