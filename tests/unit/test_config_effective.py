"""What is printed of a configuration is a configuration, the same one; secrets stay where they are."""

import json
from inspect import isfunction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.check import as_yaml
from gateway.config import Config, health, load, slo, units
from gateway.config.effective import (
    UNITS,
    comparable,
    duration_text,
    effective,
    marked,
    rate_text,
    share_text,
    size_text,
)
from gateway.config.logging import logged_share
from gateway.config.units import Rate
from tests.configs import ROUTE, SECRET, UPSTREAM, between, loaded, provider, route, upstream
from tests.wire.certificates import Authority

SHIPPED = Path(__file__).parents[2] / "config/routes.yaml"
FALLBACK = "fallback: [{{on: [timeout, 503], {}}}]"


def shown(folder: Path, text: str, environ: dict[str, str] | None = None) -> dict[str, Any]:
    return effective(loaded(folder, text, environ), marked(text.encode()), folder)


def again(config: Config, folder: Path) -> Config:
    """What is printed of `config`, loaded."""
    file = folder / "printed.yaml"
    file.write_text(as_yaml(effective(config, {}, folder)), encoding="utf-8")
    return load(file, {})


EXAMPLES = {
    "the smallest": UPSTREAM + ROUTE,
    "no routes": "routes: []",
    "listeners": 'listen: {http: ["127.0.0.1:0", "[::1]:8080", "unix:a.sock"], admin: off}\nroutes: []',
    "proxies": "listen: {proxy_protocol: true}\ntrusted_proxies: [10.0.0.0/8, fd00::/8]\nroutes: []",
    "a runtime folder": "runtime_dir: .\nworkers: 3\nstore: {url: embedded, prefix: 'on'}\nroutes: []",
    "limits": "rate_limits: {a: {by: ip, limit: 7/90s}, b: {by: global, limit: 1/1.5ms, burst: 3}}\nroutes: []",
    "no breaker, no retry": upstream("breaker: off\n    retry: off"),
    "several targets": UPSTREAM.replace("[http", "[{url: https://b, weight: 2}, http") + ROUTE,
    "odd numbers": upstream(
        "timeouts: {try: 0.1234ms, total: 1.5d}\n    retry: {budget: 33.333%, replay_limit: 1000B}"
    ),
    "json": route(
        FALLBACK.format(
            "json: {a: [1e5, '1e5', '0o17', null, true, 'true', '~', 0.1, '$${{A}}', '{status}', 2026-01-01]}"
        )
    ),
    "json null": route(FALLBACK.format("json: null")),
    "a text": route(FALLBACK.format('text: "a $${{b}} {route} \\u2028 \\t x\\n", headers: {X-A: "1"}')),
    "a bare status": route(FALLBACK.format("status: 503")),
    "a status without a body": route(FALLBACK.format("status: 204")),
    "a route's limits": route("rate_limit: {by: route, limit: 1/day}\n    body_limit: none"),
    "another upstream": between("upstream: u\n    fallback: [{on: [open, 503], upstream: v}]"),
    "a split": between("split: {u: 95, v: 0}\n    split_by: 'header:X-A'"),
    "copies, faults, keys": between(
        "upstream: u\n    mirror: {upstream: v, share: 2.5%}\n    idempotency: {keep: 90m}\n"
        "    fault: {share: 1%, delay: 200ms, header: X-Test}"
    ),
    "sampled logs": "logging: {access: ecs, headers: [X-A], redact: [X-B]}\n" + route("log: 12.5%"),
    "no log": route("log: off"),
    "promises": route("slo: {availability: 99.95%, latency: {p: 99.9, under: 300ms}}"),
    "one promise": route("slo: {latency: {p: 95, under: 1.5s}}"),
    "a rehearsed error": between("upstream: u\n    fault: {status: 503}"),
    "hedges after a time": upstream("hedge: {after: 95ms, max: 2}"),
    "hedges after a percentile": upstream("hedge: {after: p95}"),
    "probes": upstream("health: {path: '/h?a={b}', expect: [200-299, 401], host: 'a.b:80', interval: 2s}"),
    "probes that connect": upstream("health: {tcp: true, healthy_after: 1}"),
    "outliers": upstream("eject: {for: 90s, max_share: 33.3%}\n    slow_start: 1m\n    panic: 0%").replace(
        "[http", "[{url: http://b, priority: 1}, http"
    ),
    "addresses in the DNS": UPSTREAM.replace("targets: [http://127.0.0.1:9001]", "discover: {dns: a., server: 'b:54'}")
    + ROUTE,
    "services in the DNS": UPSTREAM.replace(
        "targets: [http://127.0.0.1:9001]", "discover: {dns: _a._tcp.b, type: srv, scheme: https}"
    )
    + ROUTE,
    "balancing by name": upstream("balance: peak_ewma\n    quota: {respect: false}"),
    "balancing by hash": upstream("balance: {hash: 'cookie:a'}\n    timeouts: {header: X-T}"),
    "a careful circuit": upstream(
        "breaker: {open_for_max: 5m, slow_calls: {over: 2s, rate: 12.5%}}\n    retry: {attempts_header: true}"
    ),
    "one place, one trial": upstream("concurrency: {limit: 1}"),
    "versions": between(
        "versions: {from: [path, header, query, media_type], header: X-V, query: v, "
        "media_type: 'application/vnd.e.{version}+json', default: v2, aliases: {latest: v2}, strip: false, available: "
        "{v1+: {upstream: u, deprecated: 2026-01-01, sunset: 2097-06-30T12:00:00+02:00, successor: v2, "
        "link: https://a, brownouts: [{from: 2097-06-01, to: 2097-06-02}]}, v2: {upstream: v}}}"
    ),
    "a version that stays": between(
        "versions: {available: {v1: {upstream: u, sunset: 2020-01-01, after_sunset: serve}}}"
    ),
    "a redirect": between("redirect: {to: 'https://{host}/x?y={consumer}#z', status: 308, keep_query: true}"),
    "an answer": between("respond: {status: 404, text: 'no {path} {{x}} $${{y}}', headers: {X-A: '{consumer}'}}"),
    "an answer in json": between("respond: {json: {a: ['{path}', null, 1, 'null', true]}}"),
    "an answer of null": between("respond: {json: null}"),
    "a bare answer": between("respond: {}"),
    "an answer without a body": between("respond: {status: 204, headers: {X-A: a}}"),
    "transformations": route(
        "transform: {strip_prefix: /r, add_prefix: '/t/{claim.a}', rewrite: {from: '^/a(.*)$', to: '/b\\1'}, "
        "query: {set: {a: '{consumer}'}, add: {b: ''}, remove: c}, request_headers: {set: {X-A: '{version}'}, "
        "add: {X-B: '1'}, remove: [X-C]}, response_headers: {remove: Server}, location: true, "
        "cookies: {domain: none, path: true}}"
    ),
    "no transformations": route("transform: {request_headers: {}, cookies: {domain: A.example}}"),
    "pages of others": route(
        "cors: {origins: ['https://app.example', 'https://*.example'], methods: [GET], headers: [A], expose: [B], "
        "credentials: true, max_age: 1h, private_network: true}"
    ),
    "pages of everybody": route("cors: {origins: '*', headers: [], max_age: 0s}"),
    "compression": route("compress: true"),
    "no compression": route("compress: off"),
    "some compression": route("compress: {encodings: [gzip], min_size: 2KiB, types: ['text/*'], level: small}"),
    "addresses": route("allow_ip: [10.0.0.0/8, '::1']\n    deny_ip: 10.1.0.0/16"),
    "security headers": "security_headers: true\nroutes: []",
    "conditions": UPSTREAM
    + ROUTE.replace("path: /r", 'path: /r, host: "*.a", headers: {X: "1"}, query: {"on": "off"}'),
}


