"""Probes over real sockets: what they ask, what they take for an answer, and how they name what is wrong."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.http.tls import client_context
from gateway.process import probe as module
from gateway.process.probe import WELL, Probe, Watch
from gateway.process.prober import Prober
from gateway.upstream.health import Check
from tests.servers import free_port
from tests.wire.actors import OK, Upstream, Visit, replying
from tests.wire.certificates import Authority

CHECK = Check(path="/healthz", timeout=0.5)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    upstream = await Upstream().start()
    yield upstream
    await upstream.stop()


def watch(port: int, check: Check = CHECK, host: str = "127.0.0.1") -> Watch:
    return Watch("up", f"http://{host}:{port}", host, port, check)


async def probe(upstream: Upstream, check: Check = CHECK) -> str:
    return await Probe(watch(upstream.port, check))()


async def test_a_probe_asks_for_the_path_and_ends_its_connection(upstream: Upstream) -> None:
    upstream.script = replying(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert await probe(upstream) == WELL
    await asyncio.wait_for(upstream.visits[0].ended.wait(), 2)
    assert upstream.received == (
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: gateway-health\r\n"
        b"Accept: */*\r\nConnection: close\r\n\r\n" % upstream.port
    )


async def test_another_host_may_be_asked_for(upstream: Upstream) -> None:
    assert await probe(upstream, Check(path="/", host="orders.internal")) == WELL
    assert b"\r\nHost: orders.internal\r\n" in upstream.received


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (OK, WELL),
        (b"HTTP/1.0 200 OK\r\n\r\n", WELL),
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", WELL),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n", WELL),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "status 503"),
        (b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n", "status 302"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "the answer is not HTTP as it should be"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
         "the answer is not HTTP as it should be"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000, "the answer is not HTTP as it should be"),
    ],
)  # fmt: skip
async def test_the_head_of_the_reply_decides(upstream: Upstream, reply: bytes, reason: str) -> None:
    upstream.script = replying(reply)
    assert await probe(upstream) == reason


async def test_a_status_may_be_expected(upstream: Upstream) -> None:
    upstream.script = replying(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
    assert await probe(upstream, Check(path="/", expect=((200, 299), (401, 401)))) == WELL


async def test_a_target_that_says_nothing_has_until_the_timeout(upstream: Upstream) -> None:
    async def silent(visit: Visit) -> None:
        await visit.request()

    upstream.script = silent
    began = time.monotonic()
    assert await probe(upstream, Check(path="/", timeout=0.1)) == "no answer within 0.1 s"
    assert time.monotonic() - began < 0.3


async def test_a_target_that_drips_has_no_more_time(upstream: Upstream) -> None:
    async def drip(visit: Visit) -> None:
        await visit.request()
        for byte in OK:
            await visit.write(bytes([byte]))
            await asyncio.sleep(0.01)

    upstream.script = drip
    assert await probe(upstream, Check(path="/", timeout=0.1)) == "no answer within 0.1 s"


@pytest.mark.parametrize("rudely", [False, True])
async def test_a_connection_that_ends_is_no_answer(upstream: Upstream, rudely: bool) -> None:
    async def leave(visit: Visit) -> None:
        await visit.request()
        await visit.write(b"HTTP/1.1 200 O")
        visit.reset() if rudely else visit.close()

    upstream.script = leave
    assert await probe(upstream) == "connection closed without an answer"


@pytest.mark.parametrize("check", [CHECK, Check(timeout=0.5)])
async def test_a_target_that_is_not_there_refuses(check: Check) -> None:
    assert await Probe(watch(free_port(), check))() == "connect refused"


async def test_a_connection_is_enough_where_no_path_is_asked_for(upstream: Upstream) -> None:
    async def silent(visit: Visit) -> None:
        await visit.read()

    upstream.script = silent
    assert await probe(upstream, Check(timeout=0.5)) == WELL
    await asyncio.wait_for(upstream.visits[0].ended.wait(), 2)
    assert upstream.received == b""


async def test_a_full_queue_of_connections_is_no_answer() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen(0)
        port = busy.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            found = await asyncio.gather(*(Probe(watch(port, Check(timeout=0.1)))() for _ in range(3)))
    assert "no answer within 0.1 s" in found


async def test_a_name_that_leads_nowhere_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def system(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("gateway.http.resolving.system", system)
    reason = await Probe(watch(80, host="orders.internal"))()
    assert reason == "name cannot be resolved: Name or service not known"


# -- TLS -------------------------------------------------------------------------------------------------


async def probe_tls(upstream: Upstream, trusted: Path, server_name: str = "") -> str:
    url = f"https://127.0.0.1:{upstream.port}"
    return await Probe(Watch("up", url, "127.0.0.1", upstream.port, CHECK, client_context(trusted), server_name))()


async def test_a_target_with_tls_is_verified(tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path), Authority(tmp_path, "another authority")
    upstream = await Upstream().start(tls=ours.server("127.0.0.1"))
    try:
        assert await probe_tls(upstream, ours.file) == WELL
        of_another = await probe_tls(upstream, theirs.file)
        assert of_another.startswith("certificate not trusted: unable to get local issuer")
        for_another = await probe_tls(upstream, ours.file, "orders.internal")
        assert for_another.startswith("certificate not trusted: Hostname mismatch")
    finally:
        await upstream.stop()


async def test_a_discovered_target_shows_the_certificate_of_the_name(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    upstream = await Upstream().start(tls=authority.server("orders.internal"))
    try:
        assert await probe_tls(upstream, authority.file, "orders.internal") == WELL
    finally:
        await upstream.stop()


async def test_a_target_without_tls_where_it_should_be_is_ill(tmp_path: Path, upstream: Upstream) -> None:
    async def at_once(visit: Visit) -> None:
        await visit.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    upstream.script = at_once
    assert (await probe_tls(upstream, Authority(tmp_path).file)).startswith("TLS failed: ")


# -- all of them -----------------------------------------------------------------------------------------


async def test_a_target_that_goes_is_told_and_so_is_its_return(upstream: Upstream) -> None:
    told: asyncio.Queue[frozenset[tuple[str, str]]] = asyncio.Queue()
    prober = Prober(told.put_nowait)
    check = Check(path="/", interval=0.02, timeout=0.5)
    target = watch(upstream.port, check)
    try:
        prober.watch([target])
        async with asyncio.timeout(5):
            while len(upstream.visits) < 4:
                await asyncio.sleep(0.005)
            assert told.empty()
            upstream.script = replying(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
            assert await told.get() == {("up", target.target)}
            upstream.script = replying()
            assert await told.get() == frozenset()
    finally:
        await prober.close()


async def test_closing_in_the_middle_of_a_probe_leaves_no_connection(upstream: Upstream) -> None:
    async def silent(visit: Visit) -> None:
        await visit.request()

    upstream.script = silent
    prober = Prober(lambda ill: None)
    prober.watch([watch(upstream.port, Check(path="/", interval=0.001, timeout=5))])
    async with asyncio.timeout(5):
        while b"\r\n\r\n" not in upstream.received:
            await asyncio.sleep(0.005)
    await prober.close()
    await asyncio.wait_for(upstream.visits[0].ended.wait(), 2)


def test_probes_and_requests_are_read_by_the_same_parser() -> None:
    from gateway.http import client

    assert module.ReplyReader is client.ReplyReader  # type: ignore[attr-defined]
