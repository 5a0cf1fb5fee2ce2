import asyncio

import pytest

from gateway.telemetry.loop_lag import MEMORY, PERIOD, LoopLag


class Slow:
    """A clock and a sleep that wakes late by what it is told."""

    def __init__(self, *late):
        self.now = 100.0
        self.late = list(late)

    def clock(self):
        return self.now

    async def sleep(self, seconds):
        if not self.late:
            raise asyncio.CancelledError
        self.now += seconds + self.late.pop(0)


async def worst_after(*late):
    slow = Slow(*late)
    lag = LoopLag(slow.clock, slow.sleep)
    with pytest.raises(asyncio.CancelledError):
        await lag.run()
    return lag.worst


async def test_the_worst_delay_is_kept():
    assert await worst_after(0.0, 0.5, 0.25) == pytest.approx(0.5)


async def test_a_delay_is_forgotten_after_its_time():
    assert await worst_after(0.5, *[0.0] * int(MEMORY / PERIOD)) == pytest.approx(0.0)


async def test_without_samples_there_is_no_lag():
    assert LoopLag().worst == 0.0


async def test_after_each_sample_it_lets_others_write_theirs_down():
    seen = []
    slow = Slow(0.0, 0.5)
    lag = LoopLag(slow.clock, slow.sleep, on_tick=lambda: seen.append(lag.worst))
    with pytest.raises(asyncio.CancelledError):
        await lag.run()
    assert seen == [pytest.approx(0.0), pytest.approx(0.5)]
