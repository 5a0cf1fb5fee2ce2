"""pybreaker's state machine, imported without the storage in Redis that it brings along: it is synchronous, so it is of
no use here, and the client of Redis alone takes 0.1 s to import, which a gateway without a Redis need not wait for.
"""

import sys
from typing import Any

modules: dict[str, Any] = sys.modules
hidden = "redis" not in modules
if hidden:
    modules["redis"] = None  # makes `import redis` fail, which pybreaker is prepared for
try:
    from pybreaker import STATE_CLOSED, STATE_HALF_OPEN, STATE_OPEN, CircuitBreaker
finally:
    if hidden:
        del modules["redis"]

__all__ = ["STATE_CLOSED", "STATE_HALF_OPEN", "STATE_OPEN", "CircuitBreaker"]
