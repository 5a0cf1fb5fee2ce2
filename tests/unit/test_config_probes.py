"""`probes` and `alerts`: what is taken, what is refused and where, and that no secret is shown."""

from pathlib import Path

import pytest

from gateway.config.effective import effective
from tests.configs import UPSTREAM, complaint, complaints, loaded
from tests.wire.certificates import Authority

ROUTES = "routes:\n  - {name: r, match: {path: '/r/*', methods: [GET]}, upstream: u}\n"
HOSTED = "routes:\n  - {name: r, match: {path: /r, host: api.example, headers: {X-Beta: 'yes'}}, upstream: u}\n"


def probes(*written: str, routes: str = ROUTES) -> str:
    return UPSTREAM + routes + "probes:\n" + "".join(f"  - {each}\n" for each in written)


def test_a_probe_needs_no_more_than_a_name_and_a_path(tmp_path: Path) -> None:
    (probe,) = loaded(tmp_path, probes("{name: up, path: /r/1}")).probes

    assert (probe.method, probe.host, probe.every, probe.timeout) == ("GET", "localhost", 30.0, 5.0)
    assert probe.expect.status == ((200, 299),)
    assert probe.expect.json_ == {}


def test_expectations_are_read_as_they_are_written(tmp_path: Path) -> None:
    text = "expect: {status: [204, 400-499], json: {a.0: null, b: {c: [1, true]}}, headers: {ETag: x}, within: 500ms}"
    (probe,) = loaded(tmp_path, probes(f"{{name: up, path: /r/1, {text}}}")).probes

    assert probe.expect.status == ((204, 204), (400, 499))
    assert probe.expect.json_ == {"a.0": None, "b": {"c": [1, True]}}
    assert probe.expect.within == 0.5


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("path: /q", "path: no route takes GET '/q' of host 'localhost' (no_route)"),
        ("path: /r/1, method: POST", "path: no route takes POST '/r/1' of host 'localhost' (method_not_allowed)"),
        ("path: r/1", "path: 'r/1' is not a path such as /healthz"),
        ("path: /r/1, body: x", "body: means nothing with GET"),
        ("path: /r/1, timeout: 1m", "timeout: is longer than every (30s unless set)"),
        ("path: /r/1, every: 1s", "every: is shorter than timeout (5s unless set)"),
        ("path: /r/1, expect: {within: 6s}", "expect.within: is longer than timeout (5s unless set)"),
        (
            "path: /r/1, method: HEAD, expect: {json: {a: 1}}",
            "expect.json: cannot be seen: a reply to HEAD has no body",
        ),
        ("path: /r/1, headers: {Host: a}", "headers.Host: 'Host' belongs to the connection and cannot be set"),
        ("path: /r/1, headers: {a: b, A: c}", "headers: A is here twice: case makes no difference"),
        ("path: /r/1, expect: {json: {a..b: 1}}", "expect.json.'a..b': 'a..b' is not a path such as items.0.id"),
    ],
)
def test_what_makes_no_sense_is_refused_where_it_stands(tmp_path: Path, settings: str, said: str) -> None:
    assert complaint(tmp_path, probes(f"{{name: up, {settings}}}")).partition(" ")[2] == f"probes[0].{said}"


def test_a_method_is_one_in_capitals(tmp_path: Path) -> None:
    assert "'get' is not a method in capitals" in complaint(tmp_path, probes("{name: up, path: /r/1, method: get}"))


def test_nobody_connects_to_a_route(tmp_path: Path) -> None:
    text = probes(
        "{name: up, path: /r, method: CONNECT}", routes="routes:\n  - {name: r, match: {path: /r}, upstream: u}\n"
    )
    assert "probes[0].method: asks for no route" in complaint(tmp_path, text)


def test_names_are_there_once(tmp_path: Path) -> None:
    said = complaint(tmp_path, probes("{name: up, path: /r/1}", "{name: up, path: /r/2}"))
    assert said.endswith("probes[1].name: is also the name of probes[0]")


def test_hosts_and_headers_lead_to_a_route_as_in_the_gateway(tmp_path: Path) -> None:
    right = "{name: up, path: /r, host: API.example:8080, headers: {x-beta: 'yes'}}"
    assert complaints(tmp_path, probes(right, routes=HOSTED)) == []
    for wrong in ("{name: up, path: /r}", "{name: up, path: /r, host: api.example}"):
        assert "no route takes GET '/r'" in complaint(tmp_path, probes(wrong, routes=HOSTED))


def test_a_version_in_the_path_leads_to_its_route(tmp_path: Path) -> None:
    routes = (
        "routes:\n  - name: r\n    match: {path: /r}\n"
        "    versions: {from: path, available: {v1: {upstream: u}, v2: {upstream: u}}, default: v1}\n"
    )
    assert complaints(tmp_path, probes("{name: up, path: /v2/r}", routes=routes)) == []
    assert "no route takes" in complaint(tmp_path, probes("{name: up, path: /beta/r}", routes=routes))


def test_a_listener_that_waits_for_proxy_headers_of_this_machine_is_refused(tmp_path: Path) -> None:
    text = probes("{name: up, path: /r/1}") + "listen: {proxy_protocol: true}\n"
    assert "probes: send no PROXY header" in complaint(tmp_path, text + "trusted_proxies: [127.0.0.0/8]\n")
    assert complaints(tmp_path, text + "trusted_proxies: [10.0.0.0/8]\n") == []


def test_tls_over_a_unix_socket_is_passed_over_and_alone_refused(tmp_path: Path) -> None:
    certificate, key = Authority(tmp_path).sign("gateway.example")
    pair = f"certificate: {certificate}, key: {key}"
    text = probes("{name: up, path: /r/1}")
    listen = f"listen: {{http: off, https: {{address: %s, {pair}}}}}\n"
    assert "probes: cannot use TLS over a unix socket" in complaint(tmp_path, text + listen % "'unix:/tmp/gw.sock'")
    assert complaints(tmp_path, text + listen % "['unix:/tmp/gw.sock', '127.0.0.1:8443']") == []


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    text = probes("{name: up, path: /r/1, headers: {X-API-Key: k-123}}")
    config = loaded(tmp_path, text + "alerts: {webhook: https://chat.example/k-456, headers: {Authorization: k-789}}\n")

    shown = str(effective(config, {}))
    assert "k-" not in shown.replace("k-proxies", "")
    assert "k-" not in repr(config.probes) + repr(config.alerts)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("webhook: ftp://a", "alerts.webhook: is not a URL with http or https"),
        ("labels: {severity: a}", "alerts.labels.severity: 'severity' is what every alert says of itself"),
        ("labels: {a-b: c}", "alerts.labels.a-b: 'a-b' is not the name of a label"),
        ("repeat: 0s", "alerts.repeat: must be longer than nothing"),
    ],
)
def test_alerts_that_cannot_be_sent_are_refused(tmp_path: Path, settings: str, said: str) -> None:
    assert said in complaint(tmp_path, f"{UPSTREAM}{ROUTES}alerts: {{{settings}}}\n")
