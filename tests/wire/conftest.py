"""A recording upstream, and a gateway in front of it that must be left without a leak."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from gateway.http import connection
from gateway.http.server import Limits
from tests.wire.actors import Client, Gateway, Upstream, simple

Start = Callable[..., Awaitable[Gateway]]


@pytest.fixture(autouse=True)
def less_patience(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that closes its connection counts as gone sooner than usual: hundreds of tests wait for that."""
    if not request.node.get_closest_marker("usual_patience"):
        monkeypatch.setattr(connection, "HALF_CLOSED", 0.25)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """Answers 200 `ok` unless the test gives it another script."""
    upstream = await Upstream().start()
    try:
        yield upstream
    finally:
        await upstream.stop()


@pytest.fixture
async def start(upstream: Upstream, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts a gateway from YAML (one open route to `upstream` unless given) and checks that nothing leaks."""
    before = asyncio.all_tasks()
    gateways: list[Gateway] = []

    async def start(yaml: str | None = None, limits: Limits | None = None, **parts: str) -> Gateway:
        gateway = await Gateway.start(tmp_path, yaml or simple(upstream, **parts), limits)
        gateways.append(gateway)
        return gateway

    try:
        yield start
        for gateway in gateways:
            await gateway.quiet()
    finally:  # a socket left open would keep uvloop from ever closing
        for gateway in gateways:
            await gateway.stop()
    await asyncio.sleep(0.01)
    left = {task for task in asyncio.all_tasks() - before if "gateway/" in repr(task.get_coro())}
    assert not left, f"tasks left behind: {left}"


@pytest.fixture
async def client(start: Start) -> Client:
    """A raw client of a gateway with one open route."""
    gateway = await start()
    return await gateway.client()