@pytest.mark.parametrize("text", EXAMPLES.values(), ids=EXAMPLES)
def test_what_is_printed_loads_as_the_same_configuration(text: str, tmp_path: Path) -> None:
    config = loaded(tmp_path, text)
    assert again(config, tmp_path) == config
    assert effective(again(config, tmp_path), {}, tmp_path) == effective(config, {}, tmp_path)


def test_a_file_as_an_answer_is_printed_as_one(tmp_path: Path) -> None:
    (tmp_path / "sorry.json").write_text("{}")
    text = route(FALLBACK.format("file: sorry.json, status: 503, headers: {X-A: '{status}'}"))
    config = loaded(tmp_path, text)
    assert again(config, tmp_path) == config
    (entry,) = shown(tmp_path, text)["routes"][0]["fallback"]
    assert entry == {"on": ["timeout", 503], "status": 503, "file": "sorry.json", "headers": {"X-A": "{status}"}}


def test_a_file_as_a_fixed_answer_is_printed_as_one(tmp_path: Path) -> None:
    (tmp_path / "here.json").write_text("{}")
    text = between("respond: {file: here.json}")
    assert again(loaded(tmp_path, text), tmp_path) == loaded(tmp_path, text)
    assert shown(tmp_path, text)["routes"][0]["respond"] == {"status": 200, "headers": {}, "file": "here.json"}


