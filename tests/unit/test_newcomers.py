"""Connections to the admin listener that ask for nothing: who is closed, and who is not."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from gateway.admin.newcomers import PATIENCE, Newcomers
from tests.fakes import Clock


class Site:
    """A listener that knows one page."""

    def __init__(self) -> None:
        self.clock = Clock(0.0)
        self.newcomers = Newcomers(self.clock)
        app = web.Application(middlewares=[self.newcomers.hearing()])
        self.runner = web.AppRunner(app)

    async def connect(self, sent: bytes) -> asyncio.StreamReader:
        reader, writer = await asyncio.open_connection(*self.runner.addresses[0][:2])
        self.writers.append(writer)
        writer.write(sent)
        return reader

    writers: list[asyncio.StreamWriter]

    def look(self) -> None:
        assert self.runner.server is not None
        self.newcomers.dismiss(self.runner.server.connections)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    made.writers = []
    await made.runner.setup()
    await web.TCPSite(made.runner, "127.0.0.1", 0).start()
    try:
        yield made
    finally:
        for writer in made.writers:
            writer.close()
        await made.runner.cleanup()


async def test_half_a_request_is_not_waited_for_for_ever(site: Site) -> None:
    asked = await site.connect(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await asked.readline()).split()[1] == b"404"
    silent = await site.connect(b"GET / HTTP/1.1\r\nHost:")
    while site.runner.server is None or len(site.runner.server.connections) < 2:
        await asyncio.sleep(0)
    site.look()
    site.clock.advance(PATIENCE - 0.1)
    site.look()
    late = asyncio.create_task(silent.read())
    await asyncio.sleep(0.02)
    assert not late.done()
    site.clock.advance(0.1)
    site.look()
    assert await asyncio.wait_for(late, 5) == b""
    await asked.readuntil(b"404: Not Found")
    assert not asked.at_eof(), "who has asked once may stay"
    site.writers[0].write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await asked.readline()).split()[1] == b"404"
