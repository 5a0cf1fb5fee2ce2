from pathlib import Path

import pytest

from gateway.config.model import ANY_METHOD, Rate, RateLimit
from gateway.config.route import ENDS
from tests.configs import ROUTE, SECRET, UPSTREAM, between, complaint, complaints, loaded, route

PROVIDER = f"auth: {{providers: {{p: {{type: jwt, secret: {SECRET}, algorithms: [HS256]}}}}}}\n"


def test_a_match_has_all_its_conditions(tmp_path: Path) -> None:
    match = "{path: '/a/{id}/**', methods: [GET], host: '*.Example.com', headers: {X-A: b}, query: {q: 'true'}}"
    given = loaded(tmp_path, ROUTE.replace("{path: /r}", match) + UPSTREAM).routes[0].match
    assert (given.path, given.methods, given.host) == ("/a/{id}/**", ("GET",), "*.example.com")
    assert (given.headers, given.query) == ({"X-A": "b"}, {"q": "true"})


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ("{}", "2:22: routes[0].match.path: is required"),
        ("{path: r}", "2:29: routes[0].match.path: 'r' must begin with /"),
        ("{path: /r, methods: []}", "2:42: routes[0].match.methods: must have at least one entry"),
        ("{path: /r, methods: [GET, post]}", "2:48: routes[0].match.methods[1]: 'post' is not a method in capitals"),
        ("{path: /r, methods: GET}", "2:42: routes[0].match.methods: must be a list, not 'GET'"),
        ("{path: /r, host: 'a.*'}", "2:39: routes[0].match.host: 'a.*' is not a host name"),
        ("{path: /r, headers: {a b: c}}", "2:43: routes[0].match.headers.'a b': 'a b' is not a header name"),
        ("{path: /r, headers: {a: 1}}", "2:46: routes[0].match.headers.a: must be text, not 1; put it in quotes"),
        ("{path: /r, headers: {a: b, A: c}}", "2:42: routes[0].match.headers: A is here twice"),
        (
            "{path: /r, query: {beta: true}}",
            "2:47: routes[0].match.query.beta: must be text, not true; put it in quotes",
        ),
        ("/r", "2:22: routes[0].match: must be a mapping, not '/r'"),
    ],
)
def test_matches_that_cannot_be(tmp_path: Path, match: str, expected: str) -> None:
    assert complaint(tmp_path, ROUTE.replace("{path: /r}", match) + UPSTREAM).startswith(expected)


def test_a_route_needs_name_match_and_upstream(tmp_path: Path) -> None:
    assert complaints(tmp_path, "routes:\n  - {}\n") == [
        "2:5: routes[0].match: is required",
        "2:5: routes[0].name: is required",
        "2:5: routes[0].upstream: is required",
    ]


def test_scopes_are_for_every_method_or_by_method(tmp_path: Path) -> None:
    def scopes(written: str) -> dict[str, tuple[str, ...]]:
        auth = loaded(tmp_path, PROVIDER + route(f"auth: {{providers: [p], scopes: {written}}}")).routes[0].auth
        assert auth is not None
        return auth.scopes

    assert scopes("[a, 'b:c']") == {ANY_METHOD: ("a", "b:c")}
    assert scopes("{GET: [a], '*': [b]}") == {"GET": ("a",), ANY_METHOD: ("b",)}


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        ("{}", "7:11: routes[0].auth.providers: is required"),
        ("{providers: []}", "7:23: routes[0].auth.providers: must have at least one entry"),
        ("{providers: [p], scopes: [a b]}", "7:37: routes[0].auth.scopes[0]: 'a b' is not a scope"),
        ("{providers: [p], scopes: []}", "7:36: routes[0].auth.scopes: must have at least one entry"),
        ("{providers: [p], scopes: {get: [a]}}", "7:37: routes[0].auth.scopes.get: 'get' is not a method in capitals"),
        ("{providers: [p], scopes: {GET: a}}", "7:42: routes[0].auth.scopes.GET: must be a list, not 'a'"),
        ("{providers: [p], scopes: a}", "7:36: routes[0].auth.scopes: must be a mapping, not 'a'"),
        ("{providers: [p], optional: 1}", "7:38: routes[0].auth.optional: must be true or false, not 1"),
    ],
)
def test_permissions_that_cannot_be(tmp_path: Path, auth: str, expected: str) -> None:
    assert complaint(tmp_path, PROVIDER + route(f"auth: {auth}")).startswith(expected)


