"""Done once: a request with an idempotency key is sent once, and its repetitions get the reply of the first.

After draft-ietf-httpapi-idempotency-key-header. Of methods that are not idempotent by themselves, and only where the
client names a key, which belongs to the caller and the route. While the first is under way a repetition gets 409, a
different request with the same key 422. What the upstream answers below 500 is its answer for as long as it is kept,
408, 425 and 429 excepted: these, its 5xx and our own errors free the key, for they ask the client to come again.

A client that leaves while its request is waiting for a turn takes it back; once a try has begun, the outcome is
unknown, so it is carried through and its reply kept for the next attempt.
"""

import asyncio
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

from gateway.errors import GatewayError, Refused
from gateway.exchange import Call, Hop, Reply, header_values
from gateway.idempotency.background import Background
from gateway.idempotency.keeping import COLLECT, KeptStream
from gateway.idempotency.records import TOKEN, Answer, Begun, Claim, Records, State
from gateway.limits.keys import key, part_of
from gateway.pipe import Layer, Send
from gateway.resilience.replay import discard
from gateway.resilience.retry_policy import IDEMPOTENT

log = logging.getLogger("gateway.idempotency")

KEY = re.compile(rb"[\x21-\x7e]{1,255}")
"""What a client may call its request; quotation marks, as in the draft, are part of it."""

REPLAYED = b"idempotency-replayed"

COME_AGAIN = frozenset({408, 425, 429})
"""Replies by which the upstream says that it has not done it, and may be asked again."""

LEEWAY = COLLECT + 5.0
"""Seconds beyond those of an exchange for which its key stays taken: to read a body, and to write the reply down."""

RETRY_AFTER = 1.0

whose = part_of("consumer")


@dataclass(frozen=True, slots=True)
class Terms:
    """How the keys of a route are treated."""

    header: str
    keep: float
    """Seconds for which an answer is kept."""
    patience: float
    """Seconds that an exchange may take to the head of its reply; it sets the call's deadline."""
    body_limit: int = 64 * 1024
    """Bytes of a request, which is compared as a whole."""
    reply_limit: int = 256 * 1024
    """Bytes of a reply's body that is kept."""


def idempotency(
    terms: Terms,
    records: Records,
    background: Background,
    *,
    clock: Callable[[], float] = time.monotonic,
    token: Callable[[], bytes] = lambda: os.urandom(TOKEN),
) -> Layer:
    """Do what a client names by a key once. `background` finishes what clients have left."""
    name = terms.header.lower().encode()

    def layer(send: Send) -> Send:
        exchange = Exchange(terms, records, background, send, clock)

        async def keyed(call: Call) -> Reply:
            named = _named(call, name, terms.header)
            body = await _whole(call, terms)
            return await exchange.once(call, Claim(_key(call, named), _fingerprint(call, body), token()))

        def idempotent(call: Call) -> Awaitable[Reply]:
            fields = call.request.fields
            if name not in fields.index or call.request.method in IDEMPOTENT or fields.upgrade:
                return send(call)
            return keyed(call)

        return idempotent

    return layer


class Exchange:
    """What all keyed calls of a route share."""

    __slots__ = ("_background", "_clock", "_records", "_send", "_terms")

    def __init__(
        self, terms: Terms, records: Records, background: Background, send: Send, clock: Callable[[], float]
    ) -> None:
        self._terms = terms
        self._records = records
        self._background = background
        self._send = send
        self._clock = clock

    async def once(self, call: Call, claim: Claim) -> Reply:
        """The reply of the upstream, or the one that it has given before. Raises Refused."""
        begun = await self._begin(call, claim)
        if begun is not State.NEW:
            return _again(call, begun)
        call.repeatable = True
        call.deadline = min(call.deadline, self._clock() + self._terms.patience)
        task = self._background.start(self._carry_out(call, claim))
        try:
            outcome = await asyncio.shield(task)
        except asyncio.CancelledError:
            if not call.tried:
                task.cancel()
            task.add_done_callback(_left)
            raise
        if isinstance(outcome, Reply):
            return outcome
        raise outcome

    async def _begin(self, call: Call, claim: Claim) -> Begun:
        started = self._clock()
        outcome = "unknown"
        try:
            begun = await self._records.begin(claim, self._terms.patience + LEEWAY)
            outcome = begun.value if isinstance(begun, State) else "replayed"
        finally:
            call.hops.append(Hop("idempotency", "begin", outcome, started, self._clock() - started))
        return begun

    async def _carry_out(self, call: Call, claim: Claim) -> Reply | Exception:
        """The outcome, once it has been written down; an error as a value: the client may have left."""
        try:
            reply = await self._send(call)
        except asyncio.CancelledError:
            if not call.tried:  # else nobody knows what the upstream has done: the lease frees the key
                await self._records.abandon(claim)
            raise
        except Exception as error:  # the outermost boundary of this task; it is raised again where the client waits
            await self._free(call, claim)
            return error
        if not 200 <= reply.status < 500 or reply.status in COME_AGAIN or _made_here(call, reply):
            await self._free(call, claim)
        else:
            await self._keep(call, claim, reply)
        return reply

    async def _keep(self, call: Call, claim: Claim, reply: Reply) -> None:
        """Before the client gets it: a reply that has been seen will be given again."""
        limit, body = self._terms.reply_limit, reply.body
        length = len(body) if isinstance(body, bytes) else body.length
        if length is not None and length > limit:
            await self._finish(call, claim, None)
        elif isinstance(body, bytes):
            await self._finish(call, claim, Answer(reply.status, tuple(reply.headers), body))
        else:
            reply.body = KeptStream(reply, body, limit, partial(self._finish, call, claim), self._background)

    async def _finish(self, call: Call, claim: Claim, answer: Answer | None) -> None:
        started = self._clock()
        await self._records.finish(claim, answer, self._terms.keep)
        outcome = "not_kept" if answer is None else "kept"
        call.hops.append(Hop("idempotency", "end", outcome, started, self._clock() - started))

    async def _free(self, call: Call, claim: Claim) -> None:
        started = self._clock()
        await self._records.abandon(claim)
        call.hops.append(Hop("idempotency", "end", "freed", started, self._clock() - started))


