import base64
import json
import socket
import time
from pathlib import Path

import pytest

from gateway.cli.demo import SHIPPED
from gateway.cli.main import main
from tests.tokens import sign

CONFIG = """\
auth:
  providers:
    idp: {type: jwt, secret: 0123456789abcdef0123456789abcdef, algorithms: [HS256]}
upstreams:
  api:
    targets: [http://127.0.0.1:9001, http://127.0.0.1:9002]
    retry: {attempts: 4, methods: [GET]}
    breaker: off
routes:
  - name: item
    match: {path: "/items/{id}", methods: [GET]}
    upstream: api
  - name: beta
    match: {path: /items/**, headers: {X-Beta: "1"}, host: api.example.com}
    upstream: api
  - name: secret
    match: {path: /secret}
    auth: {providers: [idp], scopes: [a]}
    rate_limit: [{by: ip, limit: 10/second}]
    fallback: [{on: [open], status: 503, text: later}]
    upstream: api
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "routes.yaml"
    path.write_text(CONFIG)
    return str(path)


@pytest.fixture
def explain(config, capsys):
    def explain(*argv):
        assert main(["explain", "-c", config, "--json", *argv]) == 0
        return json.loads(capsys.readouterr().out)

    return explain


@pytest.fixture
def token(config, capsys):
    def token(scope):
        assert main(["token", "-c", config, "--sub", "u1", "--scope", scope]) == 0
        return capsys.readouterr().out.strip()

    return token


def test_the_route_its_parameters_and_its_targets(explain):
    said = explain("GET", "http://any.example/items/7?x=1")
    assert (said["route"], said["params"], said["path"]) == ("item", {"id": "7"}, "/items/7")
    assert said["targets"] == ["http://127.0.0.1:9001", "http://127.0.0.1:9002"]
    assert (said["permitted"], said["caller"]["consumer"]) == (True, "")


def test_what_is_explained_is_the_path_that_would_be_forwarded(explain):
    said = explain("GET", "http://any.example/x/../items//%37")
    assert (said["route"], said["path"]) == ("item", "/items/7")


def test_why_no_other_route_takes_it(explain):
    reasons = {other["route"]: other["reason"] for other in explain("GET", "http://any.example/items/7")["others"]}
    assert set(reasons) == {"beta", "secret"}
    assert "header x-beta is missing" in reasons["beta"]
    assert "host 'any.example' is not api.example.com" in reasons["beta"]
    assert "path differs" in reasons["secret"]


def test_headers_and_host_count(explain):
    assert explain("POST", "http://api.example.com/items/7", "-H", "x-beta: 1")["route"] == "beta"
    assert explain("POST", "/items/7", "-H", "X-Beta:1", "-H", "Host: api.example.com:8080")["route"] == "beta"


def test_the_stages_stand_in_the_order_in_which_they_are_met(explain):
    stages = {stage["stage"]: stage["settings"] for stage in explain("GET", "/secret")["stages"]}
    assert list(stages) == ["body", "identify", "permit", "limit", "fallback", "deadline", "retry", "balance", "try"]
    assert stages["permit"] == "scopes a"
    assert stages["limit"] == "(ip 10/1s)"
    assert stages["retry"].startswith("4 tries")


def test_a_stage_that_is_off_is_not_there(explain):
    assert [stage["stage"] for stage in explain("GET", "/items/7")["stages"]] == [
        "body",
        "identify",
        "deadline",
        "retry",
        "balance",
        "try",
    ]


def test_a_good_token_shows_whose_it_is_and_that_it_suffices(explain, token):
    said = explain("GET", "/secret", "--token", token("a b"))
    assert said["caller"] == {"consumer": "u1", "provider": "idp", "scopes": ["a", "b"], "roles": []}
    assert (said["permitted"], said["refusal"]) == (True, None)


def test_a_token_without_the_scope_shows_the_403(explain, token):
    said = explain("GET", "/secret", "--token", token("b"))
    assert (said["caller"]["consumer"], said["permitted"]) == ("u1", False)
    assert (said["refusal"]["status"], said["refusal"]["detail"]) == (403, "Missing scope: a")


def test_a_bad_token_shows_the_401(explain, token):
    said = explain("GET", "/secret", "--token", token("a")[:-4] + "AAAA")
    assert (said["caller"], said["permitted"], said["refusal"]["status"]) == (None, False, 401)


def test_without_a_token_nothing_is_said_about_permission(explain):
    said = explain("GET", "/secret")
    assert (said["caller"], said["permitted"], said["refusal"]) == (None, None, None)


def test_what_no_route_takes_shows_the_refusal_and_every_reason(explain):
    said = explain("POST", "http://any.example/items/7")
    assert (said["route"], said["refusal"]["status"], said["refusal"]["code"]) == (None, 405, "method_not_allowed")
    assert {other["route"] for other in said["others"]} == {"item", "beta", "secret"}
    assert explain("GET", "/nothing")["refusal"]["code"] == "no_route"


def test_what_is_no_request_shows_the_400(explain):
    assert explain("GET", "/a%2fb")["refusal"]["status"] == 400
    assert explain("GET", "http://x/ä")["refusal"]["status"] == 400


def test_people_get_the_same_in_words(config, capsys, token):
    assert main(["explain", "-c", config, "GET", "http://x/secret", "--token", token("b")]) == 0
    out = capsys.readouterr().out
    for part in ("Route secret takes GET http://x/secret", "caller: u1, scopes b", "403 forbidden Missing scope: a"):
        assert part in out
    assert "item" in out.partition("Other routes")[2]


def test_people_are_told_when_nothing_takes_it(capsys):
    assert main(["explain", "-c", str(SHIPPED), "GET", "/nowhere"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("No route takes GET /nowhere")
    assert "404 no_route" in out


def test_thousands_of_other_routes_do_not_flood_the_terminal(tmp_path, capsys):
    path = tmp_path / "routes.yaml"
    many = "".join(f"  - {{name: r{n}, match: {{path: /{n}}}, upstream: api}}\n" for n in range(100))
    path.write_text(CONFIG + many)
    assert main(["explain", "-c", str(path), "POST", "/items/7"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") < 40
    assert "and 78 more" in out
    assert "method POST is not in GET, HEAD" in out


def test_a_header_without_a_colon_is_wrong_usage(config, capsys):
    assert main(["explain", "-c", config, "GET", "/", "-H", "nonsense"]) == 2
    assert capsys.readouterr().err == "gateway explain: -H 'nonsense' is not 'Name: value'\n"


CONSUMERS = """\
auth:
  providers:
    partners: {type: api_key, header: X-API-Key, query: api_key}
    legacy: {type: basic}
  consumers:
    acme: {keys: ["sha256:4a44dc15364204a80fe80e9039455cc1608281820fe2b24f1e5233ade6af1dd5"], roles: [editor]}
  roles: {viewer: ["orders:read"], editor: ["role:viewer", "orders:write"]}
