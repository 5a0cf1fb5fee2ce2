"""A real authorization server is asked about tokens: one that answers, and one that is slow, broken or hostile."""

import asyncio
import gzip
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.assemble import assemble
from gateway.auth.asking import AskError, Issuer
from gateway.auth.introspection import IntrospectionProvider
from gateway.auth.introspection_client import CONNECTIONS, IntrospectionClient
from gateway.auth.providers import BadCredential, Unavailable
from gateway.config import load
from gateway.errors import Shed
from tests.fakes import Clock
from tests.introspection import CLIENT, SECRET, AuthorizationServer, credentials, replying
from tests.tokens import bearer
from tests.wire.actors import Client, Gateway, Upstream, simple
from tests.wire.certificates import Authority

Ask = Callable[..., IntrospectionClient]
TOKEN = "opaque-t0ken.~+/=="  # with everything in it that a form would read otherwise
ALICE = {"sub": "alice", "scope": "orders:read", "client_id": "app"}


@pytest.fixture
async def idp() -> AsyncIterator[AuthorizationServer]:
    async with AuthorizationServer(**{TOKEN: ALICE}) as running:
        yield running


@pytest.fixture
async def client(idp: AuthorizationServer) -> AsyncIterator[Ask]:
    """Makes clients of `idp`, and closes them."""
    made: list[IntrospectionClient] = []

    def make(client: str = CLIENT, secret: str = SECRET, **more: Any) -> IntrospectionClient:
        made.append(IntrospectionClient(more.pop("url", idp.url), client, secret, **more))
        return made[-1]

    try:
        yield make
    finally:
        for each in made:
            await each.close()


async def ask(of: IntrospectionClient, token: str = TOKEN) -> dict[str, Any]:
    return await of.ask(token.encode())


async def failure(of: IntrospectionClient, token: str = TOKEN) -> AskError:
    with pytest.raises(AskError) as caught:
        await ask(of, token)
    assert token not in repr(caught.value)
    return caught.value


# --- the question ---


async def test_a_token_and_the_name_of_the_client_reach_the_server_as_they_are(
    idp: AuthorizationServer, client: Ask
) -> None:
    assert await ask(client()) == {"active": True} | ALICE
    assert await ask(client(), "other") == {"active": False}
    assert idp.asked == [TOKEN, "other"]
    request = idp.requests[0]
    assert credentials(request) == (CLIENT, SECRET)
    assert request.headers["Accept"] == "application/json"
    assert request.headers["Accept-Encoding"] == "identity"
    assert request.query_string == ""


async def test_connections_are_kept_and_there_are_few_of_them(idp: AuthorizationServer, client: Ask) -> None:
    asking = client()
    for _ in range(5):
        await ask(asking)
    assert len(idp.connections) == 1
    idp.gate.clear()
    waiting = [asyncio.ensure_future(ask(asking)) for _ in range(3 * CONNECTIONS)]
    await idp.asked_for(5 + CONNECTIONS)
    await asyncio.sleep(0.05)
    idp.gate.set()
    assert len(await asyncio.gather(*waiting)) == 3 * CONNECTIONS
    assert idp.most_at_once == len(idp.connections) == CONNECTIONS


async def test_a_kept_connection_that_the_server_ends_at_the_question_costs_no_request(
    idp: AuthorizationServer, client: Ask
) -> None:
    async def end_the_second(request: web.Request) -> web.StreamResponse:
        if len(idp.asked) == 2:
            assert request.transport is not None
            request.transport.close()
        return await replying()(request)

    idp.answer = end_the_second
    asking = client()
    await ask(asking)
    await ask(asking)
    assert len(idp.asked) == 3


async def test_cookies_of_the_server_are_not_kept(idp: AuthorizationServer, client: Ask) -> None:
    idp.answer = replying(Set_Cookie="stuck=here; Path=/")
    asking = client(url=idp.url.replace("127.0.0.1", "localhost"))
    await ask(asking)
    await ask(asking)
    assert "Cookie" not in idp.requests[1].headers


