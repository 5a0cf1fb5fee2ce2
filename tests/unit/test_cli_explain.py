import base64
import json
import socket
import time
from dataclasses import fields
from pathlib import Path

import pytest

from gateway import assemble
from gateway.cli.configured import load_config
from gateway.cli.demo import SHIPPED
from gateway.cli.main import main
from gateway.handler import Route
from gateway.pipe import pipe
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
    assert list(stages) == ["identify", "permit", "limit", "fallback", "deadline", "retry", "balance", "try"]
    assert stages["permit"] == "scopes a"
    assert stages["limit"] == "(ip 10/1s)"
    assert stages["retry"].startswith("4 tries")


def test_a_stage_that_is_off_is_not_there(explain):
    assert [stage["stage"] for stage in explain("GET", "/items/7")["stages"]] == [
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


EVERYTHING = """\
auth:
  providers:
    idp: {type: jwt, secret: 0123456789abcdef0123456789abcdef, algorithms: [HS256]}
shedding: {loop_lag: 100ms, queue_age: 500ms, last: [gold]}
upstreams:
  full:
    targets: [http://127.0.0.1:9001, {url: "http://127.0.0.1:9002", weight: 2, priority: 1}]
    balance: {hash: consumer}
    slow_start: 30s
    timeouts: {header: X-Time-Left}
    retry: {attempts: 4, attempts_header: true}
    hedge: {after: p95, max: 2}
    breaker: {slow_calls: {over: 2s, rate: 80%}, open_for_max: 5m}
    health: {path: /healthz, expect: [200-299, 404]}
    eject: {consecutive_failures: 4}
    concurrency: {adaptive: true, limit: 200, queue: 50}
    quota: {respect: true}
  found:
    discover: {dns: orders.internal, port: 8080, server: 127.0.0.1:53}
    balance: least_requests
    retry: off
    breaker: off
  spare: {targets: [http://127.0.0.1:9003]}
routes:
  - name: all
    match: {path: /all}
    auth: {providers: [idp]}
    rate_limit: [{by: ip, limit: 10/second}]
    concurrency: {limit: 20, by: consumer, queue: 5}
    idempotency: {}
    mirror: {upstream: spare, share: 0.5%}
    fallback: [{on: [open], upstream: spare}, {file: routes.yaml}]
    fault: {share: 1%, status: 503, delay: 200ms, header: X-Test}
    split: {full: 95, found: 5, spare: 0}
    split_by: consumer
  - name: plain
    match: {path: /plain}
    upstream: found
"""

DOOR = {"identify": ["identify"], "permit": ["permit"], "admit": ["shed"], "take_quota": ["limit"]}
"""The statements of `Handler.handle`, each with its lines."""

LAYERS = {
    "idempotency": ["idempotency"],
    "limited": ["concurrency"],
    "mirror": ["mirror"],
    "fallback": ["fallback", "fallback"],  # EVERYTHING has two
    "fault": ["fault"],
    "split": ["split"],
    "deadline": ["deadline"],
    "QuotaPause.gate": ["quota"],
    "retry": ["retry"],
    "hedge": ["hedge"],
    "adaptive": [],  # is told with the concurrency that it adapts
    "QuotaPause.ear": [],  # the other half of the quota
    "balance": ["balance"],
    "judged": ["breaker", "ejection"],
    "_try": ["try"],
}
"""What `assemble` builds, by the name of its maker."""


@pytest.fixture
def everything(config):
    Path(config).write_text(EVERYTHING)


@pytest.fixture
def built(everything, config, monkeypatch):
    """The makers of the layers of each pipe that assemble builds, None for those that are off."""
    pipes = {}

    def recorded(*layers, to):
        name = maker(to)
        pipes.setdefault(name, []).append([*(layer and maker(layer) for layer in layers), name])
        return pipe(*layers, to=to)

    monkeypatch.setattr(assemble, "pipe", recorded)
    assemble.assemble(load_config(Path(config)))
    return pipes


def maker(made):
    return made.__qualname__.partition(".<locals>")[0]


def of(said, upstream):
    return [stage["stage"] for stage in said["stages"] if stage.get("upstream") == upstream]


def test_with_everything_on_every_stage_has_its_line(everything, explain):
    said = explain("GET", "/all")
    assert of(said, None) == [
        *("identify", "permit", "shed", "limit", "idempotency", "concurrency", "mirror"),
        *("fallback", "fallback", "fault", "split"),
    ]
    assert of(said, "full") == [
        *("deadline", "quota", "retry", "hedge", "concurrency", "balance", "breaker", "ejection", "try"),
    ]
    assert of(said, "found") == ["deadline", "balance", "try"]


def test_every_layer_that_is_built_has_its_line_in_the_same_place(built, explain):
    said = explain("GET", "/all")
    (way,) = built["split"]
    full, found, _spare = built["_try"]
    assert None not in way + full, "what can be switched on is on in EVERYTHING"
    door = [line for lines in DOOR.values() for line in lines]
    assert of(said, None) == door + [line for layer in way for line in LAYERS[layer]]
    assert of(said, "full") == [line for layer in full for line in LAYERS[layer]]
    assert of(said, "found") == [line for layer in found if layer for line in LAYERS[layer]]


def test_every_statement_of_the_door_has_its_line():
    assert [field.name for field in fields(Route)] == ["name", *DOOR, "send", "rehearse", "body_limit"]


def settings_of(said, upstream=None):
    """The last one, where there are several of a kind."""
    return {stage["stage"]: stage["settings"] for stage in said["stages"] if stage.get("upstream") == upstream}


def test_the_stages_in_front_of_a_split_are_told_exactly(everything, explain):
    said = explain("GET", "/all")
    told = settings_of(said)
    assert told["shed"] == (
        "priority normal: turned away while the event loop is 0.1 s late, lower priorities first, or after a wait of "
        "0.5 s; callers of tier gold count as one higher"
    )
    assert told["concurrency"] == "20 requests at a time for each consumer, 5 more wait up to 0.5 s"
    assert told["mirror"] == "copies of 0.5% to spare, whose replies nobody gets"
    assert told["fault"] == "a rehearsal: 1% of requests with X-Test wait 0.2 s and get a 503"
    assert told["split"] == "full (95 of 100) or found (5 of 100), by consumer"
    first, second = (stage["settings"] for stage in said["stages"] if stage["stage"] == "fallback")
    assert first == "on open: upstream spare"
    assert second.endswith(" quota no_healthy_target: status 200, file routes.yaml")


def test_the_stages_on_the_way_to_an_upstream_are_told_exactly(everything, explain):
    assert settings_of(explain("GET", "/all"), "full") == {
        "deadline": "10 s for everything below, or less if a trusted caller says so in X-Time-Left; "
        "the upstream is told what is left",
        "quota": "nothing is sent while it says that its own limit is used up, until its reset",
        "retry": "4 tries in all on connect_failure reset timeout 502 503 504, budget 20%; "
        "X-Gateway-Attempts says how many tries there were",
        "hedge": "up to 2 more tries, each after the p95 of recent times without a good reply, budget 20%",
        "concurrency": "5 to 200 tries at a time, by how long replies take, 50 more wait up to 0.5 s",
        "balance": "hash of consumer to one of http://127.0.0.1:9001, http://127.0.0.1:9002 (weight 2, priority 1); "
        "probed every 5 s with GET /healthz for 200-299 404, ill after 3 failures in a row, well after 2 successes; "
        "slow start over 30 s; all when fewer than 50% are well",
        "breaker": "per target: opens for 10 s, up to 300 s when trials fail, after 5 failures in a row, "
        "or 50% of 20 or more in 10 s, or when 80% of them take over 2 s",
        "ejection": "targets with 4 failures in a row are set aside for 30 s, longer each time, at most 50% of them, "
        "or one",
        "try": "3 s, of which at most 1 s to connect",
    }


def test_targets_that_are_found_and_upstreams_that_get_nothing(everything, explain):
    said = explain("GET", "/all")
    assert settings_of(said, "found")["balance"] == (
        "least_requests of http://orders.internal:8080, its addresses from the DNS of 127.0.0.1:53 at least every 10 s"
    )
    assert said["targets"] == ["http://127.0.0.1:9001", "http://127.0.0.1:9002", "http://orders.internal:8080"]
    assert of(said, "spare") == []


def test_without_a_split_no_stage_names_an_upstream(everything, explain):
    assert explain("GET", "/plain")["stages"][-1] == {
        "stage": "try",
        "settings": "3 s, of which at most 1 s to connect",
    }


@pytest.mark.parametrize(
    ("method", "retry", "hedge", "idempotency"),
    [
        ("PUT", "", "", "by Idempotency-Key, not for PUT"),
        (
            "POST",
            ", POST only if nothing was sent or with Idempotency-Key",
            ", POST only with Idempotency-Key",
            "by Idempotency-Key: sent once, repetitions get the first reply for 1d",
        ),
    ],
)
def test_what_may_be_repeated_depends_on_the_method(everything, explain, method, retry, hedge, idempotency):
    said = explain(method, "/all")
    told = settings_of(said, "full")
    assert told["retry"].startswith(f"4 tries in all on connect_failure reset timeout 502 503 504{retry}, budget")
    assert told["hedge"].endswith(f" without a good reply{hedge}, budget 20%")
    assert settings_of(said)["idempotency"] == idempotency


ROUTE = "routes: [{name: r, match: {path: /r}, upstream: u}]"
UPSTREAM_SETTINGS = [
    ("retry: {methods: [GET]}", "retry", ", POST only if nothing was sent, budget 20%"),
    ("retry: {methods: [POST]}", "retry", ", POST only if nothing was sent or a reply came, budget 20%"),
    (
        "retry: {attempts: 1, attempts_header: true}",
        "retry",
        "never; X-Gateway-Attempts says how many tries there were",
    ),
    ("retry: {budget: 2.5%}", "retry", ", budget 2.5%"),
    ("hedge: {after: 200ms}", "hedge", "another try after 0.2 s without a good reply, not for POST, budget 20%"),
    ("concurrency: {limit: 7}", "concurrency", "7 tries at a time"),
    (
        "health: {tcp: true}",
        "balance",
        "by connecting, ill after 3 failures in a row, well after 2 successes; all when fewer than 50% are well",
    ),
    ("health: {tcp: true}, panic: 0%", "balance", "well after 2 successes"),
    ("balance: peak_ewma", "balance", "peak_ewma of http://127.0.0.1:9001, http://127.0.0.1:9002"),
    ("eject: {max_share: 100%}, breaker: off", "ejection", "are set aside for 30 s, longer each time"),
    (
        "breaker: {open_for_max: 10s}",
        "breaker",
        "opens for 10 s after 5 failures in a row, or 50% of 20 or more in 10 s",
    ),
    ("breaker: {failure_rate: 0.5%}", "breaker", "or 0.5% of 20 or more in 10 s"),
]


@pytest.mark.parametrize(("settings", "stage", "told"), UPSTREAM_SETTINGS, ids=[each[0] for each in UPSTREAM_SETTINGS])
def test_what_is_configured_for_an_upstream_is_told(explain, config, settings, stage, told):
    targets = "targets: [http://127.0.0.1:9001, http://127.0.0.1:9002]"
    Path(config).write_text(f"upstreams: {{u: {{{targets}, {settings}}}}}\n" + ROUTE)
    assert settings_of(explain("POST", "/r"))[stage].endswith(told)


LOW = "priority low: turned away while the event loop is 0.1 s late, lower priorities first, or after a wait of 0.5 s"
ROUTE_SETTINGS = [
    ("priority: critical", "shed", "priority critical: never turned away"),
    ("priority: low", "shed", LOW),
    ("concurrency: {limit: 3}", "concurrency", "3 requests at a time"),
    ("concurrency: {limit: 3, by: [route, ip]}", "concurrency", "3 requests at a time for each route+ip"),
    ("fallback: [{on: [503], status: 204}]", "fallback", "on 503: status 204"),
    ("fallback: [{on: [open], text: later}]", "fallback", "on open: status 200, text"),
    ("fallback: [{on: [open], json: null}]", "fallback", "on open: status 200, json"),
    ("fault: {delay: 1s}", "fault", "a rehearsal: 100% of requests wait 1 s"),
    ("fault: {status: 500}", "fault", "a rehearsal: 100% of requests get a 500"),
]


@pytest.mark.parametrize(("settings", "stage", "told"), ROUTE_SETTINGS, ids=[each[0] for each in ROUTE_SETTINGS])
def test_what_is_configured_for_a_route_is_told(explain, config, settings, stage, told):
    route = ROUTE.replace("upstream: u", f"upstream: u, {settings}")
    Path(config).write_text("shedding: {}\nupstreams: {u: {targets: ['http://127.0.0.1:9001']}}\n" + route)
    assert settings_of(explain("GET", "/r"))[stage] == told


def test_services_are_told_from_addresses_and_chance_from_a_key(explain, config):
    found = "discover: {dns: _http._tcp.x.internal, type: srv, scheme: https, refresh: 1m}"
    Path(config).write_text(f"upstreams: {{u: {{{found}}}}}\n" + ROUTE.replace("upstream: u", "split: {u: 1}"))
    said = explain("GET", "/r")
    assert settings_of(said)["split"] == "u (1 of 1), by chance"
    assert settings_of(said, "u")["balance"] == (
        "round_robin of https://_http._tcp.x.internal, its SRV records from the DNS at least every 60 s"
    )


def test_people_see_each_way_behind_a_split_go_on_from_its_number(everything, config, capsys):
    assert main(["explain", "-c", config, "GET", "/all"]) == 0
    lines = capsys.readouterr().out.splitlines()
    steps = [line.split()[:2] for line in lines if line[:18].strip()]  # others go on with long settings
    begun = steps.index(["11", "split"]) + 1
    assert steps[begun : begun + 2] == [["to", "full"], ["12", "deadline"]]
    assert steps[begun + 10 : begun + 14] == [["to", "found"], ["12", "deadline"], ["13", "balance"], ["14", "try"]]
