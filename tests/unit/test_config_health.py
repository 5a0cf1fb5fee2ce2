"""How targets are found, chosen, watched, set aside and asked twice: keys of an upstream."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from gateway.config.health import Hash, Hedge, Percentile
from gateway.config.model import Upstream
from tests.configs import ROUTE, complaint, complaints, loaded, upstream


def one(folder: Path, settings: str, environ: dict[str, str] | None = None) -> Upstream:
    return loaded(folder, upstream(settings), environ).upstreams["u"]


def found(discover: str, more: str = "") -> str:
    """An upstream whose targets are found; `discover` begins at line 3, column 15, `more` at line 4, column 5."""
    return f"upstreams:\n  u:\n    discover: {discover}\n    {more}\n{ROUTE}"


def test_what_is_absent_is_off(tmp_path: Path) -> None:
    service = one(tmp_path, "host: client")
    assert (service.hedge, service.health, service.eject, service.quota, service.discover) == (None,) * 5
    assert (service.slow_start, service.panic, service.timeouts.header) == (None, 0.5, None)
    assert not service.retry.attempts_header
    assert service.breaker is not None
    assert (service.breaker.slow_calls, service.breaker.open_for_max) == (None, None)
    assert [target.priority for target in service.targets] == [0]


@pytest.mark.parametrize("name", ["round_robin", "least_requests", "random", "peak_ewma"])
def test_a_way_to_balance_has_a_name(tmp_path: Path, name: str) -> None:
    assert one(tmp_path, f"balance: {name}").balance == name


@pytest.mark.parametrize("key", ["consumer", "ip", "header:X-A", "cookie:a", "query:q", "claim:org.id"])
def test_balancing_by_hash_says_of_what(tmp_path: Path, key: str) -> None:
    assert one(tmp_path, f"balance: {{hash: '{key}'}}").balance == Hash(hash=key)
    assert one(tmp_path, "balance: {hash: '${KEY}'}", {"KEY": key}).balance == Hash(hash=key)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("balance: rond_robin", "4:14: upstreams.u.balance: must be one of round_robin, least_requests, random, peak"),
        ("balance: hash", "4:14: upstreams.u.balance: must be one of round_robin"),
        ("balance: [random]", "4:14: upstreams.u.balance: must be one of round_robin"),
        ("balance: {}", "4:14: upstreams.u.balance.hash: is required"),
        ("balance: {hash: ips}", "4:21: upstreams.u.balance.hash: 'ips' is none of consumer, ip, header:NAME, cookie"),
        ("balance: {hash: global}", "4:21: upstreams.u.balance.hash: 'global' is none of consumer, ip, header:NAME"),
        ("balance: {hash: 'header:a b'}", "4:21: upstreams.u.balance.hash: 'a b' is not a header name"),
        ("balance: {hash: 'header:X-Real-IP'}", "4:21: upstreams.u.balance.hash: 'header:X-Real-IP' can be written"),
        ("balance: {hash: 'claim:a..b'}", "4:21: upstreams.u.balance.hash: 'a..b' is not the name of a claim"),
        ("balance: {hash: 5}", "4:21: upstreams.u.balance.hash: must be text, not 5"),
        ("balance: {hash: ip, of: a}", "4:25: upstreams.u.balance.of: unknown key"),
        ("slow_start: 0s\n    eject: {}", "4:17: upstreams.u.slow_start: must be longer than nothing"),
        ("slow_start: 5s", "4:17: upstreams.u.slow_start: has no effect without health, eject or discover"),
        ("panic: 101%", "4:12: upstreams.u.panic: '101%' is not a share from 0% to 100%"),
        ("panic: 0.5", "4:12: upstreams.u.panic: 0.5 is not a share"),
        ("hedge: {}", "4:12: upstreams.u.hedge.after: is required"),
        ("hedge: 200ms", "4:12: upstreams.u.hedge: must be a mapping, not '200ms'"),
        ("hedge: {after: p49}", "4:20: upstreams.u.hedge.after: 'p49' is neither a duration such as 200ms nor p50 to"),
        ("hedge: {after: p100}", "4:20: upstreams.u.hedge.after: 'p100' is neither"),
        ("hedge: {after: 95}", "4:20: upstreams.u.hedge.after: 95 is neither"),
        ("hedge: {after: 3s}", "4:20: upstreams.u.hedge.after: is not shorter than timeouts.try (3s unless set)"),
        ("hedge: {after: p95, max: 0}", "4:30: upstreams.u.hedge.max: must be at least 1, not 0"),
        ("hedge: {after: p95, max: 6}", "4:30: upstreams.u.hedge.max: must be at most 5, not 6"),
        ("hedge: {aftr: p95}", "4:13: upstreams.u.hedge.aftr: unknown key (did you mean 'after'?)"),
        ("quota: {respect: maybe}", "4:22: upstreams.u.quota.respect: must be true or false, not 'maybe'"),
        ("quota: true", "4:12: upstreams.u.quota: must be a mapping, not true"),
    ],
)
def test_ways_to_choose_that_cannot_be(tmp_path: Path, settings: str, expected: str) -> None:
    said = complaints(tmp_path, upstream(settings))
    assert said[-1].startswith(expected) or said[0].startswith(expected)
    assert len(said) == (2 if "aftr" in settings else 1)  # then `after` is missing, too


def test_a_hedge_waits_for_a_time_or_a_percentile_and_they_are_never_the_same(tmp_path: Path) -> None:
    late = one(tmp_path, "timeouts: {try: 100s, total: 200s}\n    hedge: {after: 95s, max: 2}").hedge
    usual = one(tmp_path, "hedge: {after: p95, max: 2}").hedge
    assert late is not None
    assert usual is not None
    assert (late.after, late.max) == (95.0, 2)
    assert not isinstance(late.after, Percentile)
    assert (usual.after, str(usual.after), usual.max) == (95, "p95", 2)
    assert isinstance(usual.after, Percentile)
    assert late != usual
    assert usual != late
    # It travels to the workers, who keep what is equal.
    assert pickle.loads(pickle.dumps(usual)) == usual
    assert hash(pickle.loads(pickle.dumps(usual))) == hash(usual)
    assert isinstance(pickle.loads(pickle.dumps(usual)).after, Percentile)
    assert usual == Hedge.model_validate({"after": "p95", "max": 2})


@pytest.mark.parametrize(
    ("settings", "path", "tcp", "expect"),
    [
        ("path: /", "/", False, [(200, 299)]),
        ("path: '/a?b=c&d={e}'", "/a?b=c&d={e}", False, [(200, 299)]),
        ("tcp: true", None, True, [(200, 299)]),
        ("path: /h, tcp: false, expect: 204", "/h", False, [(204, 204)]),
        ("path: /h, expect: '204'", "/h", False, [(204, 204)]),
        ("path: /h, expect: 200-399", "/h", False, [(200, 399)]),
        ("path: /h, expect: [200-299, 401, '404']", "/h", False, [(200, 299), (401, 401), (404, 404)]),
        ("path: /h, expect: 200-200", "/h", False, [(200, 200)]),
    ],
)
def test_probes_ask_for_a_path_or_only_connect(
    tmp_path: Path, settings: str, path: str | None, tcp: bool, expect: list[tuple[int, int]]
) -> None:
    health = one(tmp_path, f"health: {{{settings}}}").health
    assert health is not None
    assert (health.path, health.tcp, [*health.expect]) == (path, tcp, expect)
    assert (health.interval, health.timeout, health.healthy_after, health.unhealthy_after) == (5.0, 1.0, 2, 3)


@pytest.mark.parametrize("host", ["a.b", "a.b:80", "[::1]:80"])
def test_probes_may_name_another_host(tmp_path: Path, host: str) -> None:
    health = one(tmp_path, f"health: {{path: /, host: '{host}', interval: 1s, timeout: 1s}}").health
    assert health is not None
    assert (health.host, health.interval, health.timeout) == (host, 1.0, 1.0)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("{}", "4:13: upstreams.u.health: asks for nothing: give it a path, or tcp: true"),
        ("{tcp: false}", "4:13: upstreams.u.health: asks for nothing"),
        ("/healthz", "4:13: upstreams.u.health: must be a mapping, not '/healthz'"),
        ("{path: healthz}", "4:20: upstreams.u.health.path: 'healthz' is not a path such as /healthz"),
        ("{path: 'http://a/'}", "4:20: upstreams.u.health.path: 'http://a/' is not a path"),
        ("{path: '/a b'}", "4:20: upstreams.u.health.path: '/a b' is not a path"),
        ("{path: '/a#b'}", "4:20: upstreams.u.health.path: '/a#b' is not a path"),
        ("{path: /ä}", "4:20: upstreams.u.health.path: '/ä' is not a path"),
        ('{path: "/\\r\\nX: 1"}', "4:20: upstreams.u.health.path: '/\\r\\nX: 1' is not a path"),
        ("{path: 5}", "4:20: upstreams.u.health.path: must be text, not 5"),
        ("{tcp: true, path: /}", "4:31: upstreams.u.health.path: has no effect beside tcp: true"),
        ("{tcp: true, expect: 200}", "4:33: upstreams.u.health.expect: has no effect beside tcp: true"),
        ("{tcp: true, host: a}", "4:31: upstreams.u.health.host: has no effect beside tcp: true"),
        ("{tcp: true, interval: 0s}", "4:35: upstreams.u.health.interval: must be longer than nothing"),
        ("{tcp: true, timeout: 6s}", "4:34: upstreams.u.health.timeout: is longer than health.interval (5s unless"),
        ("{tcp: true, interval: 500ms}", "4:35: upstreams.u.health.interval: is shorter than health.timeout (1s un"),
        ("{tcp: true, interval: 1s, timeout: 2s}", "4:48: upstreams.u.health.timeout: is longer than"),
        ("{tcp: true, healthy_after: 0}", "4:40: upstreams.u.health.healthy_after: must be at least 1, not 0"),
        ("{tcp: true, unhealthy_after: 1.5}", "4:42: upstreams.u.health.unhealthy_after: must be a whole number"),
        ("{tcp: true, intervall: 1s}", "4:25: upstreams.u.health.intervall: unknown key (did you mean 'interval'?)"),
        ("{path: /, expect: []}", "4:31: upstreams.u.health.expect: must have at least one entry"),
        ("{path: /, expect: 99}", "4:31: upstreams.u.health.expect: 99 is neither a status nor a range of them such"),
        ("{path: /, expect: 600}", "4:31: upstreams.u.health.expect: 600 is neither"),
        ("{path: /, expect: 2xx}", "4:31: upstreams.u.health.expect: '2xx' is neither"),
        ("{path: /, expect: 299-200}", "4:31: upstreams.u.health.expect: '299-200' is neither"),
        ("{path: /, expect: 200-600}", "4:31: upstreams.u.health.expect: '200-600' is neither"),
        ("{path: /, expect: true}", "4:31: upstreams.u.health.expect: true is neither"),
        ("{path: /, expect: 200.0}", "4:31: upstreams.u.health.expect: 200.0 is neither"),
        ("{path: /, expect: [200, 2000]}", "4:37: upstreams.u.health.expect[1]: 2000 is neither"),
        ("{path: /, expect: [[200, 299]]}", "4:32: upstreams.u.health.expect[0]: a list is neither"),
        ("{path: /, host: 'a b'}", "4:29: upstreams.u.health.host: 'a b' is not a host name"),
        ("{path: /, host: 'http://a'}", "4:29: upstreams.u.health.host: 'http://a' is not a host name"),
    ],
)
def test_probes_that_cannot_be(tmp_path: Path, settings: str, expected: str) -> None:
    assert complaint(tmp_path, upstream(f"health: {settings}")).startswith(expected)


def test_outliers_are_set_aside_where_there_is_more_than_one_target(tmp_path: Path) -> None:
    text = upstream("eject: {consecutive_failures: 2, for: 5s, max_share: 100%}")
    two = text.replace("[http", "[http://a, http")
    eject = loaded(tmp_path, two).upstreams["u"].eject
    assert eject is not None
    assert (eject.consecutive_failures, eject.for_, eject.max_share) == (2, 5.0, 1.0)
    assert complaint(tmp_path, text) == ("4:12: upstreams.u.eject: has no effect: the only target is never set aside")
    assert loaded(tmp_path, found("{dns: a}", "eject: {}")).upstreams["u"].eject is not None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("{consecutive_failures: 0}", "4:35: upstreams.u.eject.consecutive_failures: must be at least 1, not 0"),
        ("{for: 0s}", "4:18: upstreams.u.eject.for: must be longer than nothing"),
        ("{for_: 1s}", "4:13: upstreams.u.eject.for_: unknown key (did you mean 'for'?)"),
        ("{max_share: 0%}", "4:24: upstreams.u.eject.max_share: must be more than 0%"),
        ("{max_share: 150%}", "4:24: upstreams.u.eject.max_share: '150%' is not a share from 0% to 100%"),
    ],
)
def test_ejections_that_cannot_be(tmp_path: Path, settings: str, expected: str) -> None:
    assert complaint(tmp_path, upstream(f"eject: {settings}").replace("[http", "[http://a, http")).startswith(expected)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("{dns: Orders.internal}", {"dns": "orders.internal", "type": "a", "target_port": 80, "scheme": "http"}),
        ("{dns: orders.internal.}", {"dns": "orders.internal."}),
        ("{dns: a, port: 8080, refresh: 1m}", {"port": 8080, "target_port": 8080, "refresh": 60.0}),
        ("{dns: a, scheme: https}", {"scheme": "https", "port": None, "target_port": 443}),
        ("{dns: _http._tcp.a.b, type: srv}", {"dns": "_http._tcp.a.b", "type": "srv", "refresh": 10.0}),
        ("{dns: a, server: 10.0.0.1}", {"server": "10.0.0.1:53"}),
        ("{dns: a, server: 'ns.internal:5353'}", {"server": "ns.internal:5353"}),
        ("{dns: a, server: '[::1]'}", {"server": "[::1]:53"}),
    ],
)
def test_targets_can_be_found_in_the_dns(tmp_path: Path, settings: str, expected: dict[str, Any]) -> None:
    service = loaded(tmp_path, found(settings)).upstreams["u"]
    assert service.targets == ()
    assert {name: getattr(service.discover, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("{}", "3:15: upstreams.u.discover.dns: is required"),
        ("a.internal", "3:15: upstreams.u.discover: must be a mapping, not 'a.internal'"),
        ("{dns: 'a b'}", "3:21: upstreams.u.discover.dns: 'a b' is not a host name"),
        ("{dns: 'a:80'}", "3:21: upstreams.u.discover.dns: 'a:80' is not a host name: leave the port out"),
        ("{dns: 10.0.0.1}", "3:21: upstreams.u.discover.dns: '10.0.0.1' is an address, not a name: name it in targets"),
        ("{dns: '[::1]'}", "3:21: upstreams.u.discover.dns: '[::1]' is an address"),
        ("{dns: a.., port: 80}", "3:21: upstreams.u.discover.dns: 'a.' is not a host name"),
        ("{dns: a, type: aaaa}", "3:30: upstreams.u.discover.type: must be one of a, srv, not 'aaaa'"),
        ("{dns: a, type: srv, port: 80}", "3:41: upstreams.u.discover.port: has no effect: SRV records tell the port"),
        ("{dns: a, port: 0}", "3:30: upstreams.u.discover.port: must be at least 1, not 0"),
        ("{dns: a, port: 65536}", "3:30: upstreams.u.discover.port: must be at most 65535, not 65536"),
        ("{dns: a, scheme: ftp}", "3:32: upstreams.u.discover.scheme: must be one of http, https, not 'ftp'"),
        ("{dns: a, refresh: 0s}", "3:33: upstreams.u.discover.refresh: must be longer than nothing"),
        ("{dns: a, server: 'a:b'}", "3:32: upstreams.u.discover.server: 'a:b' is not a host name"),
        ("{dns: a, server: 'a:0'}", "3:32: upstreams.u.discover.server: port 0 cannot be asked"),
        ("{dns: a, servers: b}", "3:24: upstreams.u.discover.servers: unknown key (did you mean 'server'?)"),
    ],
)
def test_discoveries_that_cannot_be(tmp_path: Path, settings: str, expected: str) -> None:
    assert complaint(tmp_path, found(settings)).startswith(expected)


def test_targets_are_named_or_found_and_never_both_or_neither(tmp_path: Path) -> None:
    assert complaint(tmp_path, upstream("discover: {dns: a}")) == (
        "4:15: upstreams.u.discover: cannot stand beside targets"
    )
    assert complaint(tmp_path, f"upstreams:\n  u: {{host: client}}\n{ROUTE}") == (
        "2:6: upstreams.u.targets: is required"
    )


def test_tls_goes_with_discovery_over_https(tmp_path: Path) -> None:
    assert complaint(tmp_path, found("{dns: a}", "tls: {server_name: b}")) == (
        "4:10: upstreams.u.tls: has no effect without discover.scheme: https"
    )
    service = loaded(tmp_path, found("{dns: a, scheme: https}", "tls: {server_name: b}")).upstreams["u"]
    assert service.tls is not None


def test_a_gateway_does_not_find_itself(tmp_path: Path) -> None:
    for own in ("{dns: localhost, port: 8080}", "{dns: localhost., port: 8080}"):
        assert complaint(tmp_path, "listen: {http: '0.0.0.0:8080'}\n" + found(own)).startswith(
            "4:15: upstreams.u.discover: is this gateway itself, listening at 0.0.0.0:8080"
        )
    for other in ("{dns: localhost, port: 8081}", "{dns: localhost, type: srv}"):
        assert not complaints(tmp_path, "listen: {http: '0.0.0.0:8080'}\n" + found(other))


def test_values_from_the_environment_are_in_no_complaint(tmp_path: Path) -> None:
    settings = (
        "balance: {hash: '${X}'}\n    health: {path: '${X}', expect: ['${X}'], host: '${X}', unhealthy_after: '${N}'}\n"
        "    hedge: {after: '${X}', max: '${N}'}"
    )
    said = complaints(tmp_path, upstream(settings), {"X": "top secret", "N": "7777777777"})
    said += complaints(tmp_path, found("{dns: '${X}.', server: '${X}', port: '${N}'}"), {"X": "top x", "N": "77777"})
    assert len(said) == 10
    assert not [line for line in said if "top" in line or "777" in line]
