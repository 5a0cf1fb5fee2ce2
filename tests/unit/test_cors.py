from typing import Any

import pytest

from gateway.config.cors import Cors
from gateway.errors import Refused
from gateway.exchange import Call, Headers, Reply
from gateway.http.reply import field_lines
from gateway.transform import cors as module
from gateway.transform.cors import LONGEST_REQUESTED, announced, asked, cors, without_cors
from tests.fakes import Script, make_call

APP = b"https://app.example.com"
MAY_READ = b"access-control-allow-origin: https://app.example.com\r\n"
VARY = b"vary: origin\r\n"


def settings(**more: Any) -> Cors:
    return Cors.model_validate({"origins": ["https://app.example.com"], **more})


def said(origin: bytes | None, method: str = "GET", **more: Any) -> bytes:
    """What the reply to a request says about CORS."""
    call = make_call(method, [(b"origin", origin)] if origin is not None else [])
    assert cors(settings(**more), ["GET"])(call) is None
    return call.added


def preflight(origin: bytes = APP, method: bytes = b"POST", *more: tuple[bytes, bytes]) -> Call:
    return make_call("OPTIONS", [(b"origin", origin), (b"access-control-request-method", method), *more])


def answer(call: Call, methods: list[str] | None = None, **more: Any) -> dict[str, str]:
    """The fields of the answer to a preflight; vary apart, which all of them have."""
    reply = cors(settings(**more), methods)(call)
    assert reply is not None
    assert (reply.status, reply.headers, reply.body) == (204, [], b"")
    lines = dict(line.split(": ", 1) for line in call.added.decode().splitlines())
    assert lines.pop("vary").startswith("origin, access-control-request-method, access-control-request-headers")
    return {name.removeprefix("access-control-"): value for name, value in lines.items()}


# -- actual requests -----------------------------------------------------------------------------------


def test_an_allowed_page_may_read_the_reply() -> None:
    assert said(APP) == MAY_READ + VARY


def test_another_page_may_not_and_caches_hear_that_it_depends() -> None:
    assert said(b"https://evil.example") == VARY


def test_a_request_without_origin_is_told_that_it_depends_too() -> None:
    assert said(None) == VARY


@pytest.mark.parametrize(
    "origin",
    [
        b"", b"null", b"*", b"https://APP.example.com", b"https://app.example.com:443", b"https://app.example.com/",
        b"http://app.example.com", b"https://app.example.com.evil.example", b"https://evilapp.example.com",
        b"https://app.example.com https://app.example.com", b"https://app.example.com\xff", b"https://app.exampl\xe9.com",
        b"x" * 60000,
    ],
)  # fmt: skip
def test_origins_are_compared_byte_by_byte(origin: bytes) -> None:
    assert said(origin) == VARY


def test_null_is_an_origin_only_where_it_is_listed() -> None:
    assert said(b"null", origins=["null"]) == b"access-control-allow-origin: null\r\n" + VARY
    assert said(b"null", origins=["https://*.example.com"]) == VARY


@pytest.mark.parametrize("origin", [APP, b"null", None])
def test_what_is_for_everybody_never_varies(origin: bytes | None) -> None:
    assert said(origin, origins="*") == b"access-control-allow-origin: *\r\n"


def test_credentials_and_exposed_headers() -> None:
    lines = said(APP, credentials=True, expose=["X-Request-Id", "RateLimit"])
    assert lines == (
        MAY_READ
        + b"access-control-allow-credentials: true\r\n"
        + b"access-control-expose-headers: X-Request-Id, RateLimit\r\n"
        + VARY
    )
    assert said(b"https://evil.example", credentials=True, expose=["X-Request-Id"]) == VARY


def test_what_other_stages_have_added_stays() -> None:
    call = make_call()
    call.added = b"x-a: b\r\n"
    cors(settings(), None)(call)
    assert call.added == b"x-a: b\r\n" + VARY


# -- patterns ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin", [b"https://a.example.com", b"https://a.b-c.example.com", b"https://1.a_b.example.com"]
)
def test_a_pattern_takes_one_label_or_more(origin: bytes) -> None:
    lines = said(origin, origins=["https://*.example.com", "http://*.localhost:3000"])
    assert lines == b"access-control-allow-origin: %b\r\n" % origin + VARY


