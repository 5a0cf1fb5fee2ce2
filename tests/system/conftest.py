"""Gateways in processes of their own, which end with the test, and an upstream behind them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.gateways import Process, Start
from tests.system.upstream import Upstream


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a gateway with these settings (`Process`); each has a folder of its own."""
    started: list[Process] = []

    def start(settings: str, *options: str, **more: object) -> Process:
        started.append(Process(tmp_path / str(len(started)), settings, *options, **more))
        return started[-1]

    try:
        yield start
    finally:
        for each in started:
            each.end()
