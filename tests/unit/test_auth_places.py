"""Tokens in a header, a cookie or the query: one place only, and a cookie only for pages that may use it."""

import contextlib
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.bearer import LONGEST, Bearer, TokenError
from gateway.auth.places import OtherPlaces, cookies, own_origin, standard
from gateway.errors import Refused
from gateway.exchange import Call, Fields, Headers, Peer, Request

TOKEN, OTHER = b"abc.def.ghi", b"jkl.mno.pqr"
PLACES = OtherPlaces(header=b"x-token", cookie=b"session", query=b"access_token")

COOKIE = (b"cookie", b"session=" + TOKEN)
HERE = (b"origin", b"https://api.example.com")


def asked(*headers: tuple[bytes, bytes], method: str = "GET", query: bytes = b"", upgrade: bytes = b"") -> Call:
    """A call to https://api.example.com."""
    named: Headers = list(headers)
    fields = Fields(named, host=b"api.example.com", upgrade=upgrade)
    call = Call(Request(method, b"/" + query, fields, Peer("192.0.2.1", 40000, "https")), "id")
    call.query = query
    return call


def found(call: Call, places: OtherPlaces = PLACES) -> bytes | None:
    """As a provider asks that has not seen the token before."""
    return None if places.digest(call) is None else places.token(call)


def reason(call: Call, places: OtherPlaces = PLACES) -> str:
    with pytest.raises(TokenError) as caught:
        found(call, places)
    assert TOKEN.decode() not in str(caught.value)
    return caught.value.reason


IN_EACH_PLACE: dict[str, dict[str, Any]] = {
    "authorization": {"headers": [(b"authorization", b"Bearer " + TOKEN)]},
    "header": {"headers": [(b"x-token", TOKEN)]},
    "header with scheme": {"headers": [(b"x-token", b"bearer " + TOKEN)]},
    "cookie": {"headers": [COOKIE]},
    "query": {"query": b"?a=1&access_token=" + TOKEN},
}


def in_place(place: str, *more: tuple[bytes, bytes], query: bytes = b"") -> Call:
    given = IN_EACH_PLACE[place]
    return asked(*given.get("headers", ()), *more, query=given.get("query", b"") + query)


# --- where a token is found ---


@pytest.mark.parametrize("place", IN_EACH_PLACE)
def test_a_token_is_found_in_each_place(place: str) -> None:
    assert found(in_place(place)) == TOKEN


@pytest.mark.parametrize("place", ["header", "header with scheme", "cookie", "query"])
def test_d21_a_place_that_is_not_configured_is_not_looked_at(place: str) -> None:
    assert found(in_place(place), OtherPlaces(header=b"x-other", cookie=b"other", query=b"other")) is None
    assert Bearer().digest(in_place(place)) is None


def test_nothing_anywhere_is_no_token() -> None:
    call = asked((b"authorization", b"Basic YTpi"), (b"cookie", b"a=1"), query=b"?b=2")
    assert found(call) is None
    assert found(call) is None  # also when the head is known


@pytest.mark.parametrize(("one", "other"), list(combinations(IN_EACH_PLACE, 2)))
def test_a_token_in_two_places_is_ambiguous_even_if_it_is_the_same(one: str, other: str) -> None:
    first, second = IN_EACH_PLACE[one], IN_EACH_PLACE[other]
    headers = [*first.get("headers", ()), *second.get("headers", ())]
    call = asked(*headers, query=first.get("query", b"") or second.get("query", b""))
    assert reason(call) == reason(call) == "ambiguous"


@pytest.mark.parametrize("place", ["header", "cookie", "query"])
def test_another_scheme_in_authorization_is_no_second_token(place: str) -> None:
    assert found(in_place(place, (b"authorization", b"Basic YTpi"))) == TOKEN


@pytest.mark.parametrize("place", ["header", "cookie", "query"])
def test_a_malformed_authorization_is_refused_beside_a_good_token(place: str) -> None:
    assert reason(in_place(place, (b"authorization", b"Bearer two words"))) == "malformed"


def test_a_place_that_is_used_twice_is_ambiguous() -> None:
    assert reason(asked((b"x-token", TOKEN), (b"x-token", TOKEN))) == "ambiguous"
    assert reason(asked((b"cookie", b"session=%b; session=%b" % (TOKEN, OTHER)))) == "ambiguous"
    assert reason(asked(COOKIE, (b"cookie", b"a=1;session=" + OTHER))) == "ambiguous"
    assert reason(asked(query=b"?access_token=%b&access_token=%b" % (TOKEN, TOKEN))) == "ambiguous"
    assert reason(asked(query=b"?access_token=%b&access%%5Ftoken=%b" % (TOKEN, OTHER))) == "ambiguous"
    assert reason(asked((b"authorization", b"Bearer a"), (b"authorization", b"Bearer a"))) == "ambiguous"


