"""What waits for the collector: bounded, in batches, sent again only where that is right, and counted in the end."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.exchange import Hop
from gateway.tracing.context import Context
from gateway.tracing.exporter import BATCH, COMPLAIN_EVERY, EVERY, LONGEST_PAUSE, QUEUE, TRIES, Exporter
from gateway.tracing.otlp import Answer, around
from gateway.tracing.spans import Finished
from tests.collector import spans_in
from tests.fakes import Clock, Dice

OK = Answer(True)
BUSY = Answer(False, "it replied with status 503", again=True)
NO = Answer(False, "it replied with status 400")
HOPS = tuple(Hop("limit", "a", "allowed", 1.0, 0.1) for _ in range(3))


def a_call(hops: int = 3) -> Finished:
    return Finished(
        Context("1" * 32, 7, True),
        "GET",
        5.0,
        1.0,
        HOPS[:hops],
        {},
        "GET",
        (("http.request.method", "GET"),),
        (("gateway.request_id", "1"),),
        "",
    )


class Sink:
    """Answers as it is told, with OK when it is told nothing more; after `hang` it never does."""

    def __init__(self, *answers: Answer, hang: bool = False) -> None:
        self.answers: Iterator[Answer] = iter(answers)
        self.hang = hang
        self.bodies: list[bytes] = []
        self.closed = False

    async def send(self, body: bytes) -> Answer:
        self.bodies.append(body)
        if self.hang:
            await asyncio.Event().wait()
        return next(self.answers, OK)

    async def close(self) -> None:
        self.closed = True

    @property
    def sizes(self) -> list[int]:
        return [len(spans_in(body)[1]) for body in self.bodies]


class Stage:
    """An exporter whose pauses take no time, and the pauses."""

    def __init__(self, *answers: Answer, hang: bool = False) -> None:
        self.sink = Sink(*answers, hang=hang)
        self.clock = Clock(100.0)
        self.pauses: list[float] = []
        self.exported = self.dropped = 0.0
        self.exporter = Exporter(
            self.sink,
            around({"service.name": "s"}, "1"),
            exported=self._export,
            dropped=self._drop,
            clock=self.clock,
            wall=lambda: 1_790_000_000.0,
            rest=self._rest,
            dice=Dice(1.0),
        )

    def _export(self, count: float) -> None:
        self.exported += count

    def _drop(self, count: float) -> None:
        self.dropped += count

    async def _rest(self, event: asyncio.Event, seconds: float) -> None:
        if event is self.exporter._full:  # its second never ends by itself
            assert seconds == EVERY
            await event.wait()
        else:
            self.pauses.append(seconds)
            await asyncio.sleep(0)

    def put(self, calls: int, hops: int = 3) -> None:
        for _ in range(calls):
            self.exporter.put(a_call(hops))

    async def run(self) -> None:
        """To the end of what is queued."""
        self.exporter.start()
        await self.exporter.close()


async def passing(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came")


async def test_what_gathers_is_sent_in_one_request() -> None:
    stage = Stage()
    stage.put(10)
    await stage.run()
    assert stage.sink.sizes == [40]
    assert (stage.exported, stage.dropped, stage.sink.closed) == (40, 0, True)


async def test_times_are_those_of_the_world() -> None:
    stage = Stage()
    stage.put(1, hops=0)
    await stage.run()
    (span,) = spans_in(stage.sink.bodies[0])[1]
    assert int(span["startTimeUnixNano"]) == (1_790_000_000 - 95) * 10**9  # the monotonic clock stood at 100 now


async def test_a_full_batch_does_not_wait_for_its_second() -> None:
    stage = Stage()
    stage.exporter.start()
    stage.put(BATCH // 4 - 1)
    await asyncio.sleep(0)
    assert stage.sink.bodies == []
    stage.put(1)
    await passing(lambda: stage.exported == BATCH)
    await stage.exporter.close()


async def test_a_long_queue_goes_out_in_several_requests() -> None:
    stage = Stage()
    stage.put(BATCH)
    await stage.run()
    assert stage.sink.sizes == [BATCH] * 4
    assert stage.exported == 4 * BATCH


async def test_making_spans_gives_way_to_the_loop() -> None:
    stage = Stage()
    ticks = 0
    done = False

    async def others() -> None:
        nonlocal ticks
        while not done:
            ticks += 1
            stage.clock.advance(0.001)  # time passes, and more than a slice of it
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    stage.exporter._clock = lambda: stage.clock.advance(0.0001) or stage.clock.now  # type: ignore[func-returns-value]
    stage.put(50)
    await stage.run()
    done = True
    await beside
    assert ticks > 10


async def test_beyond_its_bound_the_queue_drops_and_counts() -> None:
    stage = Stage()
    stage.put(QUEUE + 5)
    assert stage.dropped == 20
    await stage.run()
    assert stage.exported == 4 * QUEUE


async def test_what_may_be_sent_again_is_with_growing_pauses() -> None:
    stage = Stage(BUSY, BUSY, BUSY)
    stage.put(1)
    stage.exporter.start()
    stage.exporter._full.set()
    await passing(lambda: stage.exported == 4)
    await stage.exporter.close()
    assert stage.pauses == [1.0, 2.0, 4.0]
    assert stage.sink.sizes == [4] * 4
    assert stage.dropped == 0


@pytest.mark.parametrize(("asked", "pause"), [(7.0, 7.0), (0.1, 1.0), (1e9, LONGEST_PAUSE)])
async def test_a_collector_may_ask_for_a_longer_pause_within_reason(asked: float, pause: float) -> None:
    stage = Stage(BUSY._replace(retry_after=asked))
    stage.put(1)
    stage.exporter.start()
    stage.exporter._full.set()
    await passing(lambda: stage.exported == 4)
    await stage.exporter.close()
    assert stage.pauses == [pause]


async def test_after_some_tries_it_gives_up_and_goes_on_with_what_comes_next() -> None:
    stage = Stage(*[BUSY] * TRIES)
    stage.put(1)
    stage.exporter.start()
    stage.exporter._full.set()
    await passing(lambda: stage.dropped == 4)
    assert len(stage.sink.bodies) == TRIES
    stage.put(1)
    await stage.exporter.close()
    assert (stage.exported, stage.dropped) == (4, 4)


async def test_what_must_not_be_sent_again_is_dropped_at_once() -> None:
    stage = Stage(NO)
    stage.put(1)
    await stage.run()
    assert (len(stage.sink.bodies), stage.exported, stage.dropped) == (1, 0, 4)


@pytest.mark.parametrize(("rejected", "dropped"), [(3, 3), (1000, 4)])
async def test_of_a_partial_success_the_rest_counts_as_dropped(rejected: int, dropped: int) -> None:
    stage = Stage(Answer(True, "too old", rejected=rejected))
    stage.put(1)
    await stage.run()
    assert (stage.exported, stage.dropped, len(stage.sink.bodies)) == (4 - dropped, dropped, 1)


async def test_it_complains_at_most_every_ten_seconds_and_about_all_of_them(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage(*[NO] * 3)
    stage.exporter.start()
    for moment in (0.0, 1.0, COMPLAIN_EVERY):
        stage.clock.advance(moment)
        stage.put(1)
        stage.exporter._full.set()
        await passing(lambda: not stage.exporter._queue and not stage.exporter._held)
    await stage.exporter.close()
    said = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert said == [
        "4 spans dropped: the collector does not take them: it replied with status 400",
        "8 spans dropped: the collector does not take them: it replied with status 400",
    ]


async def test_closing_sends_what_is_left_and_takes_nothing_more() -> None:
    stage = Stage()
    stage.put(2)
    await stage.run()
    stage.put(1)
    assert (stage.exported, stage.dropped) == (8, 4)


async def test_closing_does_not_wait_for_a_collector_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.tracing.exporter.GOODBYE", 0.01)
    stage = Stage(hang=True)
    stage.put(BATCH)
    await stage.run()
    assert (stage.exported, stage.dropped) == (0, 4 * BATCH)


async def test_closing_ends_a_pause_and_tries_once_more() -> None:
    stage = Stage(BUSY, BUSY, BUSY)
    waiting = asyncio.Event()

    async def rest(event: asyncio.Event, seconds: float) -> None:
        waiting.set()
        await event.wait()

    stage.exporter._rest = rest
    stage.put(1)
    stage.exporter.start()
    stage.exporter._full.set()
    await passing(lambda: len(stage.sink.bodies) == 1)
    await stage.exporter.close()
    assert (len(stage.sink.bodies), stage.dropped) == (2, 4)


async def test_one_that_was_never_started_can_be_closed() -> None:
    stage = Stage()
    stage.put(1)
    await stage.exporter.close()
    assert (stage.dropped, stage.sink.closed) == (4, True)


async def test_a_call_that_makes_no_spans_costs_its_own_and_no_others(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage()
    broken: Any = a_call()._replace(hops=(*HOPS, ("no", "hop")))
    stage.exporter.put(broken)
    stage.exporter.start()
    stage.exporter._full.set()
    await passing(lambda: stage.dropped == 5)
    stage.put(1)
    await stage.exporter.close()
    assert stage.exported == 4
    assert "spans could not be exported" in caplog.text
