"""Keys from a real issuer: fetched, found by discovery, and what becomes of one that is slow, broken or hostile."""

import asyncio
import gzip
import json
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.assemble import assemble
from gateway.auth.jwks_client import JwksClient, may_lead_to
from gateway.auth.keyset import FetchError, KeySet, Times
from gateway.auth.tokens import JwtProvider
from gateway.config import load
from gateway.process.operator import Operator, Post
from gateway.telemetry.cells import SharedCells
from gateway.telemetry.metrics import Metrics
from tests.fakes import Clock
from tests.jwks import Answer, IdentityProvider, jwk, jwks
from tests.tokens import NOW, accepted, bearer, claims, ec_key, refusal, rsa_key, sign
from tests.wire.actors import Gateway, Upstream, simple
from tests.wire.certificates import Authority

ES256 = frozenset({"ES256"})
SET = jwks(jwk(ec_key(), "a"), jwk(rsa_key(), "b", use="enc"))


@pytest.fixture
async def idp() -> AsyncIterator[IdentityProvider]:
    async with IdentityProvider(SET) as running:
        yield running


def client(idp: IdentityProvider, **more: Any) -> JwksClient:
    return JwksClient(ES256, **({"jwks": idp.url + "/keys"} | more))


def discovering(idp: IdentityProvider) -> JwksClient:
    return JwksClient(ES256, issuer=idp.url)


async def failure(of: JwksClient) -> str:
    with pytest.raises(FetchError) as caught:
        await of.fetch()
    return str(caught.value)


def replying(body: bytes = SET, status: int = 200, **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return answer


# --- fetching ---


async def test_a_set_is_fetched_from_its_url(idp: IdentityProvider) -> None:
    assert (await client(idp).fetch()).find("a", "ES256")
    assert idp.asked == ["/keys"]


@pytest.mark.parametrize("tail", ["", "/"])
async def test_a_set_is_found_by_discovery(idp: IdentityProvider, tail: str) -> None:
    idp.discovered["issuer"] = idp.url + tail
    assert (await JwksClient(ES256, issuer=idp.url + tail).fetch()).find("a", "ES256")
    assert idp.asked == ["/.well-known/openid-configuration", "/keys"]


async def test_an_issuer_that_is_slow_is_waited_for_within_limits(idp: IdentityProvider) -> None:
    async def never(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    idp.answer = never
    started = time.monotonic()
    assert await failure(client(idp, within=0.1)) == "not within 0.1 s"
    assert time.monotonic() - started < 2


async def test_an_issuer_that_drips_is_waited_for_within_limits(idp: IdentityProvider) -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse()
        await reply.prepare(request)
        while True:
            await reply.write(b" ")
            await asyncio.sleep(0.01)

    idp.answer = drip
    assert await failure(client(idp, within=0.2)) == "not within 0.2 s"


async def test_an_issuer_that_never_ends_is_read_up_to_a_limit(idp: IdentityProvider) -> None:
    async def flood(request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse()
        await reply.prepare(request)
        while True:
            await reply.write(b" " * 65536)

    idp.answer = flood
    assert "more than 1048576 bytes" in await failure(client(idp))


async def test_a_compressed_bomb_is_not_unpacked(idp: IdentityProvider) -> None:
    idp.answer = replying(gzip.compress(b" " * 50_000_000), content_encoding="gzip")
    assert "not JSON" in await failure(client(idp))


async def test_an_issuer_that_breaks_off_is_a_failure(idp: IdentityProvider) -> None:
    async def break_off(request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse(headers={"Content-Length": "1000"})
        await reply.prepare(request)
        await reply.write(SET[:100])
        assert request.transport is not None
        request.transport.abort()
        return reply

    idp.answer = break_off
    assert await failure(client(idp))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(idp: IdentityProvider, status: int) -> None:
    idp.answer = replying(status=status, location="/elsewhere")
    assert f"status {status}" in await failure(client(idp))
    assert idp.asked == ["/keys"]


@pytest.mark.parametrize("status", [204, 206, 401, 404, 429, 500, 503])
async def test_only_200_counts(idp: IdentityProvider, status: int) -> None:
    idp.answer = replying(status=status)
    assert f"status {status}" in await failure(client(idp))


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", SET[:-1], b"[" * 500_000, b'{"keys": 1}', b"\x00" * 100])
async def test_what_is_no_set_is_a_failure(idp: IdentityProvider, body: bytes) -> None:
    idp.text = body
    assert "not" in await failure(client(idp))


async def test_an_issuer_that_is_away_is_a_failure(idp: IdentityProvider) -> None:
    await idp.go_away()
    assert await failure(client(idp))


async def test_an_issuer_has_to_show_a_certificate_that_is_trusted(tmp_path: Path) -> None:
    app = web.Application()
    app.router.add_get("/keys", replying())
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=Authority(tmp_path).server("localhost")).start()
        url = f"https://localhost:{runner.addresses[0][1]}/keys"
        assert "certificate" in await failure(JwksClient(ES256, jwks=url))
    finally:
        await runner.cleanup()


# --- discovery ---


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"issuer": "https://other.example"}, "another issuer"),
        ({"issuer": None}, "another issuer"),
        ({"jwks_uri": None}, "jwks_uri"),
        ({"jwks_uri": 7}, "jwks_uri"),
        ({"jwks_uri": ""}, "jwks_uri"),
        ({"jwks_uri": "/keys"}, "jwks_uri"),
        ({"jwks_uri": "file:///etc/passwd"}, "jwks_uri"),
        ({"jwks_uri": "http://169.254.169.254/latest"}, "jwks_uri"),
        ({"jwks_uri": "http://[::1"}, "jwks_uri"),
    ],
)
async def test_what_is_discovered_is_not_believed_blindly(
    idp: IdentityProvider, changes: dict[str, Any], said: str
) -> None:
    idp.discovered |= changes
    assert said in await failure(discovering(idp))
    assert idp.asked == ["/.well-known/openid-configuration"]


