import pickle
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.config.model import MOST_WORKERS, Address, Breaker, Config, Retry, Timeouts
from tests.configs import ROUTE, SECRET, UPSTREAM, between, complaint, complaints, loaded, provider, route, upstream


def test_what_is_absent_has_the_contracts_defaults(tmp_path: Path) -> None:
    config = loaded(tmp_path, UPSTREAM + ROUTE)
    assert config.listen.http == (Address("127.0.0.1", 8080),)
    assert config.listen.admin == Address("127.0.0.1", 9901)
    assert (config.workers, config.trusted_proxies) == (1, ())
    store, wire = config.store, config.wire
    assert (store.url, store.on_failure, store.timeout, store.prefix) == ("memory", "local", 0.05, "gw:")
    assert (wire.header_limit, wire.target_limit, wire.body_limit) == (32 * 1024, 8 * 1024, 10 * 1024**2)
    assert wire.connections == 10_000
    assert (wire.header_timeout, wire.body_timeout, wire.idle_timeout, wire.drain_timeout) == (10, 30, 75, 30)
    assert (config.logging.access, config.logging.level) == ("json", "info")
    service = config.upstreams["u"]
    assert service.timeouts == Timeouts.model_validate({"connect": "1s", "try": "3s", "total": "10s", "idle": "60s"})
    retry = service.retry
    assert (retry.attempts, retry.backoff.base, retry.backoff.max, retry.budget) == (3, 0.05, 2.0, 0.2)
    assert retry.on == ("connect_failure", "reset", "timeout", 502, 503, 504)
    assert retry.methods == ("GET", "HEAD", "OPTIONS", "PUT", "DELETE")
    assert retry.replay_limit == 64 * 1024
    breaker = service.breaker
    assert breaker is not None
    assert (breaker.consecutive_failures, breaker.failure_rate, breaker.window) == (5, 0.5, 10.0)
    assert (breaker.minimum_requests, breaker.open_for, breaker.trials, breaker.per) == (20, 10.0, 3, "target")
    assert (service.balance, service.host, service.tls) == ("round_robin", "upstream", None)
    (only,) = config.routes
    assert (only.auth, only.rate_limit, only.fallback, only.body_limit) == (None, (), (), 10 * 1024**2)
    assert (only.match.methods, only.match.host, only.match.headers, only.match.query) == (None, None, {}, {})


def test_everything_is_frozen(tmp_path: Path) -> None:
    config = loaded(tmp_path, UPSTREAM + ROUTE)
    with pytest.raises(ValidationError):
        config.wire.connections = 5


def test_routes_are_required_but_may_be_none(tmp_path: Path) -> None:
    assert complaint(tmp_path, "workers: 1\n") == "1:1: routes: is required"
    assert loaded(tmp_path, "routes: []").routes == ()


@pytest.mark.parametrize("text", ["5", "[1]", "text"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    assert complaint(tmp_path, text).startswith("1:1: must be a mapping, not ")


def test_sections_of_a_wrong_type_are_refused_where_they_begin(tmp_path: Path) -> None:
    text = "wire: 5\nauth: []\nupstreams: [a]\nroutes: {a: b}\nlisten: ok\n"
    assert complaints(tmp_path, text) == [
        "1:7: wire: must be a mapping, not 5",
        "2:7: auth: must be a mapping, not a list",
        "3:12: upstreams: must be a mapping, not a list",
        "4:9: routes: must be a list, not a mapping",
        "5:9: listen: must be a mapping, not 'ok'",
    ]


def test_an_unknown_key_gets_the_nearest_of_its_own_section(tmp_path: Path) -> None:
    text = "wire:\n  body_limt: 1MiB\nlogging: {lvl: info}\n" + upstream("timeouts: {tri: 1s}")
    assert complaints(tmp_path, text) == [
        "2:3: wire.body_limt: unknown key (did you mean 'body_limit'?)",
        "3:11: logging.lvl: unknown key (did you mean 'level'?)",
        "7:16: upstreams.u.timeouts.tri: unknown key (did you mean 'try'?)",
    ]


def test_python_names_with_an_underscore_are_not_keys(tmp_path: Path) -> None:
    assert "unknown key (did you mean 'try'?)" in complaint(tmp_path, upstream("timeouts: {try_: 1s}"))


def test_names_are_checked(tmp_path: Path) -> None:
    text = UPSTREAM + "  'a b': {targets: [http://a]}\n" + ROUTE
    assert complaint(tmp_path, text).startswith("3:3: upstreams.'a b': 'a b' is not a name")


def test_an_upstream_named_like_a_key_does_not_confuse_anybody(tmp_path: Path) -> None:
    text = "upstreams:\n  retry: {targets: [http://a], retry: {attempt: 1}, health: {}}\n  json: {}\n" + ROUTE
    assert complaints(tmp_path, text)[:3] == [
        "2:40: upstreams.retry.retry.attempt: unknown key (did you mean 'attempts'?)",
        "2:61: upstreams.retry.health: asks for nothing: give it a path, or tcp: true",
        "3:9: upstreams.json.targets: is required",
    ]


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "true", "x", "[1]"])
def test_whole_numbers_are_whole_and_positive(tmp_path: Path, value: str) -> None:
    assert "must be" in complaint(tmp_path, f"wire: {{connections: {value}}}\nroutes: []")