def test_what_answers_a_route_is_shown_alone(tmp_path: Path) -> None:
    ends = {"upstream", "split", "versions", "redirect", "respond"}
    for end in ("upstream: u", "versions: {available: {v1: {upstream: u}}}", "redirect: {to: /a}", "respond: {}"):
        (only,) = shown(tmp_path, between(end))["routes"]
        assert ends & only.keys() == {end.partition(":")[0]}
        assert not {"transform", "cors", "compress"} & only.keys()
    only = shown(tmp_path, between("versions: {available: {v1: {upstream: u, deprecated: 2026-01-01}}}"))["routes"][0]
    assert only["versions"] == {
        "from": ["path"],
        "aliases": {},
        "strip": True,
        "available": {
            "v1": {"upstream": "u", "deprecated": "2026-01-01T00:00:00Z", "after_sunset": "gone", "brownouts": []}
        },
    }


SHAPED = """\
upstreams: {u: {targets: ["http://a"]}}
routes:
  - name: r
    match: {path: /r}
    transform:
      query: {set: {k: "${KEY}", n: plain}, add: {m: "${KEY}"}}
      request_headers: {set: {X-Key: "${KEY}", X-A: written}, add: {X-B: "${KEY}"}, remove: ["${HOST}"]}
      response_headers: {set: {X-C: "${KEY}"}}
    upstream: u
  - {name: away, match: {path: /away}, redirect: {to: "https://a/?k=${KEY}"}}
  - {name: near, match: {path: /near}, redirect: {to: "https://${HOST}/"}}
  - {name: here, match: {path: /here}, respond: {text: "${KEY}", headers: {X-A: "${KEY}", X-B: b}}}
  - {name: json, match: {path: /json}, respond: {json: [a, "${KEY}"]}}
"""


@pytest.mark.parametrize("cautious", [False, True])
def test_what_requests_and_replies_are_given_may_be_a_secret(tmp_path: Path, cautious: bool) -> None:
    config = loaded(tmp_path, SHAPED, ENVIRON)
    data = effective(config) if cautious else effective(config, marked(SHAPED.encode()), tmp_path)
    first, away, near, here, json_ = data["routes"]
    plain = "***" if cautious else "plain"
    assert first["transform"]["query"] == {"set": {"k": "***", "n": plain}, "add": {"m": "***"}, "remove": []}
    headers = first["transform"]["request_headers"]
    assert headers["set"] == {"X-Key": "***", "X-A": "***" if cautious else "written"}
    assert (headers["add"], headers["remove"]) == ({"X-B": "***"}, ["inside"])
    assert first["transform"]["response_headers"]["set"] == {"X-C": "***"}
    assert (away["redirect"]["to"], near["redirect"]["to"]) == ("***", "https://inside/")
    assert here["respond"]["text"] == "***"
    assert here["respond"]["headers"] == {"X-A": "***", "X-B": "***" if cautious else "b"}
    assert json_["respond"]["json"] == ["***" if cautious else "a", "***"]
    assert "topsecret" not in json.dumps(data)