async def test_what_is_discovered_has_to_be_clear(idp: IdentityProvider) -> None:
    text = json.dumps(idp.discovered)
    idp.answer = replying(f'{{"issuer": "x", {text[1:]}'.encode())
    assert "not JSON" in await failure(discovering(idp))


HTTPS = "https://idp.example"


@pytest.mark.parametrize(
    ("issuer", "url", "may"),
    [
        (HTTPS, "https://idp.example/keys", True),
        (HTTPS, "https://IDP.example:8443/keys", True),
        (HTTPS, "https://keys.cdn.example/keys", True),
        (HTTPS, "https://8.8.8.8/keys", True),
        (HTTPS, "http://idp.example/keys", False),
        (HTTPS, "https://user@idp.example/keys", False),
        (HTTPS, "https://127.0.0.1/keys", False),
        (HTTPS, "https://10.0.0.1/keys", False),
        (HTTPS, "https://[::1]/keys", False),
        (HTTPS, "https://[fd00::1]/keys", False),
        (HTTPS, "https://[::ffff:10.0.0.1]/keys", False),
        (HTTPS, "https://169.254.169.254/keys", False),
        (HTTPS, "https://localhost/keys", False),
        (HTTPS, "https://localhost./keys", False),
        (HTTPS, "https://a.localhost/keys", False),
        (HTTPS, "https://127.1/keys", False),
        (HTTPS, "https://2130706433/keys", False),
        (HTTPS, "https://0x7f000001/keys", False),
        (HTTPS, "https:///keys", False),
        (HTTPS, "//idp.example/keys", False),
        ("https://10.0.0.1", "https://10.0.0.1/keys", True),
        ("https://10.0.0.1", "https://10.0.0.2/keys", False),
        ("http://localhost:8000", "http://localhost:8000/keys", True),
        ("http://localhost:8000", "https://localhost:8000/keys", False),
    ],
)
def test_where_an_issuer_may_say_that_its_keys_are(issuer: str, url: str, may: bool) -> None:
    assert may_lead_to(issuer, url) is may


