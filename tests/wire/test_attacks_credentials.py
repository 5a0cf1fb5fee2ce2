"""Attacks with the field a token stands in, and with the identity that is forwarded (C1-C3, C6), by real requests.

What else belongs to these lines of the list is in `test_attacks_headers.py`.
"""

import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.wire.actors import Upstream
from tests.wire.attempts import Door, Make, each, hmac_token
from tests.wire.payloads import get
from tests.wire.strict import read_requests

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])
"""What becomes of a token has nothing to do with the loop."""


@pytest.fixture
async def door(tmp_path: Path, upstream: Upstream, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Door]:
    async with await Door.open(tmp_path, upstream, caplog) as door:
        yield door


def field(form: str, name: bytes = b"Authorization") -> Make:
    """A line with a good token where `form` says TOKEN."""
    return lambda: name + b": " + form.encode("latin-1").replace(b"TOKEN", hmac_token())


def line(name: bytes, form: str = "Bearer TOKEN") -> Make:
    return field(form, name)


# -- C6: more than one credential in one field, and what only resembles one


@each(
    {
        "two schemes, Basic first": field("Basic YTpi, Bearer TOKEN"),
        "two schemes, Basic last": field("Bearer TOKEN, Basic YTpi"),
        "two schemes by a semicolon": field("Bearer TOKEN; Basic YTpi"),
        "two schemes by a space": field("Negotiate Bearer TOKEN"),
        "the scheme twice": field("Bearer Bearer TOKEN"),
        "a token twice": field("Bearer TOKEN TOKEN"),
        "a token and a parameter": field('Bearer TOKEN, realm="x"'),
        "a list that begins empty": field(", Bearer TOKEN"),
        "a list that ends empty": field("Bearer TOKEN,"),
        "two spaces": field("Bearer  TOKEN"),
        "many spaces": field("Bearer" + " " * 200 + "TOKEN"),
        "a tab": field("Bearer\tTOKEN"),
        "a space and a tab": field("Bearer \tTOKEN"),
        "no space": field("BearerTOKEN"),
        "a colon": field("Bearer:TOKEN"),
        "a colon and a space": field("Bearer: TOKEN"),
        "an equals sign": field("Bearer=TOKEN"),
        "a slash": field("Bearer/TOKEN"),
        "a comma": field("Bearer,TOKEN"),
        "a wide space": field("Bearer\xa0TOKEN"),
        "a wide space in UTF-8": field("Bearer\xc2\xa0TOKEN"),
        "a zero-width space": field("Bearer \xe2\x80\x8bTOKEN"),
        "an ideographic space": field("Bearer\xe3\x80\x80TOKEN"),
        "a byte order mark": field("\xef\xbb\xbfBearer TOKEN"),
        "full width": field("\xef\xbc\xa2earer TOKEN"),
        "a Cyrillic letter": field("B\xd0\xb5arer TOKEN"),
        "a parameter token": field("Bearer token=TOKEN"),
        "a parameter in quotes": field('Bearer token="TOKEN"'),
        "a parameter access_token": field("Bearer access_token=TOKEN"),
        "quotes": field('Bearer "TOKEN"'),
        "other quotes": field("Bearer 'TOKEN'"),
        "percent-encoded": field("Bearer%20TOKEN"),
        "an encoded word": field("=?utf-8?q?Bearer?= TOKEN"),
        "the scheme alone": field("Bearer"),
        "the scheme and a point": field("Bearer ."),
        "only the token": field("TOKEN"),
        "nothing": field(""),
        "JWT": field("JWT TOKEN"),
        "Token": field("Token TOKEN"),
        "Bearers": field("Bearers TOKEN"),
        "DPoP": field("DPoP TOKEN"),
        "Basic with the token as the user": field("Basic TOKEN"),
    }
)
async def test_c06_a_field_that_only_resembles_a_credential_is_none(door: Door, make: Make) -> None:
    await door.lets_in(hmac_token())
    await door.refuses_fields(make())
    await door.lets_in(hmac_token())