upstreams: {u: {targets: ["http://127.0.0.1:9001"]}}
routes:
  - name: orders
    match: {path: /orders}
    auth: {providers: [partners, legacy], scopes: ["orders:read"], roles: [viewer]}
    upstream: u
  - name: refunds
    match: {path: /refunds}
    auth: {providers: [partners], roles: [admin]}
    upstream: u
""".replace("roles: {viewer", "roles: {admin: [], viewer")


@pytest.fixture
def consumers(config):
    with open(config, "w") as file:
        file.write(CONSUMERS)


@pytest.mark.parametrize("argv", [["-H", "x-api-key: 10", "/orders"], ["/orders?a=1&api_key=10"]])
def test_a_known_consumer_and_what_its_roles_permit(consumers, explain, argv):
    *options, url = argv
    said = explain(*options, "GET", url)
    assert said["caller"] == {"consumer": "acme", "provider": "partners", "scopes": [], "roles": ["editor"]}
    assert said["permitted"] is True
    (permit,) = [stage["settings"] for stage in said["stages"] if stage["stage"] == "permit"]
    assert permit == "scopes orders:read, and role viewer"
    assert said["reason"] == "orders:read through role editor, role viewer through role editor"


def test_a_missing_role_a_wrong_key_and_no_key_are_told_apart(consumers, explain):
    said = explain("-H", "x-api-key: 10", "GET", "/refunds")
    assert (said["permitted"], said["refusal"]["status"]) == (False, 403)
    assert said["refusal"]["detail"] == "Missing role: admin"
    said = explain("-H", "x-api-key: 11", "GET", "/orders")
    assert (said["permitted"], said["refusal"]["status"], said["caller"]) == (False, 401, None)
    said = explain("GET", "/orders")
    assert (said["permitted"], said["refusal"], said["caller"]) == (None, None, None)


def test_keys_that_cannot_be_fetched_are_said_to_be_the_reason(explain, config):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # nobody listens
        place = f"jwks: 'http://127.0.0.1:{unused.getsockname()[1]}/keys', algorithms: [ES256]"
        Path(config).write_text(CONFIG.replace("secret: 0123456789abcdef0123456789abcdef, algorithms: [HS256]", place))
        head = base64.urlsafe_b64encode(b'{"alg":"ES256"}').decode().rstrip("=")
        credential = f"Authorization: Bearer {head}.e30.AAAA"
        said = explain("GET", "/secret", "--header", credential)
    assert said["refusal"]["code"] == "identity_unavailable"
    assert said["permitted"] is False


REQUIRED = """\
auth:
  providers:
    idp: {type: jwt, secret: 0123456789abcdef0123456789abcdef, algorithms: [HS256]}
    partners: {type: api_key, header: X-API-Key}
  roles: {viewer: ["orders:read"], editor: ["role:viewer"], auditor: []}
  permissions: {"orders:write": ["orders:read"]}
