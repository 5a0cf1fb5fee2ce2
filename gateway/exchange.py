"""What flows through the gateway: a Request comes in, a Call carries it along, a Reply goes back.

Header names are lowercase bytes and values are bytes from the parser to the last write: nothing is
decoded that nobody reads. These types are made for every request, so the busy ones are plain slotted
classes and named tuples: a frozen dataclass costs 1 µs to make, three times as much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import asyncio

    from gateway.errors import GatewayError
    from gateway.resilience.breaker import Circuit

Headers = list[tuple[bytes, bytes]]
"""Names lowercase, in the order received, repeated names kept apart (RFC 9110 section 5.2)."""

NEVER = float("inf")
NOTHING: Mapping[str, str] = MappingProxyType({})


def header(headers: Headers, name: bytes) -> bytes | None:
    """The first value of `name`, or None."""
    for key, value in headers:
        if key == name:
            return value
    return None


def header_values(headers: Headers, name: bytes) -> list[bytes]:
    """Every value of `name`, as received."""
    return [value for key, value in headers if key == name]


class Stream(Protocol):
    """A body that is still on its way; its reader's pace holds back its sender (back-pressure)."""

    length: int | None
    """Bytes announced in all, None when only the end will tell."""

    async def read(self) -> bytes:
        """The next piece; b"" at the end, and for ever after. Raises GatewayError if it broke off."""

    def close(self) -> None:
        """Nobody will read the rest."""


Body = bytes | Stream
"""Bytes when the whole body is in hand (the common case), else a stream."""


class Peer(NamedTuple):
    """The other end of a client connection, as the socket shows it."""

    address: str
    """IP address in text, or "unix"."""
    port: int
    scheme: str
    """http or https."""
    trusted: bool
    """It is one of `trusted_proxies`: its X-Forwarded-* headers are believed."""


class Request:
    """One request as the wire read it: well framed and syntactically valid, not yet judged."""

    __slots__ = ("body", "headers", "host", "method", "peer", "received", "target", "upgrade", "version")

    def __init__(
        self,
        method: str,
        target: bytes,
        headers: Headers,
        body: Body,
        peer: Peer,
        host: bytes,
        received: float,
        upgrade: bytes = b"",
        version: str = "1.1",
    ) -> None:
        self.method = method
        self.target = target  # origin-form, as received; b"*" only with OPTIONS
        self.headers = headers
        self.body = body
        self.peer = peer
        self.host = host  # authority, as received
        self.received = received  # monotonic seconds at the first byte
        self.upgrade = upgrade  # the protocol asked for, lowercase, when it can be tunnelled
        self.version = version


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling, once a provider has vouched for it."""

    consumer: str = ""
    """Stable name of the caller (for a token: the consumer claim, normally `sub`); "" is anonymous."""
    provider: str = ""
    """The provider that vouched; "" when nobody did."""
    label: str = ""
    """The name for metrics: a configured consumer, else the provider; never a raw subject."""
    scopes: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    tier: str = ""
    claims: Mapping[str, object] = field(default_factory=dict)
    forward: tuple[tuple[bytes, bytes], ...] = ()
    """Identity headers for the upstream, ready to write."""
    expires: float = NEVER
    """Wall-clock second at which the credential ends."""


ANONYMOUS = Caller()


class Quota(NamedTuple):
    """A limiter's answer; its fields are what the response headers say."""

    allowed: bool
    policy: str
    limit: int
    window: float
    """Seconds in which `limit` requests are allowed."""
    remaining: int
    reset_after: float
    """Seconds until the whole limit is available again."""
    retry_after: float
    """Seconds until one more would be allowed; 0 when allowed."""


class Hop(NamedTuple):
    """One stage's part in a call, for metrics, log and trace."""

    stage: str
    """auth, limit, try, wait (between tries), fallback."""
    name: str
    """Which one: the provider, the policy, the target, the fallback's kind."""
    outcome: str
    started: float
    took: float
    waited: bool = True
    """The time was spent waiting for somebody else, not by the gateway itself."""


class Target(Protocol):
    """One address of an upstream, as the road sees it."""

    name: str
    """The target's URL as configured, without credentials; a metric label."""
    upstream: str
    circuit: Circuit

    async def send(self, call: Call) -> Reply:
        """One try on one connection, to the head of the reply. Raises UpstreamFailed, DeadlinePassed."""


class Call:
    """One request on its way: what the stages found out about it, and what they did. Mutable."""

    __slots__ = (
        "body",
        "caller",
        "client_ip",
        "deadline",
        "error",
        "hops",
        "host",
        "id",
        "params",
        "path",
        "query",
        "quotas",
        "request",
        "route",
        "scheme",
        "target",
        "tried",
        "version",
    )

    def __init__(self, request: Request, id: str) -> None:
        self.request = request
        self.id = id  # the X-Request-Id, in both directions
        self.body: Body = request.body
        self.client_ip = request.peer.address  # these three: after trusted proxies have been heard
        self.scheme = request.peer.scheme
        self.host = request.host
        self.path = b""  # normalised: what was matched is what is forwarded
        self.query = b""  # with its "?", or empty
        self.route = ""  # name of the matched route; "" when none matched
        self.version = ""
        self.params: Mapping[str, str] = NOTHING
        self.caller = ANONYMOUS
        self.quotas: list[Quota] = []
        self.deadline = NEVER  # monotonic seconds; every wait below the deadline layer keeps it
        self.target: Target | None = None  # where the current try goes
        self.tried: list[Target] = []  # targets of all tries begun, the current one included
        self.hops: list[Hop] = []
        self.error: GatewayError | None = None  # why the gateway itself ended the call


class Tunnel(Protocol):
    """The far side of an accepted Upgrade: from here on only bytes flow."""

    def splice(self, near: asyncio.Transport) -> asyncio.Protocol:
        """Join both ends; returns the protocol that shall serve the near one from now on."""


class Reply:
    """What goes back to the client."""

    __slots__ = ("body", "fallback", "headers", "status", "tunnel")

    def __init__(self, status: int, headers: Headers, body: Body = b"", tunnel: Tunnel | None = None) -> None:
        self.status = status
        self.headers = headers  # end-to-end headers only; framing and hop-by-hop are the wire's
        self.body = body
        self.tunnel = tunnel  # only with status 101
        self.fallback = ""  # the kind of fallback that made this reply
