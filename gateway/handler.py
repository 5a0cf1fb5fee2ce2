"""The life of one request. Read this first, then `assemble.py`.

The door is a straight line: which route, from where and in which version, who is calling, may they, is there
time for them, is their quota left. Each statement passes or ends the call with a GatewayError. What is behind
the door, `route.send`, is the road: layers round the try at an upstream, composed in `assemble.py`.
"""

import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import count

from gateway.errors import GatewayError, Refused, reply_to
from gateway.exchange import Call, Caller, Reply, Request, Trace
from gateway.http.forward import ends_here, loops
from gateway.http.redirect import to_https
from gateway.http.trust import Network, hear
from gateway.limits.headers import QuotaLines, quota_lines
from gateway.pipe import Send
from gateway.resilience.fault import Fault
from gateway.routing.finder import Finder, Found
from gateway.routing.router import Router
from gateway.transform.cors import asked

Enter = Callable[[Call], Reply | None]
Identify = Callable[[Call], Awaitable[Caller]]
Permit = Callable[[str, Caller], None]
Admit = Callable[[Call, Caller], None]
TakeQuota = Callable[[Call, Caller], Awaitable[None]]
Finished = Callable[[Call, int, int, int, float], None]
Begin = Callable[[Request], Trace]

log = logging.getLogger("gateway.handler")

OURS = b"x-request-id: %b\r\nvia: 1.1 gateway\r\n"
"""What every reply says on the gateway's own account."""

REASON = b"x-gateway-reason: %b\r\n"
"""Why the gateway itself ended a call; each code is in docs/problems.md."""

HSTS = b"strict-transport-security: max-age=%d\r\n"
"""RFC 6797; only on replies that come over TLS (section 7.2)."""


@dataclass(slots=True)
class Route:
    """A route as built: each of its stages, ready to run."""

    name: str
    enter: Enter
    """Cross-origin requests, addresses, versions: what is decided before anybody asks who is calling."""
    identify: Identify
    permit: Permit
    admit: Admit
    take_quota: TakeQuota
    send: Send
    rehearse: Callable[[Fault | None], Send]
    """Makes a `send` with this failure in it, or as configured: for rehearsals, which put it in the place of `send`."""
    body_limit: int | None
    answers_preflights: bool = False
    """Of the cross-origin requests of browsers."""


class Handler:
    """Serves every request of a runtime. Implements gateway.http.server.App."""

    def __init__(
        self,
        router: Router[Route],
        finished: Finished,
        *,
        instance: str,
        trusted: Sequence[Network] = (),
        hsts: int = 0,
        to_https: int | None = None,
        quota_lines: QuotaLines = quota_lines,
        preflights: Router[Route] | None = None,
        own: bytes = b"",
        tell_reason: bool = False,
        trace: Begin | None = None,
    ) -> None:
        """`tell_reason` puts the reason code on what the gateway itself made. `hsts` in seconds, 0 for none;
        `to_https` is the port to which plain requests are sent away; `trace` finds each request's trace."""
        self._finder = Finder(router)
        self._preflights = Finder(preflights) if preflights is not None else None
        self._own = own
        self._tell_reason = tell_reason
        self._trace = trace
        self.finished = finished
        self._instance = instance
        self._trusted = tuple(trusted)
        self._ours = {"http": OURS, "https": OURS + HSTS % hsts if hsts else OURS}
        self._to_https = to_https
        self._quota_lines = quota_lines
        # Unique without a system call per request: random for the process, then counted.
        self._id_prefix = os.urandom(6).hex()
        self._ids = count(int.from_bytes(os.urandom(3), "big"))

    async def handle(self, call: Call) -> Reply:
        """From the request to the reply; errors become replies here, and only here."""
        try:
            if call.request.method == "OPTIONS" and ends_here(call.request):
                call.reason = "options"
                reply = Reply(204, [(b"allow", b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT")])
            elif self._to_https is not None and call.scheme == "http":
                reply = to_https(call, self._to_https)
            else:
                route = self._find(call)
                answered = route.enter(call)
                if answered is None:
                    if route.body_limit is not None and call.request.fields.length != 0:
                        self._bound_body(call, route.body_limit)
                    call.caller = caller = await route.identify(call)
                    route.permit(call.request.method, caller)
                    route.admit(call, caller)
                    await route.take_quota(call, caller)
                reply = answered or await route.send(call)
        except GatewayError as error:
            reply = self._reply_to(call, error)
        except Exception:
            log.exception("request %s failed inside the gateway", call.id)
            reply = self._reply_to(call, GatewayError())
        reply.added = self._ours[call.scheme] % call.id.encode() + call.added
        if call.quotas:
            reply.added += self._quota_lines(call.quotas)
        if self._tell_reason and call.ended_by:
            reply.added += REASON % call.ended_by.encode()
        return reply

    def _find(self, call: Call) -> Route:
        """The route of the call, by the path that will be forwarded. Raises Refused."""
        request = call.request
        fields = request.fields
        found = self._find_preflight(call) if self._preflights is not None and request.method == "OPTIONS" else None
        call.path, call.query, match = found or self._finder.find(
            request.method, request.target, call.host, fields.host, fields.headers
        )
        route = match.target
        call.route = route.name
        call.params = match.params
        call.version = match.version
        if b"via" in fields.index and loops(request, self._instance):
            raise GatewayError("loop_detected", 508)
        return route

    def _find_preflight(self, call: Call) -> Found[Route] | None:
        """For a preflight the route of the request that is to follow, if it answers preflights; else None."""
        request, fields = call.request, call.request.fields
        method = asked(request)
        if not method or self._preflights is None:
            return None
        try:
            found = self._preflights.find(method, request.target, call.host, fields.host, fields.headers)
        except Refused:
            return None  # OPTIONS itself may have a route, or is refused for its own reason
        return found if found.match.target.answers_preflights else None

    def open(self, request: Request) -> Call:
        """Begin a call: its id, and who the client is behind trusted proxies."""
        call = Call(request, f"{self._id_prefix}{next(self._ids):08x}")
        if request.peer.trusted:
            hear(call, self._trusted)
        if self._trace is not None:
            call.trace = self._trace(request)
        return call

    def refuse(self, call: Call, error: GatewayError) -> Reply:
        """The reply to bytes that were no request."""
        reply = self._reply_to(call, error)
        reply.added = self._ours[call.scheme] % call.id.encode() + call.added
        if self._tell_reason:
            reply.added += REASON % error.code.encode()
        return reply

    def _reply_to(self, call: Call, error: GatewayError) -> Reply:
        call.error = error
        # The way it was raised leads through this very call: a cycle, which only the collector could free.
        error.__traceback__ = error.__context__ = None
        call.added += self._own
        return reply_to(error, call.id)

    @staticmethod
    def _bound_body(call: Call, limit: int) -> None:
        body = call.body
        length = call.request.fields.length if call.request.fields.length is not None else 0
        if isinstance(body, bytes):
            length = len(body)
        else:
            body.limit = limit
            length = max(length, body.received)
        if length > limit:
            raise Refused("body_too_large", 413, f"the limit is {limit} bytes", limit=limit)