@pytest.mark.parametrize(
    "origin",
    [
        b"https://example.com", b"https://evilexample.com", b"https://.example.com", b"https://a..example.com",
        b"http://a.example.com", b"https://a.example.com:8443", b"https://a.example.com.evil.example",
        b"https://a.exampleXcom", b"https://evil.example/.example.com", b"https://evil.example?.example.com",
        b"https://evil.example#.example.com", b"https://evil.example:1.example.com", b"https://a@b.example.com",
        b"https://A.example.com", b"https://a.example.com\n", b"https://evil.example\x00.example.com", b"xhttps://a.example.com",
        b"http://a.localhost", b"https://" + b"a." * 200 + b"example.com", b"https://" + b"a" * 60000,
    ],
)  # fmt: skip
def test_a_pattern_is_not_fooled(origin: bytes) -> None:
    assert said(origin, origins=["https://*.example.com", "http://*.localhost:3000"]) == VARY


def test_an_exact_origin_may_stand_beside_a_pattern() -> None:
    origins = ["https://example.com", "https://*.example.com"]
    assert said(b"https://example.com", origins=origins).startswith(
        b"access-control-allow-origin: https://example.com\r"
    )
    assert said(b"https://a.example.com", origins=origins) != VARY


def test_origins_that_a_pattern_takes_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 2)
    judge = module._permission(settings(origins=["https://example.com", "https://*.example.com"]))
    names = [b"https://%d.example.com" % number for number in range(4)]
    first = [judge(name) for name in names]
    assert None not in first
    assert judge(names[3]) is first[3]
    assert judge(names[0]) is not first[0], "forgotten, and judged anew"
    assert judge(b"https://example.com") is not None, "what is listed is never forgotten"


# -- preflights ----------------------------------------------------------------------------------------


def test_a_preflight_is_answered_with_what_is_allowed() -> None:
    assert answer(preflight(), ["GET", "POST"]) == {"allow-origin": APP.decode(), "allow-methods": "GET, POST"}


def test_all_that_can_be_said() -> None:
    fields = answer(
        preflight(APP, b"PUT", (b"access-control-request-headers", b"authorization,x-a")),
        methods=["PUT"],
        headers=["Authorization", "Content-Type"],
        credentials=True,
        max_age="1h",
        expose=["X-Request-Id"],
    )
    assert fields == {
        "allow-origin": APP.decode(),
        "allow-credentials": "true",
        "allow-methods": "PUT",
        "allow-headers": "Authorization, Content-Type",
        "max-age": "3600",
    }


def test_the_methods_are_those_of_cors_else_of_the_route_else_the_usual_ones() -> None:
    assert answer(preflight(), ["POST", "GET"])["allow-methods"] == "GET, POST"
    call = preflight()
    assert cors(settings(methods=["POST"]), ["GET", "POST"])(call) is not None
    assert b"access-control-allow-methods: POST\r\n" in call.added
    assert answer(preflight(), None)["allow-methods"] == "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"


@pytest.mark.parametrize("age", [("0s", "0"), ("500ms", "1"), ("1d", "86400")])
def test_the_age_is_in_whole_seconds(age: tuple[str, str]) -> None:
    assert answer(preflight(), max_age=age[0])["max-age"] == age[1]


def test_any_header_means_those_that_are_asked_for() -> None:
    asked_for = (b"access-control-request-headers", b"authorization,content-type")
    assert answer(preflight(APP, b"GET", asked_for))["allow-headers"] == "authorization,content-type"
    assert answer(preflight(APP, b"GET", asked_for), credentials=True)["allow-headers"] == "authorization,content-type"
    assert "allow-headers" not in answer(preflight())


def test_no_headers_means_none() -> None:
    asked_for = (b"access-control-request-headers", b"authorization")
    assert "allow-headers" not in answer(preflight(APP, b"GET", asked_for), headers=[])