def test_scopes_of_a_method_that_the_route_does_not_take_are_refused(tmp_path: Path) -> None:
    text = PROVIDER + route("auth: {providers: [p], scopes: {GET: [a], HEAD: [a], PUT: [b]}}", "/r, methods: [GET]")
    assert complaint(tmp_path, text) == (
        "7:63: routes[0].auth.scopes.PUT: has no effect: match.methods does not have this method"
    )


def test_limits_are_names_or_written_in_place_one_or_several(tmp_path: Path) -> None:
    limits = "rate_limits: {a: {by: ip, limit: 5/second, burst: 2, mode: enforce}}\n"
    inline = RateLimit.model_validate({"by": "consumer", "limit": "1/30s"})
    assert (inline.limit, inline.burst) == (Rate(1, 30.0), None)
    for written, expected in {
        "a": ("a",),
        "[a]": ("a",),
        "{by: consumer, limit: 1/30s}": (inline,),
        "[{by: consumer, limit: 1/30s}, a]": (inline, "a"),
    }.items():
        assert loaded(tmp_path, limits + route(f"rate_limit: {written}")).routes[0].rate_limit == expected


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("{by: ip}", "5:17: routes[0].rate_limit.limit: is required"),
        (
            "[{by: ips, limit: 1/second}]",
            "5:23: routes[0].rate_limit[0].by: 'ips' is none of consumer, ip, route, global, header:NAME,",
        ),
        ("{by: ip, limit: 0/second}", "5:33: routes[0].rate_limit.limit: must allow at least 1 request"),
        ("{by: ip, limit: 1/second, burst: 0}", "5:50: routes[0].rate_limit.burst: must be at least 1, not 0"),
        (
            "{by: ip, limit: 1/second, bursts: 1}",
            "5:43: routes[0].rate_limit.bursts: unknown key (did you mean 'burst'?)",
        ),
        ("5", "5:17: routes[0].rate_limit: must be text, not 5"),
        ("[[a]]", "5:18: routes[0].rate_limit[0]: must be text, not a list"),
    ],
)
def test_limits_that_cannot_be(tmp_path: Path, limit: str, expected: str) -> None:
    text = route(f"rate_limit: {limit}").removeprefix(UPSTREAM) + UPSTREAM
    assert complaint(tmp_path, text).replace("4:", "5:", 1).startswith(expected)


def test_fallbacks_have_json_or_text_or_only_a_status(tmp_path: Path) -> None:
    text = (
        "fallback: [{on: [open, 5xx, 429], json: {a: [1, ~, '${X}'], ok: true}, headers: {X-A: b}}, "
        "{text: hi, status: 203}, {status: 503}, {json: ~}]"
    )
    first, second, third, fourth = loaded(tmp_path, route(text), {"X": "x"}).routes[0].fallback
    assert (first.on, first.status, first.headers) == (("open", "5xx", 429), 200, {"X-A": "b"})
    assert (first.json_, first.text) == ({"a": [1, None, "x"], "ok": True}, None)
    assert (second.text, second.status) == ("hi", 203)
    assert second.on == ("open", "timeout", "connect_failure", "reset", "5xx", "quota", "no_healthy_target")
    assert (third.text, third.status) == ("", 503)
    assert (fourth.json_, fourth.text) == (None, None)


