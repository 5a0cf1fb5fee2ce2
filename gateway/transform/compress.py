"""Compression of replies, by what the client accepts.

Left alone are replies that are encoded already, ranges, what says `no-transform`, what is too small, and types that
are not worth it. All others say `Vary: Accept-Encoding`, compressed or not, as another client may get them otherwise.

What is compressed is another representation with the same meaning: its ETag becomes weak (RFC 9110 section 8.8.1),
digests of the bytes go, and so does Accept-Ranges, whose bytes nobody could ask for.

A secret and what an attacker may put beside it should not be in one compressed reply (BREACH): that is why routes do
not compress unless they are told to.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial

from gateway.exchange import NEVER, Call, Headers, Reply, header, header_values
from gateway.pipe import Layer, Send
from gateway.resilience.replay import discard
from gateway.transform.accept_encoding import LONGEST, choose
from gateway.transform.codecs import ENCODERS, ERRORS, Encoder
from gateway.transform.compressed_stream import CompressedStream, compress_whole, gave_up
from gateway.transform.compressible import LONGEST_TYPE, compressible

REMEMBERED = 256
"""Different values of a field that are judged once: clients have a few dozens; a flood of others costs 4 µs each."""

VARY = b"vary: accept-encoding\r\n"

UNTOUCHED = frozenset({101, 204, 205, 206})
"""No body, or part of one: 206 ranges would be of other bytes."""

OF_OTHER_BYTES = frozenset(
    {b"accept-ranges", b"content-digest", b"content-length", b"content-md5", b"digest", b"repr-digest"}
)
"""Fields that do not hold for the compressed bytes (RFC 9530, RFC 9110 section 14.3)."""


def compress(encodings: Sequence[str], *, min_size: int, types: Sequence[str], level: str) -> Layer:
    """Compress replies of `types`; `encodings` are names of codecs.ENCODERS, the preferred one first.

    Replies whose length is known and below `min_size` bytes are left alone. `level` is one of codecs.LEVELS.
    """
    begin = {coding.encode(): partial(ENCODERS[coding], level) for coding in encodings}
    rules = Rules(tuple(begin), min_size, types)

    def layer(send: Send) -> Send:
        async def compressing(call: Call) -> Reply:
            reply = await send(call)
            index = rules.taken(call, reply)
            if index is not None:
                if b"vary" not in index or not _varies(reply.headers):
                    call.added += VARY
                if reply.status == 304:
                    _revalidated(call, reply)
                elif coding := rules.coding(call):
                    await _compressed(call, reply, coding, begin[coding])
            return reply

        return compressing

    return layer


class Rules:
    """What of a route is compressed, and how. Decides only."""

    __slots__ = ("_choose", "_min_size", "_worthwhile")

    def __init__(self, encodings: Sequence[bytes], min_size: int, types: Sequence[str]) -> None:
        self._min_size = min_size
        self._worthwhile = lru_cache(REMEMBERED)(compressible(types))
        self._choose: Callable[[bytes], bytes] = lru_cache(REMEMBERED)(partial(choose, offered=encodings))

    def taken(self, call: Call, reply: Reply) -> Mapping[bytes, bytes] | None:
        """A reply's fields by name if it would be compressed for a client that accepts it, else None."""
        status, body = reply.status, reply.body
        whole = status != 304  # which tells neither type nor length of what it stands for
        if whole and (len(body) if body and isinstance(body, bytes) else _length(call, reply)) < self._min_size:
            return None
        index = dict(reply.headers)
        if b"content-encoding" in index or b"content-range" in index or status in UNTOUCHED:
            return None
        if whole and not self._worthwhile(index.get(b"content-type", b"")[:LONGEST_TYPE]):
            return None
        if b"cache-control" in index and _no_transform(index, reply.headers):
            return None
        fields = call.request.fields
        if b"cache-control" in fields.index and _no_transform(fields.index, fields.headers):
            return None
        return index

    def coding(self, call: Call) -> bytes:
        """What this client gets; b"" for the reply as it is."""
        fields = call.request.fields
        accepted = fields.index.get(b"accept-encoding")
        if accepted is None:
            return b""
        if fields.repeated:
            accepted = b",".join(header_values(fields.headers, b"accept-encoding"))
        return self._choose(accepted[: LONGEST + 1])


async def _compressed(call: Call, reply: Reply, coding: bytes, begin: Callable[[], Encoder]) -> None:
    """Replace the body, and what is said about it."""
    body = reply.body
    if body or call.request.method != "HEAD":  # without one it says what GET would, except for the length
        try:
            encoder = begin()
        except ERRORS as error:
            discard(reply)
            raise gave_up() from error
        if isinstance(body, bytes):
            smaller = await compress_whole(body, encoder)
            if len(smaller) >= len(body):
                return
            reply.body = smaller
        else:
            reply.body = CompressedStream(body, encoder)
    reply.headers = [_weak(*field) for field in reply.headers if field[0] not in OF_OTHER_BYTES]
    reply.headers.append((b"content-encoding", coding))
    reply.lines = None


def _revalidated(call: Call, reply: Reply) -> None:
    """A client that asked with the weak tag of a compressed reply has that one confirmed."""
    tag = header(reply.headers, b"etag")
    if tag is not None and any(b"W/" + tag in asked for asked in header_values(call.request.headers, b"if-none-match")):
        reply.headers = [_weak(*field) for field in reply.headers if field[0] not in OF_OTHER_BYTES]
        reply.lines = None


def _weak(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    return (name, b"W/" + value) if name == b"etag" and value[:1] == b'"' else (name, value)


def _length(call: Call, reply: Reply) -> float:
    """Of the body, or of that which GET would have brought; NEVER where only its end will tell."""
    body = reply.body
    if not isinstance(body, bytes):
        return NEVER if body.length is None else body.length
    if body or call.request.method != "HEAD":
        return len(body)
    announced = header(reply.headers, b"content-length")
    return NEVER if announced is None else int(announced)


def _no_transform(index: Mapping[bytes, bytes], headers: Headers) -> bool:
    """RFC 9111 sections 5.2.1.6 and 5.2.2.6; `index` has `headers` by name, of repeated ones the last."""
    control = index[b"cache-control"]
    if len(index) != len(headers):
        control = b",".join(header_values(headers, b"cache-control"))
    return b"no-transform" in control.lower()


def _varies(headers: Headers) -> bool:
    """The upstream has said so already."""
    values = header_values(headers, b"vary")
    return bool(values) and (b"*" in values or b"accept-encoding" in b",".join(values).lower())
