"""Changes what goes on to the upstream, and undoes that in the addresses of the reply.

Once for a call, outside of retries and of other upstreams that may answer in the place of the first: all of them are
asked the same. Afterwards the call is again what the client has asked for: the access log and what is said in
replies go by that.
"""

from collections.abc import Sequence

from gateway.exchange import Call, Reply
from gateway.pipe import Layer, Send
from gateway.transform.paths import Edit
from gateway.transform.public_address import Undo


def transformed(edits: Sequence[Edit], undo: Undo | None) -> Layer:
    """`edits` in their order, then `undo` of the reply while the call is still as they have made it."""

    def layer(send: Send) -> Send:
        async def edited(call: Call) -> Reply:
            path, query, lines, removed = call.path, call.query, call.lines, call.removed
            try:
                for edit in edits:
                    edit(call)
                reply = await send(call)
                if undo is not None:
                    undo(call, reply)
                return reply
            finally:
                call.path, call.query, call.lines, call.removed = path, query, lines, removed

        return edited

    return layer
