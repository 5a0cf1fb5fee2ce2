"""The last word: another answer in place of a failure, a timeout or an open circuit.

The first entry that covers the failure and can answer does: a prepared answer always can, another upstream
when it can be given the request's body, when nothing may be done twice by that, and when it does not fail
as well. When none can, the first failure stands: what went wrong is more than that its replacement did. What
the caller did wrong never falls back, and neither does a client that left.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.errors import DeadlinePassed, Shed, UpstreamFailed
from gateway.exchange import Body, Call, Hop, Reply
from gateway.pipe import Layer, Send
from gateway.resilience.fallback_answers import Failed, Static
from gateway.resilience.replay import Replay, discard
from gateway.resilience.retry_policy import IDEMPOTENT
from gateway.resilience.verdict import kind_of, kinds

__all__ = ["Other", "Static", "fallback"]

MARK = b"x-gateway-fallback"

REPLAY_LIMIT = 64 * 1024
"""Bytes kept of a request's body while it is read, should another upstream need it; as for retries."""


@dataclass(frozen=True, slots=True)
class Other:
    """Another upstream's road, for the failures in `on`."""

    on: frozenset[str]
    send: Send


class Start:
    """How a call stood before the road that failed: another one begins there."""

    __slots__ = ("_added", "_body", "_deadline")

    def __init__(self, added: bytes, body: Body, deadline: float) -> None:
        self._added = added
        self._body = body
        self._deadline = deadline

    def restore(self, call: Call) -> bool:
        """Whether the call can set out again; tries already made stay on record, they are other targets'."""
        body = self._body
        if isinstance(body, Replay):
            if not body.replayable:
                return False
            body.rewind()
        call.added = self._added  # the road that answers says how many tries it took
        call.body = body
        call.deadline = self._deadline  # the failed road's total time is over, perhaps
        call.hurried = False  # the road that answers asks the caller itself, if it listens to callers
        return True


class Answers:
    """The entries of one route, by the kinds of failure that they cover."""

    def __init__(self, entries: Sequence[Static | Other], clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: dict[str, list[Static | Other]] = {}
        for entry in entries:
            for kind in kinds(entry.on):
                self._entries.setdefault(kind, []).append(entry)
        self.kinds = frozenset(self._entries)
        self.statuses = frozenset(int(kind) for kind in self._entries if kind.isdigit())

    async def instead(self, failed: Failed, start: Start) -> Reply | None:
        """The answer; None when no entry has any."""
        call, added = failed.call, failed.call.added
        started = self._clock()
        for entry in self._entries[failed.reason]:
            reply = entry.reply(failed) if isinstance(entry, Static) else await _ask(entry, failed, start)
            if reply is not None:
                took = self._clock() - started
                call.reason = "fallback"
                call.hops.append(Hop("fallback", reply.fallback, failed.reason, started, took, waited=False))
                return reply
        call.added = added  # what the road has said that failed first
        return None

    async def instead_of(self, reply: Reply, call: Call, start: Start) -> Reply:
        """The answer; `reply` itself when no entry has any."""
        # While it streams it may still be reading a streamed request body, which the next upstream is to get whole.
        kept = isinstance(reply.body, bytes) or isinstance(call.body, bytes)
        if not kept:
            discard(reply)
        try:
            answer = await self.instead(Failed(call, reply.status, str(reply.status)), start)
        except BaseException:
            discard(reply)
            raise
        if answer is not None:
            discard(reply)
            return answer
        if not kept:
            raise UpstreamFailed("upstream_failed", reply.status, sent=True)
        return reply


def fallback(entries: Sequence[Static | Other], clock: Callable[[], float], replay_limit: int = REPLAY_LIMIT) -> Layer:
    """Answer with the first of `entries` that covers the outcome and can; other outcomes stand."""
    answers = Answers(entries, clock)
    covered_kinds, statuses = answers.kinds, answers.statuses
    others = any(isinstance(entry, Other) for entry in entries)

    def layer(send: Send) -> Send:
        async def covered(call: Call) -> Reply:
            added, body, deadline = call.added, call.body, call.deadline
            if others and not isinstance(body, bytes):
                call.body = body = Replay(body, replay_limit)
            try:
                reply = await send(call)
                if reply.status not in statuses:
                    return reply
            except (Shed, UpstreamFailed, DeadlinePassed) as error:
                kind = kind_of(error)
                if kind not in covered_kinds:
                    raise
                failed = Failed(call, error.status, kind, _sent(error, call))
                answer = await answers.instead(failed, Start(added, body, deadline))
                if answer is None:
                    raise
                return answer
            return await answers.instead_of(reply, call, Start(added, body, deadline))

        return covered

    return layer


def _sent(error: Shed | UpstreamFailed | DeadlinePassed, call: Call) -> bool:
    if isinstance(error, UpstreamFailed):
        return error.sent
    return isinstance(error, DeadlinePassed) and bool(call.tried)


async def _ask(entry: Other, failed: Failed, start: Start) -> Reply | None:
    """Another upstream's reply, marked as such; None when it cannot answer. Its caller's faults are raised.

    What must not be done twice is not asked for again where it may have been done, as with retries.
    """
    call = failed.call
    once = call.request.method not in IDEMPOTENT and not call.repeatable
    if (once and failed.sent) or not start.restore(call):
        return None
    try:
        reply = await entry.send(call)
    except (Shed, UpstreamFailed, DeadlinePassed):
        return None
    if reply.status >= 500:
        discard(reply)
        return None
    # What it says on its own account goes: it may be a gateway, too.
    reply.headers = [field for field in reply.headers if field[0] != MARK]
    reply.headers.append((MARK, b"upstream"))
    reply.lines = None
    reply.fallback = "upstream"
    return reply
