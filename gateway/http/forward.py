"""Which header fields go on to the upstream, and which the gateway sets itself. Pure.

Hop-by-hop fields go (RFC 9110 7.6.1), what Connection nominates goes too, and everything by which a client
could pose as the gateway: identity, forwarding and routing-override fields, in any spelling that some
server folds into the same variable (X_User, X.User). So do the caller's own credentials, where its provider says so,
and what a stage has removed (`call.removed`); what stages have to say themselves (`call.lines`) is added.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from gateway.exchange import Call, Caller, Fields, Headers, Request

if TYPE_CHECKING:
    from gateway.auth.signer import Signer

HOP_BY_HOP = {
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
    b"http2-settings",
}

OURS = {
    b"host",
    b"content-length",
    b"expect",
    b"max-forwards",
    b"via",
    b"x-request-id",
    b"forwarded",
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-prefix",
    b"x-forwarded-server",
    b"x-forwarded-ssl",
    b"x-forwarded-scheme",
    b"x-real-ip",
    b"x-client-ip",
    b"true-client-ip",
}
"""Set by the gateway, or believed by upstreams as if it had."""

OVERRIDES = {
    b"proxy",  # becomes HTTP_PROXY in CGI (httpoxy)
    b"x-original-url",
    b"x-rewrite-url",
    b"x-original-host",
    b"x-http-method",
    b"x-http-method-override",
    b"x-method-override",
}
"""Fields that make some frameworks serve another URL or method than the one that was authorised."""

IDENTITY = {
    b"x-user",
    b"x-user-id",
    b"x-user-name",
    b"x-user-email",
    b"x-username",
    b"x-consumer",
    b"x-consumer-id",
    b"x-consumer-username",
    b"x-scopes",
    b"x-scope",
    b"x-roles",
    b"x-role",
    b"x-tier",
    b"x-authenticated-user",
    b"x-authenticated-userid",
    b"x-authenticated-scope",
    b"x-remote-user",
    b"remote-user",
    b"x-forwarded-user",
    b"x-forwarded-email",
    b"x-forwarded-groups",
}
"""Names under which upstreams expect an identity; none passes from a client, on open routes either."""

DIGITS = re.compile(rb"[0-9]{1,9}")

KNOWN_NAMES = 4096
"""Header names whose fate is remembered; a flood of new ones is judged anew each time."""

METHOD_BYTES = {name: name.encode() for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}


class Heads(Protocol):
    """Writes the heads of requests to one target."""

    def head(self, call: Call, target_host: bytes, started: float = 0.0, told: bytes = b"") -> bytes:
        """The request's head for the upstream, complete with its framing.

        The try began at `started` (monotonic seconds); `told` are field lines of this try alone.
        """


class Forwarder:
    """Writes the heads of requests to one upstream."""

    def __init__(
        self,
        *,
        identity: Iterable[bytes] = (),
        host: str = "upstream",
        instance: str = "",
        signer: Signer | None = None,
        audience: str = "",
    ) -> None:
        """`identity` names further fields that only the gateway may set, lowercase. `host` is `upstream`
        (the target's), `client` (as received) or a literal. `instance` tells this gateway's Via apart.
        `signer` makes the tokens for callers who are `signed`; they are meant for `audience`, the upstream.
        """
        self._dropped = HOP_BY_HOP | OURS | OVERRIDES | IDENTITY | {plain(name) for name in identity}
        self._host = host
        self._fixed_host = None if host in ("upstream", "client") else host.encode()
        self._names: dict[bytes, bytes] = {}
        self._via = b"1.1 gateway (%b)" % instance.encode() if instance else b"1.1 gateway"
        self._signer = signer
        self._audience = audience

    def head(self, call: Call, target_host: bytes, started: float = 0.0, told: bytes = b"") -> bytes:
        """The request's head for the upstream, complete with its framing."""
        request = call.request
        host = self._fixed_host
        if host is None:
            host = target_host if self._host == "upstream" or not call.host else call.host
        method = METHOD_BYTES.get(request.method) or request.method.encode()
        fields, caller = request.fields, call.caller
        # What changes with the try stands among what changes with the caller: outside of what is remembered.
        ours = told + b"".join([b"%b: %b\r\n" % field for field in caller.forward]) if caller.forward else told
        if call.lines:
            ours += call.lines
        key: object = self
        removed = call.removed
        if removed or caller.signed or caller.hidden is not None:
            key = (self, caller.hidden, caller.signed, removed)
            if caller.signed and self._signer is not None:
                ours += self._signer.field(caller, self._audience)
        kept = fields.derived.get(key)
        if kept is None:
            kept = fields.derived[key] = self._kept(
                fields, fields.headers if key is self else _visible(fields, caller, removed)
            )
        return b"%b %b%b HTTP/1.1\r\nhost: %b\r\nx-request-id: %b\r\n%b%b%b%b\r\n" % (
            method,
            call.path,
            call.query,
            host,
            call.id.encode(),
            kept,
            _forwarding(call),
            ours,
            _framing(call, request),
        )

    def _kept(self, fields: Fields, visible: Headers) -> bytes:
        """The client's own fields as far as they go on, and Via."""
        names, nominated = self._names, fields.nominated
        lines: list[bytes] = []
        for name, value in visible:
            prefix = names.get(name)
            if prefix is None:
                prefix = self._judge(name)
            if prefix and name not in nominated:
                lines += (prefix, value, b"\r\n")
        via = [value for name, value in fields.headers if name == b"via"] if b"via" in fields.index else []
        lines += (b"via: ", b", ".join([*via, self._via]), b"\r\n")
        hops = fields.index.get(b"max-forwards", b"")
        if DIGITS.fullmatch(hops):
            lines.append(b"max-forwards: %d\r\n" % max(0, int(hops) - 1))
        return b"".join(lines)

    def _judge(self, name: bytes) -> bytes:
        """`name: ` when the field passes, b"" when it is dropped; remembered for the next time."""
        prefix = b"" if plain(name) in self._dropped else name + b": "
        if len(self._names) < KNOWN_NAMES:
            self._names[name] = prefix
        return prefix


class TimedForwarder:
    """Tells the target, in a header, how many milliseconds this try has: what would come later is for nobody.

    `forwarder` must be one that drops this header of the client's (`identity`). `try_timeout` is in seconds.
    """

    __slots__ = ("_clock", "_forwarder", "_line", "_try_timeout")

    def __init__(self, forwarder: Heads, header: bytes, try_timeout: float, clock: Callable[[], float]) -> None:
        self._forwarder = forwarder
        self._line = header.replace(b"%", b"%%") + b": %d\r\n"
        self._try_timeout = try_timeout
        self._clock = clock

    def head(self, call: Call, target_host: bytes, started: float = 0.0, told: bytes = b"") -> bytes:
        """The request's head for the upstream, complete with its framing."""
        left = min(self._try_timeout, call.deadline - self._clock())
        # Never 0, which many servers take for no limit at all.
        return self._forwarder.head(call, target_host, started, told + self._line % max(1, int(left * 1000)))


class TracedForwarder:
    """Tells the target which span of which trace this very try is (W3C Trace Context).

    `forwarder` must be one that drops the client's own (`identity`).
    """

    __slots__ = ("_forwarder",)

    def __init__(self, forwarder: Heads) -> None:
        self._forwarder = forwarder

    def head(self, call: Call, target_host: bytes, started: float = 0.0, told: bytes = b"") -> bytes:
        """The request's head for the upstream, complete with its framing."""
        if call.trace is not None:  # else it began before traces were switched on
            told += call.trace.lines(started)
        return self._forwarder.head(call, target_host, started, told)


def plain(name: bytes) -> bytes:
    """A header name without the differences that CGI and its heirs do not see."""
    return name.replace(b"_", b"-").replace(b".", b"-")


def without_cookies(value: bytes, names: frozenset[bytes]) -> bytes:
    """A Cookie field without the cookies of these names; the others stay byte for byte, and b"" is none at all."""
    pairs = value.split(b";")
    kept = [pair for pair in pairs if pair.partition(b"=")[0].strip(b" \t") not in names]
    return value if len(kept) == len(pairs) else b";".join(kept).strip(b"; \t")


def _visible(fields: Fields, caller: Caller, removed: frozenset[bytes]) -> Headers:
    """The fields without the credentials of this caller, and without those that a stage has `removed`.

    Where the gateway's own token stands no other one may, whichever of its credentials made the caller known.
    """
    headers = {plain(name) for name in removed}
    if caller.hidden is not None:
        headers |= {plain(name) for name in caller.hidden.headers}
    cookies = caller.hidden.cookies if caller.hidden is not None else frozenset[bytes]()
    if caller.signed:
        headers.add(b"authorization")
    seen = [(name, value) for name, value in fields.headers if plain(name) not in headers]
    if not cookies or b"cookie" not in fields.index:
        return seen
    cut = [(name, without_cookies(value, cookies) if name == b"cookie" else value) for name, value in seen]
    return [(name, value) for name, value in cut if value or name != b"cookie"]


def _framing(call: Call, request: Request) -> bytes:
    body, fields = call.body, request.fields
    if fields.upgrade:
        return b"connection: upgrade\r\nupgrade: %b\r\n" % fields.upgrade
    if isinstance(body, bytes):
        if body or fields.length != 0 or request.method in ("POST", "PUT", "PATCH"):
            return b"content-length: %d\r\n" % len(body)
        return b""
    if body.length is None:
        return b"transfer-encoding: chunked\r\n"
    return b"content-length: %d\r\n" % body.length


def _forwarding(call: Call) -> bytes:
    """X-Forwarded-* and Forwarded (RFC 7239); made once per connection and Host for ordinary clients."""
    peer = call.request.peer
    if not peer.trusted and peer.forwarded[0] == call.host and peer.forwarded[1]:
        return peer.forwarded[1]
    address = "unknown" if peer.address == "unix" else peer.address  # RFC 7239 section 6.2
    chain = address
    forwarded = b""
    if peer.trusted:
        values = call.request.headers
        received = [value for name, value in values if name == b"x-forwarded-for"]
        if received:
            chain = b", ".join([*received, address.encode()]).decode("latin-1")
        elements = [value for name, value in values if name == b"forwarded"]
        if elements:
            forwarded = b", ".join(elements) + b", "
    node = address if ":" not in address else f'"[{address}]"'
    host = call.host.decode("latin-1")
    quoted = f'"{host}"' if host and not host.replace(".", "").replace("-", "").isalnum() else host
    element = f"for={node}" + (f";host={quoted}" if host else "") + f";proto={call.scheme}"
    lines = b"x-forwarded-for: %b\r\nx-forwarded-proto: %b\r\n%bforwarded: %b\r\n" % (
        chain.encode("latin-1"),
        call.scheme.encode(),
        b"x-forwarded-host: %b\r\n" % call.host if call.host else b"",
        forwarded + element.encode("latin-1"),
    )
    if not peer.trusted:
        peer.forwarded = (call.host, lines)
    return lines


def ends_here(request: Request) -> bool:
    """Whether an OPTIONS request asks this very server and not one behind it (RFC 9110 7.6.2, 9.3.7)."""
    return request.target == b"*" or request.fields.index.get(b"max-forwards") == b"0"


def loops(request: Request, instance: str) -> bool:
    """Whether the request has been through this very gateway already (RFC 9110 7.6.3)."""
    return any(instance.encode() in value for name, value in request.headers if name == b"via")