# --- a server that is slow, broken or hostile ---


async def test_a_server_that_is_slow_is_waited_for_within_limits(idp: AuthorizationServer, client: Ask) -> None:
    idp.gate.clear()
    started = time.monotonic()
    assert str(await failure(client(within=0.1))) == "no answer within 0.1 s"
    assert time.monotonic() - started < 2


async def test_a_server_that_drips_is_waited_for_within_limits(idp: AuthorizationServer, client: Ask) -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse(headers={"Content-Type": "application/json"})
        await reply.prepare(request)
        while True:
            await reply.write(b" ")
            await asyncio.sleep(0.01)

    idp.answer = drip
    assert str(await failure(client(within=0.2))) == "no answer within 0.2 s"


@pytest.mark.parametrize("length", [None, 100_000_000])
async def test_an_answer_is_read_up_to_a_limit(idp: AuthorizationServer, client: Ask, length: int | None) -> None:
    sent = 0

    async def flood(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        reply = web.StreamResponse(headers={"Content-Type": "application/json"})
        reply.content_length = length
        await reply.prepare(request)
        while sent < 100_000_000:
            await reply.write(b" " * 65536)
            sent += 65536
        return reply

    idp.answer = flood
    assert "more than 65536 bytes" in str(await failure(client()))
    assert sent < 10_000_000


async def test_a_long_answer_within_the_limit_is_one(idp: AuthorizationServer, client: Ask) -> None:
    text = json.dumps({"active": True, "groups": "x" * 65000})
    idp.answer = replying(text)
    assert await ask(client()) == json.loads(text)


async def test_a_compressed_bomb_is_not_unpacked(idp: AuthorizationServer, client: Ask) -> None:
    idp.answer = replying(gzip.compress(b" " * 50_000_000), content_encoding="gzip")
    assert await failure(client())
    idp.answer = replying(gzip.compress(b'{"active": true}'), content_encoding="gzip")
    assert "not JSON" in str(await failure(client()))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_neither_token_nor_secret_follows_a_redirect(idp: AuthorizationServer, client: Ask, status: int) -> None:
    async with AuthorizationServer(**{TOKEN: ALICE}) as recorder:
        idp.answer = replying(status=status, location=recorder.url)
        assert str(await failure(client())) == f"it replied with status {status}"
        assert (len(idp.asked), recorder.asked) == (1, [])


@pytest.mark.parametrize("status", [201, 202, 203, 204, 206, 400, 401, 403, 404, 405, 413, 429, 500, 502, 503])
async def test_only_200_is_an_answer(idp: AuthorizationServer, client: Ask, status: int) -> None:
    idp.answer = replying(status=status)
    error = await failure(client())
    assert str(error) == f"it replied with status {status}"
    assert error.refused is (status in (401, 403))
    assert error.away is (status not in (400, 403, 404, 405, 413))


@pytest.mark.parametrize(
    "type",
    ["text/html", "text/plain", "application/x-www-form-urlencoded", "application/token-introspection+jwt", ""],
)
async def test_an_answer_of_another_type_is_none(idp: AuthorizationServer, client: Ask, type: str) -> None:
    idp.answer = replying(content_type=type)
    assert "type" in str(await failure(client()))


@pytest.mark.parametrize("type", ["application/json", "application/json;charset=UTF-8", "Application/JSON; a=b"])
async def test_parameters_of_the_type_do_not_matter(idp: AuthorizationServer, client: Ask, type: str) -> None:
    idp.answer = replying(content_type=type)
    assert await ask(client()) == {"active": True, "sub": "mallory"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"true",
        b"null",
        b'"active"',
        b"[]",
        b'[{"active": true}]',
        b"<html>",
        b'{"active": true',
        b'{"active": true} {"active": true}',
        b"{'active': true}",
        b'{"active": True}',
        b'{"active": false, "active": true}',
        b'{"active": true, "sub": "alice", "sub": "root"}',
        b'{"active": true, "a": {"b": 1, "b": 2}}',
        b'{"active": true, "exp": NaN}',
        b'{"active": true, "exp": Infinity}',
        b'{"active": true, "sub": "\\ud800"}',
        b'{"active": true, "sub": "\xff"}',
        b'\xef\xbb\xbf{"active": true}',
        '{"active": true}'.encode("utf-16"),
        b'{"active": true, "a": ' + b"[" * 50 + b"]" * 50 + b"}",
        b"[" * 60_000,
        b'{"active": true, "exp": ' + b"9" * 10_000 + b"}",
        b"\x00" * 100,
    ],
)
async def test_what_is_not_one_clear_object_is_no_answer(idp: AuthorizationServer, client: Ask, body: bytes) -> None:
    idp.answer = replying(body)
    assert str(await failure(client())) == "its answer is not JSON, or not one clear object"