def _made_here(call: Call, reply: Reply) -> bool:
    """No upstream has done anything for this reply: it is an answer from the configuration, or a rehearsal's.

    What another upstream has answered instead was done there, and must not be done once more.
    """
    if reply.fallback:
        return reply.fallback != "upstream"
    return any(hop.stage == "fault" and hop.outcome == "abort" for hop in call.hops)


def _left(task: "asyncio.Task[Reply | Exception]") -> None:
    """Nobody takes this outcome; a body that is on its way is still read and kept."""
    if task.cancelled():
        return
    outcome = task.result()
    if isinstance(outcome, Reply):
        discard(outcome)
    elif not isinstance(outcome, GatewayError):
        log.error("a request that its client had left failed inside the gateway", exc_info=outcome)


def _again(call: Call, begun: Begun) -> Reply:
    """What a repetition gets. Raises Refused."""
    match begun:
        case Answer():
            call.reason = "replayed"
            kept = tuple(field for field in begun.headers if field[0] != REPLAYED)
            return replace(begun, headers=(*kept, (REPLAYED, b"true"))).reply()
        case State.MISMATCH:
            raise Refused("idempotency_conflict", 422, "this key was used for a different request")
        case State.IN_FLIGHT:
            detail = "the first request with this key is still being answered"
            raise Refused("idempotency_conflict", 409, detail, retry_after=RETRY_AFTER)
        case _:
            detail = "the first request with this key was answered, but the reply was not kept; it is not done again"
            raise Refused("idempotency_conflict", 409, detail)


def _named(call: Call, name: bytes, shown: str) -> bytes:
    """The client's name for the request. Raises Refused."""
    fields = call.request.fields
    value = fields.index[name]
    if fields.repeated and len(header_values(fields.headers, name)) > 1:
        raise Refused("bad_request", 400, f"the {shown} header is repeated")
    if not KEY.fullmatch(value):
        raise Refused("bad_request", 400, f"{shown} must have 1 to 255 visible ASCII characters")
    return value


async def _whole(call: Call, terms: Terms) -> bytes:
    """All of the request's body, which the call then holds. Raises Refused, and what reading raises."""
    body, limit = call.body, terms.body_limit
    if not isinstance(body, bytes) and (body.length or 0) <= limit:
        pieces, size = [], 0
        while size <= limit and (data := await body.read()):
            pieces.append(data)
            size += len(data)
        call.body = body = b"".join(pieces)
    if not isinstance(body, bytes) or len(body) > limit:
        raise Refused("body_too_large", 413, f"with {terms.header} the limit is {limit} bytes", limit=limit)
    return body


def _key(call: Call, named: bytes) -> bytes:
    """Callers do not see each other's keys; who is anonymous counts by address, as in limits."""
    return key("idempotency", call.route, *whose(call, call.caller), named)


def _fingerprint(call: Call, body: bytes) -> bytes:
    """The same for two requests that ask for the same."""
    request = call.request
    kind = request.fields.index.get(b"content-type", b"")
    return key(request.method, call.host.lower(), call.version, call.path, call.query, kind, body)