# --- a provider with such an issuer ---


def token(kid: str = "a", key: Any = None, **changes: Any) -> bytes:
    return sign(claims(**changes), key or ec_key(), "ES256", {"kid": kid})


async def test_whatever_becomes_of_the_issuer_known_keys_count(idp: IdentityProvider) -> None:
    keys = KeySet("idp", client(idp, within=0.1).fetch, ES256, times=Times(refresh=0.01, pause=0.01))
    provider = JwtProvider("idp", key=keys, clock=Clock(NOW))
    keys.start()
    try:
        assert await accepted(provider, token())
        for number, answer in enumerate(
            [replying(b"<html>"), replying(b'{"keys": []}'), replying(status=500), replying(status=302, location="/a")]
        ):
            idp.answer = answer
            await idp.asked_for(len(idp.asked) + 3)
            assert await accepted(provider, token(sub=f"first seen {number}"))
        await idp.go_away()
        await asyncio.sleep(0.05)
        assert await accepted(provider, token(sub="first seen, too"))
        await idp.come_back()
        idp.answer, idp.text = None, jwks(jwk(rsa_key(), "b"))
        await idp.asked_for(len(idp.asked) + 2)
        assert await accepted(provider, token())  # no key for ES256: that set is no good, either
    finally:
        await keys.close()


async def test_a_rotation_by_a_real_issuer_refuses_no_request(idp: IdentityProvider) -> None:
    keys = KeySet("idp", client(idp).fetch, ES256, times=Times(pause=0.0))
    provider = JwtProvider("idp", key=keys, clock=Clock(NOW))
    try:
        assert await accepted(provider, token())
        for number in range(5):
            new = ec.generate_private_key(ec.SECP256R1())
            idp.text = jwks(jwk(ec_key(), "a"), jwk(new, f"new-{number}"))
            tokens = [token(f"new-{number}", new, sub=f"{n}") for n in range(50)]
            before = len(idp.asked)
            await asyncio.gather(*(accepted(provider, each) for each in tokens))
            assert len(idp.asked) == before + 1
        idp.text = jwks(jwk(ec_key(), "a"))
        await refusal(provider, bearer(token("b")))  # asks again, and so learns that the last new key is gone
        await refusal(provider, bearer(tokens[0]))
        assert await accepted(provider, token())
    finally:
        await keys.close()


# --- a whole gateway ---

ROUTE = "auth: {providers: [idp]}"


def settings(keys: str, more: str = "") -> str:
    return f"auth: {{providers: {{idp: {{type: jwt, algorithms: [ES256], {keys}{more}}}}}}}"


def get(token: bytes) -> bytes:
    return b"GET /x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + token + b"\r\n\r\n"


async def test_a_gateway_verifies_with_keys_that_it_has_fetched(tmp_path: Path, idp: IdentityProvider) -> None:
    upstream = await Upstream().start()
    found = f"issuer: '{idp.url}', discovery: true"
    now = time.time()
    good = token(iss=idp.url, exp=now + 60, iat=now)
    try:
        for keys in (f"jwks: '{idp.url}/keys'", found):
            gateway = await Gateway.start(tmp_path, simple(upstream, ROUTE, settings(keys)))
            try:
                client = await gateway.client()
                assert (await client.ask(get(good))).status == 200
                assert (await client.ask(get(token("b", iss=idp.url, exp=now + 60, iat=now)))).status == 401
                gateway.runtime.gauges()
                ages = dict(gateway.runtime.metrics.keyset_age)
                assert 0 <= ages["idp",].values[0] < 5
            finally:
                await gateway.stop()
    finally:
        await upstream.stop()


