"""For every test: asynchronous ones run on uvloop, and those of the wire on asyncio's own loop as well."""

import asyncio
import gc
from collections.abc import Callable

import pytest
import uvloop

Factories = dict[str, Callable[[], asyncio.AbstractEventLoop]]


def pytest_asyncio_loop_factories(item: pytest.Item) -> Factories:
    """The two loops differ in what their transports do, and the second runs where uvloop has no wheels."""
    loops: Factories = {"uvloop": uvloop.new_event_loop}
    if {"wire", "cancellation"} & set(item.path.parts) and not item.get_closest_marker("one_loop"):
        loops["asyncio"] = asyncio.new_event_loop
    return loops


def pytest_collection_finish() -> None:
    """What thousands of collected tests have left in memory is not looked through again while one of them is timed."""
    gc.collect()
    gc.freeze()
