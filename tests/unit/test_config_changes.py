from pathlib import Path
from typing import Any

import pytest

from gateway.config.changes import Change, changes, summary
from gateway.config.effective import comparable, effective, marked
from tests.configs import ROUTE, SECRET, UPSTREAM, loaded, provider, upstream
from tests.configs import between as two_ways

ROUTES = """\
  - {name: a, match: {path: /a, methods: [GET, POST]}, upstream: u}
  - {name: b, match: {path: /b}, upstream: u}
"""


def between(folder: Path, old: str, new: str, environ: dict[str, str] | None = None) -> list[Change]:
    texts = (old, new)
    return changes(*(comparable(loaded(folder, text, environ), marked(text.encode()), folder) for text in texts))


def lines(found: list[Change]) -> list[tuple[str, str, Any, Any]]:
    return [(each.kind, each.path, each.old, each.new) for each in found]


def test_nothing_differs_where_only_the_writing_does(tmp_path: Path) -> None:
    one = UPSTREAM + "routes:\n" + ROUTES
    other = "# said otherwise\nwire: {body_limit: 10240KiB}\nroutes:\n" + "".join(reversed(ROUTES.splitlines(True)))
    assert between(tmp_path, one, other + UPSTREAM) == []


def test_a_setting_says_what_it_was_and_what_it_will_be(tmp_path: Path) -> None:
    found = between(tmp_path, upstream("timeouts: {try: 3s}"), upstream("timeouts: {try: 5s}"))
    assert found == [Change("changed", "upstreams.u.timeouts.try", "3s", "5s", "upstream", "u")]


def test_routes_belong_together_by_name_wherever_they_stand(tmp_path: Path) -> None:
    one = UPSTREAM + "routes:\n" + ROUTES
    other = UPSTREAM + "routes:\n" + ROUTES.replace("name: a", "name: c").replace("/b", "/bb")
    gone, changed, come = between(tmp_path, one, other)
    assert (gone.kind, gone.path, gone.part, gone.name, gone.whole) == ("removed", "routes[a]", "route", "a", True)
    assert gone.old["match"]["path"] == "/a"
    assert gone.new is None
    assert lines([changed]) == [("changed", "routes[b].match.path", "/b", "/bb")]
    assert (come.kind, come.path, come.whole) == ("added", "routes[c]", True)


def test_targets_belong_together_by_url(tmp_path: Path) -> None:
    one = UPSTREAM.replace("[", "[http://a, http://b, ") + ROUTE
    other = UPSTREAM.replace("[", "[{url: http://b, weight: 2}, http://c, ") + ROUTE
    assert lines(between(tmp_path, one, other)) == [
        ("removed", "upstreams.u.targets[http://a]", {"url": "http://a", "weight": 1, "priority": 0}, None),
        ("changed", "upstreams.u.targets[http://b].weight", 1, 2),
        ("added", "upstreams.u.targets[http://c]", None, {"url": "http://c", "weight": 1, "priority": 0}),
    ]


def test_entries_of_other_lists_belong_together_by_value(tmp_path: Path) -> None:
    one = UPSTREAM + "routes:\n" + ROUTES
    found = between(tmp_path, one, one.replace("[GET, POST]", "[PUT, GET]"))
    assert lines(found) == [
        ("removed", "routes[a].match.methods", "POST", None),
        ("added", "routes[a].match.methods", None, "PUT"),
    ]


def test_another_order_of_a_list_is_one_change(tmp_path: Path) -> None:
    one = UPSTREAM + "routes:\n" + ROUTES
    found = between(tmp_path, one, one.replace("[GET, POST]", "[POST, GET]"))
    assert lines(found) == [("changed", "routes[a].match.methods", ["GET", "POST"], ["POST", "GET"])]


