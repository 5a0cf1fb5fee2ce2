"""The webhook over a real socket: whom the notifier trusts."""

import asyncio
import ssl
from pathlib import Path

import pytest

from gateway.alerts.notifier import TAKEN, Destination, post
from tests.wire.certificates import Authority


async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.partition(b":")[2]))
    writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
    await writer.drain()
    writer.close()


async def told(tls: ssl.SSLContext | None) -> str:
    server = await asyncio.start_server(answering, "127.0.0.1", 0, ssl=tls)
    try:
        port = server.sockets[0].getsockname()[1]
        url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/hook"
        return await post(Destination(url, {"Authorization": "Bearer k"}, {}, 3600.0, "", ""), b"{}")
    finally:
        server.close()
        await server.wait_closed()


async def test_a_receiver_that_answers_2xx_has_taken_it() -> None:
    assert await told(None) == TAKEN


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # asyncio's own, of a handshake that failed
async def test_a_receiver_whose_certificate_nobody_vouches_for_is_told_nothing(tmp_path: Path) -> None:
    reason = await told(Authority(tmp_path).server("127.0.0.1"))
    assert reason != TAKEN
    assert "hook" not in reason


async def test_a_receiver_that_is_away_has_not_taken_it() -> None:
    reason = await post(Destination("http://127.0.0.1:1/hook", {}, {}, 3600.0, "", ""), b"{}")
    assert reason != TAKEN
    assert "hook" not in reason