def test_new_kinds_of_values_are_written_as_in_the_file(tmp_path: Path) -> None:
    health = "health: {path: /h, expect: [200-299, 404]}"
    only = shown(tmp_path, upstream(f"hedge: {{after: p95}}\n    balance: {{hash: ip}}\n    {health}"))
    service = only["upstreams"]["u"]
    assert service["hedge"] == {"after": "p95", "max": 1}
    assert service["balance"] == {"hash": "ip"}
    assert service["health"]["expect"] == ["200-299", "404"]
    assert service["targets"] == [{"url": "http://127.0.0.1:9001", "weight": 1, "priority": 0}]
    assert shown(tmp_path, upstream("hedge: {after: 95ms}"))["upstreams"]["u"]["hedge"]["after"] == "95ms"
    assert shown(tmp_path, upstream("health: {tcp: true}"))["upstreams"]["u"]["health"] == {
        "tcp": True,
        "interval": "5s",
        "timeout": "1s",
        "healthy_after": 2,
        "unhealthy_after": 3,
    }


def test_what_stands_in_place_of_a_key_is_shown_alone(tmp_path: Path) -> None:
    only = shown(tmp_path, between("split: {u: 95, v: 5}\n    fallback: [{upstream: v}]"))["routes"][0]
    assert only["split"] == {"u": 95, "v": 5}
    assert "upstream" not in only
    assert only["fallback"][0].keys() == {"on", "upstream"}
    found = shown(tmp_path, UPSTREAM.replace("targets: [http://127.0.0.1:9001]", "discover: {dns: a}") + ROUTE)
    assert "targets" not in found["upstreams"]["u"]
    assert found["upstreams"]["u"]["discover"] == {"dns": "a", "type": "a", "scheme": "http", "refresh": "10s"}


def test_what_a_probe_asks_for_may_hold_a_secret_behind_its_path(tmp_path: Path) -> None:
    def path(written: str, cautious: bool) -> str:
        text = upstream(f"health: {{path: '{written}'}}")
        config = loaded(tmp_path, text, ENVIRON)
        data = effective(config) if cautious else effective(config, marked(text.encode()), tmp_path)
        return str(data["upstreams"]["u"]["health"]["path"])

    assert [path("/h", cautious) for cautious in (True, False)] == ["/h", "/h"]
    assert [path("/${HOST}", cautious) for cautious in (True, False)] == ["/inside", "/inside"]
    assert [path("/h?full=1", cautious) for cautious in (True, False)] == ["***", "/h?full=1"]
    assert [path("/h?key=${KEY}", cautious) for cautious in (True, False)] == ["***", "***"]