def test_a_key_that_comes_or_goes(tmp_path: Path) -> None:
    one = f"rate_limits: {{a: {{by: ip, limit: 1/second, burst: 2}}}}\n{UPSTREAM}{ROUTE}"
    other = one.replace(", burst: 2", "")
    assert lines(between(tmp_path, one, other)) == [("removed", "rate_limits.a.burst", 2, None)]
    assert lines(between(tmp_path, other, one)) == [("added", "rate_limits.a.burst", None, 2)]


def test_a_section_that_is_switched_off_is_one_change(tmp_path: Path) -> None:
    (found,) = between(tmp_path, upstream("breaker: {trials: 1}"), upstream("breaker: off"))
    assert (found.path, found.old["trials"], found.new) == ("upstreams.u.breaker", 1, "off")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("hedge: {after: 95ms}", "hedge: {after: p95}", ("changed", "hedge.after", "95ms", "p95")),
        ("balance: random", "balance: {hash: ip}", ("changed", "balance", "random", {"hash": "ip"})),
        ("balance: {hash: ip}", "balance: {hash: consumer}", ("changed", "balance.hash", "ip", "consumer")),
        ("health: {path: /a}", "health: {path: /b}", ("changed", "health.path", "/a", "/b")),
        (
            "health: {path: /a, expect: [200-299, 404]}",
            "health: {path: /a, expect: 200-299}",
            ("removed", "health.expect", "404", None),
        ),
        ("slow_start: 5s\n    health: {tcp: true}", "health: {tcp: true}", ("removed", "slow_start", "5s", None)),
        ("panic: 50%", "panic: 20%", ("changed", "panic", "50%", "20%")),
        ("host: upstream", "quota: {respect: true}", ("added", "quota", None, {"respect": True})),
        (
            "breaker: {slow_calls: {over: 1s}}",
            "breaker: {slow_calls: {over: 1500ms}}",
            ("changed", "breaker.slow_calls.over", "1s", "1500ms"),
        ),
        ("host: upstream", "retry: {attempts_header: true}", ("changed", "retry.attempts_header", False, True)),
    ],
)
def test_changes_of_how_failures_are_met_are_named(
    tmp_path: Path, old: str, new: str, expected: tuple[str, str, Any, Any]
) -> None:
    (found,) = lines(between(tmp_path, upstream(old), upstream(new)))
    assert found == (expected[0], f"upstreams.u.{expected[1]}", *expected[2:])


def test_changes_of_an_ejection_are_named_by_the_keys_of_the_file(tmp_path: Path) -> None:
    one = upstream("eject: {for: 30s}").replace("[http", "[http://a, http")
    assert lines(between(tmp_path, one, one.replace("30s", "1m"))) == [
        ("changed", "upstreams.u.eject.for", "30s", "1m")
    ]


def test_changes_of_a_routes_ways_are_named(tmp_path: Path) -> None:
    one = two_ways("split: {u: 95, v: 5}\n    split_by: ip\n    mirror: {upstream: v, share: 5%}")
    other = two_ways("split: {u: 50, v: 50}\n    mirror: {upstream: v}\n    idempotency: {keep: 1h}")
    assert lines(between(tmp_path, one, other)) == [
        ("changed", "routes[r].mirror.share", "5%", "100%"),
        ("changed", "routes[r].split.u", 95, 50),
        ("changed", "routes[r].split.v", 5, 50),
        ("removed", "routes[r].split_by", "ip", None),
        ("added", "routes[r].idempotency", None, {"header": "Idempotency-Key", "keep": "1h"}),
    ]
    only = two_ways("upstream: u\n    fault: {status: 503}")
    assert {(kind, path) for kind, path, _, _ in lines(between(tmp_path, one, only))} == {
        ("removed", "routes[r].mirror"),
        ("removed", "routes[r].split"),
        ("removed", "routes[r].split_by"),
        ("added", "routes[r].upstream"),
        ("added", "routes[r].fault"),
    }


