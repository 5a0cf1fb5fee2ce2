"""The same gateway, client and upstream as the wire's tests: whatever happens, nothing may be left behind."""

from tests.wire.conftest import client, less_patience, start, upstream

__all__ = ["client", "less_patience", "start", "upstream"]
