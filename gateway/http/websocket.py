"""The framing of WebSocket (RFC 6455 section 5.2) as far as a tunnel needs it: where frames end, and the last of them.

A frame cannot be put into the middle of another, so whoever would add one must know where they end. The bytes
themselves are passed on as they are: lengths are added up, nothing is copied, unmasked, or judged. Every
sequence of bytes can be followed; one that is not WebSocket merely never seems to be done.
"""

GOING_AWAY = 1001
"""The status of an endpoint that goes away, such as a server going down (section 7.4.1)."""

FINAL = 0x80  # in the first byte of a frame; the opcode is the lower half of it
OPCODE = 0x0F
CLOSE = 0x08

MASKED = 0x80  # in the second byte; the rest of it is the length, or says how many bytes of length follow
MASK = 4
"""Bytes of a masking key."""

SHORT = 125
"""The longest payload of a control frame (section 5.5)."""

LENGTH_ENDS = 10
"""No header needs more bytes to tell where its frame ends: two, and up to eight of extended length."""


class Frames:
    """Follows the bytes of one direction of a WebSocket from frame to frame."""

    __slots__ = ("_head", "_left", "closed")

    def __init__(self) -> None:
        self._left = 0  # bytes still to come of a frame whose length is known
        self._head = b""  # the beginning of a header that does not tell the length yet
        self.closed = False  # the header of a Close frame has passed

    @property
    def between(self) -> bool:
        """The next byte begins a frame: here another one can be put in."""
        return not self._left and not self._head

    def boundary(self, data: bytes) -> int:
        """Where in `data`, which comes next, the frame ends that is on its way; 0 between frames.

        It may lie beyond `data`; -1 when even the header is not whole with it.
        """
        if not self._head:
            return self._left
        end = frame_end(self._head + data[:LENGTH_ENDS], 0)
        return end if end < 0 else end - len(self._head)

    def feed(self, data: bytes) -> None:
        """`data` has passed."""
        at = self._left
        if self._head:
            at = self.boundary(data)
            if at < 0:
                self._head += data
                return
            if self._head[0] & OPCODE == CLOSE:
                self.closed = True
            self._head = b""
        size = len(data)
        while at < size:
            end = frame_end(data, at)
            if end < 0:
                self._head = data[at:]
                end = size
            elif data[at] & OPCODE == CLOSE:
                self.closed = True
            at = end
        self._left = at - size


def frame_end(data: bytes, at: int) -> int:
    """Where the frame ends that begins at `at`, perhaps beyond `data`; -1 when its length is not all there yet."""
    size = len(data) - at
    if size < 2:
        return -1
    length = data[at + 1] & ~MASKED
    payload = at + 2 + (MASK if data[at + 1] & MASKED else 0)
    if length < 126:
        return payload + length
    if length == 126:
        return -1 if size < 4 else payload + 2 + (data[at + 2] << 8 | data[at + 3])
    return -1 if size < 10 else payload + 8 + int.from_bytes(data[at + 2 : at + 10])


def close_frame(code: int, reason: str = "", mask: bytes = b"") -> bytes:
    """A Close frame; towards a server it needs a `mask` of four random bytes (section 5.3)."""
    payload = code.to_bytes(2) + reason.encode()
    if len(payload) > SHORT:
        raise ValueError(f"the reason has {len(payload) - 2} bytes, more than {SHORT - 2}")
    if not mask:
        return bytes((FINAL | CLOSE, len(payload))) + payload
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes((FINAL | CLOSE, MASKED | len(payload))) + mask + masked