async def test_a_server_that_breaks_off_has_not_answered(idp: AuthorizationServer, client: Ask) -> None:
    async def break_off(request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "1000"})
        await reply.prepare(request)
        await reply.write(b'{"active": true}')
        assert request.transport is not None
        request.transport.abort()
        return reply

    idp.answer = break_off
    assert await failure(client())


@pytest.mark.parametrize("hangs_up", ["close", "abort"])
async def test_a_server_that_always_hangs_up_is_asked_twice(
    idp: AuthorizationServer, client: Ask, hangs_up: str
) -> None:
    async def hang_up(request: web.Request) -> web.StreamResponse:
        getattr(request.transport, hangs_up)()
        return web.Response()

    idp.answer = hang_up
    assert await failure(client())
    assert len(idp.asked) == 2


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-OpenSSH\r\n%b\r\n",
        b"%b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n%b\r\n\r\n",
        b"HTTP/1.1 999999 %b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: %b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: %b\x00\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nSet-Cookie: %b\x7f=a,b;;=\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 %b\r\nLocation: http://[%b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n%b\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 30\r\n\r\n{\"active\": %b",
        b"HTTP/1.1 100 %b\r\n\r\n" * 50,
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"%b\r\n\r\n",
    ],
)  # fmt: skip
async def test_a_server_cannot_write_the_token_into_our_log(reply: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """It knows the token, and libraries like to quote what they cannot read."""
    caplog.set_level(logging.DEBUG)
    secret = "s3cr3t-t0ken"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"access_token")
            writer.write(reply.replace(b"%b", secret.encode()))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/introspect"
    issuer = Issuer("opaque", IntrospectionClient(url, CLIENT, SECRET, within=1.0))
    try:
        with pytest.raises(Unavailable) as caught:
            await issuer.ask(secret.encode())
        assert [record.name for record in caplog.records if record.levelno >= logging.WARNING] == ["gateway.auth"]
        assert secret not in caplog.text + repr(caught.value)
    finally:
        await issuer.close()
        server.close()
        await server.wait_closed()


async def test_a_server_that_is_away_is_a_failure_at_once(idp: AuthorizationServer, client: Ask) -> None:
    await idp.go_away()
    started = time.monotonic()
    error = await failure(client())
    assert error.away
    assert "127.0.0.1" in str(error)
    assert time.monotonic() - started < 1


async def test_a_server_has_to_show_a_certificate_that_is_trusted(tmp_path: Path, client: Ask) -> None:
    recorded: list[str] = []

    async def record(request: web.Request) -> web.StreamResponse:
        recorded.append(request.path)
        return await replying()(request)

    app = web.Application()
    app.router.add_post("/introspect", record)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=Authority(tmp_path).server("localhost")).start()
        url = f"https://localhost:{runner.addresses[0][1]}/introspect"
        assert "certificate" in str(await failure(client(url=url)))
        assert recorded == []
    finally:
        await runner.cleanup()