@each(
    {
        "capitals": field("BEARER TOKEN"),
        "small letters": field("bearer TOKEN"),
        "space around the value": field("  \t Bearer TOKEN \t "),
        "the name in capitals": line(b"AUTHORIZATION"),
        "the name in small letters": line(b"authorization"),
    }
)
async def test_c06_what_a_standard_allows_is_a_credential(door: Door, make: Make) -> None:
    assert (await door.ask(make())).status == 200


@each(
    {
        name.decode(): line(name)
        for name in (
            *(b"X-Authorization", b"Authorization_", b"X_Authorization", b"Authorisation", b"Authorization2"),
            *(b"Proxy-Authorization", b"X-Original-Authorization", b"X-Forwarded-Authorization", b"HTTP_AUTHORIZATION"),
            *(b"X-Access-Token", b"Access-Token", b"X-JWT-Assertion", b"X-Auth-Token", b"X-Amzn-Oidc-Data"),
        )
    }
    | {
        "a cookie": line(b"Cookie", "access_token=TOKEN; jwt=TOKEN; Authorization=TOKEN"),
        "a protocol of WebSocket": line(b"Sec-WebSocket-Protocol", "bearer, TOKEN"),
        "a referer": line(b"Referer", "https://a/?access_token=TOKEN"),
        "a user agent": line(b"User-Agent", "TOKEN"),
    }
)
async def test_c06_a_token_in_another_field_is_not_looked_at(door: Door, make: Make) -> None:
    answer = await door.ask(make())
    assert (answer.status, door.upstream.received) == (401, b"")
    assert answer.headers["www-authenticate"] == 'Bearer realm="gateway"'  # nobody sent a credential


@each(
    {
        "two": lambda: [b"Authorization: Bearer " + hmac_token()] * 2,
        "a bad one in front": lambda: [b"Authorization: Bearer x", b"Authorization: Bearer " + hmac_token()],
        "an empty one behind": lambda: [b"Authorization: Bearer " + hmac_token(), b"authorization: "],
        "one folded": lambda: [b"Authorization: Bearer\r\n " + hmac_token()],
        "a space before the colon": lambda: [b"Authorization : Bearer " + hmac_token()],
        "a NUL in the name": lambda: [b"Authorization\0: Bearer " + hmac_token()],
        "a NUL behind the token": lambda: [b"Authorization: Bearer " + hmac_token() + b"\0"],
        "a line feed behind the token": lambda: [b"Authorization: Bearer " + hmac_token() + b"\nX-User-Id: root"],
        "UTF-16": lambda: [b"Authorization: " + b"Bearer ".decode().encode("utf-16-le") + hmac_token()],
    }
)
async def test_c06_a_field_that_two_would_read_in_two_ways_ends_the_connection(
    door: Door, make: Callable[[], list[bytes]]
) -> None:
    answer = await door.ask(*make())
    assert answer.status == 400
    assert answer.headers["connection"] == "close"
    assert door.upstream.received == b""
    assert door.counted("ok") == 0


# -- C1, C2, C3: the identity that is forwarded

FORGED = [
    b"X-User-Id: root",
    b"x_user_id: root",
    b"X.User.Id: root",
    b"X-PLAN: root",
    b"X_Roles: root",
    b"X-User: root",
]


def identities(received: bytes) -> dict[bytes, bytes]:
    """Whatever CGI and its heirs would read as the caller's identity, in the last request."""
    (*_, request) = read_requests(received)[0]
    folded = ((re.sub(rb"[_.]", b"-", name), value) for name, value in request.headers.items())
    return {name: value for name, value in folded if name.startswith((b"x-user", b"x-plan", b"x-roles"))}