upstreams: {u: {targets: ["http://127.0.0.1:9001"]}}
routes:
  - name: orders
    match: {path: /orders}
    auth:
      providers: [idp]
      optional: true
      scopes: {GET: ["orders:read", {any: [a, b]}], POST: ["orders:write"]}
    upstream: u
  - name: both
    match: {path: /both}
    auth: {providers: [idp], roles: {all: [viewer, auditor]}}
    upstream: u
  - name: payments
    match: {path: /payments}
    auth: {providers: [idp], scopes: [pay], claims: {tenant: [acme, beta], acr: gold, ok: true}, max_age: 15m}
    upstream: u
"""


@pytest.fixture
def required(config):
    Path(config).write_text(REQUIRED)


def bearer(**claims):
    payload = {"sub": "u1", "exp": int(time.time()) + 60, **claims}
    return sign(payload, b"0123456789abcdef0123456789abcdef").decode()


def permit_of(said):
    (found,) = [stage["settings"] for stage in said["stages"] if stage["stage"] == "permit"]
    return found


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"scope": "orders:read b x"}, "orders:read, b"),
        ({"scope": "orders:write a b"}, "orders:read through orders:write, a"),
        ({"scope": "a", "roles": ["zz", "editor"]}, "orders:read through role editor, a"),
        ({"scope": "b orders:write", "roles": ["editor"]}, "orders:read through orders:write, b"),
    ],
)
def test_the_reason_says_what_comes_through_what(required, explain, claims, reason):
    said = explain("HEAD", "/orders", "--token", bearer(**claims))
    assert permit_of(said) == "scopes orders:read (a or b)"
    assert (said["permitted"], said["reason"], said["refusal"]) == (True, reason, None)


def test_all_roles_are_told_apart_from_any(required, explain):
    said = explain("GET", "/both", "--token", bearer(roles=["auditor", "editor"]))
    assert permit_of(said) == "roles viewer and auditor"
    assert said["reason"] == "role viewer through role editor, role auditor"
    said = explain("GET", "/both", "--token", bearer(roles=["editor"]))
    assert (said["permitted"], said["reason"]) == (False, "")
    assert said["refusal"]["detail"] == "Missing role: auditor"


def test_a_missing_choice_is_told(required, explain):
    said = explain("GET", "/orders", "--token", bearer(scope="orders:read"))
    assert said["refusal"] == {"status": 403, "code": "forbidden", "detail": "Missing scope: one of a b"}


def test_without_a_token_an_optional_route_asks_for_one(required, explain):
    said = explain("GET", "/orders")
    assert (said["permitted"], said["refusal"]["status"], said["caller"]["consumer"]) == (False, 401, "")
    assert explain("DELETE", "/orders")["permitted"] is True


def test_claims_are_shown_and_what_is_missing_of_them(required, explain):
    now = int(time.time())
    said = explain(
        "GET", "/payments", "--token", bearer(scope="pay", tenant="beta", acr="gold", ok=True, auth_time=now)
    )
    assert permit_of(said) == (
        "scopes pay, and claim tenant acme or beta, and claim acr gold, and claim ok true, "
        "and authenticated within 900 s"
    )
    assert (said["permitted"], said["reason"]) == (True, "pay")
    said = explain("GET", "/payments", "--token", bearer(scope="pay", tenant="beta", ok=True, auth_time=now - 1000))
    assert said["refusal"] == {
        "status": 401,
        "code": "unauthenticated",
        "detail": "Missing claims: acr gold, auth_time of the last 900 s",
    }
    said = explain("GET", "/payments", "--token", bearer(scope="pay", acr="gold", ok=1, auth_time=now))
    assert said["refusal"]["status"] == 403
    assert said["refusal"]["detail"] == "Missing claims: tenant acme or beta, ok true"


def test_people_are_told_the_reason(required, config, capsys):
    assert main(["explain", "-c", config, "POST", "/orders", "--token", bearer(scope="orders:write")]) == 0
    assert "  permitted: orders:write\n" in capsys.readouterr().out
    assert main(["explain", "-c", config, "DELETE", "/orders"]) == 0
    assert "  permitted\n" in capsys.readouterr().out
