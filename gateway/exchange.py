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
NONE: frozenset[bytes] = frozenset()


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
    received: int
    """Bytes that have come so far."""
    limit: int | None
    """More than this many bytes break the body off with 413."""

    @property
    def done(self) -> bool:
        """Nothing more will come."""

    @property
    def started(self) -> bool:
        """The sender may be on its way: it has not been told to wait for `100 Continue`."""

    async def read(self) -> bytes:
        """The next piece; b"" at the end, and for ever after. Raises GatewayError if it broke off."""

    def close(self) -> None:
        """Nobody will read the rest."""


Body = bytes | Stream
"""Bytes when the whole body is in hand (the common case), else a stream."""


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """What a client has shown in its TLS handshake; it was verified there."""

    subject: str
    """As RFC 4514 writes it: `CN=acme,O=Acme Ltd`."""
    sans: tuple[str, ...]
    """Its other names: `DNS:…`, `URI:…`, `email:…`, `IP:…`."""
    expires: float
    """Wall-clock second."""


class Peer:
    """The other end of a client connection, as the socket or a PROXY header shows it."""

    __slots__ = ("address", "certificate", "forwarded", "port", "scheme", "trusted")

    def __init__(self, address: str, port: int, scheme: str = "http", trusted: bool = False) -> None:
        self.address = address  # IP address in text, or "unix"
        self.port = port
        self.scheme = scheme  # http or https
        self.trusted = trusted  # one of `trusted_proxies`: its X-Forwarded-* headers are believed
        self.certificate: ClientCertificate | None = None
        self.forwarded: tuple[bytes, bytes] = (b"", b"")  # a Host and the forwarding headers made for it


class Fields:
    """The header fields of a request, and what they say about its framing.

    Clients repeat themselves: on a connection whose next head carries the same bytes as the last one the
    very same object comes again, and with it whatever was derived from it (`derived`).
    """

    __slots__ = (
        "derived",
        "expects_continue",
        "headers",
        "host",
        "index",
        "keep_alive",
        "length",
        "nominated",
        "repeated",
        "upgrade",
        "version",
    )

    def __init__(
        self,
        headers: Headers,
        index: Mapping[bytes, bytes] | None = None,
        *,
        host: bytes = b"",
        length: int | None = 0,
        keep_alive: bool = True,
        expects_continue: bool = False,
        upgrade: bytes = b"",
        nominated: tuple[bytes, ...] = (),
        version: str = "1.1",
    ) -> None:
        self.headers = headers
        self.index = dict(headers) if index is None else index  # by name; of repeated ones the last
        self.repeated = len(self.index) != len(headers)  # some name occurs more than once
        self.host = host  # the Host header
        self.length = length  # bytes of body announced, None when chunked
        self.keep_alive = keep_alive  # the client would send another request on this connection
        self.expects_continue = expects_continue  # it waits for a 100 before it sends the body
        self.upgrade = upgrade  # b"websocket" when a tunnel is asked for
        self.nominated = nominated  # lowercase names that Connection declared hop-by-hop
        self.version = version  # 1.1 or 1.0
        self.derived: dict[object, bytes] = {}  # by its maker: what follows from these fields alone


class Request:
    """One request as the wire read it: well framed and syntactically valid, not yet judged."""

    __slots__ = ("body", "fields", "method", "peer", "received", "target")

    def __init__(
        self, method: str, target: bytes, fields: Fields, peer: Peer, received: float = 0.0, body: Body = b""
    ) -> None:
        self.method = method
        self.target = target  # as received: origin-form, absolute-form, or b"*" with OPTIONS
        self.fields = fields
        self.peer = peer
        self.received = received  # monotonic seconds when its head was complete
        self.body = body

    @property
    def headers(self) -> Headers:
        """The header fields in the order received."""
        return self.fields.headers


class Hidden(NamedTuple):
    """Where credentials stand that end at the gateway."""

    headers: frozenset[bytes]
    """Lowercase names."""
    cookies: frozenset[bytes]


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
    hidden: Hidden | None = None
    """Of its credentials; None when they go on to the upstream as they came."""
    signed: bool = False
    """The upstream gets a token of the gateway's own, which tells who is calling."""


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
    """auth, ask (an issuer about a token), shed, limit, concurrency (of the route), upstream_concurrency, idempotency,
    mirror, fault, split, connect, try, hedge, wait (between tries), withheld (a retry), fallback, stream (of the
    reply)."""
    name: str
    """Which one: the provider, the policy, the target, the fallback's kind."""
    outcome: str
    started: float
    took: float
    waited: bool = True
    """The time was spent waiting for somebody else, not by the gateway itself."""


