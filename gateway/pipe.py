"""The road: layers around one try. Each layer sees the call before and the reply after what it wraps.

The door (route, caller, permission, quota) is no layer: it only passes or refuses, so it is plain
statements in `handler.py`. Only what really wraps a try is composed here.
"""

from collections.abc import Awaitable, Callable

from gateway.exchange import Call, Reply

Send = Callable[[Call], Awaitable[Reply]]
Layer = Callable[[Send], Send]


def pipe(*layers: Layer | None, to: Send) -> Send:
    """Compose `layers` around `to`; the first named is the first to see the call.

    None stands for a feature that is off: it is not in the pipe and costs nothing.
    """
    send = to
    for layer in reversed(layers):
        if layer is not None:
            send = layer(send)
    return send