@pytest.mark.parametrize(
    ("fallback", "expected"),
    [
        ("{}", "fallback[0]: answers with nothing"),
        ("{on: [open]}", "fallback[0]: answers with nothing"),
        ("{json: 1, text: a}", "fallback[0].text: there is json already"),
        ("{on: [], text: a}", "fallback[0].on: must have at least one entry"),
        (
            "{on: [opn], text: a}",
            "fallback[0].on[0]: 'opn' is none of open, timeout, connect_failure, reset, 5xx, quota, no_healthy_target,",
        ),
        ("{on: [399], text: a}", "fallback[0].on[0]: 399 is none of"),
        ("{status: 100}", "fallback[0].status: must be at least 200, not 100"),
        ("{status: 600}", "fallback[0].status: must be at most 599, not 600"),
        ("{status: 204, text: a}", "fallback[0].status: a reply with status 204 has no body"),
        ("{text: 5}", "fallback[0].text: must be text, not 5"),
        ("{json: 99999999999999999999}", "fallback[0].json: cannot be written as JSON"),
        ("{json: {a: .nan}}", "fallback[0].json.a: must be a finite number"),
        (
            "{text: a, headers: {Content-Length: '5'}}",
            "fallback[0].headers.Content-Length: 'Content-Length' belongs to",
        ),
        ('{text: a, headers: {X-A: "b\\r\\nc"}}', "fallback[0].headers.X-A: is not a header value"),
        ("5", "fallback[0]: must be a mapping, not 5"),
    ],
)
def test_fallbacks_that_cannot_be(tmp_path: Path, fallback: str, expected: str) -> None:
    said = complaint(tmp_path, route(f"fallback: [{fallback}]"))
    assert said.partition("routes[0].")[2].startswith(expected)


def test_the_same_limit_twice_is_a_mistake(tmp_path: Path) -> None:
    limits = "rate_limits: {a: {by: ip, limit: 1/second}}\n"
    assert "rate_limit[1]: is here twice" in complaint(tmp_path, route("rate_limit: [a, a]") + limits)


ANSWERS = {
    "upstream": "upstream: u",
    "split": "split: {u: 1, v: 1}",
    "versions": "versions: {available: {v1: {upstream: u}, v2: {upstream: v}}}",
    "redirect": "redirect: {to: https://docs.example.com}",
    "respond": "respond: {text: a}",
}


def test_all_that_can_answer_a_route_is_known_here() -> None:
    assert tuple(ANSWERS) == ENDS


@pytest.mark.parametrize(("end", "asked"), [*zip(ENDS, ["u", "uv", "uv", "", ""], strict=True)])
def test_each_of_them_suffices(tmp_path: Path, end: str, asked: str) -> None:
    (only,) = loaded(tmp_path, between(ANSWERS[end])).routes
    assert [name for name in ENDS if getattr(only, name) is not None] == [end]
    assert only.upstreams == tuple(asked)


@pytest.mark.parametrize(
    ("first", "second"), [(one, other) for place, one in enumerate(ENDS) for other in ENDS[place + 1 :]]
)
def test_no_two_of_them_stand_together(tmp_path: Path, first: str, second: str) -> None:
    for both in ((first, second), (second, first)):
        said = complaint(tmp_path, between("\n    ".join(ANSWERS[name] for name in both)))
        line = 7 + both.index(second)
        assert said == f"{line}:{7 + len(second)}: routes[0].{second}: cannot stand beside {first}"


def test_of_three_that_stand_together_two_are_too_many(tmp_path: Path) -> None:
    text = between("\n    ".join(ANSWERS[name] for name in ("split", "redirect", "respond")))
    assert complaints(tmp_path, text) == [
        "8:15: routes[0].redirect: cannot stand beside split",
        "9:14: routes[0].respond: cannot stand beside split",
    ]


@pytest.mark.parametrize("end", ["redirect", "respond"])
@pytest.mark.parametrize(
    "useless",
    [
        "fallback: [{text: a}]",
        "mirror: {upstream: v}",
        "fault: {status: 503}",
        "idempotency: {}",
        "transform: {strip_prefix: /r}",
        "transform: {request_headers: {set: {X-A: a}}}",
        "transform: {location: true}",
        "transform: {cookies: {path: true}}",
    ],
)
def test_what_is_meant_for_an_upstream_has_no_effect_without_one(tmp_path: Path, end: str, useless: str) -> None:
    said = complaint(tmp_path, between(f"{ANSWERS[end]}\n    {useless}"))
    assert said.startswith("8:")
    assert f"has no effect beside {end}: " in said