def test_other_fields_may_be_repeated() -> None:
    more = (b"accept", b"a"), (b"accept", b"b")
    assert found(asked((b"x-token", TOKEN), *more)) == TOKEN
    assert found(asked(COOKIE, (b"cookie", b"other=1"), *more)) == TOKEN


@pytest.mark.parametrize(
    "value",
    [b"", b" ", b"a b", b'"abc.def.ghi"', b"abc,def", b"Basic YTpi", b"Bearer", b"Bearer  a", b"\xc3\xa9", b"="],
)
def test_what_stands_in_the_header_must_be_a_token(value: bytes) -> None:
    assert reason(asked((b"x-token", value))) == "malformed"


@pytest.mark.parametrize("value", [b"", b'"abc.def.ghi"', b" abc", b"abc ", b"abc\t", b"a,b", b"a b", b"%61bc", b"a=b"])
def test_what_stands_in_the_cookie_must_be_a_token(value: bytes) -> None:
    assert reason(asked((b"cookie", b"a=1; session=" + value + b"; b=2"))) == "malformed"


@pytest.mark.parametrize("value", [b"", b"a+b", b"a%20b", b"%22a%22", b"a%00", b"a%0d%0ab", b"a,b", b"\xc3\xa9"])
def test_what_stands_in_the_query_must_be_a_token(value: bytes) -> None:
    assert reason(asked(query=b"?access_token=" + value)) == "malformed"


def test_in_the_query_names_and_values_may_be_escaped() -> None:
    assert found(asked(query=b"?a&access%5ftoken=abc%2Edef.ghi")) == TOKEN
    assert found(asked(query=b"?access_token=a%2Bb%2F%3D")) == b"a+b/="
    assert found(asked(query=b"?Access_Token=" + TOKEN)) is None


@pytest.mark.parametrize("place", ["x-token", "cookie", "query"])
def test_a_token_of_8_kib_is_read_and_a_longer_one_is_not(place: str) -> None:
    def call(length: int) -> Call:
        token = b"a" * length
        if place == "query":
            return asked(query=b"?access_token=" + token)
        return asked((place.encode(), b"session=" + token if place == "cookie" else token))

    assert found(call(LONGEST)) == b"a" * LONGEST
    assert reason(call(LONGEST + 1)) == "too_large"


# --- cookies ---


@pytest.mark.parametrize(
    "line",
    [b"session=T", b"a=1; session=T", b"session=T;b=2", b"a;session=T", b"a=session=X; session=T", b";session=T;",
     b"xsession=X; session=T; sessionx=X", b"Session=X; session=T", b"a=\"b; session=T"],
)  # fmt: skip
def test_a_cookie_is_found_among_others_by_its_exact_name(line: bytes) -> None:
    assert cookies(line, b"session") == [b"T"]


@pytest.mark.parametrize("line", [b"", b"a=session", b"xsession=T", b"SESSION=T", b"%73ession=T"])
def test_another_cookie_is_not_ours(line: bytes) -> None:
    assert cookies(line, b"session") == []


def test_a_name_that_lenient_readers_would_take_for_ours_counts_and_is_malformed() -> None:
    assert cookies(b"session =A;\tsession=B; session\t=C", b"session") == [b"", b"B", b""]
    assert cookies(b"session= A", b"session") == [b" A"]
    assert cookies(b"session", b"session") == [b""]


@given(st.binary(max_size=60), st.lists(st.sampled_from([b"session", b"=", b";", b" ", b"a", b'"']), max_size=12))
def test_no_cookie_makes_the_reader_fail_otherwise(raw: bytes, pieces: list[bytes]) -> None:
    for line in (raw, b"".join(pieces)):
        call = asked((b"cookie", line))
        with contextlib.suppress(TokenError):
            token = found(call)
            assert token is None or b"session=" + token in line


# --- what is remembered ---


def test_d22_the_digest_tells_places_and_tokens_apart() -> None:
    calls = [in_place(place) for place in ("authorization", "header", "cookie", "query")]
    digests = [PLACES.digest(call) for call in calls]
    assert len(set(digests)) == 4
    assert digests == [PLACES.digest(call) for call in calls]
    assert PLACES.digest(in_place("header")) == PLACES.digest(in_place("header with scheme"))
    assert PLACES.digest(asked((b"x-token", OTHER))) != PLACES.digest(in_place("header"))
    again = OtherPlaces(header=b"x-token", cookie=b"session", query=b"access_token")
    assert digests == [again.digest(call) for call in calls]


def test_a_known_head_with_another_query_is_another_call() -> None:
    one = in_place("header")
    assert found(one) == TOKEN
    one.query = b"?access_token=" + OTHER
    assert reason(one) == "ambiguous"
    none = asked()
    assert found(none) is None
    none.query = b"?access_token=" + OTHER
    assert found(none) == OTHER


