"""The stages that `gateway explain` tells of: each that `assemble` builds, in its place, in so many words."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from gateway import assemble
from gateway.cli.configured import load_config
from gateway.cli.main import main
from gateway.handler import Route
from gateway.pipe import pipe


@pytest.fixture
def config(tmp_path):
    return str(tmp_path / "routes.yaml")


@pytest.fixture
def explain(config, capsys):
    def explain(*argv):
        assert main(["explain", "-c", config, "--json", *argv]) == 0
        return json.loads(capsys.readouterr().out)

    return explain


EVERYTHING = """\
auth:
  providers:
    idp: {type: jwt, secret: 0123456789abcdef0123456789abcdef, algorithms: [HS256]}
security_headers: true
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
    cors: {origins: ["https://app.example"], methods: [GET, PUT], headers: [X-A, X-B], expose: [X-C], credentials: true,
           max_age: 1h, private_network: true}
    allow_ip: [192.0.2.0/24, "2001:db8::/32"]
    deny_ip: 192.0.2.7
    body_limit: 1MiB
    compress: {encodings: [gzip], min_size: 2KiB, types: ["text/*", application/json]}
    transform:
      strip_prefix: /all
      rewrite: {from: "^/a(.*)$", to: '/b\\1'}
      add_prefix: /t
      query: {set: {a: "1"}, add: {b: "2"}, remove: c}
      request_headers: {set: {X-A: "{consumer}"}, add: {X-B: b, X-C: c}, remove: [X-D]}
      response_headers: {remove: [Server, X-Powered-By]}
      location: true
      cookies: {domain: none, path: true}
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
  - name: versions
    match: {path: /versions}
    versions:
      from: [path, header, query, media_type]
      header: X-API-Version
      query: version
      media_type: application/vnd.example.{version}+json
      default: v2
      aliases: {latest: v2}
      strip: false
      available:
        v1.1+:
          upstream: spare
          deprecated: 2026-01-01
          sunset: 2097-06-30T12:00:00+02:00
          successor: v2
          brownouts: [{from: 2096-01-01, to: 2096-01-02}, {from: 2096-02-01, to: 2096-02-02}]
        v2: {upstream: found}
    body_limit: none
  - {name: away, match: {path: /away}, redirect: {to: "https://docs.example/{path}", status: 308, keep_query: true}}
  - {name: here, match: {path: /here}, respond: {status: 404, text: none}}
