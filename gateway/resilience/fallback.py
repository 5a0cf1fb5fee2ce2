"""The last word: a prepared answer in place of a failure, a timeout or an open circuit.

What the caller did wrong never falls back, and neither does a client that left.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.errors import DeadlinePassed, Shed, UpstreamFailed
from gateway.exchange import Call, Headers, Hop, Reply
from gateway.pipe import Layer, Send
from gateway.resilience.replay import discard
from gateway.resilience.verdict import kind_of, kinds


@dataclass(frozen=True, slots=True)
class Static:
    """An answer from configuration. `on` holds configured names: open, timeout, reset, 5xx, 503, …"""

    on: frozenset[str]
    status: int
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    content_type: bytes = b""

    def reply(self) -> Reply:
        """A fresh reply: stages above may add headers to it."""
        headers: Headers = [*self.headers, (b"x-gateway-fallback", b"static")]
        if self.content_type:
            headers.append((b"content-type", self.content_type))
        reply = Reply(self.status, headers, self.body)
        reply.fallback = "static"
        return reply


def fallback(entries: Sequence[Static], clock: Callable[[], float]) -> Layer:
    """Answer with the first of `entries` that covers the outcome; other outcomes stand."""
    answers: dict[str, Static] = {}
    for entry in entries:
        for kind in kinds(entry.on):
            answers.setdefault(kind, entry)
    statuses = frozenset(int(kind) for kind in answers if kind.isdigit())

    def answer(call: Call, kind: str) -> Reply:
        call.hops.append(Hop("fallback", "static", kind, clock(), 0.0, waited=False))
        return answers[kind].reply()

    def layer(send: Send) -> Send:
        async def covered(call: Call) -> Reply:
            try:
                reply = await send(call)
            except (Shed, UpstreamFailed, DeadlinePassed) as error:
                kind = kind_of(error)
                if kind not in answers:
                    raise
                return answer(call, kind)
            if reply.status not in statuses:
                return reply
            discard(reply)
            return answer(call, str(reply.status))

        return covered

    return layer
