"""Tasks beside the main one: what becomes of them when they fail."""

import asyncio

import pytest

from gateway.process.chores import Chores


async def test_a_failure_is_told_and_does_not_end_what_is_repeated(caplog: pytest.LogCaptureFixture) -> None:
    """Out of descriptors for a moment: nobody would be alerted any more."""
    chores, third, runs = Chores(), asyncio.Event(), 0

    async def look() -> None:
        nonlocal runs
        runs += 1
        if runs == 2:
            raise OSError(24, "Too many open files")
        if runs == 3:
            third.set()

    chores.repeat(look, 0.0, "look")
    try:
        await asyncio.wait_for(third.wait(), 5)
    finally:
        chores.cancel()
    assert caplog.messages == ["look failed"]