async def test_c02_no_identity_of_a_client_passes_where_credentials_are_optional(door: Door) -> None:
    answer = await door.ask(*FORGED, target=b"/optional")
    assert answer.status == 200
    assert identities(door.upstream.received) == {}
    token = b"Authorization: Bearer " + hmac_token(plan="gold")
    assert (await door.ask(*FORGED, token, *FORGED, target=b"/optional")).status == 200
    assert identities(door.upstream.received) == {b"x-user-id": b"alice", b"x-plan": b"gold"}


async def test_c02_a_bad_token_is_not_no_token_where_credentials_are_optional(door: Door) -> None:
    for token in (hmac_token(alg="none"), hmac_token()[:-1], hmac_token(exp=1), b"x", b""):
        await door.refuses_fields(b"Authorization: Bearer " + token, *FORGED, route="/optional")


@pytest.mark.parametrize("named", [b"X-Plan", b"x-user-id, x-plan", b"close, X-Roles", b"X-User-Id, X-User-Id"])
async def test_c01_c03_connection_takes_no_identity_away_and_lets_none_in(door: Door, named: bytes) -> None:
    token = b"Authorization: Bearer " + hmac_token(plan="gold", roles=["editor"])
    for fields in ([*FORGED, b"Connection: " + named, token], [token, b"Connection: " + named, *FORGED]):
        client = await door.gateway.client()
        assert (await client.ask(get(*fields, target=b"/hmac"))).status == 200
        assert identities(bytes(door.upstream.visits[-1].received)) == {
            b"x-user-id": b"alice",
            b"x-plan": b"gold",
            b"x-roles": b"editor",
        }


@each(
    {
        "CRLF": "a\r\nX-User-Id: root",
        "CR": "a\rX-User-Id: root",
        "LF": "a\nX-User-Id: root",
        "a whole request": "a\r\nContent-Length: 0\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n",
        "NUL": "a\0b",
        "a tab": "a\tb",
        "an escape": "a\x1b[2Jb",
        "DEL": "a\x7fb",
        "what Latin-1 makes a line end of": "a\u010d\u010aX-User-Id: root",
        "a line separator": "a\u2028X-User-Id: root",
        "a next line": "a\x85X-User-Id: root",
        "letters of full width": "ｒｏｏｔ",
        "a Cyrillic letter": "r\u043eot",
        "a combining letter": "roo\u0301t",
        "right to left": "\u202etoor",
        "a space in front": " root",
        "a space behind": "root ",
        "of a list, with a comma": ["a,root"],
        "of a list, with a line end": ["a", "b\r\nX-User-Id: root"],
        "an object": {"root": True},
        "a list of lists": [["root"]],
        "null": None,
    }
)
async def test_c10_a_claim_that_cannot_stand_in_a_header_is_left_out_as_a_whole(door: Door, make: object) -> None:
    await door.lets_in(hmac_token(plan="gold"))
    token = b"Authorization: Bearer " + hmac_token(plan=make)
    assert (await door.ask(token, b"X-Plan: root", target=b"/hmac")).status == 200
    assert identities(door.upstream.received) == {b"x-user-id": b"alice"}
    assert b"root" not in door.upstream.received


@each(
    {
        "CRLF": "a\r\nX-Plan: gold",
        "NUL": "alice\0",
        "full width": "ａｌｉｃｅ",
        "a homoglyph": "\u0430lice",
        "none": None,
    }
)
async def test_c10_a_subject_that_cannot_stand_in_a_header_is_nobody_else(door: Door, make: object) -> None:
    token = b"Authorization: Bearer " + hmac_token(sub=make)
    assert (await door.ask(token, b"X-User-Id: alice", target=b"/hmac")).status == 200
    assert identities(door.upstream.received) == {}


@each({"a number": 7, "true": True, "a list": ["alice"], "an object": {"id": "alice"}, "empty": ""})
async def test_c10_a_subject_that_is_no_text_is_refused(door: Door, make: object) -> None:
    await door.refuses(hmac_token(sub=make))
