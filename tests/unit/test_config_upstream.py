import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from tests.configs import ROUTE, UPSTREAM, complaint, complaints, loaded, upstream


def with_targets(targets: str) -> str:
    return f"upstreams:\n  u:\n    targets: {targets}\n{ROUTE}"


def make_certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    (folder / "cert.pem").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    for file, protection in (("key.pem", NoEncryption()), ("locked.pem", BestAvailableEncryption(b"password"))):
        (folder / file).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection))


def test_targets_are_urls_or_have_a_weight(tmp_path: Path) -> None:
    text = with_targets("[http://A.example/, {url: 'https://[::1]', weight: 3}, http://10.0.0.1:81]")
    first, second, third = loaded(tmp_path, text).upstreams["u"].targets
    assert (first.url, first.weight) == ("http://a.example", 1)
    assert (first.scheme, first.host, first.port) == ("http", "a.example", 80)
    assert (second.url, second.weight) == ("https://[::1]", 3)
    assert (second.scheme, second.host, second.port) == ("https", "::1", 443)
    assert (third.host, third.port) == ("10.0.0.1", 81)


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ("[]", "3:14: upstreams.u.targets: must have at least one entry"),
        ("http://a", "3:14: upstreams.u.targets: must be a list, not 'http://a'"),
        ("[a:80]", "3:15: upstreams.u.targets[0]: 'a:80' does not begin with http:// or https://"),
        ("[ftp://a]", "3:15: upstreams.u.targets[0]: 'ftp://a' does not begin with"),
        ("[http://]", "3:15: upstreams.u.targets[0]: '' is not a host name"),
        ("[http://a/b]", "3:15: upstreams.u.targets[0]: a target's URL ends after the port: leave '/b' out"),
        ("['http://a/?q']", "3:15: upstreams.u.targets[0]: a target's URL ends after the port: leave '/?q' out"),
        ("['http://a#f']", "3:15: upstreams.u.targets[0]: a target's URL ends after the port: leave '#f' out"),
        ("['http://user:pass@a']", "3:15: upstreams.u.targets[0]: a target's URL has no user name and no password"),
        ("['http://a:0']", "3:15: upstreams.u.targets[0]: port 0 cannot be connected to"),
        ("['http://a:70000']", "3:15: upstreams.u.targets[0]: '70000' is not a port"),
        ("['http://a b']", "3:15: upstreams.u.targets[0]: 'a b' is not a host name"),
        ("[{url: http://a, weight: 0}]", "3:39: upstreams.u.targets[0].weight: must be at least 1, not 0"),
        ("[{url: http://a, weight: 1001}]", "3:39: upstreams.u.targets[0].weight: must be at most 1000, not 1001"),
        ("[{url: http://a, priority: -1}]", "3:41: upstreams.u.targets[0].priority: must be at least 0, not -1"),
        ("[{url: http://a, priority: 101}]", "3:41: upstreams.u.targets[0].priority: must be at most 100, not 101"),
        (
            "[{url: http://a, priorty: 1}]",
            "3:31: upstreams.u.targets[0].priorty: unknown key (did you mean 'priority'?)",
        ),
        ("[{weight: 1}]", "3:15: upstreams.u.targets[0].url: is required"),
        ("[{url: http://a, wait: 1}]", "3:31: upstreams.u.targets[0].wait: unknown key"),
        ("[http://a, 5]", "3:25: upstreams.u.targets[1]: must be a mapping, not 5"),
        ("[http://a, http://A/]", "3:25: upstreams.u.targets[1]: is the same target as one before it"),
    ],
)
def test_targets_that_cannot_be(tmp_path: Path, targets: str, expected: str) -> None:
    assert complaint(tmp_path, with_targets(targets)).startswith(expected)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("timeouts: {try: 20s}", "4:21: upstreams.u.timeouts.try: is longer than timeouts.total"),
        ("timeouts: {try: 5s, total: 2s}", "4:21: upstreams.u.timeouts.try: is longer than"),
        ("timeouts: {total: 2s}", "4:23: upstreams.u.timeouts.total: is shorter than timeouts.try"),
        ("timeouts: {connect: 0s}", "4:25: upstreams.u.timeouts.connect: must be longer than nothing"),
        ("timeouts: {connect: 3}", "4:25: upstreams.u.timeouts.connect: 3 is not a duration"),
        ("retry: {attempts: 0}", "4:23: upstreams.u.retry.attempts: must be at least 1, not 0"),
        ("retry: {attempts: 21}", "4:23: upstreams.u.retry.attempts: must be at most 20, not 21"),
        ("retry: {backoff: {base: 3s}}", "4:29: upstreams.u.retry.backoff.base: is longer than backoff.max"),
        ("retry: {backoff: {max: 1ms}}", "4:28: upstreams.u.retry.backoff.max: is shorter than backoff.base"),
        ("retry: {on: [502, timeot]}", "4:23: upstreams.u.retry.on[1]: 'timeot' is none of connect_failure, reset, "),
        ("retry: {on: [200]}", "4:18: upstreams.u.retry.on[0]: 200 is none of connect_failure"),
        ("retry: {on: [open]}", "4:18: upstreams.u.retry.on[0]: 'open' is none of connect_failure"),
        ("retry: {on: 502}", "4:17: upstreams.u.retry.on: must be a list, not 502"),
        (
            "retry: {methods: [get]}",
            "4:23: upstreams.u.retry.methods[0]: 'get' is not a method in capitals (did you mean 'G",
        ),
        ("retry: {budget: 20}", "4:21: upstreams.u.retry.budget: 20 is not a share"),
        ("breaker: {failure_rate: 0%}", "4:29: upstreams.u.breaker.failure_rate: must be more than 0%"),
        ("breaker: {per: host}", "4:20: upstreams.u.breaker.per: must be one of target, upstream, not 'host'"),
        ("retry: {attempts: off}", "4:23: upstreams.u.retry.attempts: must be a whole number, not 'off'"),
        ("retry: {budget: 101%}", "4:21: upstreams.u.retry.budget: '101%' is not a share from 0% to 100%"),
        ("retry: {attempts_header: X-A}", "4:30: upstreams.u.retry.attempts_header: must be true or false, not 'X-A'"),
        ("timeouts: {header: 'X A'}", "4:24: upstreams.u.timeouts.header: 'X A' is not a header name"),
        ("timeouts: {header: Content-Length}", "4:24: upstreams.u.timeouts.header: 'Content-Length' belongs to the"),
        ("timeouts: {header: X-Request-Id}", "4:24: upstreams.u.timeouts.header: 'X-Request-Id' is written by the"),
        (
            "breaker: {open_for_max: 9s}",
            "4:29: upstreams.u.breaker.open_for_max: is shorter than breaker.open_for (10s unless set)",
        ),
        ("breaker: {open_for: 1m, open_for_max: 59s}", "4:43: upstreams.u.breaker.open_for_max: is shorter than"),
        (
            "breaker: {open_formax: 59s}",
            "4:15: upstreams.u.breaker.open_formax: unknown key (did you mean 'open_for_max",
        ),
        ("breaker: {slow_calls: {}}", "4:27: upstreams.u.breaker.slow_calls.over: is required"),
        ("breaker: {slow_calls: 2s}", "4:27: upstreams.u.breaker.slow_calls: must be a mapping, not '2s'"),
        ("breaker: {slow_calls: {over: 1s, rate: 0%}}", "4:44: upstreams.u.breaker.slow_calls.rate: must be more tha"),
        (
            "breaker: {slow_calls: {over: 1s, rate: 110%}}",
            "4:44: upstreams.u.breaker.slow_calls.rate: '110%' is not a s",
        ),
        (
            "breaker: {slow_calls: {over: 3s}}",
            "4:34: upstreams.u.breaker.slow_calls.over: is not shorter than timeouts.try (3s unless set), when a try e",
        ),
        (
            "breaker: {trials: 3}\n    concurrency: {limit: 2}",
            "4:23: upstreams.u.breaker.trials: is above concurrency.limit: so many can never be under way",
        ),
        ("breaker: {trials: 0}", "4:23: upstreams.u.breaker.trials: must be at least 1, not 0"),
        ("host: a b", "4:11: upstreams.u.host: 'a b' is not a host name"),
        ("tls: {ca: ca.pem}", "4:15: upstreams.u.tls.ca: cannot read 'ca.pem': No such file"),
        ("tls: {server_name: a}", "4:10: upstreams.u.tls: has no effect: no target begins with https://"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, settings: str, expected: str) -> None:
    assert complaint(tmp_path, upstream(settings)).startswith(expected)


