"""`gateway run` without anybody who looks: finished requests are neither counted nor logged nor traced.

There is no such gateway to be had; it is what bench.seeing compares with.
"""

import sys

from gateway.cli.main import main
from gateway.exchange import Call
from gateway.telemetry.observer import Observer


def unseen(self: Observer, call: Call, status: int, sent: int, received: int, took: float) -> None:
    """Nobody reads what the stages have reported."""


if __name__ == "__main__":
    Observer.finished = unseen  # type: ignore[method-assign]
    sys.exit(main())
