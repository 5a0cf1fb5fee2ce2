"""Gateways in processes of their own, which end with the test, and an upstream behind them."""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.system.gateways import Process, Start
from tests.system.upstream import Upstream


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a gateway with these settings (`Process`); each has a folder of its own.

    What killed ones leave behind goes with the folder that all of them run in, whose path a socket's may begin with.
    """
    started: list[Process] = []
    with tempfile.TemporaryDirectory() as runtime:

        def start(settings: str, *options: str, environ: Mapping[str, str] | None = None, **more: Any) -> Process:
            environ = {"RUNTIME_DIRECTORY": runtime, **(environ or {})}
            started.append(Process(tmp_path / str(len(started)), settings, *options, environ=environ, **more))
            return started[-1]

        try:
            yield start
        finally:
            for each in started:
                each.end()
