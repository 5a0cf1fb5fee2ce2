"""Python's collector of cyclic garbage, told to rest where there is none to be found."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """For what makes many objects that stay: the collector would look through all of them again and again.

    To import the gateway takes a tenth longer with it, to compose 10,000 routes 4.2 s instead of 0.6 s.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