VERSIONS = "versions: {available: {v1: {upstream: u, deprecated: 2026-01-01}, v2: {upstream: v}}}"
CORS = "upstream: u\n    cors: {origins: ['https://a.example', 'https://b.example'], max_age: 1m}"
TRANSFORM = "upstream: u\n    transform: {request_headers: {set: {X-A: a}, remove: [X-B]}, rewrite: {from: a, to: /b}}"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            VERSIONS,
            VERSIONS.replace("01-01", "02-01"),
            ("changed", "versions.available.v1.deprecated", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"),
        ),
        (
            VERSIONS,
            VERSIONS.replace("01-01", "01-01, sunset: 2097-01-01"),
            ("added", "versions.available.v1.sunset", None, "2097-01-01T00:00:00Z"),
        ),
        (VERSIONS, VERSIONS.replace("{av", "{default: v2, av"), ("added", "versions.default", None, "v2")),
        (VERSIONS, VERSIONS.replace("2026-01-01", "'2026-01-01T00:00:00Z'"), None),
        (CORS, CORS.replace(", 'https://b.example'", ""), ("removed", "cors.origins", "https://b.example", None)),
        (CORS, CORS.replace("1m", "1h"), ("changed", "cors.max_age", "1m", "1h")),
        (CORS, CORS.replace("1m", "60s"), None),
        (TRANSFORM, TRANSFORM.replace("X-A: a", "X-A: b"), ("changed", "transform.request_headers.set.X-A", "a", "b")),
        (TRANSFORM, TRANSFORM.replace("[X-B]", "X-C, X-B").replace("X-C, X-B", "[X-B]"), None),
        (TRANSFORM, TRANSFORM.replace("from: a", "from: b"), ("changed", "transform.rewrite.from", "a", "b")),
        ("redirect: {to: /a}", "redirect: {to: /b}", ("changed", "redirect.to", "/a", "/b")),
        ("redirect: {to: /a}", "redirect: {to: /a, status: 308}", ("changed", "redirect.status", 307, 308)),
        ("respond: {text: a}", "respond: {text: b}", ("changed", "respond.text", "a", "b")),
        (
            "upstream: u\n    compress: {level: fast}",
            "upstream: u\n    compress: {level: small}",
            ("changed", "compress.level", "fast", "small"),
        ),
        ("upstream: u\n    compress: true", "upstream: u\n    compress: {}", None),
        ("upstream: u\n    deny_ip: '::1'", "upstream: u\n    deny_ip: ['::1/128']", None),
        ("upstream: u", "upstream: u\n    deny_ip: '::1'", ("added", "deny_ip", None, "::1/128")),
    ],
)
def test_changes_of_versions_and_of_what_shapes_requests_are_named(
    tmp_path: Path, old: str, new: str, expected: tuple[str, str, Any, Any] | None
) -> None:
    found = between(tmp_path, two_ways(old), two_ways(new))
    assert lines(found) == ([] if expected is None else [(expected[0], f"routes[r].{expected[1]}", *expected[2:])])
    assert {(each.part, each.name) for each in found} <= {("route", "r")}


def test_what_begins_to_be_compressed_is_one_change(tmp_path: Path) -> None:
    (found,) = between(tmp_path, two_ways("upstream: u"), two_ways("upstream: u\n    compress: true"))
    assert (found.kind, found.path, found.new["level"]) == ("added", "routes[r].compress", "balanced")


def test_security_headers_are_a_setting(tmp_path: Path) -> None:
    found = between(tmp_path, "routes: []", "security_headers: true\nroutes: []")
    assert found == [Change("changed", "security_headers", False, True)]


def test_a_target_of_another_priority_is_the_same_target(tmp_path: Path) -> None:
    one = UPSTREAM.replace("[http", "[{url: http://a, priority: 1}, http") + ROUTE
    assert lines(between(tmp_path, one, one.replace("priority: 1", "priority: 2"))) == [
        ("changed", "upstreams.u.targets[http://a].priority", 1, 2)
    ]