async def test_a_client_that_is_closed_asks_no_more(idp: AuthorizationServer, client: Ask) -> None:
    asking, unused = client(), client()
    idp.gate.clear()
    under_way = asyncio.ensure_future(failure(asking))
    await idp.asked_for(1)
    await asking.close()
    await under_way
    await failure(asking)
    await unused.close()
    await failure(unused)
    assert idp.asked == [TOKEN]


# --- a provider with such a server ---


class World:
    """A provider that asks `idp`, with clocks that stand still."""

    def __init__(self, idp: AuthorizationServer, secret: str = SECRET, **changes: Any) -> None:
        self.clock = Clock(time.time())
        client = IntrospectionClient(idp.url, CLIENT, secret, within=changes.pop("within", 2.0))
        self.issuer = Issuer("opaque", client, clock=self.clock)
        usual: dict[str, Any] = {"clock": self.clock, "timer": self.clock, "ask": self.issuer.ask}
        self.provider = IntrospectionProvider("opaque", **(usual | changes))

    async def outcome(self, token: str = TOKEN) -> str:
        try:
            caller = await self.provider.identify(bearer(token.encode()))
        except BadCredential as error:
            return error.reason
        except Shed as error:
            return error.code
        assert caller is not None
        return caller.consumer


@pytest.fixture
async def world(idp: AuthorizationServer) -> AsyncIterator[World]:
    world = World(idp)
    try:
        yield world
    finally:
        await world.issuer.close()


async def test_a_token_is_good_until_the_server_says_otherwise(idp: AuthorizationServer, world: World) -> None:
    assert await world.outcome() == "alice"
    del idp.tokens[TOKEN]
    assert await world.outcome() == "alice"
    world.clock.advance(30)
    assert await world.outcome() == "inactive"
    assert len(idp.asked) == 2


async def test_a_server_that_goes_away_and_comes_back(idp: AuthorizationServer, world: World) -> None:
    assert await world.outcome() == "alice"
    await idp.go_away()
    for number in range(10):
        assert await world.outcome(f"other-{number}") == "identity_unavailable"
    world.clock.advance(29)
    assert await world.outcome() == "alice"
    world.clock.advance(1)
    assert await world.outcome() == "identity_unavailable"
    await idp.come_back()
    assert await world.outcome() == "identity_unavailable"  # it is left alone
    assert len(idp.asked) == 1
    world.clock.advance(1)
    assert await world.outcome() == "alice"
    assert await world.outcome("other-1") == "inactive"


@pytest.mark.parametrize(
    "body",
    ['{"active": "true"}', '{"active": 1}', '{"active": null}', '{"sub": "mallory"}', "{}", '{"Active": true}'],
)
async def test_whoever_is_not_said_to_be_active_is_not(idp: AuthorizationServer, world: World, body: str) -> None:
    idp.answer = replying(body)
    assert await world.outcome() == "identity_unavailable"


