"""Where a token may stand, at the whole gateway: what reaches the upstream, what is written down, which pages may."""

import json
import time
from collections.abc import AsyncIterator
from itertools import combinations
from pathlib import Path

import pytest

from tests.jwks import IdentityProvider
from tests.tokens import claims, ec_key, sign
from tests.wire.actors import Answer, Upstream, Visit
from tests.wire.attempts import Door
from tests.wire.payloads import message

SECRETS = {"idp": b"i" * 32, "plain": b"p" * 32, "own": b"o" * 32}
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
HANDSHAKE = (
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


def token(provider: str = "idp", **changes: object) -> bytes:
    now = time.time()
    usual = {"iss": provider, "iat": now - 1, "exp": now + 600}
    return sign(claims(**(usual | changes)), SECRETS[provider])


def config(upstream: Upstream, away: str) -> str:
    def jwt(name: str, more: str = "") -> str:
        return f"{{type: jwt, issuer: {name}, secret: {SECRETS[name].decode()}, algorithms: [HS256]{more}}}"

    places = "header: X-Token, cookie: session, query: access_token"
    return f"""
listen: {{admin: "off"}}
auth:
  providers:
    idp: {jwt("idp", f", {places}, origins: [https://app.example.com]")}
    own: {jwt("own", ", cookie: session")}
    plain: {jwt("plain")}
    away: {{type: jwt, issuer: away, jwks: "{away}/keys", algorithms: [ES256]}}
upstreams:
  up: {{targets: ["http://127.0.0.1:{upstream.port}"], retry: off, breaker: off}}
routes:
  - {{name: idp, match: {{path: /idp}}, auth: {{providers: [idp]}}, upstream: up}}
  - {{name: own, match: {{path: /own}}, auth: {{providers: [own]}}, upstream: up}}
  - {{name: plain, match: {{path: /plain}}, auth: {{providers: [plain]}}, upstream: up}}
  - {{name: optional, match: {{path: /optional}}, auth: {{providers: [plain, idp], optional: true}}, upstream: up}}
  - {{name: several, match: {{path: /several}}, auth: {{providers: [away, plain]}}, upstream: up}}
"""


@pytest.fixture
async def door(tmp_path: Path, upstream: Upstream, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Door]:
    async with IdentityProvider(b"") as idp:
        await idp.go_away()
        async with await Door.open(tmp_path, upstream, caplog, config(upstream, idp.url)) as door:
            yield door
            await door.gateway.quiet()


async def send(door: Door, line: bytes, *fields: bytes, host: bytes = b"Host: a") -> Answer:
    client = await door.gateway.client()
    return await client.ask(message(line + b" HTTP/1.1", *fields, host=host))


def places(given: bytes) -> list[tuple[bytes, tuple[bytes, ...]]]:
    """Target and fields of a request with this token in each place."""
    return [
        (b"/idp", (b"Authorization: Bearer " + given,)),
        (b"/idp", (b"X-Token: " + given,)),
        (b"/idp", (b"X-Token: bearer " + given,)),
        (b"/idp", (b"Cookie: a=1; session=" + given + b"; b=2",)),
        (b"/idp?access_token=" + given, ()),
    ]


async def test_a_token_gets_in_from_each_place_and_again_on_the_same_connection(door: Door, upstream: Upstream) -> None:
    good = token()
    client = await door.gateway.client()
    for target, fields in places(good):
        for _ in range(3):
            answer = await client.ask(message(b"GET " + target + b" HTTP/1.1", *fields))
            assert answer.status == 200, (target, fields)
            door.tells_nothing_of(good, answer)
    assert door.counted("ok") == 15
    assert upstream.requests == [b"GET /idp"] * 15


async def test_what_is_no_good_token_is_refused_in_each_place(door: Door, upstream: Upstream) -> None:
    bad = sign(claims(iss="idp", exp=time.time() + 60), b"x" * 32)
    for given in (bad, b"nonsense", b"a,b"):
        for target, fields in places(given):
            answer = await send(door, b"GET " + target, *fields)
            assert answer.status == 401
            assert answer.headers["www-authenticate"].startswith('Bearer realm="gateway", error="invalid_token"')
            assert json.loads(answer.body)["code"] == "unauthenticated"
            door.tells_nothing_of(given, answer)
    assert upstream.received == b""
    assert door.counted("malformed") == 10


async def test_d21_a_token_in_the_query_is_cut_out_and_never_written_down(door: Door, upstream: Upstream) -> None:
    good = token()
    for name in (b"access_token", b"access%5Ftoken"):
        answer = await send(door, b"GET /idp?a=1&%b=%b&b=%%20" % (name, good))
        assert answer.status == 200
        door.tells_nothing_of(good, answer)
    assert upstream.requests == [b"GET /idp?a=1&b=%20"] * 2
    assert good not in upstream.received


async def test_d21_a_token_in_the_query_is_cut_out_whoever_vouches(door: Door, upstream: Upstream) -> None:
    good, other = token("plain"), token()
    answer = await send(door, b"GET /optional?access_token=" + other, b"Authorization: Bearer " + good)
    assert answer.status == 200
    assert upstream.requests == [b"GET /optional"]
    assert other not in upstream.received


async def test_d21_where_no_query_is_configured_a_token_there_is_none(door: Door, upstream: Upstream) -> None:
    answer = await send(door, b"GET /plain?access_token=" + token("plain"))
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="gateway"'
    assert door.counted("missing") == 1
    assert upstream.received == b""


@pytest.mark.parametrize(("first", "second"), list(combinations(range(5), 2)))
async def test_two_tokens_are_refused_wherever_they_stand(
    door: Door, upstream: Upstream, first: int, second: int
) -> None:
    (target, fields), (other_target, more) = places(token())[first], places(token())[second]
    answer = await send(door, b"GET " + max(target, other_target, key=len), *fields, *more)
    assert answer.status == 401
    assert door.counted("ambiguous") == 1
    assert upstream.received == b""


async def test_a_cookie_that_is_there_twice_is_refused(door: Door, upstream: Upstream) -> None:
    for fields in (
        (b"Cookie: session=" + token() + b"; session=" + token(),),
        (b"Cookie: session=" + token(), b"Cookie: a=1; session=x"),
        (b"Cookie: session =x; session=" + token(),),
    ):
        assert (await send(door, b"GET /idp", *fields)).status == 401
    assert door.counted("ambiguous") == 3
    assert upstream.received == b""


# --- pages that may use the cookie ---


def forbidden(answer: Answer) -> None:
    assert answer.status == 403
    problem = json.loads(answer.body)
    assert (problem["code"], problem["detail"]) == ("forbidden", "This Origin may not use the cookie.")
    assert "www-authenticate" not in answer.headers


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"PATCH", b"DELETE"])
async def test_another_page_cannot_change_anything_with_the_cookie(
    door: Door, upstream: Upstream, method: bytes
) -> None:
    cookie = b"Cookie: session=" + token()
    line, length = method + b" /idp", b"Content-Length: 0"
    assert (await send(door, b"GET /idp", cookie)).status == 200  # from here on the token is remembered
    for origin in ((b"Origin: https://evil.example",), (b"Origin: null",), (b"Origin: http://a",), ()):
        forbidden(await send(door, line, length, cookie, *origin))
    forbidden(await send(door, line, length, cookie, *[b"Origin: https://app.example.com"] * 2))
    assert upstream.requests == [b"GET /idp"]
    assert (await send(door, line, length, cookie, b"Origin: https://app.example.com")).status == 200
    assert (await send(door, line, length, b"X-Token: " + token(), b"Origin: https://evil.example")).status == 200


