"""Gateways in processes of their own for pages to look at, as the tests of the installed command have them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.system.conftest import start
from tests.system.upstream import Upstream

__all__ = ["start", "upstream"]


@contextmanager
def serving() -> Iterator[Upstream]:
    """An upstream that begins in another thread: in this one Playwright keeps a loop running."""
    upstream = Upstream()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(upstream.__enter__).result(10)
    try:
        yield upstream
    finally:
        upstream.__exit__()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with serving() as upstream:
        yield upstream