async def test_a_gateway_without_keys_says_503_and_serves_open_routes(tmp_path: Path, idp: IdentityProvider) -> None:
    await idp.go_away()
    upstream = await Upstream().start()
    text = simple(upstream, ROUTE, settings(f"jwks: '{idp.url}/keys'"))
    text += "  - {name: open, match: {path: /open}, upstream: up}\n"
    gateway = await Gateway.start(tmp_path, text)
    try:
        client = await gateway.client()
        now = time.time()
        answer = await client.ask(get(token(exp=now + 60, iat=now)))
        assert answer.status == 503
        assert json.loads(answer.body)["code"] == "identity_unavailable"
        assert 1 <= int(answer.headers["retry-after"]) <= 5
        assert (await client.ask(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")).status == 401
        assert (await client.ask(b"GET /open HTTP/1.1\r\nHost: a\r\n\r\n")).status == 200
        gateway.runtime.gauges()
        assert dict(gateway.runtime.metrics.keyset_age) == {}
    finally:
        await gateway.stop()
        await upstream.stop()


async def test_a_file_with_a_set_is_enough(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_bytes(SET)
    upstream = await Upstream().start()
    gateway = await Gateway.start(tmp_path, simple(upstream, ROUTE, settings("jwks: keys.json")))
    try:
        client = await gateway.client()
        now = time.time()
        assert (await client.ask(get(token(exp=now + 60, iat=now)))).status == 200
        assert (await client.ask(get(token("c", exp=now + 60, iat=now)))).status == 401
        assert gateway.runtime.key_sets == []
    finally:
        await gateway.stop()
        await upstream.stop()


async def test_a_reload_keeps_the_keys_while_they_come_from_the_same_place(
    tmp_path: Path, idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.runtime.PATIENCE", 0.01)
    upstream = await Upstream().start()
    gateway = await Gateway.start(tmp_path, simple(upstream, ROUTE, settings(f"jwks: '{idp.url}/keys'")))
    file, old = tmp_path / "routes.yaml", gateway.runtime
    try:
        await idp.asked_for(1)
        file.write_text(simple(upstream, ROUTE, settings(f"jwks: '{idp.url}/keys'", ", audience: x")))
        new = await asyncio.to_thread(assemble, load(file, {}), None, old)
        assert new.key_sets == old.key_sets
        new.start()
        await old.retire(new)
        assert await new.key_sets[0].find("a", "ES256")
        assert idp.asked == ["/keys"]

        file.write_text(simple(upstream, ROUTE, settings(f"jwks: '{idp.url}/other'")))
        newest = await asyncio.to_thread(assemble, load(file, {}), None, new)
        newest.start()
        await new.retire(newest)
        assert await newest.key_sets[0].find("a", "ES256")
        assert idp.asked == ["/keys", "/other"]
        assert [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("keys-of")] == [
            "keys-of-idp"
        ]
        await newest.close()
    finally:
        await gateway.stop()
        await upstream.stop()


async def test_a_gateway_is_not_ready_before_some_worker_has_had_keys(tmp_path: Path) -> None:
    file = tmp_path / "routes.yaml"
    file.write_text(settings("jwks: 'https://idp.example/keys'") + "\nroutes: []\n")
    cells = tmp_path / "cells"
    workers = [Metrics(SharedCells(cells / name)) for name in ("0", "1")]
    near, far = socket.socketpair()
    try:
        snapshot: Any = {"reasons": [], "live": ["0", "1"]}
        operator = Operator(near, Post(load(file, {}), None, cells, tmp_path / "records", snapshot, ""))
        assert operator.reasons() == ["the keys of provider idp have never been loaded"]
        workers[1].keyset_age.replace({("idp",): 100_000.0})  # too old to count, but no reason to take all routes away
        assert operator.reasons() == []
    finally:
        near.close()
        far.close()