"""

DOOR = {
    "enter": ["cors", "addresses", "version"],
    "body_limit": ["body"],
    "identify": ["identify"],
    "permit": ["permit"],
    "admit": ["shed"],
    "take_quota": ["limit"],
}
"""The statements of `Handler.handle`, each with its lines."""

OTHERS = {"name", "send", "rehearse", "answers_preflights"}
"""What a route has besides."""

LAYERS = {
    "compress": ["compress"],
    "security_headers": ["security"],
    "without_cors": [],  # the other half of what is told with the door
    "response_headers": ["reply"],
    "idempotency": ["idempotency"],
    "limited": ["concurrency"],
    "mirror": ["mirror"],
    "fallback": ["fallback", "fallback"],  # EVERYTHING has two
    "fault": ["fault"],
    "transformed": ["transform"] * 7,  # in EVERYTHING
    "split": ["split"],
    "by_version": [],  # is told with the door
    "redirect": ["redirect"],
    "respond": ["respond"],
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
        *("cors", "addresses", "body", "identify", "permit", "shed", "limit", "compress", "security", "reply"),
        *("idempotency", "concurrency", *["transform"] * 7, "mirror", "fallback", "fallback", "fault", "split"),
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
    door = [line for lines in DOOR.values() for line in lines if line != "version"]  # which split excludes
    assert of(said, None) == door + [line for layer in way for line in LAYERS[layer]]
    assert of(said, "full") == [line for layer in full for line in LAYERS[layer]]
    assert of(said, "found") == [line for layer in found if layer for line in LAYERS[layer]]


@pytest.mark.parametrize(("end", "url"), [("by_version", "/versions"), ("redirect", "/away"), ("respond", "/here")])
def test_whatever_answers_in_the_end_every_layer_in_front_of_it_has_its_line(built, explain, end, url):
    (way,) = built[end]
    said = [stage["stage"] for stage in explain("GET", url)["stages"]]
    begun = said.index("shed") + 1
    told = [line for layer in way if layer for line in LAYERS[layer]]
    assert said[begun : begun + len(told)] == told
    assert said[begun + len(told) :] == (["deadline", "balance", "try"] if end == "by_version" else [])


def test_every_statement_of_the_door_has_its_line():
    assert {field.name for field in fields(Route)} == DOOR.keys() | OTHERS


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


def test_what_is_decided_before_anybody_is_asked_who_he_is_is_told_exactly(everything, explain):
    told = settings_of(explain("GET", "/all"))
    assert told["cors"] == (
        "pages of https://app.example may use it with GET PUT and headers X-A X-B, with credentials, may read X-C, "
        "may remember it for 1h, also in a private network"
    )
    assert told["addresses"] == "only from 192.0.2.0/24 2001:db8::/32, not from 192.0.2.7/32"
    assert told["body"] == "at most 1MiB"
    told = settings_of(explain("GET", "/versions"))
    assert told["version"] == (
        "by path, header X-API-Version, query version, media type application/vnd.example.{version}+json; "
        "v1.1+ → spare (deprecated 2026-01-01, ends 2097-06-30T10:00:00Z, 2 brown-outs, successor v2); v2 → found; "
        "latest is v2; otherwise v2; the path keeps it"
    )
    assert "body" not in told


def test_what_is_changed_is_told_exactly(everything, explain):
    said = explain("GET", "/all")
    told = settings_of(said)
    assert told["compress"] == "gzip, as the client accepts, for text/* application/json of 2KiB or more"
    assert told["security"] == (
        "x-content-type-options nosniff, x-frame-options SAMEORIGIN, referrer-policy strict-origin-when-cross-origin; "
        "what the upstream says of it stands"
    )
    assert told["reply"] == "headers: remove Server X-Powered-By"
    assert [stage["settings"] for stage in said["stages"] if stage["stage"] == "transform"] == [
        "headers: set X-A, add X-B X-C, remove X-D",
        "query: set a, add b, remove c",
        "path: without /all",
        r"path: ^/a(.*)$ becomes /b\1",
        "path: /t in front",
        "replies: Location leads back to the public address",
        "replies: cookies with Domain none, with Path of the public address",
    ]
    assert settings_of(explain("GET", "/away"))["redirect"] == "308 to https://docs.example/{path}, with the query"
    assert settings_of(explain("GET", "/here"))["respond"] == "status 404, text"


def test_a_request_for_a_version_meets_the_stages_of_its_upstream(everything, explain):
    said = explain("GET", "/v2/versions")
    assert said["stages"][-1] == {"stage": "try", "settings": "3 s, of which at most 1 s to connect"}
    assert said["targets"] == ["http://orders.internal:8080"]
    said = explain("GET", "/v1.5/versions")
    assert said["targets"] == ["http://127.0.0.1:9003"]  # v1.1 and what comes later, but for v2
    assert "retry" in settings_of(said)


def test_as_long_as_the_version_is_not_known_the_stages_of_all_are_told(everything, explain):
    said = explain("GET", "/v2/versions?version=v1.1")
    assert said["refusal"]["status"] == 400
    assert of(said, "found") == ["deadline", "balance", "try"]
    assert of(said, "spare") == ["deadline", "retry", "balance", "breaker", "try"]
    assert said["targets"] == ["http://127.0.0.1:9003", "http://orders.internal:8080"]


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
    ("cors: {origins: '*'}", "cors", "pages of * may use it with all its methods and any header"),
    ("cors: {origins: 'null', headers: []}", "cors", "pages of null may use it with all its methods and headers none"),
    ("deny_ip: ['::1']", "addresses", "not from ::1/128"),
    ("transform: {location: true}", "transform", "replies: Location leads back to the public address"),
    ("transform: {cookies: {path: true}}", "transform", "replies: cookies with Path of the public address"),
    ("transform: {response_headers: {add: {X-A: a}}}", "reply", "headers: add X-A"),
    (
        "compress: {encodings: [gzip, br]}",
        "compress",
        "gzip or br, as the client accepts, for text, JSON, XML and the like of 1KiB or more",
    ),
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
    steps = [line.split()[:2] for line in lines if line[:16].strip()]  # others go on with long settings
    begun = steps.index(["24", "split"]) + 1
    assert steps[begun : begun + 2] == [["to", "full"], ["25", "deadline"]]
    assert steps[begun + 10 : begun + 14] == [["to", "found"], ["25", "deadline"], ["26", "balance"], ["27", "try"]]


NOTHING = "transform: {request_headers: {}, response_headers: {}, query: {}, cookies: {}}, compress: off"


def test_what_does_nothing_is_not_told(explain, config):
    route = ROUTE.replace("upstream: u", f"upstream: u, body_limit: none, {NOTHING}")
    Path(config).write_text("upstreams: {u: {targets: ['http://127.0.0.1:9001']}}\n" + route)
    assert of(explain("GET", "/r"), None) == ["identify", "deadline", "retry", "balance", "breaker", "try"]


SERVED_ON = "available: {v1: {upstream: u, sunset: '2020-01-01T10:00:00Z', after_sunset: serve}}"


def test_a_version_that_is_served_on_and_no_default(explain, config):
    route = ROUTE.replace("upstream: u", f"versions: {{from: query, query: v, {SERVED_ON}}}")
    Path(config).write_text("upstreams: {u: {targets: ['http://127.0.0.1:9001']}}\n" + route)
    said = explain("GET", "/r?v=v1")
    assert settings_of(said)["version"] == "by query v; v1 → u (should end 2020-01-01T10:00:00Z); refused without one"
    assert said["permitted"] is True


def test_a_fixed_answer_is_told_by_its_kind(explain, config):
    Path(config).with_name("a.txt").write_text("a")
    for written, told in (
        ("{}", "status 200"),
        ("{json: 1}", "status 200, json"),
        ("{file: a.txt}", "status 200, file a.txt"),
    ):
        Path(config).write_text(ROUTE.replace("upstream: u", f"respond: {written}"))
        assert settings_of(explain("GET", "/r"))["respond"] == told