def test_targets_have_priorities(tmp_path: Path) -> None:
    targets = loaded(tmp_path, with_targets("[http://a, {url: http://b, priority: 1}]")).upstreams["u"].targets
    assert [target.priority for target in targets] == [0, 1]


def test_an_upstream_and_a_caller_may_be_told_of_times_and_tries(tmp_path: Path) -> None:
    service = loaded(
        tmp_path, upstream("timeouts: {header: X-Request-Timeout-Ms}\n    retry: {attempts: 1, attempts_header: true}")
    ).upstreams["u"]
    assert (service.timeouts.header, service.retry.attempts_header) == ("X-Request-Timeout-Ms", True)


def test_circuits_open_for_slow_calls_and_for_longer_each_time(tmp_path: Path) -> None:
    text = upstream("breaker: {open_for: 5s, open_for_max: 5s, slow_calls: {over: 2999ms}}")
    breaker = loaded(tmp_path, text).upstreams["u"].breaker
    assert breaker is not None
    assert breaker.slow_calls is not None
    assert (breaker.open_for, breaker.open_for_max) == (5.0, 5.0)
    assert (breaker.slow_calls.over, breaker.slow_calls.rate) == (2.999, 0.8)


@pytest.mark.parametrize(("limit", "trials"), [(1, 1), (2, 2), (3, 3), (200, 3)])
def test_of_few_places_trials_take_no_more_than_there_are(tmp_path: Path, limit: int, trials: int) -> None:
    text = upstream(f"concurrency: {{limit: {limit}}}\n    breaker: {{open_for: 5s}}")
    breaker = loaded(tmp_path, text).upstreams["u"].breaker
    assert breaker is not None
    assert (breaker.trials, breaker.open_for) == (trials, 5.0)
    assert loaded(tmp_path, text.replace("{open_for: 5s}", "off")).upstreams["u"].breaker is None
    other = loaded(tmp_path, UPSTREAM + ROUTE).upstreams["u"].breaker
    assert other is not None
    assert other.trials == 3, "the default of everybody else is not touched"