def test_places_of_other_providers_do_not_disturb_what_a_head_keeps() -> None:
    call = asked((b"x-token", TOKEN), (b"x-other", OTHER))
    other = OtherPlaces(header=b"x-other")
    assert [found(call), found(call, other), found(call)] == [TOKEN, OTHER, TOKEN]


# --- origins ---


def refused(call: Call, places: OtherPlaces = PLACES) -> None:
    """A 403 that does not say who may."""
    with pytest.raises(Refused) as caught:
        places.digest(call)
    error = caught.value
    assert (error.status, error.code, error.headers) == (403, "forbidden", [])
    assert error.detail == "This Origin may not use the cookie."


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE"])
def test_what_changes_nothing_needs_no_origin(method: str) -> None:
    for more in ((), ((b"origin", b"https://evil.example"),)):
        assert found(asked(COOKIE, *more, method=method)) == TOKEN


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "PROPFIND", "get"])
def test_what_changes_something_needs_the_gateways_own_origin(method: str) -> None:
    assert found(asked(COOKIE, HERE, method=method)) == TOKEN
    refused(asked(COOKIE, method=method))
    refused(asked(COOKIE, (b"origin", b"https://evil.example"), method=method))


def test_a_websocket_needs_an_origin_although_it_is_a_get() -> None:
    assert found(asked(COOKIE, HERE, upgrade=b"websocket")) == TOKEN
    refused(asked(COOKIE, upgrade=b"websocket"))
    refused(asked(COOKIE, (b"origin", b"https://evil.example"), upgrade=b"websocket"))


@pytest.mark.parametrize(
    "origin",
    [b"null", b"", b"api.example.com", b"http://api.example.com", b"https://api.example.com:8443", b"https://",
     b"https://api.example.com/", b"https://api.example.com.", b"https://api.example.com.evil.example",
     b"https://evil.example/https://api.example.com", b"https://xapi.example.com", b"https://example.com",
     b"https://api.example.com https://evil.example", b"https://api.example.com, https://evil.example",
     b"https://api.example.com@evil.example", b"https://api.example.com:443:443", b"https://api.example.com:80"],
)  # fmt: skip
def test_lookalikes_of_the_own_origin_are_refused(origin: bytes) -> None:
    refused(asked(COOKIE, (b"origin", origin), method="POST"))


@pytest.mark.parametrize(
    "origin", [b"https://API.Example.Com", b"HTTPS://api.example.com", b"https://api.example.com:443"]
)
def test_the_own_origin_may_be_written_in_other_ways(origin: bytes) -> None:
    assert found(asked(COOKIE, (b"origin", origin), method="POST")) == TOKEN


def test_two_origins_are_refused() -> None:
    refused(asked(COOKIE, HERE, HERE, method="POST"))


def test_without_a_host_nothing_is_the_own_origin() -> None:
    call = asked(COOKIE, (b"origin", b"https://"), method="POST")
    call.host = b""
    assert own_origin(call) == ()
    refused(call)


def test_the_own_origin_is_what_trusted_proxies_say_it_is() -> None:
    call = asked(COOKIE, (b"origin", b"http://public.example"), method="POST")
    call.scheme, call.host = "http", b"public.example:80"
    assert found(call) == TOKEN


def test_origins_that_are_configured_stand_in_the_place_of_the_own() -> None:
    places = OtherPlaces(cookie=b"session", origins=[b"https://app.example.com", b"http://localhost:3000"])
    for origin in (b"https://app.example.com", b"https://APP.example.com:443", b"http://localhost:3000"):
        assert found(asked(COOKIE, (b"origin", origin), method="POST"), places) == TOKEN
    refused(asked(COOKIE, HERE, method="POST"), places)
    refused(asked(COOKIE, (b"origin", b"null"), method="POST"), places)


def test_the_origin_is_judged_for_each_request_also_of_a_known_head() -> None:
    call = asked(COOKIE, (b"origin", b"https://evil.example"))
    assert found(call) == TOKEN
    call.request.method = "POST"
    refused(call)
    refused(call)


@pytest.mark.parametrize("place", ["authorization", "header", "query"])
def test_a_token_that_no_browser_adds_by_itself_needs_no_origin(place: str) -> None:
    call = in_place(place, (b"origin", b"https://evil.example"))
    call.request.method = "POST"
    assert found(call) == TOKEN


@pytest.mark.parametrize(
    ("origin", "written"),
    [
        (b"https://a:443", b"https://a"),
        (b"http://a:80", b"http://a"),
        (b"http://a:443", b"http://a:443"),
        (b"https://a:80", b"https://a:80"),
        (b"HTTPS://[::1]:443", b"https://[::1]"),
        (b"https://[::443]", b"https://[::443]"),
    ],
)
def test_the_port_that_the_scheme_implies_is_left_out(origin: bytes, written: bytes) -> None:
    assert standard(origin) == written
