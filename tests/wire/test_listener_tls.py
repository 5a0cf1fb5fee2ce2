"""The listener for TLS: which certificate a client gets, which clients get in, and that HTTP is the same behind it."""

import asyncio
import hashlib
import logging
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from gateway.exchange import ClientCertificate
from gateway.http.server import Limits
from gateway.http.tls import expiry, names, server_context
from tests.wire.actors import Client, Gateway, Upstream, Visit
from tests.wire.certificates import Authority
from tests.wire.conftest import Start
from tests.wire.payloads import get, post
from tests.wire.test_websocket_raw import converse, echoing

SHORT = 0.15


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def tls(authority: Authority) -> ssl.SSLContext:
    """One certificate, for gateway.test."""
    return server_context([authority.sign("gateway.test")])


def trusting_nobody() -> ssl.SSLContext:
    """A client that takes any certificate: which one it got is the question."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def certificate_of(client: Client) -> set[str]:
    """The host names of the certificate that a client was shown."""
    connection = client.writer.get_extra_info("ssl_object")
    shown = x509.load_der_x509_certificate(connection.getpeercert(binary_form=True))
    found = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(found.get_values_for_type(x509.DNSName))


async def fails(gateway: Gateway, port: int, context: ssl.SSLContext) -> None:
    """The handshake does, for the client or (in TLS 1.3) only for the gateway, which then ends the connection."""
    before = gateway.server.handshake_failures
    try:
        client = await gateway.tls_client(port, context)
        await client.send(get())
        assert await client.ends()
    except OSError:  # ssl.SSLError is one
        pass
    async with asyncio.timeout(5):
        while gateway.server.handshake_failures == before:
            await asyncio.sleep(0.002)
    assert not gateway.server.connections


async def test_requests_over_tls_are_served_on_one_connection(
    start: Start, upstream: Upstream, authority: Authority, tls: ssl.SSLContext
) -> None:
    gateway = await start()
    client = await gateway.tls_client(await gateway.secure(tls), authority.client())
    for _ in range(3):
        assert (await client.ask(get())).body == b"ok"
    assert gateway.server.open == {"http": 0, "https": 1}
    assert upstream.received.count(b"\r\nx-forwarded-proto: https\r\n") == 3
    assert upstream.received.count(b"\r\nforwarded: for=127.0.0.1;host=a;proto=https\r\n") == 3
    plain = await gateway.client()
    assert (await plain.ask(get())).body == b"ok"
    assert gateway.server.open == {"http": 1, "https": 1}
    client.close()
    plain.close()
    await gateway.quiet()
    assert gateway.server.open == {"http": 0, "https": 0}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_1_2_and_1_3_speak_http_1_with_forward_secrecy(
    start: Start, authority: Authority, tls: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    gateway = await start()
    context = authority.client()
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    client = await gateway.tls_client(await gateway.secure(tls), context)
    connection = client.writer.get_extra_info("ssl_object")
    assert connection.version() == version.name.replace("_", ".")
    assert connection.selected_alpn_protocol() == "http/1.1"
    assert connection.compression() is None
    assert any(word in connection.cipher()[0] for word in ("GCM", "CHACHA20"))
    assert (await client.ask(get())).status == 200


async def test_tls_1_1_is_refused(start: Start, authority: Authority, tls: ssl.SSLContext) -> None:
    gateway = await start()
    context = authority.client()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    await fails(gateway, await gateway.secure(tls), context)


@pytest.mark.parametrize("offer", ["ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384"])
async def test_ciphers_without_authenticated_encryption_are_refused(
    start: Start, authority: Authority, tls: ssl.SSLContext, offer: str
) -> None:
    gateway = await start()
    context = authority.client()
    context.set_ciphers(offer)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    await fails(gateway, await gateway.secure(tls), context)


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("one.test", "one.test"),
        ("ONE.Test", "one.test"),
        ("two.test", "two.test"),
        ("api.two.test", "*.two.test"),
        ("API.two.test", "*.two.test"),
        ("exact.two.test", "exact.two.test"),
        ("a.b.two.test", "one.test"),
        ("nobody.test", "one.test"),
        (None, "one.test"),
    ],
)
async def test_the_name_that_is_asked_for_chooses_the_certificate(
    start: Start, authority: Authority, asked: str | None, shown: str
) -> None:
    pairs = [authority.sign(*names) for names in (("one.test",), ("two.test", "*.two.test"), ("exact.two.test",))]
    gateway = await start()
    port = await gateway.secure(server_context(pairs))
    client = await gateway.tls_client(port, trusting_nobody(), asked)
    assert shown in certificate_of(client)
    assert (await client.ask(get())).status == 200


async def test_a_name_in_odd_bytes_fails_the_handshake_and_nothing_else(
    start: Start, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await start()
    port = await gateway.secure(server_context([authority.sign("one.test"), authority.sign("two.test")]))
    wire = ssl.MemoryBIO()
    hello = authority.client().wrap_bio(ssl.MemoryBIO(), wire, server_hostname="abcdef.test")
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    client = Client(*await asyncio.open_connection("127.0.0.1", port))
    gateway.clients.append(client)
    await client.send(wire.read().replace(b"abcdef.test", b"ab\xff\xfeef.test"))
    await client.rest()
    assert gateway.server.handshake_failures == 1
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


def test_the_names_and_the_end_of_a_certificate(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.sign("Api.Example.com", "*.Example.com", "127.0.0.1", subject="CN=ignored.test")
    assert names(certificate) == ("api.example.com", "*.example.com")
    assert names(authority.sign(subject="CN=Only.Name")[0]) == ("only.name",)
    assert names(authority.sign(subject="O=Nameless")[0]) == ()
    assert names(authority.sign("127.0.0.1", subject="CN=not.this")[0]) == ()
    chain = tmp_path / "chain.pem"
    chain.write_bytes(key.read_bytes() + certificate.read_bytes() + authority.file.read_bytes())
    assert names(chain) == names(certificate)
    assert expiry(chain) == x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc.timestamp()
    for broken in (key, tmp_path / "missing.pem"):
        with pytest.raises(OSError, match=r"pem|key"):
            expiry(broken)


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01\x00\x05hello", bytes(3000), b"\x16"]
)
async def test_garbage_instead_of_a_handshake_is_counted_and_makes_no_noise(
    start: Start, tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture, garbage: bytes
) -> None:
    gateway = await start()
    port = await gateway.secure(tls)
    client = Client(*await asyncio.open_connection("127.0.0.1", port))
    gateway.clients.append(client)
    await client.send(garbage)
    client.end()
    assert b"HTTP" not in await client.rest()
    async with asyncio.timeout(5):
        while not gateway.server.handshake_failures:
            await asyncio.sleep(0.002)
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


@pytest.mark.parametrize("begun", [b"", b"\x16\x03\x01\x02"])
async def test_a_handshake_must_come_in_time(start: Start, tls: ssl.SSLContext, begun: bytes) -> None:
    gateway = await start(limits=Limits(header_timeout=SHORT, drain_timeout=0.2))
    port = await gateway.secure(tls)
    before = asyncio.get_running_loop().time()
    client = Client(*await asyncio.open_connection("127.0.0.1", port))
    gateway.clients.append(client)
    await client.send(begun)
    await client.rest()
    assert SHORT * 0.9 <= asyncio.get_running_loop().time() - before < SHORT + 1
    assert gateway.server.handshake_failures == 1


async def test_a_handshake_counts_towards_the_limit_and_beyond_it_there_is_none(
    start: Start, authority: Authority, tls: ssl.SSLContext
) -> None:
    gateway = await start(limits=Limits(connections=2, drain_timeout=0.2))
    port = await gateway.secure(tls)
    silent = Client(*await asyncio.open_connection("127.0.0.1", port))
    gateway.clients.append(silent)
    client = await gateway.tls_client(port, authority.client())
    with pytest.raises(ConnectionError):
        await gateway.tls_client(port, authority.client())
    assert (await (await gateway.client()).answer()).status == 503
    silent.close()
    async with asyncio.timeout(5):
        while gateway.server.full:
            await asyncio.sleep(0.002)
    assert (await (await gateway.tls_client(port, authority.client())).ask(get())).status == 200
    assert (await client.ask(get())).status == 200


# -- certificates of clients -------------------------------------------------------------------------


@pytest.fixture
def clients(tmp_path: Path) -> Authority:
    """Signs what clients show."""
    return Authority(tmp_path, "authority of clients")


def peer_of(gateway: Gateway) -> ClientCertificate | None:
    (connection,) = gateway.server.connections
    return connection.peer.certificate


async def test_a_client_certificate_reaches_the_peer(start: Start, authority: Authority, clients: Authority) -> None:
    gateway = await start()
    port = await gateway.secure(server_context([authority.sign("gateway.test")], clients.file))
    shows = clients.sign(
        "acme.test", "spiffe://acme.test/orders", "ops@acme.test", "192.0.2.7", subject="CN=acme,O=Acme Ltd"
    )
    client = await gateway.tls_client(port, authority.client(shows))
    assert (await client.ask(get())).status == 200
    assert peer_of(gateway) == ClientCertificate(
        "CN=acme,O=Acme Ltd",
        ("DNS:acme.test", "URI:spiffe://acme.test/orders", "email:ops@acme.test", "IP:192.0.2.7"),
        expiry(shows[0]),
    )


async def test_a_resumed_session_still_knows_its_certificate(
    start: Start, authority: Authority, clients: Authority
) -> None:
    gateway = await start()
    port = await gateway.secure(server_context([authority.sign("gateway.test")], clients.file))
    context = authority.client(clients.sign(subject="CN=acme"))

    def ask(session: ssl.SSLSession | None) -> tuple[bytes, ssl.SSLSession | None, bool | None]:
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            context.wrap_socket(plain, server_hostname="gateway.test", session=session) as secure,
        ):
            secure.sendall(get())
            return secure.recv(1000), secure.session, secure.session_reused

    seen: list[ClientCertificate | None] = []
    app = gateway.server.app
    opened = app.open

    def noting(request: object) -> object:
        seen.append(request.peer.certificate)  # type: ignore[attr-defined]
        return opened(request)  # type: ignore[arg-type]

    app.open = noting  # type: ignore[method-assign, assignment]
    _, session, _ = await asyncio.to_thread(ask, None)
    reply, _, resumed = await asyncio.to_thread(ask, session)
    assert reply.startswith(b"HTTP/1.1 200 ")
    assert resumed
    assert [certificate and certificate.subject for certificate in seen] == ["CN=acme", "CN=acme"]


async def test_without_a_certificate_optional_lets_in_and_required_does_not(
    start: Start, authority: Authority, clients: Authority
) -> None:
    pair = authority.sign("gateway.test")
    gateway = await start()
    optional = await gateway.secure(server_context([pair], clients.file, required=False))
    client = await gateway.tls_client(optional, authority.client())
    assert (await client.ask(get())).status == 200
    assert peer_of(gateway) is None
    client.close()
    await gateway.quiet()
    await fails(gateway, await gateway.secure(server_context([pair], clients.file)), authority.client())


@pytest.mark.parametrize("required", [True, False])
async def test_a_certificate_of_another_authority_is_never_taken(
    start: Start, authority: Authority, clients: Authority, required: bool
) -> None:
    gateway = await start()
    port = await gateway.secure(server_context([authority.sign("gateway.test")], clients.file, required=required))
    await fails(gateway, port, authority.client(authority.sign(subject="CN=acme")))


async def test_every_name_asks_for_client_certificates(
    start: Start, authority: Authority, clients: Authority, upstream: Upstream
) -> None:
    pairs = [authority.sign("one.test"), authority.sign("gateway.test")]
    gateway = await start()
    port = await gateway.secure(server_context(pairs, clients.file))
    await fails(gateway, port, authority.client())
    assert upstream.received == b""
    client = await gateway.tls_client(port, authority.client(clients.sign(subject="CN=acme")))
    assert (await client.ask(get())).status == 200
    certificate = peer_of(gateway)
    assert certificate is not None
    assert certificate.subject == "CN=acme"


# -- HTTP behind it ----------------------------------------------------------------------------------


async def test_large_bodies_pass_both_ways_over_tls(
    start: Start, upstream: Upstream, authority: Authority, tls: ssl.SSLContext
) -> None:
    async def echo(visit: Visit) -> None:
        while True:
            body = (await visit.request()).partition(b"\r\n\r\n")[2]
            await visit.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    upstream.script = echo
    gateway = await start()
    body = hashlib.shake_256(b"body").digest(3_000_000)
    client = await gateway.tls_client(await gateway.secure(tls), authority.client())
    sending = asyncio.ensure_future(client.send(post(b"Content-Length: %d" % len(body), body=body)))
    assert (await client.answer()).body == body
    await sending
    assert (await client.ask(post(b"Content-Length: 5", body=b"again"))).body == b"again"


async def test_pieces_of_a_stream_come_as_they_are_sent_over_tls(
    start: Start, upstream: Upstream, authority: Authority, tls: ssl.SSLContext
) -> None:
    heard = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        await heard.wait()
        await visit.write(b"6\r\nsecond\r\n0\r\n\r\n")

    upstream.script = script
    gateway = await start()
    client = await gateway.tls_client(await gateway.secure(tls), authority.client())
    await client.send(get())
    await asyncio.wait_for(client.reader.readuntil(b"first\r\n"), 5)
    heard.set()
    assert await asyncio.wait_for(client.reader.readuntil(b"0\r\n\r\n"), 5) == b"6\r\nsecond\r\n0\r\n\r\n"


async def test_websocket_bytes_and_ends_pass_over_the_listeners_tls(
    start: Start, upstream: Upstream, authority: Authority, tls: ssl.SSLContext
) -> None:
    upstream.script = echoing
    gateway = await start()
    client = await gateway.tls_client(await gateway.secure(tls), authority.client())
    await converse(client)


@pytest.mark.parametrize("leave", [Client.close, Client.reset], ids=["close_notify", "rst"])
async def test_a_client_that_leaves_over_tls_frees_everything(
    start: Start, upstream: Upstream, authority: Authority, tls: ssl.SSLContext, leave: Callable[[Client], None]
) -> None:
    async def silent(visit: Visit) -> None:
        await visit.request()
        await visit.read()

    upstream.script = silent
    gateway = await start()
    client = await gateway.tls_client(await gateway.secure(tls), authority.client())
    await client.send(get())
    await upstream.hears(b"GET / ")
    leave(client)
    async with asyncio.timeout(2):
        while gateway.server.connections or gateway.busy():
            await asyncio.sleep(0.002)


async def test_a_refused_request_over_tls_gets_its_reply_and_the_end(
    start: Start, upstream: Upstream, authority: Authority, tls: ssl.SSLContext
) -> None:
    gateway = await start(route="body_limit: 10B")
    client = await gateway.tls_client(await gateway.secure(tls), authority.client())
    assert (await client.ask(post(b"Content-Length: 100000", body=b"x"))).status == 413
    await client.rest()
    assert upstream.received == b""


async def test_an_idle_client_that_does_not_answer_the_goodbye_is_cut(
    start: Start, authority: Authority, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.http.connection.GOODBYE", SHORT)
    gateway = await start(limits=Limits(idle_timeout=SHORT, drain_timeout=0.2))
    client = await gateway.tls_client(await gateway.secure(tls), authority.client())
    assert (await client.ask(get())).status == 200
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    async with asyncio.timeout(2):
        while gateway.server.connections:
            await asyncio.sleep(0.005)
