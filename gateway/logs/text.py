"""How what a client wrote is shown in the access log: capped, escaped, and without what has to stay secret.

Everything comes out as printable text without line ends, so nobody can forge a line, steer a terminal or fill the
disk with one request. Query strings are left out: they carry tokens and personal data. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from gateway.exchange import Call, Fields, header_values
from gateway.logs.escaping import escaped
from gateway.routing.path import normalise

PATH_CAP = 1024
VALUE_CAP = 1024
"""For the value of a header that is logged by request."""
TEXT_CAP = 200
"""For a user agent or a subject: long enough for the real ones."""

REDACTED = "[redacted]"
ALWAYS_REDACTED = frozenset({b"authorization", b"proxy-authorization", b"cookie", b"set-cookie"})
"""Whatever the configuration says: they hold credentials by their definition."""

SEGMENT = re.compile(rb"/[A-Za-z0-9_-][A-Za-z0-9._-]*")
AMISS = re.compile(rb"[^\x20\x21\x23-\x5b\x5d-\x7e]")
"""What may not stand between quotes: all that is not printable ASCII, the quote itself, and the backslash."""


def text(raw: bytes, cap: int) -> str:
    """ASCII; JSON does the rest. Not latin-1: that would let C1 control characters (0x80-0x9f) reach a terminal."""
    shown = raw[:cap].decode("ascii", "backslashreplace")
    return shown.replace("\x7f", "\\x7f") if "\x7f" in shown else shown


def subject(name: str) -> str:
    """A name that a token brought."""
    return name if len(name) <= TEXT_CAP and name.isprintable() else escaped(name[:TEXT_CAP])


def quoted(raw: bytes, cap: int) -> bytes:
    r"""For a place between quotes: everything that is amiss there as \xNN."""
    raw = raw[:cap]
    return AMISS.sub(_escape, raw) if AMISS.search(raw) else raw


def _escape(found: re.Match[bytes]) -> bytes:
    return b"\\x%02x" % found[0][0]


def without_query(url: bytes) -> bytes:
    """Of a page's address: nor the fragment."""
    return url.partition(b"?")[0].partition(b"#")[0]


def path_of(call: Call) -> bytes:
    """As the client asked for it, in normal form; raw where the request was refused before. Without the query."""
    if call.path:
        return _with_version(call) if call.version else call.path
    target = call.request.target.partition(b"?")[0]
    return target if target.startswith(b"/") else target.rpartition(b"@")[2]  # nor credentials


def _with_version(call: Call) -> bytes:
    """`call.path` lacks a version that ends at the gateway."""
    written, path = call.request.target.partition(b"?")[0], call.path
    # As nearly all clients write it, it needs no normalising: a plain segment in front of what is in normal form.
    if written == path or (written.endswith(path) and SEGMENT.fullmatch(written, 0, len(written) - len(path))):
        return written
    return normalise(call.request.target, call.request.fields.host).path


class LoggedHeaders:
    """The request headers that are logged by the configuration's wish."""

    def __init__(self, names: Sequence[str], redacted: Collection[bytes]) -> None:
        lowered = [(name.lower(), name.lower().encode()) for name in names]
        self._names = [(name, raw, raw in redacted) for name, raw in lowered]

    def __call__(self, fields: Fields) -> dict[str, str | None]:
        """By lowercase name: the value, null where there is none; of a redacted one only that it was there."""
        return {name: self._shown(fields, raw, redacted) for name, raw, redacted in self._names}

    def _shown(self, fields: Fields, name: bytes, redacted: bool) -> str | None:
        value = fields.index.get(name)
        if value is None or redacted:
            return None if value is None else REDACTED
        values = header_values(fields.headers, name) if fields.repeated else [value]
        if name == b"referer":
            values = [without_query(each) for each in values]
        return text(b", ".join(values), VALUE_CAP)