@pytest.mark.parametrize("end", ["redirect", "respond"])
def test_all_else_has_an_effect_without_an_upstream(tmp_path: Path, end: str) -> None:
    more = (
        "rate_limit: {by: ip, limit: 1/second}\n    concurrency: {limit: 1}\n    body_limit: 1B\n    compress: true\n"
        "    allow_ip: '::1'\n    cors: {origins: '*'}\n    transform: {response_headers: {set: {X-A: a}}}"
    )
    assert loaded(tmp_path, between(f"{ANSWERS[end]}\n    {more}")).routes[0].compress is not None


def test_a_split_without_weights_is_that_and_nothing_else(tmp_path: Path) -> None:
    text = between("split: {u: 0}\n    fallback: [{text: a}]")
    assert complaint(tmp_path, text) == "7:12: routes[0].split: has no weight above 0: nobody would answer"


def test_a_fallback_that_answers_every_version_already_has_failed(tmp_path: Path) -> None:
    one = "versions: {available: {v1: {upstream: u}, v2: {upstream: u}}}\n    fallback: [{upstream: u}]"
    assert "fallback[0].upstream: is the upstream that has failed" in complaint(tmp_path, between(one))
    assert loaded(tmp_path, between(one.replace("v2: {upstream: u}", "v2: {upstream: v}"))).routes


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            "cors: {origins: ['*'], credentials: true}",
            "6:22: routes[0].cors.origins[0]: '*' with credentials would let every page act as its visitor",
        ),
        ("cors: {origins: [app.example]}", "6:22: routes[0].cors.origins[0]: 'app.example' is not an origin"),
        ("cors: {origin: '*'}", "6:11: routes[0].cors.origins: is required"),
        ("allow_ip: [10.0.0.0/8, x]", "6:28: routes[0].allow_ip[1]: 'x' is not a range of addresses"),
        (
            "allow_ip: 10.1.0.0/16\n    deny_ip: 10.0.0.0/8",
            "6:15: routes[0].allow_ip: has no effect: deny_ip has 10.0.0.0/8",
        ),
        ("compress: maybe", "6:15: routes[0].compress: must be "),
        ("compress: {encodings: [gzp]}", "6:28: routes[0].compress.encodings[0]: must be one of zstd, br, gzip"),
        ("compress: {level: best}", "6:23: routes[0].compress.level: must be one of fast, balanced, small"),
        ("transform: {rewrite: {from: '(', to: /}}", "6:33: routes[0].transform.rewrite.from: is not an expression"),
        (
            "transform: {request_headers: {set: {X-A: '{param.x}'}}}",
            "6:46: routes[0].transform.request_headers.set.X-A: has a parameter that match.path does not have",
        ),
        ("transform: {strip_prefix: /s}", "6:31: routes[0].transform.strip_prefix: has no effect: no path that this"),
        ("transform: {cookies: {domian: x}}", "6:27: routes[0].transform.cookies.domian: unknown key (did you mean"),
        ("transform: {query: {set: {a: 1}}}", "6:34: routes[0].transform.query.set.a: must be text, not 1"),
    ],
)
def test_what_is_wrong_with_new_settings_is_told_at_its_place(tmp_path: Path, settings: str, expected: str) -> None:
    assert complaints(tmp_path, route(settings))[0].startswith(expected)


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ("{}", "7:15: routes[0].versions.available: is required"),
        ("{available: {}}", "7:27: routes[0].versions.available: must have at least one entry"),
        ("{available: {v1: {}}}", "7:32: routes[0].versions.available.v1.upstream: is required"),
        ("{available: {v1: {upstream: u, sunset: soon}}}", "7:54: routes[0].versions.available.v1.sunset: 'soon' is"),
        ("{available: {v1: {upstream: u, successor: v2}}}", "7:57: routes[0].versions.available.v1.successor: there"),
        ("{available: {v 1: {upstream: u}}}", "7:28: routes[0].versions.available.'v 1': 'v 1' is not a version"),
        ("{available: {v1: {upstream: u}}, default: v2}", "7:57: routes[0].versions.default: there is no version 'v2'"),
        ("{available: {v1: {upstream: u}}, from: [header]}", "7:55: routes[0].versions.from[0]: needs versions.header"),
    ],
)
def test_what_is_wrong_with_versions_is_told_at_its_place(tmp_path: Path, versions: str, expected: str) -> None:
    assert complaint(tmp_path, between(f"versions: {versions}")).startswith(expected)
