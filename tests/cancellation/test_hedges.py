"""A client leaves while its request is hedged: both tries are given up, whatever stage each of them is in."""

import asyncio
from collections.abc import Callable

import pytest

from gateway.resilience.breaker import State
from gateway.resilience.verdict import Verdict
from tests.cancellation.test_client_leaves import full_listener
from tests.wire.actors import Client
from tests.wire.conftest import Start
from tests.wire.test_hedging import GET, STREAM, Pair, Stage, pair

__all__ = ["pair"]

leaving = pytest.mark.parametrize("leave", [Client.close, Client.reset], ids=["fin", "rst"])

Leave = Callable[[Client], None]


async def gone(pair: Pair) -> None:
    """Nothing is left of any call, and nothing was held against a target."""
    async with asyncio.timeout(2):
        while pair.gateway.server.connections or not pair.finished:
            await asyncio.sleep(0.002)
    await pair.freed()
    assert [status for _, status in pair.finished] == [499]
    assert [target.circuit.state for target in pair.targets] == [State.CLOSED] * 2


@leaving
async def test_while_both_are_waited_for(pair: Pair, leave: Leave) -> None:
    client = await pair.hedged()
    leave(client)
    await gone(pair)
    assert pair.hops == {"try 1": "cancelled", "try 2": "cancelled", "hedge": "lost"}
    for stage in (pair.first, pair.second):
        async with asyncio.timeout(1):
            await stage.upstream.visits[0].ended.wait()


@leaving
async def test_before_the_hedge_begins(pair: Pair, leave: Leave) -> None:
    # Longer than it takes until a client that has ended its side is believed to be gone.
    await pair.serve(after="500ms")
    client = await pair.gateway.client()
    await client.send(GET)
    await pair.first.upstream.hears(GET[:5])
    leave(client)
    await gone(pair)
    await asyncio.sleep(0.5)
    assert pair.second.upstream.visits == []


@leaving
async def test_while_only_the_hedge_is_waited_for(pair: Pair, leave: Leave) -> None:
    pair.first.reply = STREAM.replace(b"200 OK", b"429 Too Many Requests") + b"3\r\nbad\r\n"
    client = await pair.hedged()
    pair.first.go.set()
    await asyncio.sleep(0.02)
    leave(client)
    await gone(pair)
    assert pair.hops == {"try 1": "429", "try 2": "cancelled", "hedge": "lost"}


@leaving
async def test_in_the_stream_of_the_winner(pair: Pair, leave: Leave) -> None:
    pair.second.begin = STREAM + b"5\r\nhello\r\n"
    client = await pair.gateway.client()
    await client.send(GET)
    await client.reader.readuntil(b"hello\r\n")
    leave(client)
    await gone(pair)


@leaving
async def test_while_the_hedge_connects(start: Start, leave: Leave) -> None:
    first = Stage()
    await first.upstream.start()
    try:
        with full_listener() as port:
            pair = Pair(start, first, Stage())
            await pair.serve(second=port)
            client = await pair.gateway.client()
            await client.send(GET)
            async with asyncio.timeout(1):
                while pair.gateway.busy() < 2:
                    await asyncio.sleep(0.002)
            leave(client)
            await gone(pair)
            assert pair.hops == {"try 1": "cancelled", "try 2": "cancelled", "hedge": "lost"}
    finally:
        await first.upstream.stop()


async def test_the_hedge_wins_while_the_first_still_connects(start: Start) -> None:
    second = Stage()
    second.go.set()
    await second.upstream.start()
    try:
        with full_listener() as port:
            pair = Pair(start, Stage(), second)
            await pair.serve(first=port)
            client = await pair.gateway.client()
            assert (await client.ask(GET)).status == 200
            assert pair.hops == {"try 1": "cancelled", "try 2": "200", "hedge": "won"}
            await pair.freed()
    finally:
        await second.upstream.stop()


@leaving
async def test_a_trial_of_a_half_open_circuit_gives_its_place_back(pair: Pair, leave: Leave) -> None:
    circuit = pair.targets[1].circuit
    circuit.admit().settle(Verdict.FAILURE)
    await asyncio.sleep(0.025)
    client = await pair.hedged()
    assert (circuit.state, circuit.ready()) == (State.HALF_OPEN, False)
    leave(client)
    async with asyncio.timeout(2):
        while not pair.finished:
            await asyncio.sleep(0.002)
    await pair.freed()
    assert (circuit.state, circuit.ready()) == (State.HALF_OPEN, True)


@pytest.mark.parametrize("wait", [0.0, 0.3, 0.6, 1.0, 2.0])
async def test_at_about_the_moment_in_which_a_reply_arrives(pair: Pair, wait: float) -> None:
    """Whichever comes first; `wait` is in milliseconds."""
    for stage in (pair.first, pair.second):
        stage.reply = STREAM + b"5\r\nhello\r\n"  # a stream that does not end by itself: it must be let go of
    client = await pair.hedged()
    pair.second.go.set()
    pair.first.go.set()
    await asyncio.sleep(wait / 1000)
    client.reset()
    await gone(pair)