class Trace(Protocol):
    """Which trace a call belongs to (W3C Trace Context)."""

    id: str
    """32 hexadecimal digits."""
    sampled: bool
    """It is recorded for sure; else only when it turns out to be worth it."""
    recorded: bool
    """It has been, now that the call is finished: others may point to it."""

    def lines(self, started: float) -> bytes:
        """Field lines for the upstream of the try that began then."""


class Target(Protocol):
    """One address of an upstream, as the road sees it."""

    name: str
    """The target's URL as configured, without credentials; a metric label."""
    upstream: str
    circuit: Circuit

    @property
    def busy(self) -> int:
        """Requests of this process that are under way there, to the end of their replies."""

    async def send(self, call: Call) -> Reply:
        """One try on one connection, to the head of the reply. Raises UpstreamFailed, DeadlinePassed."""


class Call:
    """One request on its way: what the stages found out about it, and what they did. Mutable."""

    __slots__ = (
        "added",
        "body",
        "caller",
        "client_ip",
        "deadline",
        "error",
        "hops",
        "host",
        "hurried",
        "id",
        "lines",
        "params",
        "path",
        "query",
        "quotas",
        "reason",
        "removed",
        "repeatable",
        "request",
        "route",
        "scheme",
        "target",
        "trace",
        "tried",
        "version",
    )

    def __init__(self, request: Request, id: str) -> None:
        self.request = request
        self.id = id  # the X-Request-Id, in both directions
        self.body: Body = request.body
        self.client_ip = request.peer.address  # these three: after trusted proxies have been heard
        self.scheme = request.peer.scheme
        self.host = request.fields.host
        self.path = b""  # normalised: what was matched is what is forwarded
        self.query = b""  # with its "?", or empty
        self.route = ""  # name of the matched route; "" when none matched
        self.version = ""
        self.params: Mapping[str, str] = NOTHING
        self.caller = ANONYMOUS
        self.quotas: list[Quota] = []
        self.deadline = NEVER  # monotonic seconds; every wait below the deadline layer keeps it
        self.hurried = False  # the deadline is the caller's own: who misses it has not failed
        self.target: Target | None = None  # where the current try goes
        self.tried: list[Target] = []  # targets of all tries begun, the current one included
        self.repeatable = False  # whatever its method: the gateway sees to it that it is done once
        self.added = b""  # field lines for the reply, errors included, that stages have asked for
        self.lines = b""  # field lines for the upstream that stages have asked for
        self.removed: frozenset[bytes] = NONE  # lowercase names of the client's headers that do not go on
        self.hops: list[Hop] = []
        self.error: GatewayError | None = None  # why the gateway itself ended the call
        self.reason = ""  # why the gateway itself answered where that was no error; "" when an upstream did
        self.trace: Trace | None = None  # only where calls are traced

    @property
    def ended_by(self) -> str:
        """The reason code: why the gateway itself ended the call; "" when an upstream has answered it."""
        return self.reason if self.error is None else self.error.code

    def __repr__(self) -> str:
        return f"<Call {self.id} {self.request.method}>"


class Tunnel(Protocol):
    """The far side of an accepted Upgrade: from here on only bytes flow."""

    async def run(self, near: asyncio.Transport, held: bytes) -> tuple[int, int]:
        """Join both ends until both are closed; returns bytes received from client and upstream.

        `held` came from the client before the tunnel stood.
        """

    def close(self) -> None:
        """The client went away before."""

    def drain(self) -> None:
        """End soon, and politely; may be called before `run`."""


class Reply:
    """What goes back to the client."""

    __slots__ = ("added", "body", "fallback", "headers", "lines", "status", "tunnel")

    def __init__(self, status: int, headers: Headers, body: Body = b"", lines: bytes | None = None) -> None:
        self.status = status
        self.headers = headers  # end-to-end headers only; framing and hop-by-hop are the wire's
        self.lines = lines  # the same as bytes, where they are known already: whoever changes `headers` sets None
        self.added = b""  # field lines that the gateway says on its own account
        self.body = body
        self.tunnel: Tunnel | None = None  # only with status 101
        self.fallback = ""  # the kind of fallback that made this reply

    def __repr__(self) -> str:
        return f"<Reply {self.status}>"