@pytest.mark.parametrize("more", ["", "redirect_to_https: true", "redirect_to_https: 8443", "http: off"])
def test_what_is_printed_of_a_tls_listener_loads_as_the_same(more: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.sign("a.example", file="a")
    authority.sign("b.example", file="b")
    tls = "address: 127.0.0.1:8443, certificate: a.pem, key: a.key, hsts: 180d"
    text = f"listen: {{https: {{{tls}}}, {more}}}\nroutes: []"
    config = loaded(tmp_path, text)
    assert again(config, tmp_path) == config
    assert shown(tmp_path, text)["listen"]["https"]["key"] == "a.key"

    tls += ", client_ca: test-authority.pem, client_certificate: optional"
    tls += ", certificates: [{certificate: b.pem, key: b.key}]"
    config = loaded(tmp_path, f"listen: {{https: {{{tls}}}, {more}}}\nroutes: []")
    assert again(config, tmp_path) == config


def test_the_example_of_the_repository_is_the_same_again_but_for_its_secret(tmp_path: Path) -> None:
    config = load(SHIPPED, {})
    data = effective(config, marked(SHIPPED.read_bytes()), SHIPPED.parent)
    provider = data["auth"]["providers"]["demo"]
    assert provider["secret"] == "***"
    secret = config.auth.providers["demo"].secret
    assert secret is not None
    provider["secret"] = secret.get_secret_value()
    data["listen"]["admin_token"] = ""
    assert "***" not in json.dumps(data)
    assert loaded(tmp_path, as_yaml(data)) == config


TEXTS = st.text().map(lambda text: text.replace("{", "{{").replace("}", "}}"))
"""Without fields to fill in."""


@given(
    value=st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53), 2**53)
        | st.floats(allow_nan=False, allow_infinity=False)
        | TEXTS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
        max_leaves=8,
    )
)
def test_any_body_comes_back_as_it_was(value: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp()
    body = {"upstreams": {"u": {"targets": ["http://a"]}}, "routes": [
        {"name": "r", "match": {"path": "/"}, "upstream": "u", "fallback": [{"json": value}]}
    ]}  # fmt: skip
    config = loaded(folder, as_yaml(body))
    (route,) = config.routes
    assert json.dumps(route.fallback[0].json_) == json.dumps(value)
    assert json.dumps(again(config, folder).routes[0].fallback[0].json_) == json.dumps(value)


NUMBERS = st.integers(0, 87600) | st.decimals(0, 87600, allow_nan=False, allow_infinity=False, places=6)


@given(number=NUMBERS, unit=st.sampled_from(["ms", "s", "m", "h"]))
def test_any_duration_is_written_so_that_it_is_read_exactly(number: object, unit: str) -> None:
    seconds = units.duration(f"{number:f}{unit}")
    assert units.duration(duration_text(seconds)) == seconds


@given(number=st.decimals(0, 100, allow_nan=False, allow_infinity=False, places=9))
def test_any_share_is_written_so_that_it_is_read_exactly(number: object) -> None:
    part = units.share(f"{number:f}%")
    assert units.share(share_text(part)) == part


@given(count=st.integers(0, 10**11), unit=st.sampled_from(["B", "KiB", "MiB", "GiB"]))
def test_any_size_is_written_so_that_it_is_read_exactly(count: int, unit: str) -> None:
    size = units.size(f"{count}{unit}")
    assert units.size(size_text(size)) == size


@given(limit=st.integers(1, 10**9 - 1), window=st.sampled_from(["second", "day", "1ms", "1.5s", "3650d", "1234567s"]))
def test_any_rate_is_written_so_that_it_is_read_exactly(limit: int, window: str) -> None:
    rate = units.rate(f"{limit}/{window}")
    assert units.rate(rate_text(rate)) == rate


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (duration_text(60.0), "1m"),
        (duration_text(90.0), "90s"),
        (duration_text(0.05), "50ms"),
        (duration_text(0.0), "0s"),
        (duration_text(180 * 86400.0), "180d"),
        (duration_text(100_000_000.001), "100000000.001s"),  # as milliseconds it would have too many digits
        (size_text(65536), "64KiB"),
        (size_text(240), "240B"),
        (size_text(0), "0B"),
        (share_text(0.2), "20%"),
        (share_text(0.125), "12.5%"),
        (rate_text(Rate(100, 60.0)), "100/60s"),
    ],
)
def test_numbers_are_written_in_the_units_of_the_file(written: str, text: str) -> None:
    assert written == text


def test_whatever_reads_a_unit_has_a_counterpart_that_writes_it() -> None:
    readers = {each for each in vars(units).values() if isfunction(each) and each.__module__ == units.__name__}
    assert readers - {units.rate} == set(UNITS) - {health.after, slo.percentile, logged_share}


def test_the_store_of_several_workers_is_shown_as_it_will_be(tmp_path: Path) -> None:
    assert shown(tmp_path, "workers: 2\nroutes: []")["store"]["url"] == "embedded"
    assert shown(tmp_path, "workers: 2\nstore: {url: memory}\nroutes: []")["store"]["url"] == "memory"


def test_paths_are_written_relative_to_the_file_as_in_the_file(tmp_path: Path) -> None:
    text = "listen: {http: 'unix:a.sock', admin: 'unix:/b.sock'}\nroutes: []"
    assert shown(tmp_path, text)["listen"] | {"proxy_protocol": 0} == {
        "http": ["unix:a.sock"],
        "proxy_protocol": 0,
        "admin": "unix:/b.sock",
    }
    assert effective(loaded(tmp_path, text))["listen"]["http"] == [f"unix:{tmp_path}/a.sock"]


def test_a_secret_is_masked_wherever_it_came_from(tmp_path: Path) -> None:
    data = shown(tmp_path, provider(f"secret: {SECRET}, algorithms: [HS256]"))
    assert data["auth"]["providers"]["p"]["secret"] == "***"