def test_another_secret_is_a_change_that_does_not_show_it(tmp_path: Path) -> None:
    settings = "secret: '${file:secret}', algorithms: [HS256]"
    (tmp_path / "secret").write_text(SECRET)
    old = comparable(loaded(tmp_path, provider(settings)))
    (tmp_path / "secret").write_text("t" * 32)
    new = comparable(loaded(tmp_path, provider(settings)))
    assert lines(changes(old, new)) == [("changed", "auth.providers.p.secret", "***", "***")]
    assert SECRET not in repr(changes(old, new))


def test_the_same_secret_from_elsewhere_is_no_change(tmp_path: Path) -> None:
    one = provider("secret: '${KEY}', algorithms: [HS256]") + "    fallback: [{text: '${WORD}'}]\n"
    one = one.replace(
        "  - {name: r, match: {path: /r}, upstream: u}\n", "  - name: r\n    match: {path: /r}\n    upstream: u\n"
    )
    other = one.replace("${KEY}", SECRET).replace("${WORD}", "word")
    assert between(tmp_path, one, other, {"KEY": SECRET, "WORD": "word"}) == []


def test_targets_from_a_file_are_told_apart_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("http://a")
    (tmp_path / "b").write_text("http://b")
    one = UPSTREAM.replace("[", "['${file:a}', '${file:b}', ") + ROUTE
    (found,) = between(tmp_path, one, one.replace("'${file:b}', ", ""))
    assert (found.path, found.old) == ("upstreams.u.targets[***]", {"url": "***", "weight": "***", "priority": "***"})


def test_true_is_not_1() -> None:
    assert lines(changes({"a": [True], "b": 1}, {"a": [1], "b": True})) == [
        ("removed", "a", True, None),
        ("added", "a", None, 1),
        ("changed", "b", 1, True),
    ]


def test_a_name_with_dots_is_quoted(tmp_path: Path) -> None:
    one = upstream("timeouts: {try: 3s}").replace(" u:", " u.v:").replace("upstream: u", "upstream: u.v")
    (found,) = between(tmp_path, one, one.replace("3s", "5s"))
    assert (found.path, found.name) == ("upstreams.'u.v'.timeouts.try", "u.v")


def test_only_the_runtime_folder_needs_a_restart(tmp_path: Path) -> None:
    found = between(tmp_path, "routes: []", "runtime_dir: .\nlisten: {http: '127.0.0.1:1'}\nworkers: 4\nroutes: []")
    assert [each.path for each in found if each.needs_restart] == ["runtime_dir"]
    assert {each.path for each in found} == {"runtime_dir", "listen.http", "workers", "store.url"}


def test_plain_effective_configurations_compare_as_well(tmp_path: Path) -> None:
    old, new = (effective(loaded(tmp_path, upstream(f"timeouts: {{try: {each}}}"))) for each in ("1s", "2s"))
    assert lines(changes(old, new)) == [("changed", "upstreams.u.timeouts.try", "1s", "2s")]
    assert changes(old, old) == []


def test_a_summary_counts_routes_not_lines(tmp_path: Path) -> None:
    one = UPSTREAM + "routes:\n" + ROUTES
    other = UPSTREAM + "  v: {targets: [http://c]}\nworkers: 2\nstore: {url: memory, prefix: x}\nroutes:\n"
    other += ROUTES.replace("/a, methods: [GET, POST]", "/c, methods: [PUT]").replace("name: b", "name: d")
    assert summary(between(tmp_path, one, other)) == {
        "routes": {"added": 1, "removed": 1, "changed": 1},
        "upstreams": {"added": 1},
        "settings": {"changed": 2},
    }
    assert summary([]) == {}


@pytest.mark.timeout(5)
def test_long_lists_are_compared_quickly() -> None:
    some = [f"10.{n >> 8}.{n & 255}.0/24" for n in range(30_000)]
    found = changes({"trusted_proxies": some}, {"trusted_proxies": [*some[1:], "192.0.2.0/24"]})
    assert lines(found) == [
        ("removed", "trusted_proxies", "10.0.0.0/24", None),
        ("added", "trusted_proxies", None, "192.0.2.0/24"),
    ]
