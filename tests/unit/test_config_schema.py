import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config import json_schema
from gateway.config.fields import Section
from gateway.config.model import Config
from tests.configs import ROUTE, between, complaints, fits, upstream, written

SHIPPED = Path(__file__).parents[2] / "config/routes.yaml"


def properties(section: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json_schema()["$defs"][section]["properties"][name]
    return found


def test_the_schema_is_json_and_strict_everywhere() -> None:
    schema = json_schema()
    assert json.loads(json.dumps(schema)) == schema
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["required"] == ["routes"]
    for name, part in {"": schema, **schema["$defs"]}.items():
        assert part["additionalProperties"] is False, name


def sections(of: type[Section]) -> Iterator[type[Section]]:
    """Those that can be written, not what some of them have in common."""
    for model in of.__subclasses__():
        yield from sections(model)
        if not model.__subclasses__():
            yield model


def test_every_section_is_there_with_its_description() -> None:
    schema = json_schema()
    models = {model.__name__ for model in sections(Section) if model.__module__.startswith("gateway.")}
    assert set(schema["$defs"]) == models - {"Config"}
    for name, part in schema["$defs"].items():
        assert part["description"], name
    assert schema["description"] == Config.__doc__


def test_keys_are_those_of_the_file_with_descriptions() -> None:
    assert properties("Timeouts", "try")["description"] == "For one try, to the head of its reply."
    assert "json" in json_schema()["$defs"]["Fallback"]["properties"]
    assert not [key for part in json_schema()["$defs"].values() for key in part["properties"] if key.endswith("_")]


def test_durations_are_described_by_a_pattern_and_may_be_references() -> None:
    written, reference = properties("Timeouts", "connect")["anyOf"]
    for text in ("50ms", "1.5m"):
        assert re.search(written["pattern"], text)
    for text in ("5", "5 s", "x5s"):
        assert not re.search(written["pattern"], text)
    assert re.search(reference["pattern"], "${TIMEOUT:-5s}")


def test_defaults_are_given_where_they_are_what_one_writes() -> None:
    assert properties("Retry", "attempts")["default"] == 3
    assert properties("Store", "on_failure")["default"] == "local"
    assert properties("Store", "prefix")["default"] == "gw:"
    assert "default" not in properties("Timeouts", "connect")
    assert "default" not in json_schema()["properties"]["wire"]


def test_bounds_are_described() -> None:
    assert properties("Retry", "attempts")["anyOf"][0] == {"type": "integer", "minimum": 1, "maximum": 20}
    assert properties("Fallback", "status")["anyOf"][0] == {"type": "integer", "minimum": 200, "maximum": 599}
    for section, listener in (("Listen", "http"), ("Https", "address")):
        assert [way["minItems"] for way in ways(properties(section, listener)) if way.get("type") == "array"] == [1]
    assert {"type": "integer", "minimum": 1, "maximum": 128} in ways(json_schema()["properties"]["workers"])


def test_other_ways_to_write_a_value_are_described() -> None:
    assert {"enum": ["off", False]} in [
        part for way in properties("Upstream", "retry")["anyOf"] for part in way.get("anyOf", [way])
    ]
    assert "#/$defs/RateLimit" in json.dumps(properties("Route", "rate_limit"))
    for listener in ("http", "admin"):
        assert {"enum": ["off", False]} in ways(properties("Listen", listener))
    assert {"enum": ["auto"]} in ways(json_schema()["properties"]["workers"])
    assert {"type": "boolean"} in ways(properties("Listen", "redirect_to_https"))
    assert re.search(properties("Store", "url")["anyOf"][0]["pattern"], "embedded")


SCHEMA = json_schema()
IN_AN_UPSTREAM = {
    "balance": (["peak_ewma", "{hash: ip}", "{hash: 'cookie:a'}", "${B}"], ["fastest", "{hash: route}", "{}", "5"]),
    "panic": (["0%", "100%", "12.5%"], ["50", "half", "-5%"]),
    "slow_start": (["30s", "${S:-1m}"], ["30", "soon"]),
    "hedge": (
        ["{after: p50}", "{after: p99, max: 5}", "{after: 200ms}", "{after: '${A}'}"],
        ["{}", "{after: p49}", "{after: p100}", "{after: 95}", "{after: p95, max: 6}", "{after: p95, at: 1s}", "p95"],
    ),
    "health": (
        ["{path: /h}", "{tcp: true}", "{path: /h, expect: [200-299, 404]}", "{path: /h, expect: 204, host: 'a:1'}"],
        [
            "{path: h}",
            "{path: '/a b'}",
            "{path: '/a#b'}",
            "{path: /ä}",
            "{tcp: 1}",
            "{path: /, expect: []}",
            "{path: /, expect: 2xx}",
            "{path: /, expect: 99}",
            "{path: /, expect: [true]}",
            "{path: /, interval: 5}",
            "{path: /, healthy_after: 0}",
            "{path: /, port: 80}",
            "/healthz",
        ],
    ),
    "eject": (["{}", "{for: 5s, max_share: 10%}"], ["{for: 5}", "{for_: 5s}", "{consecutive_failures: 0}"]),
    "quota": (["{respect: true}", "{}"], ["true", "{respect: yes}"]),
    "timeouts": (["{header: X-T}"], ["{header: 'X T'}", "{header: 5}"]),
    "retry": (["{attempts_header: true}", "off"], ["{attempts: 0}", "{attempts_header: 1}", "{attempts: 21}"]),
    "breaker": (
        ["{open_for_max: 5m, slow_calls: {over: 1s, rate: 80%}}", "off"],
        ["{open_for_max: 5}", "{slow_calls: {}}", "{slow_calls: {over: 1s, rate: 80}}", "{slow_calls: 2s}"],
    ),
}
"""Values that both the schema and the gateway take, and values that both refuse, by key."""

IN_A_ROUTE = {
    "split": (["{u: 95, v: 5}", "{u: 1, v: 0}"], ["{}", "{u: -1}", "{u: 1001}", "[u]", "{u: 5%}"]),
    "upstream: u\n    mirror": (["{upstream: v}", "{upstream: v, share: 5%}"], ["v", "{}", "{upstream: v, share: 5}"]),
    "upstream: u\n    fault": (
        ["{status: 503}", "{delay: 200ms, share: 1%, header: X-T}"],
        ["{status: 200}", "{status: 600}", "{delay: 200}", "{status: 503, header: 'a b'}", "{status: 503, rate: 1%}"],
    ),
    "upstream: u\n    idempotency": (["{}", "{header: X-K, keep: 1h}"], ["true", "{keep: 1}", "{header: ''}"]),
    "upstream: u\n    fallback": (
        ["[{upstream: v}]", "[{on: [quota, 503, overloaded], text: a}]", "[{json: ['{route}']}]", "[{status: 204}]"],
        ["[{on: [opn], text: a}]", "[{on: [], text: a}]", "[{on: [399], text: a}]", "[{text: 5}]", "[{status: 100}]"],
    ),
    "priority: low\n    split_by": ([], ["ip"]),
    "versions": (
        [
            "{available: {v1: {upstream: u}}}",
            "{from: header, header: X-V, default: '1', available: {'1': {upstream: u, sunset: '${DAY}'}}}",
            "{from: [query, path], query: v, strip: false, aliases: {latest: v1.1}, available: {v1.1+: {upstream: u}}}",
            "{from: media_type, media_type: 'application/json; version={version}', available: {a: {upstream: u}}}",
            "{available: {v1: {upstream: u, deprecated: 2026-01-01, sunset: '2097-01-01T09:00:00Z', link: https://a}}}",
            "{available: {v1: {upstream: u, sunset: 2097-01-01, brownouts: [{from: 2096-01-01, to: 2096-01-02}]}}}",
            "{available: {v1: {upstream: u, sunset: 2020-01-01, after_sunset: serve}}}",
        ],
        [
            "{}",
            "{available: {}}",
            "{available: [v1]}",
            "{available: {v1: u}}",
            "{available: {v1: {}}}",
            "{available: {v 1: {upstream: u}}}",
            "{from: cookie, available: {v1: {upstream: u}}}",
            "{from: [], available: {v1: {upstream: u}}}",
            "{from: query, query: 'a b', available: {v1: {upstream: u}}}",
            "{from: media_type, media_type: application/json, available: {v1: {upstream: u}}}",
            "{strip: no, available: {v1: {upstream: u}}}",
            "{available: {v1: {upstream: u, sunset: soon}}}",
            "{available: {v1: {upstream: u, sunset: 2097-01-01, link: docs}}}",
            "{available: {v1: {upstream: u, sunset: 2097-01-01, after_sunset: keep}}}",
            "{available: {v1: {upstream: u, sunset: 2097-01-01, brownouts: [{from: 2096-01-01}]}}}",
        ],
    ),
    "redirect": (
        ["{to: /a}", "{to: 'https://a/{path}', status: 308, keep_query: true}", "{to: '${TO:-/a}', status: 301}"],
        ["{}", "/a", "{to: /a, status: 304}", "{to: /a, status: '308 '}", "{to: 5}", "{to: /a, keep_query: 1}"],
    ),
    "respond": (
        ["{}", "{text: a}", "{json: {a: [1, '{path}']}}", "{status: 204}", "{headers: {X-A: '{host}'}}"],
        ["ok", "{text: 5}", "{status: 99}", "{status: 600}", "{headers: {'a b': c}}", "{headers: [a]}", "{body: a}"],
    ),
    "upstream: u\n    transform": (
        [
            "{}",
            "{strip_prefix: /r, add_prefix: '/{version}', rewrite: {from: a, to: /b}}",
            "{query: {set: {a: b}, add: {}, remove: c}, location: true, cookies: {domain: none, path: false}}",
            "{request_headers: {set: {X-A: '{consumer}'}, remove: [X-B]}, response_headers: {remove: Server}}",
        ],
        [
            "true",
            "{strip_prefix: 5}",
            "{rewrite: {from: a}}",
            "{rewrite: {to: /b}}",
            "{query: {set: [a]}}",
            "{query: {set: {a: 1}}}",
            "{query: {change: {a: b}}}",
            "{request_headers: {set: {'a b': c}}}",
            "{request_headers: {set: {X-A: 5}}}",
            "{request_headers: {remove: ['a b']}}",
            "{response_headers: [Server]}",
            "{location: maybe}",
            "{cookies: true}",
        ],
    ),
    "upstream: u\n    cors": (
        [
            "{origins: '*'}",
            "{origins: ['https://a.example', 'https://*.a.example', 'null'], methods: [GET], headers: '*'}",
            "{origins: 'https://a.example', credentials: true, max_age: 0s, private_network: true}",
        ],
        [
            "true",
            "{}",
            "{origins: []}",
            "{origins: a.example}",
            "{origins: '*', methods: [get]}",
            "{origins: '*', methods: []}",
            "{origins: '*', headers: ['a b']}",
            "{origins: '*', max_age: 5}",
            "{origins: '*', credentials: 1}",
        ],
    ),
    "upstream: u\n    compress": (
        ["true", "false", "off", "{}", "{encodings: [gzip], min_size: 1KiB, types: ['text/*'], level: fast}"],
        [
            "on",
            "5",
            "[gzip]",
            "{encodings: []}",
            "{encodings: [gzp]}",
            "{min_size: 1}",
            "{types: []}",
            "{types: [text]}",
            "{level: 9}",
        ],
    ),
    "upstream: u\n    allow_ip": (["10.0.0.0/8", "['::1', 10.0.0.0/8]", "[]"], ["5", "[5]", "{a: b}"]),
    "upstream: u\n    deny_ip": (["10.0.0.0/8"], ["true"]),
}


def examples() -> Iterator[tuple[str, bool]]:
    for key, (right, wrong) in IN_AN_UPSTREAM.items():
        for values, good in ((right, True), (wrong, False)):
            more = "\n    health: {tcp: true}" if key == "slow_start" else ""
            yield from (
                (upstream(f"{key}: {value}{more}").replace("[http", "[http://a, http"), good) for value in values
            )
    for key, (right, wrong) in IN_A_ROUTE.items():
        for values, good in ((right, True), (wrong, False)):
            yield from ((between(f"{key}: {value}"), good) for value in values)
    for discover, good in (
        ("{dns: a.}", True),
        ("{dns: _a._tcp.b, type: srv, refresh: 1s, server: '10.0.0.1:53'}", True),
        ("{}", False),
        ("{dns: a, type: aaaa}", False),
        ("{dns: a, port: 0}", False),
        ("{dns: a, scheme: ftp}", False),
    ):
        yield f"upstreams: {{u: {{discover: {discover}}}}}\n{ROUTE}", good
    yield f"upstreams: {{u: {{targets: [http://a], discover: {{dns: a}}}}}}\n{ROUTE}", False
    yield f"upstreams: {{u: {{host: client}}}}\n{ROUTE}", False
    yield f"upstreams: {{u: {{targets: [{{url: http://a, priority: 101}}]}}}}\n{ROUTE}", False
    yield between("split: {u: 1}\n    upstream: v"), False
    yield between("versions: {available: {v1: {upstream: u}}}\n    upstream: v"), False
    yield between("redirect: {to: /a}\n    respond: {}"), False
    yield between("redirect: {to: /a}\n    split: {u: 1}"), False
    yield "security_headers: true\nroutes: []", True
    yield "security_headers: strict\nroutes: []", False
    yield between("priority: low"), False


@pytest.mark.parametrize(("text", "good"), [*examples()])
def test_the_schema_and_the_gateway_agree(text: str, good: bool, tmp_path: Path) -> None:
    assert fits(written(text), SCHEMA, SCHEMA) is good
    said = complaints(tmp_path, text, {"B": "random", "A": "p90", "DAY": "2097-01-01"})
    assert bool(said) is not good, said


def test_nothing_may_be_written_as_null() -> None:
    for key in ("health", "hedge", "slow_start"):
        assert not fits(written(upstream(f"{key}: ~").replace("~", "null")), SCHEMA, SCHEMA), key
    assert fits({"routes": []}, SCHEMA, SCHEMA)


def test_names_are_checked_by_editors_as_well() -> None:
    text = upstream("host: client")
    assert fits(written(text), SCHEMA, SCHEMA)
    assert not fits(written(text.replace("  u:\n", "  'a b':\n")), SCHEMA, SCHEMA)


def test_the_shipped_example_fits() -> None:
    assert fits(written(SHIPPED.read_text(encoding="utf-8")), SCHEMA, SCHEMA)


def ways(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Every way in which a value may be written, however deep it is nested."""
    return [way for part in schema["anyOf"] for way in ways(part)] if "anyOf" in schema else [schema]