def test_of_a_stores_url_only_the_password_is_masked(tmp_path: Path) -> None:
    text = "store: {url: 'redis://user:hunter2@a:6379/0'}\nroutes: []"
    assert shown(tmp_path, text)["store"]["url"] == "redis://***@a:6379/0"
    assert effective(loaded(tmp_path, text))["store"]["url"] == "redis://***@a:6379/0"


def test_of_a_stores_url_from_a_file_nothing_is_shown(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("redis://:hunter2@a:6379/0\n")
    text = "store: {url: '${file:url}'}\nroutes: []"
    assert shown(tmp_path, text)["store"]["url"] == "***"


def test_hidden_values_do_not_show_when_they_are_printed(tmp_path: Path) -> None:
    data = comparable(loaded(tmp_path, provider(f"secret: {SECRET}, algorithms: [HS256]")))
    assert SECRET not in repr(data)


FROM_OUTSIDE = """\
upstreams:
  u: {targets: ["http://${HOST}:9001", {url: "http://b", weight: "${WEIGHT:-2}"}], host: "${file:host}"}
routes:
  - name: r
    match: {path: /r, headers: {X-Key: "${KEY}", X-Channel: mobile}, query: {k: "${KEY}", n: plain}}
    fallback:
      - {text: "call ${KEY}", headers: {X-A: "${file:key}", X-B: written}}
      - {json: {a: ["${KEY}", open, {b: "${file:key}"}], n: 5}}
      - {text: "costs $${{KEY}}"}
    upstream: u
"""
ENVIRON = {"HOST": "inside", "KEY": "topsecret"}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "host").write_text("fromfile")
    (tmp_path / "key").write_text("topsecret")
    return tmp_path


def test_what_came_from_the_environment_is_masked_where_it_may_be_a_secret(files: Path) -> None:
    data = shown(files, FROM_OUTSIDE, ENVIRON)
    assert [target["url"] for target in data["upstreams"]["u"]["targets"]] == ["http://inside:9001", "http://b"]
    (only,) = data["routes"]
    assert only["match"]["headers"] == {"X-Key": "***", "X-Channel": "mobile"}
    assert only["match"]["query"] == {"k": "***", "n": "plain"}
    first, second, third = only["fallback"]
    assert (first["text"], first["headers"]) == ("***", {"X-A": "***", "X-B": "written"})
    assert second["json"] == {"a": ["***", "open", {"b": "***"}], "n": 5}
    assert third["text"] == "costs ${{KEY}}"
    assert "topsecret" not in json.dumps(data)


def test_what_came_from_a_file_is_masked_everywhere(files: Path) -> None:
    assert shown(files, FROM_OUTSIDE, ENVIRON)["upstreams"]["u"]["host"] == "***"
    listed = "auth: {providers: {p: {type: jwt, secret: %s, algorithms: [HS256]}}}\n" % SECRET  # noqa: UP031 - braces
    listed += route('auth: {providers: p, scopes: ["${file:key}", open]}'.replace(" p,", " [p],"))
    data = shown(files, listed)
    assert data["routes"][0]["auth"]["scopes"] == {"*": ["***", "open"]}


def test_without_the_files_text_whatever_may_be_a_secret_is_masked(files: Path) -> None:
    data = effective(loaded(files, FROM_OUTSIDE, ENVIRON))
    (only,) = data["routes"]
    assert only["match"]["headers"] == {"X-Key": "***", "X-Channel": "***"}
    assert only["match"]["query"] == {"k": "***", "n": "***"}
    first, second, _ = only["fallback"]
    assert (first["text"], first["headers"]) == ("***", {"X-A": "***", "X-B": "***"})
    assert second["json"] == {"a": ["***", "***", {"b": "***"}], "n": "***"}


def test_marks_follow_aliases_and_merge_keys(tmp_path: Path) -> None:
    text = UPSTREAM + (
        "routes:\n"
        '  - {name: a, match: {path: /a}, upstream: u, fallback: [&f {text: "${KEY}"}]}\n'
        "  - {name: b, match: {path: /b}, upstream: u, fallback: [*f]}\n"
        "  - {name: c, match: {path: /c}, upstream: u, fallback: [{<<: *f, status: 500}]}\n"
    )
    data = shown(tmp_path, text, ENVIRON)
    assert [route["fallback"][0]["text"] for route in data["routes"]] == ["***", "***", "***"]
