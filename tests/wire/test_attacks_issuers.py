"""Issuers that are away, broken or hostile, and keys that come and go (D7, D19, D20, D24), at a whole gateway."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gateway.auth.keyset import Times
from tests.jwks import IdentityProvider, jwk, jwks
from tests.tokens import ec_key, rsa_key, sign
from tests.wire.actors import Upstream
from tests.wire.attempts import Door, each, ec_token, said
from tests.wire.certificates import Authority

STRANGER = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
async def idp() -> AsyncIterator[IdentityProvider]:
    async with IdentityProvider(jwks(jwk(ec_key(), "a"))) as running:
        yield running


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are fetched again after hundredths of a second, and kept for less than one."""
    quick = Times(refresh=0.02, pause=0.02, first=0.02, keep=0.6, patience=0.2)
    monkeypatch.setattr("gateway.auth.keyset.Times", lambda: quick)


def one_route(upstream: Upstream, keys: str) -> str:
    """It is /hmac, and its keys come from somewhere else."""
    return f"""
listen: {{admin: "off"}}
auth: {{providers: {{idp: {{type: jwt, algorithms: [ES256], {keys}}}}}}}
upstreams: {{up: {{targets: ["http://127.0.0.1:{upstream.port}"], retry: off, breaker: off}}}}
routes: [{{name: r, match: {{path: /hmac}}, auth: {{providers: [idp]}}, upstream: up}}]
"""


@pytest.fixture
async def door(
    tmp_path: Path, upstream: Upstream, idp: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Door]:
    """Its keys are at `idp`."""
    yaml = one_route(upstream, f"jwks: '{idp.url}/keys'")
    async with await Door.open(tmp_path, upstream, caplog, yaml) as door:
        yield door


def good(**changes: Any) -> bytes:
    return ec_token({"kid": "a"}, **changes)


def forged(kid: str = "a") -> bytes:
    return sign(said(), STRANGER, "ES256", {"kid": kid})


def bearer(token: bytes) -> bytes:
    return b"Authorization: Bearer " + token


async def test_d07_a_hundred_unknown_kids_cause_no_second_fetch(door: Door, idp: IdentityProvider) -> None:
    await door.lets_in(good())
    for number in range(100):
        await door.refuses_fields(bearer(ec_token({"kid": f"unknown-{number}"})))
    await door.lets_in(good())
    assert idp.asked == ["/keys"]


@pytest.mark.usefixtures("hurried")
async def test_d07_after_the_pause_one_unknown_kid_causes_one_fetch(door: Door, idp: IdentityProvider) -> None:
    await door.lets_in(good())
    idp.text = jwks(jwk(ec_key(), "a"), jwk(STRANGER, "b"))
    await asyncio.sleep(0.03)
    before = len(idp.asked)
    answers = await asyncio.gather(*(_ask(door, forged("b")) for _ in range(20)))
    assert answers == [200] * 20
    assert len(idp.asked) <= before + 2  # one for all of them, and one that was due anyway


async def _ask(door: Door, token: bytes) -> int:
    client = await door.gateway.client()
    return (await client.ask(b"GET /hmac HTTP/1.1\r\nHost: a\r\n" + bearer(token) + b"\r\n\r\n")).status


async def flood(request: web.Request) -> web.StreamResponse:
    reply = web.StreamResponse()
    await reply.prepare(request)
    for _ in range(1600):  # 100 MB, if anybody reads them
        await reply.write(b" " * 65536)
    return reply