@pytest.mark.parametrize("names", [b"", b"a b", b"a:b", b",", b"a,,b", b"\xff", b'"a"', b"a" * (LONGEST_REQUESTED + 1)])
def test_what_is_no_list_of_names_is_not_repeated(names: bytes) -> None:
    assert "allow-headers" not in answer(preflight(APP, b"GET", (b"access-control-request-headers", names)))


def test_a_private_network_is_opened_only_by_option_and_only_when_asked() -> None:
    wanted = (b"access-control-request-private-network", b"true")
    assert answer(preflight(APP, b"GET", wanted), private_network=True)["allow-private-network"] == "true"
    assert "allow-private-network" not in answer(preflight(APP, b"GET", wanted))
    call = preflight()
    assert "allow-private-network" not in answer(call, private_network=True)
    assert b"access-control-request-private-network" in call.added.split(b"\r\n")[0], "caches hear of it"


def test_a_preflight_of_another_origin_is_refused_in_plain_words() -> None:
    call = preflight(b"https://evil.example")
    with pytest.raises(Refused) as caught:
        cors(settings(), ["POST"])(call)
    assert (caught.value.status, caught.value.code) == (403, "forbidden")
    assert "origin" in caught.value.detail
    assert call.added.startswith(b"vary: origin, ")
    assert b"access-control-allow" not in call.added


def test_an_answer_for_everybody_depends_on_being_a_preflight() -> None:
    assert answer(preflight(b"null"), origins="*")["allow-origin"] == "*"


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("OPTIONS", [(b"origin", APP)]),
        ("OPTIONS", [(b"access-control-request-method", b"GET")]),
        ("OPTIONS", [(b"origin", APP), (b"access-control-request-method", b"")]),
        ("GET", [(b"origin", APP), (b"access-control-request-method", b"GET")]),
        ("OPTIONS", []),
    ],
)
def test_what_is_not_a_real_preflight_goes_on(method: str, headers: Headers) -> None:
    call = make_call(method, headers)
    assert asked(call.request) == ""
    assert cors(settings(), ["GET"])(call) is None


def test_a_preflight_tells_which_headers_will_come_but_not_what_they_say() -> None:
    conditions = [(b"x-tenant", b"a"), (b"accept", b"text/csv"), (b"cookie", b"beta=1")]
    assert announced(conditions) == ((b"access-control-request-headers", b"x-tenant"),)


def test_a_preflight_asks_for_a_method() -> None:
    assert asked(preflight().request) == "POST"
    assert len(asked(preflight(method=b"X" * 60000).request)) < 40, "untrusted, and somebody remembers it"


# -- what upstreams say --------------------------------------------------------------------------------

OTHERS: Headers = [(b"vary", b"Accept"), (b"timing-allow-origin", b"*"), (b"x-access-control-x", b"1")]


async def test_what_the_upstream_says_about_cors_is_taken_away() -> None:
    permission: Headers = [
        (b"access-control-allow-origin", b"*"),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-expose-headers", b"*"),
        (b"access-control-max-age", b"5"),
    ]
    mixed = [permission[0], OTHERS[0], *permission[1:], *OTHERS[1:]]
    reply = await without_cors()(Script(Reply(200, mixed, lines=field_lines(mixed))))(make_call())
    assert (reply.headers, reply.lines) == (OTHERS, None)


async def test_a_reply_that_says_nothing_stays_as_it_is() -> None:
    order = [OTHERS, OTHERS, [*OTHERS, (b"access-control-allow-origin", b"*")], OTHERS]
    send = without_cors()(Script(*(Reply(200, list(each), lines=field_lines(each)) for each in order)))
    replies = [await send(make_call()) for _ in order]
    assert [reply.headers for reply in replies] == [OTHERS] * 4
    assert [reply.lines is None for reply in replies] == [False, False, True, False]


async def test_a_reply_without_lines_is_looked_at_each_time() -> None:
    send = without_cors()(Script(Reply(200, OTHERS), Reply(200, [(b"access-control-allow-origin", b"*")])))
    assert (await send(make_call())).headers == OTHERS
    assert (await send(make_call())).headers == []
