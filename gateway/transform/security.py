"""Headers that tell browsers to be careful: on replies that lack them, and on the gateway's own. Pure.

An upstream knows its pages, so what it says stands. What the gateway adds for it breaks no page of its own: nobody
guesses content types, pages of other sites cannot frame it, other sites see its origin at most. A
Content-Security-Policy could break pages, so only the gateway's own answers have one: they are JSON or empty, and
nothing in them is ever to be run, loaded or framed.
"""

from gateway.exchange import Call, Reply
from gateway.pipe import Layer, Send

FOR_UPSTREAMS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"SAMEORIGIN",
    b"referrer-policy": b"strict-origin-when-cross-origin",
}

OWN = (
    b"x-content-type-options: nosniff\r\n"
    b"x-frame-options: DENY\r\n"
    b"referrer-policy: no-referrer\r\n"
    b"content-security-policy: default-src 'none'; frame-ancestors 'none'\r\n"
)
"""Field lines for the errors that the gateway itself answers with."""

SILENT = b"".join(b"%b: %b\r\n" % field for field in FOR_UPSTREAMS.items())
"""What is added when an upstream says none of it."""


def missing(reply: Reply) -> bytes:
    """Field lines for what `reply` does not say itself."""
    said = {name for name, _ in reply.headers}
    if said.isdisjoint(FOR_UPSTREAMS):
        return SILENT
    return b"".join(b"%b: %b\r\n" % field for field in FOR_UPSTREAMS.items() if field[0] not in said)


def security_headers() -> Layer:
    """Adds what is missing. Outermost: what routes set or remove has been set and removed when it looks."""

    def layer(send: Send) -> Send:
        last: tuple[bytes, bytes] = (b"", SILENT)  # the fields of a reply, and what it lacked

        async def careful(call: Call) -> Reply:
            nonlocal last
            reply = await send(call)
            lines = reply.lines
            if lines is not None and lines == last[0]:
                call.added += last[1]
                return reply
            added = missing(reply)
            if lines is not None:
                last = (lines, added)
            call.added += added
            return reply

        return careful

    return layer