async def slow(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(30)
    return web.Response()


async def redirect(request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("/evil")


async def html(request: web.Request) -> web.StreamResponse:
    return web.Response(text="<html>", content_type="text/html")


async def no_keys(request: web.Request) -> web.StreamResponse:
    return web.json_response({"keys": []})


async def failure(request: web.Request) -> web.StreamResponse:
    return web.Response(status=500, body=jwks(jwk(STRANGER, "a")))


@each({"100 MB": flood, "slow": slow, "a redirect": redirect, "HTML": html, "an empty set": no_keys, "500": failure})
@pytest.mark.usefixtures("hurried")
async def test_d19_whatever_an_issuer_replies_the_known_keys_count(
    door: Door, idp: IdentityProvider, make: Any
) -> None:
    await door.lets_in(good())
    idp.answer = make
    await idp.asked_for(len(idp.asked) + (1 if make is slow else 2))
    await door.lets_in(good(sub="never seen before"))
    await door.refuses_fields(bearer(forged()))
    assert set(idp.asked) == {"/keys"}


@pytest.mark.parametrize("host", ["localhost", "localhost.", "127.1", "127.0.0.2", "2130706433", "0x7f000001", "[::1]"])
async def test_d19_discovery_leads_to_no_private_address(
    tmp_path: Path, upstream: Upstream, idp: IdentityProvider, caplog: pytest.LogCaptureFixture, host: str
) -> None:
    async with IdentityProvider(idp.text) as inside:
        idp.discovered["jwks_uri"] = inside.url.replace("127.0.0.1", host) + "/keys"
        yaml = one_route(upstream, f"issuer: '{idp.url}', discovery: true")
        async with await Door.open(tmp_path, upstream, caplog, yaml) as door:
            answer = await door.ask(bearer(good(iss=idp.url)))
            assert answer.status == 503
            assert json.loads(answer.body)["code"] == "identity_unavailable"
            assert idp.asked == ["/.well-known/openid-configuration"]
            assert (inside.asked, upstream.received) == ([], b"")


@pytest.mark.usefixtures("hurried")
async def test_d20_an_issuer_that_is_down_is_believed_for_a_while_and_then_it_is_503_not_200(
    door: Door, idp: IdentityProvider
) -> None:
    await door.lets_in(good())
    known = good(sub="remembered")
    await idp.go_away()
    await door.lets_in(known)
    await _until(door, known, 503)
    reached = door.upstream.received
    for token in (known, good(), forged()):  # nobody can tell them apart now
        answer = await door.ask(bearer(token))
        assert answer.status == 503
        assert json.loads(answer.body)["code"] == "identity_unavailable"
        assert int(answer.headers["retry-after"]) >= 1
    assert door.upstream.received == reached
    await idp.come_back()
    await _until(door, known, 200)
    await door.refuses_fields(bearer(forged()))


async def _until(door: Door, token: bytes, status: int) -> None:
    async with asyncio.timeout(5):
        while (await door.ask(bearer(token))).status != status:
            await asyncio.sleep(0.02)


async def test_d20_an_issuer_whose_certificate_nobody_has_signed_is_not_believed(
    tmp_path: Path, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=jwks(jwk(ec_key(), "a")))

    app = web.Application()
    app.router.add_get("/keys", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=Authority(tmp_path).server("localhost")).start()
        yaml = one_route(upstream, f"jwks: 'https://localhost:{runner.addresses[0][1]}/keys'")
        async with await Door.open(tmp_path, upstream, caplog, yaml) as door:
            assert (await door.ask(bearer(good()))).status == 503
            assert upstream.received == b""
            assert "certificate" in caplog.text
    finally:
        await runner.cleanup()


@pytest.mark.usefixtures("hurried")
async def test_d24_a_key_that_was_withdrawn_verifies_nothing_within_the_refresh_interval(
    door: Door, idp: IdentityProvider
) -> None:
    idp.text = jwks(jwk(ec_key(), "a"), jwk(STRANGER, "stolen"))
    await idp.asked_for(len(idp.asked) + 2)
    stolen = forged("stolen")
    for _ in range(2):  # the second time it is remembered
        await door.lets_in(stolen)
    idp.text = jwks(jwk(ec_key(), "a"))
    await idp.asked_for(len(idp.asked) + 2)
    await door.refuses_fields(bearer(stolen))
    await door.lets_in(good())
    idp.text = jwks(jwk(ec_key(), "stolen"))  # another key under the old name
    await idp.asked_for(len(idp.asked) + 2)
    await door.refuses_fields(bearer(stolen))
    await door.lets_in(ec_token({"kid": "stolen"}))


async def test_two_issuers_may_call_their_keys_the_same(
    tmp_path: Path, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    other = rsa.generate_private_key(65537, 2048)
    for name, key in (("one", rsa_key()), ("two", other)):
        (tmp_path / f"{name}.json").write_bytes(jwks(jwk(key, "key")))
    yaml = f"""
listen: {{admin: "off"}}
auth:
  providers:
    one: {{type: jwt, algorithms: [RS256], issuer: "https://one.example", jwks: one.json}}
    two: {{type: jwt, algorithms: [RS256], issuer: "https://two.example", jwks: two.json}}
upstreams: {{up: {{targets: ["http://127.0.0.1:{upstream.port}"]}}}}
routes: [{{name: r, match: {{path: /hmac}}, auth: {{providers: [one, two]}}, upstream: up}}]
"""

    def token(key: rsa.RSAPrivateKey, issuer: str) -> bytes:
        return sign(said(iss=issuer), key, "RS256", {"kid": "key"})

    async with await Door.open(tmp_path, upstream, caplog, yaml) as door:
        await door.lets_in(token(rsa_key(), "https://one.example"))
        await door.lets_in(token(other, "https://two.example"))
        await door.refuses_fields(bearer(token(rsa_key(), "https://two.example")))
        await door.refuses_fields(bearer(token(other, "https://one.example")))
        await door.refuses_fields(bearer(token(rsa_key(), "https://three.example")))
