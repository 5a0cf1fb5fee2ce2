"""Known callers at the whole gateway: who gets in, and that no key goes any further."""

from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import pytest

from gateway.auth.passwords import make
from gateway.http.tls import server_context
from tests.wire.actors import Upstream
from tests.wire.certificates import Authority
from tests.wire.conftest import Start

KEY = b"gwk_of-a-test"
PASSWORD = make(b"secret", b"0123456789abcdef")
BASIC = b64encode(b"acme:secret")


def config(upstream: Upstream, authority: Authority) -> str:
    certificate, key = authority.sign("gateway.test")
    return f"""
listen:
  http: 127.0.0.1:0
  https: {{address: 127.0.0.1:0, certificate: {certificate}, key: {key}, client_ca: {authority.file}}}
auth:
  providers:
    partners: {{type: api_key, header: X-API-Key, query: api_key}}
    legacy: {{type: basic}}
    mtls: {{type: client_certificate}}
  consumers:
    acme:
      keys: ["sha256:{sha256(KEY).hexdigest()}"]
      password: "{PASSWORD}"
      certificate: CN=acme
      roles: [editor]
    guest:
      keys: ["sha256:{sha256(b"guest").hexdigest()}"]
  roles: {{viewer: ["orders:read"], editor: ["role:viewer", "orders:write"]}}
rate_limits:
  three: {{by: consumer, limit: 3/hour}}
upstreams:
  u: {{targets: ["http://127.0.0.1:{upstream.port}"]}}
routes:
  - {{name: open, match: {{path: /open}}, upstream: u}}
  - name: any
    match: {{path: /any}}
    auth: {{providers: [partners, legacy, mtls], scopes: ["orders:read"], roles: [viewer]}}
    rate_limit: three
    upstream: u
  - {{name: optional, match: {{path: /optional}}, auth: {{providers: [partners], optional: true}}, upstream: u}}
"""


def get(target: bytes, *lines: bytes) -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (target, b"".join(line + b"\r\n" for line in lines))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def test_a_consumer_gets_in_by_each_credential_and_is_counted_once(
    start: Start, upstream: Upstream, authority: Authority
) -> None:
    gateway = await start(config(upstream, authority))
    client = await gateway.client()
    assert (await client.ask(get(b"/any", b"X-API-Key: " + KEY))).status == 200
    assert (await client.ask(get(b"/any", b"Authorization: Basic " + BASIC))).status == 200
    port = await gateway.secure(server_context([authority.sign("gateway.test")], authority.file))
    secure = await gateway.tls_client(port, authority.client(authority.sign(subject="CN=acme,O=Acme Ltd", file="c")))
    assert (await secure.ask(get(b"/any"))).status == 200
    assert (await client.ask(get(b"/any?api_key=" + KEY))).status == 429


async def test_a_key_does_not_reach_the_upstream_on_any_route(
    start: Start, upstream: Upstream, authority: Authority
) -> None:
    gateway = await start(config(upstream, authority))
    client = await gateway.client()
    for target in (b"/open", b"/any", b"/optional"):
        assert (await client.ask(get(target, b"x-api-key: " + KEY, b"X_Api_Key: other"))).status == 200
    assert (await client.ask(get(b"/any?a=1&api%5fkey=" + KEY + b"&b"))).status == 200
    assert (await client.ask(get(b"/optional?api_key=" + KEY))).status == 200
    assert KEY not in upstream.received
    assert b"other" not in upstream.received
    assert upstream.requests == [b"GET /open", b"GET /any", b"GET /optional", b"GET /any?a=1&b", b"GET /optional"]


async def test_the_wrong_caller_is_told_apart_from_the_unknown(
    start: Start, upstream: Upstream, authority: Authority
) -> None:
    gateway = await start(config(upstream, authority))
    client = await gateway.client()
    nothing = await client.ask(get(b"/any"))
    assert nothing.status == 401
    assert nothing.headers["www-authenticate"] == (
        'ApiKey realm="gateway", Basic realm="gateway", charset="UTF-8", ClientCertificate realm="gateway"'
    )
    for line in (b"X-API-Key: wrong", b"Authorization: Basic " + b64encode(b"acme:wrong"), b"X-Client-Cert: CN=acme"):
        assert (await client.ask(get(b"/any", line))).status == 401
    assert (await client.ask(get(b"/optional", b"X-API-Key: wrong"))).status == 401
    forbidden = await client.ask(get(b"/any", b"X-API-Key: guest"))
    assert forbidden.status == 403
    assert b"Missing scope: orders:read" in forbidden.body
    assert upstream.requests == []
