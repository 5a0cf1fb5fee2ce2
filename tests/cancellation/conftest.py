"""The same gateway, client and upstream as the wire's tests: whatever happens, nothing may be left behind."""

from tests.wire.conftest import client, start, upstream

__all__ = ["client", "start", "upstream"]
