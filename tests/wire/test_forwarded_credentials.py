"""What the upstream gets of a caller's credentials: them, nothing, or a token of the gateway's own."""

import json
import time
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.auth.passwords import make
from gateway.auth.signer import jwks
from gateway.config import load
from gateway.http.tls import server_context
from tests.tokens import SECRET, claims, sign
from tests.wire.actors import Client, Upstream, Visit, replying
from tests.wire.certificates import Authority
from tests.wire.conftest import Start
from tests.wire.payloads import get
from tests.wire.strict import Received, read_requests

KEY = b"gwk_of-a-test"
PASSWORD = make(b"secret", b"0123456789abcdef")
BASIC = b"Authorization: Basic " + b64encode(b"acme:secret")
WEBSOCKET = (
    *(b"Connection: Upgrade", b"Upgrade: websocket", b"Origin: http://a"),
    *(b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


def config(folder: Path, *ports: int, up: str = "retry: off", https: str = "") -> str:
    """A route for each way to treat a credential: its name is the provider's. `mtls` comes with `https`."""
    file = folder / "signing.pem"
    if not file.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    token = f'type: jwt, secret: "{SECRET.decode()}", algorithms: [HS256], forward: {{X-User-Id: sub, X-Plan: plan}}'
    elsewhere = "header: X-Auth-Token, cookie: session"
    providers = {
        "forwards": f"{token}, {elsewhere}",
        "drops": f"{token}, {elsewhere}, credential: drop",
        "signs": f"{token}, {elsewhere}, credential: sign",
        "legacy": "type: basic",
        "trusting": "type: basic, credential: forward",
        "partners": "type: api_key, header: X-API-Key, credential: sign",
    }
    if https:
        providers["mtls"] = "type: client_certificate, credential: sign"
    known = "".join(f"    {name}: {{{settings}}}\n" for name, settings in providers.items())
    guarded = "".join(
        f'  - {{name: {name}, match: {{path: "/{name}/**"}}, auth: {{providers: [{name}]}}, upstream: orders}}\n'
        for name in providers
    )
    targets = ", ".join(f'"http://127.0.0.1:{port}"' for port in ports)
    return f"""
listen: {{admin: "off"{https}}}
auth:
  signing: {{key: signing.pem, algorithm: ES256, issuer: "https://gateway.test"}}
  providers:
{known}
  consumers:
    acme:
      {{keys: ["sha256:{sha256(KEY).hexdigest()}"], password: "{PASSWORD}", certificate: CN=acme, roles: [editor]}}
upstreams:
  orders: {{targets: [{targets}], breaker: off, {up}}}
  billing: {{targets: [{targets}], breaker: off, {up}}}
routes:
{guarded}
  - {{name: optional, match: {{path: /optional}}, auth: {{providers: [partners], optional: true}}, upstream: orders}}
  - {{name: billing, match: {{path: /billing}}, auth: {{providers: [partners]}}, upstream: billing}}
  - {{name: open, match: {{path: "/**"}}, upstream: orders}}
"""


def token(**changes: object) -> bytes:
    return sign(claims(exp=time.time() + 600, **changes))


async def passed(client: Client, upstream: Upstream, target: bytes, *fields: bytes) -> Received:
    """The request as the upstream reads it, pedantically."""
    answer = await client.ask(get(*fields, target=target))
    assert answer.status == 200, answer
    return read_requests(bytes(upstream.visits[-1].received))[0][-1]


def told(request: Received, tmp_path: Path, audience: str = "orders") -> dict[str, Any]:
    """What the gateway's own token says, verified as an upstream does, with what the gateway publishes."""
    scheme, _, word = request.headers[b"authorization"].decode().partition(" ")
    assert scheme == "Bearer"
    published = jwks(load(tmp_path / "routes.yaml", {}))
    assert published is not None
    key = jwt.PyJWKSet.from_json(published.decode())[jwt.get_unverified_header(word)["kid"]]
    options = {"require": ["exp", "iat", "jti", "sub"]}
    said: dict[str, Any] = jwt.decode(
        word, key, algorithms=["ES256"], audience=audience, issuer="https://gateway.test", options=options
    )
    return said


# -- forwarded, or dropped


async def test_a_token_goes_on_as_it_came_unless_it_is_said_otherwise(
    start: Start, upstream: Upstream, tmp_path: Path
) -> None:
    client = await (await start(config(tmp_path, upstream.port))).client()
    sent = token()
    request = await passed(client, upstream, b"/forwards/x", b"Authorization: Bearer " + sent)
    assert request.headers[b"authorization"] == b"Bearer " + sent
    request = await passed(client, upstream, b"/forwards/x", b"Cookie: a=1; session=" + sent + b"; b=2")
    assert request.headers[b"cookie"] == b"a=1; session=" + sent + b"; b=2"


PLACES: list[Callable[[bytes], bytes]] = [
    lambda sent: b"Authorization: Bearer " + sent,
    lambda sent: b"X-Auth-Token: " + sent,
    lambda sent: b"X-Auth-Token: Bearer " + sent,
    lambda sent: b"Cookie: session=" + sent,
    lambda sent: b"Cookie: a=1; session=" + sent,
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("route", [b"/drops/x", b"/signs/x"])
async def test_a_token_that_is_dropped_reaches_the_upstream_in_no_shape(
    start: Start, upstream: Upstream, tmp_path: Path, route: bytes, place: Callable[[bytes], bytes]
) -> None:
    client = await (await start(config(tmp_path, upstream.port))).client()
    sent = token()
    for _ in range(3):  # the same head again, so that whatever is remembered of it is used
        request = await passed(client, upstream, route, b"Accept: */*", place(sent), b"X_Auth_Token: x")
        assert request.headers[b"x-user-id"] == b"alice"
        assert request.headers[b"accept"] == b"*/*"
        assert request.headers.get(b"cookie") == (b"a=1" if b"a=1" in place(sent) else None)
        assert (b"authorization" in request.headers) == (route == b"/signs/x")
    assert sent not in upstream.received
    assert b"auth_token" not in upstream.received.lower()


async def test_one_head_on_routes_that_treat_it_differently(start: Start, upstream: Upstream, tmp_path: Path) -> None:
    """On one connection the same field lines are remembered, but not what was kept of them elsewhere."""
    client = await (await start(config(tmp_path, upstream.port))).client()
    sent = b"Bearer " + token()
    for _ in range(2):
        for target, expected in ((b"/open", sent), (b"/drops/x", None), (b"/forwards/x", sent), (b"/drops/x", None)):
            request = await passed(client, upstream, target, b"Authorization: " + sent)
            assert request.headers.get(b"authorization") == expected
        signed = await passed(client, upstream, b"/signs/x", b"Authorization: " + sent)
        assert told(signed, tmp_path)["sub"] == "alice"


async def test_a_password_stays_here_unless_the_upstream_is_to_have_it(
    start: Start, upstream: Upstream, tmp_path: Path
) -> None:
    client = await (await start(config(tmp_path, upstream.port))).client()
    for _ in range(2):
        assert b"authorization" not in (await passed(client, upstream, b"/legacy/x", BASIC)).headers
    assert BASIC.partition(b": ")[2] not in upstream.received
    request = await passed(client, upstream, b"/trusting/x", BASIC)
    assert request.headers[b"authorization"] == BASIC.partition(b": ")[2]


async def test_naming_it_in_connection_changes_nothing(start: Start, upstream: Upstream, tmp_path: Path) -> None:
    client = await (await start(config(tmp_path, upstream.port))).client()
    sent = token(plan="gold")
    fields = b"Connection: X-Auth-Token, X-Plan, X-User-Id", b"X-Auth-Token: " + sent, b"X-Plan: root"
    request = await passed(client, upstream, b"/signs/x", *fields)
    assert (request.headers[b"x-user-id"], request.headers[b"x-plan"]) == (b"alice", b"gold")
    assert told(request, tmp_path)["sub"] == "alice"
    assert sent not in upstream.received
    for named in (b"Authorization", b"Cookie", b"authorization, X-Auth-Token"):
        assert (await client.ask(get(b"Connection: " + named, *fields[1:], target=b"/signs/x"))).status == 400
        client = await (await start(config(tmp_path, upstream.port))).client()


# -- signed


async def test_the_token_says_who_was_vouched_for_and_for_whom(
    start: Start, upstream: Upstream, tmp_path: Path
) -> None:
    client = await (await start(config(tmp_path, upstream.port))).client()
    ends = int(time.time()) + 40
    sent = sign(claims(exp=ends, scope="orders:write orders:read", roles=["editor"], tier="gold", email="a@b"))
    said = told(await passed(client, upstream, b"/signs/x", b"Authorization: Bearer " + sent), tmp_path)
    assert abs(said.pop("iat") - time.time()) < 5
    assert said.pop("jti")
    assert said == {
        "iss": "https://gateway.test",
        "sub": "alice",
        "aud": "orders",
        "exp": ends,
        "scope": "orders:read orders:write",
        "roles": ["editor"],
        "tier": "gold",
        "provider": "signs",
    }


async def test_each_upstream_gets_a_token_of_its_own_and_the_same_one_again(
    start: Start, upstream: Upstream, tmp_path: Path
) -> None:
    client = await (await start(config(tmp_path, upstream.port))).client()
    key = b"X-API-Key: " + KEY
    first = await passed(client, upstream, b"/partners/x", key)
    again = await passed(client, upstream, b"/partners/y", key)
    other = await passed(client, upstream, b"/billing", key)
    assert first.headers[b"authorization"] == again.headers[b"authorization"]
    assert told(first, tmp_path)["sub"] == told(other, tmp_path, "billing")["sub"] == "acme"
    with pytest.raises(jwt.InvalidAudienceError):
        told(other, tmp_path)


FORGED = [b"Authorization: Bearer forged", b"Authorization: Basic Zm9yZ2VkOng=", b"AUTHORIZATION: forged"]


@pytest.mark.parametrize("forged", FORGED)
async def test_no_authorization_of_a_client_stands_beside_it(
    start: Start, upstream: Upstream, tmp_path: Path, forged: bytes
) -> None:
    client = await (await start(config(tmp_path, upstream.port))).client()
    request = await passed(client, upstream, b"/partners/x", forged, b"X-API-Key: " + KEY)
    assert told(request, tmp_path)["provider"] == "partners"
    assert forged.partition(b": ")[2] not in upstream.received
    assert KEY not in upstream.received


async def test_a_certificates_owner_is_told_to_the_upstream(start: Start, upstream: Upstream, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.sign("gateway.test")
    https = f", https: {{address: 127.0.0.1:0, certificate: {certificate}, key: {key}, client_ca: {authority.file}}}"
    gateway = await start(config(tmp_path, upstream.port, https=https))
    port = await gateway.secure(server_context([(certificate, key)], authority.file))
    client = await gateway.tls_client(port, authority.client(authority.sign(subject="CN=acme", file="c")))
    request = await passed(client, upstream, b"/mtls/x", *FORGED[:1])
    said = told(request, tmp_path)
    assert (said["sub"], said["roles"], said["provider"]) == ("acme", ["editor"], "mtls")
    assert b"forged" not in upstream.received


async def test_who_is_anonymous_gets_none(start: Start, upstream: Upstream, tmp_path: Path) -> None:
    client = await (await start(config(tmp_path, upstream.port))).client()
    assert b"authorization" not in (await passed(client, upstream, b"/optional")).headers
    assert told(await passed(client, upstream, b"/optional", b"X-API-Key: " + KEY), tmp_path)["sub"] == "acme"
    assert b"authorization" not in (await passed(client, upstream, b"/optional")).headers


async def test_a_gateway_behind_this_one_knows_who_is_calling(start: Start, upstream: Upstream, tmp_path: Path) -> None:
    """Two gateways, a caller with a password in front, and an upstream that learns the name."""
    (tmp_path / "routes.yaml").write_text(config(tmp_path, 1))
    (tmp_path / "published.json").write_bytes(jwks(load(tmp_path / "routes.yaml", {})) or b"")
    behind = await start(f"""
listen: {{admin: "off"}}
auth:
  providers:
    edge:
      type: jwt
      jwks: published.json
      issuer: "https://gateway.test"
      audience: orders
      algorithms: [ES256]
      leeway: 0s
      forward: {{X-User-Id: sub}}
upstreams: {{up: {{targets: ["http://127.0.0.1:{upstream.port}"]}}}}
routes:
  - {{name: all, match: {{path: "/**"}}, auth: {{providers: [edge]}}, upstream: up}}
""")
    front = await start(config(tmp_path, behind.port))
    client = await front.client()
    request = await passed(client, upstream, b"/partners/x", b"X-API-Key: " + KEY, b"X-User-Id: root")
    assert request.headers[b"x-user-id"] == b"acme"
    assert (await client.ask(get(b"X-API-Key: " + KEY, target=b"/billing"))).status == 401  # for another audience
    await front.runtime.close()  # its connections to the one behind


# -- further ways to an upstream


@pytest.mark.parametrize("route", [b"/drops/x", b"/signs/x"])
async def test_a_websocket_handshake_is_treated_alike(
    start: Start, upstream: Upstream, tmp_path: Path, route: bytes
) -> None:
    async def switching(visit: Visit) -> None:
        await visit.request()
        await visit.write(SWITCH)

    upstream.script = switching
    client = await (await start(config(tmp_path, upstream.port))).client()
    sent = token()
    answer = await client.ask(get(*WEBSOCKET, b"Cookie: session=" + sent + b"; a=1", target=route))
    assert answer.status == 101
    assert sent not in upstream.received
    assert b"\r\ncookie: a=1\r\n" in upstream.received
    assert b"\r\nupgrade: websocket\r\n" in upstream.received
    assert upstream.received.lower().count(b"authorization") == (route == b"/signs/x")


@pytest.mark.parametrize("route", [b"/drops/x", b"/signs/x"])
async def test_another_target_gets_what_the_first_one_got(
    start: Start, upstream: Upstream, tmp_path: Path, route: bytes
) -> None:
    upstream.script = replying(b"HTTP/1.1 503 Away\r\nContent-Length: 0\r\n\r\n")
    other = await Upstream(upstream.script).start()
    try:
        up = "retry: {attempts: 2, on: ['503'], backoff: {base: 1ms, max: 2ms}, budget: 100%}"
        client = await (await start(config(tmp_path, upstream.port, other.port, up=up))).client()
        sent = token()
        answer = await client.ask(get(b"Authorization: Bearer " + sent, b"X-Auth: kept", target=route))
        assert answer.status == 503
        tries = [read_requests(bytes(each.visits[0].received))[0][0].headers for each in (upstream, other)]
        assert tries[0].get(b"authorization") == tries[1].get(b"authorization")
        assert (b"authorization" in tries[0]) == (route == b"/signs/x")
        assert [each[b"x-auth"] for each in tries] == [b"kept", b"kept"]
        assert sent not in upstream.received + other.received
    finally:
        await other.stop()


async def test_a_body_on_its_way_changes_nothing(start: Start, upstream: Upstream, tmp_path: Path) -> None:
    client = await (await start(config(tmp_path, upstream.port))).client()
    sent = token()
    head = b"POST /signs/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b\r\nTransfer-Encoding: chunked\r\n\r\n" % sent
    await client.send(head + b"5\r\nhello\r\n")
    await upstream.hears(b"hello")
    assert (await client.ask(b"0\r\nAuthorization: Bearer %b\r\n\r\n" % sent)).status == 200
    assert sent not in upstream.received
    assert upstream.received.lower().count(b"authorization") == 1


# -- claims as headers

LINE_ENDS = ["\r\nX-Evil: 1", "\nX-Evil: 1", "\rX-Evil: 1", "\x00", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u010a"]


@pytest.mark.parametrize("end", LINE_ENDS)
async def test_no_claim_of_any_type_ends_a_line(start: Start, upstream: Upstream, tmp_path: Path, end: str) -> None:
    client = await (await start(config(tmp_path, upstream.port))).client()
    text = f"gold{end}"
    for plan in (
        text,
        end,
        [text],
        ["a", text],
        [text, 1],
        {text: 1},
        {"a": text},
        [[text]],
        [{"a": text}],
        [None, text],
    ):
        for sub in ("alice", text):
            request = await passed(
                client, upstream, b"/forwards/x", b"Authorization: Bearer " + token(plan=plan, sub=sub), b"X-Plan: root"
            )
            assert b"x-plan" not in request.headers
            assert request.headers.get(b"x-user-id") == (b"alice" if sub == "alice" else None)
    assert b"evil" not in upstream.received.lower().partition(b"authorization")[0]


@pytest.mark.parametrize(
    ("plan", "value"),
    [
        ("gold", b"gold"),
        (7, b"7"),
        (-1.5, b"-1.5"),
        (10**30, b"1" + b"0" * 30),
        (True, b"true"),
        (["a", 1, False, 2.5], b"a,1,false,2.5"),
        ('a"b\\c; d=e', b'a"b\\c; d=e'),
        (None, None),
        ({}, None),
        ([], None),
        ([["a"]], None),
        ("", None),
        ("ä", None),
        (["a,b"], None),
    ],
)
async def test_a_claim_is_sent_as_a_whole_or_not_at_all(
    start: Start, upstream: Upstream, tmp_path: Path, plan: object, value: bytes | None
) -> None:
    client = await (await start(config(tmp_path, upstream.port))).client()
    payload = json.dumps(claims(exp=time.time() + 600) | {"plan": plan}).encode()
    fields = b"Authorization: Bearer " + sign(payload), b"X-Plan: root", b"X_Plan: root", b"x.plan: root"
    request = await passed(client, upstream, b"/drops/x", *fields)
    assert request.headers.get(b"x-plan") == value
    assert b"root" not in upstream.received


@pytest.mark.parametrize("target", [b"/open", b"/legacy/x", b"/partners/x", b"/optional", b"/forwards/x"])
async def test_a_configured_identity_header_of_a_client_passes_no_route(
    start: Start, upstream: Upstream, tmp_path: Path, target: bytes
) -> None:
    """On open routes, with other providers, and of callers whose token has no such claim; in every spelling."""
    client = await (await start(config(tmp_path, upstream.port))).client()
    credential = BASIC if target == b"/legacy/x" else b"Authorization: Bearer " + token()
    forged = [name + b": root" for name in (b"X-Plan", b"x_plan", b"X.PLAN", b"X_User_Id", b"x-user-id", b"x-User.id")]
    for more in ((), (b"Connection: X-Plan, x_plan",), (b"Connection: x-user-id",)):
        fields = *forged[:3], credential, b"X-API-Key: " + KEY, *forged[3:], *more
        request = await passed(client, upstream, target, *fields)
        assert b"x-plan" not in request.headers
        assert request.headers.get(b"x-user-id") == (b"alice" if target == b"/forwards/x" else None)
    assert b"root" not in upstream.received