def test_numbers_and_flags_may_come_from_the_environment(tmp_path: Path) -> None:
    text = "wire: {connections: '${N}'}\n" + route("auth: {providers: [p], optional: '${YES}'}")
    text += f"auth: {{providers: {{p: {{type: jwt, secret: {SECRET}, algorithms: ['${{ALG}}']}}}}}}\n"
    config = loaded(tmp_path, text, {"N": "7", "YES": "true", "ALG": "HS256"})
    assert config.wire.connections == 7
    auth = config.routes[0].auth
    assert auth is not None
    assert auth.optional is True


def test_yes_is_not_true(tmp_path: Path) -> None:
    text = provider(f"secret: {SECRET}, algorithms: [HS256]").replace(
        "{name: r,", "{name: r, auth: {providers: [p], optional: yes},"
    )
    assert complaint(tmp_path, text).endswith("optional: must be true or false, not 'yes'")


def test_a_route_without_a_body_limit_has_that_of_the_wire(tmp_path: Path) -> None:
    text = "wire: {body_limit: 1KiB}\n" + route("body_limit: none") + "  - {name: s, match: {path: /s}, upstream: u}\n"
    assert [route.body_limit for route in loaded(tmp_path, text).routes] == [None, 1024]


def test_retry_and_breaker_can_be_off_and_still_be_configured(tmp_path: Path) -> None:
    for off in ("off", "'off'", "false"):
        service = loaded(tmp_path, upstream(f"retry: {off}\n    breaker: {off}")).upstreams["u"]
        assert (service.retry.attempts, service.breaker) == (1, None)
    service = loaded(tmp_path, upstream("retry: {attempts: 5}\n    breaker: {trials: 1}")).upstreams["u"]
    assert service.retry == Retry(attempts=5)
    assert service.breaker == Breaker(trials=1)
    assert "must be a mapping" in complaint(tmp_path, upstream("retry: on"))


def test_neither_text_nor_dump_of_a_configuration_shows_its_secrets(tmp_path: Path) -> None:
    text = 'store: {url: "redis://user:hunter2hunter2@localhost/0"}\n' + provider(
        "secret: '${JWT}', algorithms: [HS256]"
    )
    config = loaded(tmp_path, text, {"JWT": "hunter2" * 5})
    shown = repr(config) + str(config) + repr(config.model_dump(mode="json")) + config.model_dump_json()
    assert "hunter2" not in shown
    assert config.store.url == "redis://user:hunter2hunter2@localhost/0"
    secret = config.auth.providers["p"].secret
    assert secret is not None
    assert secret.get_secret_value() == "hunter2" * 5


def test_a_configuration_can_be_built_without_a_file() -> None:
    config = Config.model_validate(
        {
            "upstreams": {"u": {"targets": ["http://a"]}},
            "routes": [{"name": "r", "match": {"path": "/"}, "upstream": "u"}],
        }
    )
    assert config.routes[0].upstream == "u"


@pytest.mark.parametrize(("value", "expected"), [("1", 1), ("128", 128), ("'4'", 4), ("'${N}'", 3)])
def test_workers_are_a_number(tmp_path: Path, value: str, expected: int) -> None:
    assert loaded(tmp_path, f"workers: {value}\nroutes: []", {"N": "3"}).workers == expected


def test_as_many_workers_as_cores_that_may_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, expected in ((1, 1), (6, 6), (512, MOST_WORKERS)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cores=cores: set(range(cores)), raising=False)
        assert loaded(tmp_path, "workers: auto\nroutes: []").workers == expected
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert loaded(tmp_path, "workers: '${W}'\nroutes: []", {"W": "auto"}).workers == 4
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert loaded(tmp_path, "workers: auto\nroutes: []").workers == 1


@pytest.mark.parametrize("value", ["0", "129", "-2", "1.5", "automatic", "true", "[2]"])
def test_impossible_numbers_of_workers_are_refused(tmp_path: Path, value: str) -> None:
    said = complaint(tmp_path, f"workers: {value}\nroutes: []")
    assert said.startswith("1:10: workers: ")
    assert "must be" in said


LIMITED = route("rate_limit: {by: ip, limit: 1/second}")


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ("", "memory"),
        ("workers: 1\n", "memory"),
        ("workers: 2\n", "embedded"),
        ("workers: 2\nstore: {timeout: 20ms}\n", "embedded"),
        ("workers: 2\nstore: {url: memory}\n", "memory"),
        ("workers: 2\nstore: {url: 'redis://h'}\n", "redis://h"),
        ("workers: 1\nstore: {url: embedded}\n", "embedded"),
    ],
)
def test_several_workers_count_together_unless_told_otherwise(tmp_path: Path, settings: str, url: str) -> None:
    assert loaded(tmp_path, settings + LIMITED).store_url == url