async def test_without_origins_the_page_has_to_come_from_the_host_that_it_asks(door: Door) -> None:
    cookie, length = b"Cookie: session=" + token("own"), b"Content-Length: 0"
    for host, origin, status in (
        (b"api.example.com", b"http://api.example.com", 200),
        (b"api.example.com:80", b"http://API.example.com", 200),
        (b"api.example.com:8080", b"http://api.example.com:8080", 200),
        (b"api.example.com:8080", b"http://api.example.com", 403),
        (b"api.example.com", b"https://api.example.com", 403),
        (b"api.example.com", b"http://evil.example", 403),
    ):
        answer = await send(door, b"POST /own", length, cookie, b"Origin: " + origin, host=b"Host: " + host)
        assert answer.status == status, (host, origin)


async def test_another_page_cannot_open_a_websocket_with_the_cookie(door: Door, upstream: Upstream) -> None:
    async def switching(visit: Visit) -> None:
        await visit.request()
        await visit.write(SWITCH)

    upstream.script = switching
    cookie = b"Cookie: session=" + token()
    forbidden(await send(door, b"GET /idp", *HANDSHAKE, cookie))
    forbidden(await send(door, b"GET /idp", *HANDSHAKE, cookie, b"Origin: https://evil.example"))
    assert upstream.received == b""
    assert (await send(door, b"GET /idp", *HANDSHAKE, cookie, b"Origin: https://app.example.com")).status == 101


# --- by issuer ---


async def test_that_one_issuer_is_away_does_not_touch_the_tokens_of_another(door: Door) -> None:
    away = sign(claims(iss="away", exp=time.time() + 60), ec_key(), "ES256", {"kid": "a"})
    started = time.monotonic()
    for _ in range(3):
        assert (await send(door, b"GET /several", b"Authorization: Bearer " + token("plain"))).status == 200
    assert time.monotonic() - started < 1  # nobody has waited for keys
    answer = await send(door, b"GET /several", b"Authorization: Bearer " + away)
    assert (answer.status, json.loads(answer.body)["code"]) == (503, "identity_unavailable")
    other = await send(door, b"GET /several", b"Authorization: Bearer " + token("idp"))
    assert (other.status, json.loads(other.body)["detail"]) == (401, "The token is from another issuer.")
