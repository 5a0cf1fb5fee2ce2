"""One target of an upstream over HTTP/1.1: a try is one request on one pooled connection."""

import time

from gateway.errors import DeadlinePassed, GatewayError, UpstreamFailed
from gateway.exchange import Call, Hop, Reply
from gateway.http.client import UpstreamConnection
from gateway.http.forward import Heads
from gateway.http.pool import Pool
from gateway.resilience.breaker import Circuit
from gateway.resilience.verdict import kind_of

STATUS = [str(status) for status in range(1000)]


class HttpTarget:
    """Implements gateway.exchange.Target."""

    def __init__(
        self,
        name: str,
        upstream: str,
        *,
        authority: bytes,
        pool: Pool,
        forwarder: Heads,
        circuit: Circuit,
        try_timeout: float,
    ) -> None:
        self.name = name
        self.upstream = upstream
        self.circuit = circuit
        self.pool = pool
        self._authority = authority  # for the Host header, when the target's own is wanted
        self._forwarder = forwarder
        self._try_timeout = try_timeout

    def __repr__(self) -> str:
        return f"<HttpTarget {self.name} of {self.upstream}>"

    @property
    def busy(self) -> int:
        return self.pool.busy

    async def send(self, call: Call) -> Reply:
        """One try, to the head of the reply. Raises UpstreamFailed, DeadlinePassed, Shed."""
        started = time.monotonic()
        outcome = "cancelled"
        try:
            # A second try at this target gets a new connection: where one was stale, all may be.
            again = len(call.tried) > 1 and self in call.tried[:-1]
            connection = (None if again else self.pool.take()) or await self._connect(call, started)
            waiter = connection.send(
                call.request.method,
                self._forwarder.head(call, self._authority, started),
                call.body,
                patience=self._try_timeout,
                deadline=call.deadline,
                upgrade=bool(call.request.fields.upgrade),
            )
            try:
                reply = await waiter
            except BaseException:
                connection.abandon(waiter)
                raise
            outcome = STATUS[reply.status]
            return reply
        except GatewayError as error:
            outcome = kind_of(error)
            raise
        finally:
            call.hops.append(Hop("try", self.name, outcome, started, time.monotonic() - started))

    async def _connect(self, call: Call, started: float) -> UpstreamConnection:
        outcome = "cancelled"
        try:
            connection = await self.pool.connect(min(call.deadline, started + self._try_timeout))
            outcome = "ok"
        except DeadlinePassed:
            outcome = "timeout"
            if call.deadline > time.monotonic():  # the try's time is over, not the call's
                raise UpstreamFailed("upstream_unreachable", sent=False) from None
            raise
        except GatewayError as error:
            outcome = kind_of(error)
            raise
        finally:
            took = time.monotonic() - started
            call.hops.append(Hop("connect", self.name, outcome, started, took, waited=False))
        return connection