@pytest.mark.parametrize("listen", ["http: '127.0.0.1:9001'", "http: '0.0.0.0:9001'", "admin: 127.0.0.1:9001"])
def test_a_target_is_not_the_gateway_itself(tmp_path: Path, listen: str) -> None:
    text = f"{upstream('host: client')}listen: {{{listen}}}\n"
    assert complaint(tmp_path, text).startswith("3:15: upstreams.u.targets[0]: is this gateway itself, listening at ")


def test_failures_from_the_environment_may_be_statuses(tmp_path: Path) -> None:
    retry = loaded(tmp_path, upstream("retry: {on: ['${A}', '${B}']}"), {"A": "503", "B": "reset"}).upstreams["u"].retry
    assert retry.on == (503, "reset")


@pytest.mark.parametrize("host", ["upstream", "client", "api.internal", "api.internal:8080"])
def test_the_host_header(tmp_path: Path, host: str) -> None:
    assert loaded(tmp_path, upstream(f"host: {host}")).upstreams["u"].host == host


def test_tls_files_are_read_and_belong_together(tmp_path: Path) -> None:
    make_certificate(tmp_path)
    (tmp_path / "text.pem").write_text("nothing")

    def said(tls: str) -> list[str]:
        return complaints(tmp_path, upstream(f"tls: {{{tls}}}").replace("http://", "https://"))

    assert said("ca: cert.pem, certificate: cert.pem, key: key.pem, server_name: A.example") == []
    assert said("ca: text.pem") == ["4:15: upstreams.u.tls.ca: is not a PEM file with certificates"]
    for key in ("text.pem", "locked.pem", "cert.pem"):
        assert said(f"certificate: cert.pem, key: {key}")[0].startswith(
            "4:24: upstreams.u.tls.certificate: is not a PEM"
        )
    assert said("key: key.pem") == ["4:16: upstreams.u.tls.key: needs certificate and key together"]


def test_values_from_the_environment_are_not_in_the_complaints(tmp_path: Path) -> None:
    settings = "timeouts: {try: '${T}'}\n    retry: {backoff: {base: '${T}'}, attempts: '${N}', on: ['${N}']}"
    targets = "['http://u:${N}@h', 'http://${N}', 'http://h:${N}']"
    text = upstream(settings).replace("[http://127.0.0.1:9001]", targets)
    said = complaints(tmp_path, text, {"T": "77s", "N": "-77777"})
    assert [line.split(" ")[1] for line in said] == [
        "upstreams.u.targets[0]:",
        "upstreams.u.targets[1]:",
        "upstreams.u.targets[2]:",
        "upstreams.u.timeouts.try:",
        "upstreams.u.retry.backoff.base:",
        "upstreams.u.retry.attempts:",
        "upstreams.u.retry.on[0]:",
    ]
    assert "77" not in "".join(said)


def test_a_header_that_carries_credentials_does_not_tell_the_time(tmp_path: Path) -> None:
    said = complaint(tmp_path, upstream("timeouts: {header: Authorization}"))
    assert said.endswith("timeouts.header: Authorization carries credentials, which would be lost")
