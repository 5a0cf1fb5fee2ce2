"""What a message's head must look like beyond what llhttp checks itself. Pure; nothing here awaits.

llhttp (strict) refuses bad tokens, control bytes, folding, bare CR or LF, both framings at once, and odd
chunk sizes or Content-Length. Judged here: the request line's exact form, Host, Transfer-Encoding,
versions, Expect, Upgrade, and what `Connection` nominates (RFC 9110 and 9112, section 6.2 of
docs/architecture.md). Each refusal closes the connection: the framing can no longer be trusted.
"""

import base64
import binascii
import re
from collections.abc import Mapping

from gateway.errors import Refused
from gateway.exchange import Fields, Headers

HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+=-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{0,5})?")
"""uri-host [":" port] (RFC 9110 7.2), without user information, commas, semicolons or escapes."""

LENGTHS = 2**63
"""Servers that count in signed 64-bit numbers read longer bodies as negative ones."""

TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")

PROTECTED = (b"host", b"authorization", b"content-length", b"transfer-encoding", b"cookie", b"x-request-id")
"""Naming one of these in Connection can only mean to smuggle: end-to-end by definition, or set by us."""


def bad(detail: str, status: int = 400) -> Refused:
    """A request whose framing or syntax is not to be trusted."""
    return Refused("bad_request", status, detail)


def judge_fields(method: str, version: str, headers: Headers) -> Fields:
    """Judge the fields of a request's head. Raises Refused with 400, 405, 417, 426 or 501."""
    index = dict(headers)
    if len(index) != len(headers):
        _refuse_repeated(headers)
    host = index.get(b"host")
    if host is None:
        if version == "1.1":
            raise bad("the Host header is missing")
        host = b""
    elif not HOST.fullmatch(host):
        raise bad("the Host header is not a host and port")
    if method in ("CONNECT", "TRACE"):
        raise Refused("method_not_allowed", 405, f"{method} is not served here", headers=[(b"allow", b"")])

    length = _length(version, index)
    keep_alive = version == "1.1"
    nominated: tuple[bytes, ...] = ()
    upgrades = False
    connection = index.get(b"connection")
    if connection is not None:
        if len(index) != len(headers):
            connection = b",".join(value for name, value in headers if name == b"connection")
        keep_alive, upgrades, nominated = _connection(connection.lower(), keep_alive)

    expects_continue = False
    if b"expect" in index:
        if index[b"expect"].lower() != b"100-continue":
            raise bad("the only expectation understood is 100-continue", 417)
        # RFC 9110 10.1.1: ignored from HTTP/1.0 clients and where there is no body to wait for.
        expects_continue = version == "1.1" and length != 0

    upgrade = b""
    if b"upgrade" in index:
        upgrade = _upgrade(method, version, index, upgrades, length)
    return Fields(
        headers,
        index,
        host=host,
        length=length,
        keep_alive=keep_alive,
        expects_continue=expects_continue,
        upgrade=upgrade,
        nominated=nominated,
        version=version,
    )


ONCE = {b"host", b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"authorization", b"content-type"}
"""Fields of which a second one would leave it to luck which of them counts."""


def _refuse_repeated(headers: Headers) -> None:
    seen = set()
    for name, _ in headers:
        if name in seen and name in ONCE:
            raise bad(f"the {name.decode()} header is repeated")
        seen.add(name)


def _length(version: str, index: Mapping[bytes, bytes]) -> int | None:
    """Bytes of body announced; 0 for none, None when chunked."""
    if b"content-length" in index:
        length = int(index[b"content-length"])  # llhttp has made sure of the digits
        if length >= LENGTHS:
            raise bad("the Content-Length is beyond all measure")
        return length
    coding = index.get(b"transfer-encoding")
    if coding is None:
        return 0
    if version == "1.0":
        raise bad("HTTP/1.0 has no Transfer-Encoding")
    coding = coding.lower()
    if coding != b"chunked":
        layered = coding.endswith((b", chunked", b",chunked")) and not coding.startswith(b",")
        raise bad("only the chunked transfer coding is understood", 501 if layered else 400)
    return None


def _connection(value: bytes, keep_alive: bool) -> tuple[bool, bool, tuple[bytes, ...]]:
    """Keep-alive, whether `upgrade` is named, and the other names nominated."""
    if value == b"keep-alive":
        return True, False, ()
    if value == b"close":
        return False, False, ()
    tokens = [token.strip(b" \t") for token in value.split(b",")]
    for token in tokens:
        if token in PROTECTED or token.startswith(b"x-forwarded-"):
            raise bad("Connection names a header that is not hop-by-hop")
    if b"close" in tokens:
        keep_alive = False
    elif b"keep-alive" in tokens:
        keep_alive = True
    return keep_alive, b"upgrade" in tokens, tuple(t for t in tokens if t not in (b"", b"close", b"keep-alive"))


def _upgrade(method: str, version: str, index: Mapping[bytes, bytes], named: bool, length: int | None) -> bytes:
    """b"websocket" when the request is a sound WebSocket handshake (RFC 6455 4.1), b"" to ignore the wish."""
    if index[b"upgrade"].lower() != b"websocket":
        # Upgrade may always be ignored (RFC 9110 7.8); but llhttp does not read a body behind one.
        if length != 0:
            raise bad("an Upgrade that carries a body is not understood")
        return b""
    if not named:
        raise bad("Upgrade without Connection: upgrade")
    if method != "GET" or version != "1.1" or length != 0:
        raise bad("a WebSocket handshake is a GET without a body")
    if index.get(b"sec-websocket-version") != b"13":
        raise Refused(
            "bad_request",
            426,
            "only WebSocket version 13 is spoken here",
            headers=[(b"sec-websocket-version", b"13"), (b"upgrade", b"websocket"), (b"connection", b"upgrade")],
        )
    try:
        key = base64.b64decode(index.get(b"sec-websocket-key", b""), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != 16:
        raise bad("Sec-WebSocket-Key is not 16 bytes in base64")
    return b"websocket"


def unknown_method(head: bytes) -> Refused:
    """Why llhttp did not know the method at the start of `head`: 501 for a new one, 400 for no token."""
    line = head.lstrip(b"\r\n")[:80]
    token, space, _ = line.partition(b" ")
    if space and TOKEN.fullmatch(token):
        return Refused("method_not_allowed", 501, "this method is not known here")
    return bad("the request line does not begin with a method")


def frame_reply(version: str, headers: Headers, index: Mapping[bytes, bytes]) -> bool:
    """Judge an upstream's head; returns whether the connection may be kept. Raises ValueError."""
    if version not in ("1.1", "1.0"):
        raise ValueError("version")
    coding = index.get(b"transfer-encoding")
    if coding is not None:
        codings = sum(name == b"transfer-encoding" for name, _ in headers)
        if codings != 1 or coding.lower() != b"chunked" or version == "1.0" or b"content-length" in index:
            raise ValueError("transfer-encoding")
    connection = index.get(b"connection")
    if connection is None:
        return version == "1.1"
    if len(index) != len(headers):
        connection = b",".join(value for name, value in headers if name == b"connection")
    tokens = {token.strip(b" \t") for token in connection.lower().split(b",")}
    return b"close" not in tokens and (version == "1.1" or b"keep-alive" in tokens)