def test_something_has_to_be_counted_where_a_route_has_a_limit(tmp_path: Path) -> None:
    assert loaded(tmp_path, LIMITED).limits
    assert not loaded(tmp_path, "rate_limits: {a: {by: ip, limit: 1/second}}\n" + UPSTREAM + ROUTE).limits


def test_the_runtime_folder_is_one_that_exists_beside_the_file_or_anywhere(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "file").touch()
    assert loaded(tmp_path, "routes: []").runtime_dir is None
    assert loaded(tmp_path, "runtime_dir: run\nroutes: []").runtime_dir == tmp_path / "run"
    assert loaded(tmp_path, f"runtime_dir: {tmp_path}/run\nroutes: []").runtime_dir == tmp_path / "run"
    for wrong in ("nowhere", "file"):
        assert (
            complaint(tmp_path, f"runtime_dir: {wrong}\nroutes: []") == f"1:14: runtime_dir: '{wrong}' is not a folder"
        )


def test_a_configuration_survives_the_way_to_the_workers(tmp_path: Path) -> None:
    """It travels pickled; what was not said must still count as not said, and secrets must arrive."""
    settings = "workers: 2\nstore: {prefix: 'x:'}\nlisten: {admin_token: hunter2hunter2}\n"
    config = loaded(tmp_path, settings + LIMITED)
    copy: Config = pickle.loads(pickle.dumps(config, pickle.HIGHEST_PROTOCOL))
    assert copy == config
    assert (copy.store_url, copy.limits, copy.routes[0].body_limit) == ("embedded", True, 10 * 1024**2)
    assert copy.listen.admin_token == config.listen.admin_token
    assert hash(copy.upstreams["u"]) == hash(config.upstreams["u"]), "parts are kept by it"


AWAY = "  - {{name: {0}, match: {{path: {0}}}, redirect: {{to: {1}}}}}\n"


def redirects(*pairs: tuple[str, str]) -> str:
    """The first line of routes is the second of all."""
    return "routes:\n" + "".join(AWAY.format(path, to).replace("name: /", "name: ") for path, to in pairs)


def test_redirects_that_lead_in_a_circle_are_told_where_they_stand(tmp_path: Path) -> None:
    said = "leads back to where it came from, again and again"
    assert complaints(tmp_path, redirects(("/a", "/b"), ("/c", "/d"), ("/b", "/a"))) == [
        f"2:49: routes[0].redirect.to: {said}",
        f"4:49: routes[2].redirect.to: {said}",
    ]
    assert len(loaded(tmp_path, redirects(("/a", "/b"), ("/b", "/c"))).routes) == 2


def test_a_redirect_to_a_version_comes_to_an_end_there(tmp_path: Path) -> None:
    text = UPSTREAM + redirects(("/orders", "/v2/o")).replace("/orders,", '"/**",').replace(
        "path: /orders", 'path: "/**"'
    )
    versions = "  - {name: o, match: {path: /o}, versions: {available: {v1: {upstream: u}, v2: {upstream: u}}}}\n"
    assert "again and again" in complaint(tmp_path, text)
    assert len(loaded(tmp_path, text + versions).routes) == 2
    assert "again and again" in complaint(tmp_path, text.replace("/v2/o", "/vx/o") + versions)


def test_a_header_that_the_gateway_tells_itself_is_told_where_it_is_set(tmp_path: Path) -> None:
    jwt = f"type: jwt, secret: {SECRET}, algorithms: [HS256], forward: {{X-User: sub}}"
    text = f"auth: {{providers: {{p: {{{jwt}}}}}}}\n" + between(
        "auth: {providers: [p]}\n    upstream: u\n"
        "    transform: {request_headers: {set: {X-Other: a, x_user: b}, add: {X-Time: c}}}"
    ).replace("u: {", "u: {timeouts: {header: X-Time}, ")
    assert complaints(tmp_path, text) == [
        "10:61: routes[0].transform.request_headers.set.x_user: is set by the provider p already",
        "10:79: routes[0].transform.request_headers.add.X-Time: is set by timeouts of the upstream u already",
    ]


def test_security_headers_are_off_unless_they_are_asked_for(tmp_path: Path) -> None:
    assert not loaded(tmp_path, "routes: []").security_headers
    assert loaded(tmp_path, "security_headers: true\nroutes: []").security_headers
    said = complaint(tmp_path, "security_headers: {csp: none}\nroutes: []")
    assert said == "1:19: security_headers: must be true or false, not a mapping"


def test_what_versions_say_is_not_set_by_a_transformation_too(tmp_path: Path) -> None:
    said = complaints(
        tmp_path,
        between(
            "versions: {available: {v1: {upstream: u, deprecated: 2026-01-01}, v2: {upstream: v}}}\n"
            "    transform:\n"
            "      response_headers: {set: {Sunset: never}, add: {X-Ours: a}}"
        ),
    )
    assert [line.split(": ", 1)[1] for line in said] == [
        "routes[0].transform.response_headers.set.Sunset: is set by versions already",
    ]
