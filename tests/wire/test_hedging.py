"""Hedging over real sockets: one target is late, the other is not, and nothing of the loser stays behind."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from gateway.exchange import Call
from gateway.limits.concurrency import Gate
from gateway.resilience.breaker import State
from gateway.upstream.target import HttpTarget
from tests.wire.actors import OK, Client, Upstream, Visit
from tests.wire.conftest import Start

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
AFTER = 0.03
LATE = 0.4
"""Seconds: a reply that comes sooner did not wait for the late target."""

YAML = """
listen: {{admin: "off"}}
upstreams:
  up:
    targets: ["http://127.0.0.1:{first}", "http://127.0.0.1:{second}"]
    timeouts: {{connect: {total}, try: {total}, total: {total}}}
    retry: {{attempts: 1, budget: 100%}}
    hedge: {{after: {after}, max: 1}}
    breaker: {{consecutive_failures: 1, trials: 1, open_for: 20ms}}
    concurrency: {{limit: {places}}}
routes: [{{name: all, match: {{path: "/**"}}, upstream: up}}]
"""
"""Without retries, so that every outcome is seen."""


class Stage:
    """A target that answers as soon as `go` is set, or only listens; `begin` is written before."""

    def __init__(self, reply: bytes = OK, begin: bytes = b"") -> None:
        self.go = asyncio.Event()
        self.reply = reply
        self.begin = begin
        self.upstream = Upstream(self.play)

    async def play(self, visit: Visit) -> None:
        while True:
            await visit.request()
            if self.begin:
                await visit.write(self.begin)
            while not self.go.is_set() and not visit.ended.is_set():
                reading = asyncio.ensure_future(visit.read())
                going = asyncio.ensure_future(self.go.wait())
                await asyncio.wait([reading, going], return_when=asyncio.FIRST_COMPLETED)
                reading.cancel()
                going.cancel()
                await asyncio.gather(reading, going, return_exceptions=True)
            if visit.ended.is_set():
                return
            await visit.write(self.reply)


class Pair:
    """A gateway in front of two targets; the first one that is asked is `first`."""

    def __init__(self, start: Start, first: Stage, second: Stage) -> None:
        self._start = start
        self.first = first
        self.second = second
        self.finished: list[tuple[Call, int]] = []

    async def serve(
        self, *, first: int = 0, second: int = 0, after: str = "30ms", total: str = "5s", places: int = 8
    ) -> None:
        """From now on with these settings; ports are those of the two stages unless given."""
        ports = {"first": first or self.first.upstream.port, "second": second or self.second.upstream.port}
        self.gateway = await self._start(YAML.format(**ports, after=after, total=total, places=places))
        handler = self.gateway.runtime.handler
        observed = handler.finished

        def finished(call: Call, status: int, sent: int, received: int, took: float) -> None:
            self.finished.append((call, status))
            observed(call, status, sent, received, took)

        handler.finished = finished

    @property
    def targets(self) -> list[HttpTarget]:
        return list(self.gateway.runtime.upstreams["up"].group.targets)

    @property
    def gate(self) -> Gate:
        gate = self.gateway.runtime.upstreams["up"].gate
        assert gate is not None
        return gate

    async def hedged(self) -> Client:
        """A client whose request both targets have got."""
        client = await self.gateway.client()
        await client.send(GET)
        await self.first.upstream.hears(GET[:5])
        await self.second.upstream.hears(GET[:5])
        return client

    async def freed(self) -> None:
        """No connection is in use, no place is taken."""
        async with asyncio.timeout(1):
            while self.gateway.busy() or self.gate.busy:
                await asyncio.sleep(0.002)

    @property
    def last(self) -> Call:
        return self.finished[-1][0]

    @property
    def idle(self) -> list[int]:
        return [target.pool.idle for target in self.targets]

    @property
    def hops(self) -> dict[str, str]:
        """Outcomes by stage, and for tries by target."""
        names = {target.name: number for target, number in zip(self.targets, ("try 1", "try 2"), strict=True)}
        return {names.get(hop.name, hop.stage): hop.outcome for hop in self.last.hops if hop.stage in ("try", "hedge")}


@pytest.fixture
async def pair(start: Start) -> AsyncIterator[Pair]:
    stages = [Stage(), Stage()]
    for stage in stages:
        await stage.upstream.start()
    try:
        pair = Pair(start, stages[0], stages[1])
        await pair.serve()
        yield pair
    finally:
        for stage in stages:
            await stage.upstream.stop()


async def test_the_fast_target_answers_for_the_late_one(pair: Pair) -> None:
    pair.second.go.set()
    client = await pair.gateway.client()
    started = time.monotonic()
    answer = await client.ask(GET)
    took = time.monotonic() - started
    assert (answer.status, answer.body) == (200, b"ok")
    assert AFTER <= took < LATE, f"{took:.3f} s"
    assert pair.hops == {"try 1": "cancelled", "try 2": "200", "hedge": "won"}
    assert pair.last.target is pair.targets[1]
    async with asyncio.timeout(1):
        await pair.first.upstream.visits[0].ended.wait()  # it hears that nobody waits any more
    await pair.freed()
    assert pair.idle == [0, 1]


async def test_the_late_target_may_still_be_the_first(pair: Pair) -> None:
    client = await pair.hedged()
    pair.first.go.set()
    assert (await client.answer()).status == 200
    assert pair.hops == {"try 1": "200", "try 2": "cancelled", "hedge": "lost"}
    assert pair.last.target is pair.targets[0]
    await pair.freed()
    assert pair.idle == [1, 0]


async def test_one_connection_serves_a_client_whose_requests_are_hedged_again_and_again(pair: Pair) -> None:
    pair.second.go.set()
    client = await pair.gateway.client()
    for _ in range(5):
        assert (await client.ask(GET)).status == 200
    await pair.freed()
    assert [target.circuit.state for target in pair.targets] == [State.CLOSED] * 2


async def test_a_loser_is_not_held_against_its_target(pair: Pair) -> None:
    """One failure would open these circuits."""
    for stage in (pair.second, pair.first):
        stage.go.set()
        client = await pair.gateway.client()
        assert (await client.ask(GET)).status == 200
        await pair.freed()
    assert [target.circuit.state for target in pair.targets] == [State.CLOSED] * 2


async def test_a_target_that_breaks_off_while_the_hedge_is_under_way_is_not_seen(pair: Pair) -> None:
    client = await pair.hedged()
    pair.first.upstream.visits[0].reset()
    await asyncio.sleep(0.02)
    pair.second.go.set()
    assert (await client.answer()).status == 200
    assert pair.hops == {"try 1": "reset", "try 2": "200", "hedge": "won"}
    assert [target.circuit.state for target in pair.targets] == [State.OPEN, State.CLOSED]
    await pair.freed()


async def test_a_hedge_that_breaks_off_is_not_seen(pair: Pair) -> None:
    client = await pair.hedged()
    pair.second.upstream.visits[0].reset()
    await asyncio.sleep(0.02)
    pair.first.go.set()
    assert (await client.answer()).status == 200
    assert pair.hops == {"try 1": "200", "try 2": "reset", "hedge": "lost"}
    await pair.freed()


async def test_when_both_break_off_the_client_hears_of_the_first(pair: Pair) -> None:
    client = await pair.hedged()
    for stage in (pair.second, pair.first):
        stage.upstream.visits[0].reset()
        await asyncio.sleep(0.02)
    assert (await client.answer()).status == 502
    assert pair.hops == {"try 1": "reset", "try 2": "reset", "hedge": "lost"}
    await pair.freed()


async def test_a_bad_reply_that_is_still_on_its_way_gives_way_to_a_good_one(pair: Pair) -> None:
    pair.first.reply = STREAM.replace(b"200 OK", b"503 Service Unavailable") + b"3\r\nbad\r\n"
    client = await pair.hedged()
    pair.first.go.set()
    await asyncio.sleep(0.02)
    assert pair.gate.busy == 2, "it is kept until there is a better one"
    pair.second.go.set()
    assert (await client.answer()).status == 200
    assert pair.hops == {"try 1": "503", "try 2": "200", "hedge": "won"}
    await pair.freed()
    assert pair.idle == [0, 1]


async def test_two_streams_that_begin_at_once_leave_one(pair: Pair) -> None:
    body = b"5\r\nhello\r\n0\r\n\r\n"
    for stage in (pair.first, pair.second):
        stage.reply = STREAM + body
    client = await pair.hedged()
    pair.first.go.set()
    pair.second.go.set()
    assert (await client.answer()).body == b"hello"
    await pair.freed()


async def test_a_stream_that_won_holds_its_place_to_its_end(pair: Pair) -> None:
    pair.second.begin = STREAM + b"5\r\nhello\r\n"
    pair.second.reply = b"0\r\n\r\n"
    client = await pair.gateway.client()
    await client.send(GET)
    await client.reader.readuntil(b"hello\r\n")
    assert pair.gate.busy == 1
    assert sum(target.busy for target in pair.targets) == 1
    pair.second.go.set()
    await client.reader.readuntil(b"0\r\n\r\n")
    await pair.freed()


async def test_the_deadline_ends_both(pair: Pair) -> None:
    await pair.serve(total="150ms")
    client = await pair.hedged()
    assert (await client.answer()).status == 504
    assert pair.hops == {"try 1": "deadline_passed", "try 2": "deadline_passed", "hedge": "lost"}
    await pair.freed()


async def test_a_hundred_clients_at_once_leave_nothing(pair: Pair) -> None:
    await pair.serve(places=400)
    pair.second.go.set()
    clients = [await pair.gateway.client() for _ in range(100)]
    answers = await asyncio.gather(*(client.ask(GET) for client in clients))
    assert [answer.status for answer in answers] == [200] * 100
    await pair.freed()
    assert len(pair.finished) == 100