async def test_wrong_credentials_of_the_gateway_let_nobody_in(
    idp: AuthorizationServer, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(idp, secret="wr0ng-secret")
    try:
        for number in range(10):
            assert await world.outcome(f"token-{number}") == "identity_unavailable"
    finally:
        await world.issuer.close()
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "check client_id and client_secret" in errors[0]
    assert "wr0ng-secret" not in caplog.text
    assert len(idp.asked) == 5


async def test_a_crowd_with_one_token_is_one_question(idp: AuthorizationServer, world: World) -> None:
    assert await asyncio.gather(*(world.outcome() for _ in range(300))) == ["alice"] * 300
    assert idp.asked == [TOKEN]


async def test_a_flood_of_random_tokens_finds_a_bounded_number_of_questions(
    idp: AuthorizationServer, world: World
) -> None:
    assert await world.outcome() == "alice"
    outcomes = await asyncio.gather(*(world.outcome(f"random-{number}") for number in range(1000)))
    assert {outcome: outcomes.count(outcome) for outcome in set(outcomes)} == {"inactive": 64, "overloaded": 936}
    assert idp.most_at_once <= CONNECTIONS
    assert len(idp.asked) == 65
    assert await world.outcome() == "alice"


# --- a whole gateway ---

ROUTE = "auth: {providers: [opaque]}"


def settings(idp: AuthorizationServer, more: str = "") -> str:
    known = f"type: introspection, url: '{idp.url}', client_id: '{CLIENT}', client_secret: '{SECRET}'"
    return f"auth: {{providers: {{opaque: {{{known}{more}}}}}}}"


def get(token: str = TOKEN) -> bytes:
    return f"GET /x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    upstream = await Upstream().start()
    try:
        yield upstream
    finally:
        await upstream.stop()


async def test_a_gateway_asks_about_tokens(tmp_path: Path, idp: AuthorizationServer, upstream: Upstream) -> None:
    text = simple(upstream, ROUTE, settings(idp, ", cache: 100ms, credential: drop, forward: {X-Client: client_id}"))
    gateway = await Gateway.start(tmp_path, text + "  - {name: open, match: {path: /open}, upstream: up}\n")
    try:
        client = await gateway.client()
        assert (await client.ask(get())).status == 200
        assert b"x-client: app" in upstream.received.lower()
        assert TOKEN.encode() not in upstream.received
        refused = await client.ask(get("other"))
        assert refused.status == 401
        assert json.loads(refused.body)["detail"] == "The token is not active."
        await idp.go_away()
        await asyncio.sleep(0.15)
        away = await client.ask(get())
        assert (away.status, json.loads(away.body)["code"]) == (503, "identity_unavailable")
        assert away.headers["retry-after"] == "1"
        assert (await client.ask(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")).status == 401
        assert (await client.ask(b"GET /open HTTP/1.1\r\nHost: a\r\n\r\n")).status == 200
    finally:
        await gateway.stop()


@pytest.mark.parametrize("leave", [Client.close, Client.reset], ids=["fin", "rst"])
async def test_a_client_that_leaves_while_the_server_is_asked_leaves_nothing_behind(
    tmp_path: Path, idp: AuthorizationServer, upstream: Upstream, leave: Callable[[Client], None]
) -> None:
    gateway = await Gateway.start(tmp_path, simple(upstream, ROUTE, settings(idp)))
    try:
        idp.gate.clear()
        leaving, staying = await gateway.client(), await gateway.client()
        await leaving.send(get())
        await idp.asked_for(1)
        waiting = asyncio.ensure_future(staying.ask(get()))
        leave(leaving)
        async with asyncio.timeout(2):
            while len(gateway.server.connections) > 1:
                await asyncio.sleep(0.01)
        idp.gate.set()
        assert (await waiting).status == 200
        assert idp.asked == [TOKEN]
        await gateway.quiet()
    finally:
        await gateway.stop()


async def test_a_reload_keeps_the_connections_while_the_server_is_asked_in_the_same_way(
    tmp_path: Path, idp: AuthorizationServer, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.runtime.PATIENCE", 0.01)
    gateway = await Gateway.start(tmp_path, simple(upstream, ROUTE, settings(idp)))
    file, old = tmp_path / "routes.yaml", gateway.runtime
    newest = None
    try:
        client = await gateway.client()
        await client.ask(get())
        file.write_text(simple(upstream, ROUTE, settings(idp, ", cache: 5s")))
        new = await asyncio.to_thread(assemble, load(file, {}), None, old)
        assert new.parts.of(Issuer) == old.parts.of(Issuer) != []
        await old.retire(new)
        assert await new.parts.of(Issuer)[0].ask(b"other") == {"active": False}
        assert len(idp.connections) == 1

        file.write_text(simple(upstream, ROUTE, settings(idp).replace(SECRET, "changed")))
        newest = await asyncio.to_thread(assemble, load(file, {}), None, new)
        assert newest.parts.of(Issuer) != new.parts.of(Issuer)
        await new.retire(newest)
        with pytest.raises(Unavailable):
            await new.parts.of(Issuer)[0].ask(b"other")  # closed
        assert len(idp.asked) == 2
    finally:
        if newest is not None:
            await newest.close()
        await gateway.stop()
