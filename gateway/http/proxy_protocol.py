"""The PROXY protocol, versions 1 and 2: whom a load balancer names as the client of a connection. Pure.

The specification is HAProxy's doc/proxy-protocol.txt. A header is judged as strictly as a request: what is not
exactly one is refused, and the connection with it.
"""

import ipaddress
import re
from typing import NamedTuple

NAME = b"PROXY "
LONGEST_LINE = 107
"""Bytes of a header of version 1, its line end included; section 2.1."""

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
FIXED = 16
"""Bytes of a header of version 2 before its addresses; section 2.2."""

LONGEST = 4096
"""Bytes of a header with all its extensions (certificates, checksums, cloud identifiers): real ones have hundreds."""

LOCAL, PROXY = 0x20, 0x21
"""Version and command in one byte."""

ADDRESSES = {0x11: 4, 0x21: 16}
"""Bytes of an address, by family and transport in one byte: TCP over IPv4, TCP over IPv6."""

PORT = re.compile(rb"0|[1-9][0-9]{0,4}")


class Header(NamedTuple):
    """What came before the client's first byte."""

    size: int
    """Bytes it takes up."""
    source: tuple[str, int] | None
    """Address and port of the client; None when the socket's stand (health checks, other families)."""


def parse(data: bytes) -> Header | None:
    """The header that `data` begins with; None when more is needed. Raises ValueError for anything else."""
    if data.startswith(SIGNATURE):
        return _binary(data)
    if data.startswith(NAME):
        return _text(data)
    if NAME.startswith(data) or SIGNATURE.startswith(data):
        return None
    raise ValueError("no PROXY header")


def _text(data: bytes) -> Header | None:
    end = data.find(b"\r\n", 0, LONGEST_LINE)
    if end < 0:
        if len(data) >= LONGEST_LINE:
            raise ValueError("the PROXY header has no end")
        return None
    family, _, rest = data[len(NAME) : end].partition(b" ")
    if family == b"UNKNOWN":  # whatever follows means nothing
        return Header(end + 2, None)
    parts = rest.split(b" ")
    if family not in (b"TCP4", b"TCP6") or len(parts) != 4:
        raise ValueError("the PROXY header is malformed")
    source, destination, *ports = parts
    _address(family, destination)
    numbers = [int(port) for port in ports if PORT.fullmatch(port)]
    if len(numbers) != 2 or max(numbers) > 65535:
        raise ValueError("the PROXY header has no valid ports")
    return Header(end + 2, (_address(family, source), numbers[0]))


def _address(family: bytes, text: bytes) -> str:
    if family == b"TCP4":
        return str(ipaddress.IPv4Address(text.decode("ascii")))
    if b"%" in text:
        raise ValueError("the PROXY header has an address with a zone")
    return _v6(ipaddress.IPv6Address(text.decode("ascii")))


def _v6(address: ipaddress.IPv6Address) -> str:
    """As text; an IPv4 client of a dual-stack load balancer counts as what it is."""
    return str(address.ipv4_mapped or address)


def _binary(data: bytes) -> Header | None:
    if len(data) < FIXED:
        return None
    command, family = data[12], data[13]
    size = FIXED + int.from_bytes(data[14:16])
    if command not in (LOCAL, PROXY):
        raise ValueError("the PROXY header has another version or command")
    if family >> 4 > 3 or family & 15 > 2:  # unspecified, IPv4, IPv6, unix; unspecified, stream, datagram
        raise ValueError("the PROXY header has an unknown family")
    if size > LONGEST:
        raise ValueError("the PROXY header is too long")
    width = ADDRESSES.get(family, 0) if command == PROXY else 0
    if size < FIXED + 2 * width + (4 if width else 0):
        raise ValueError("the PROXY header is too short for its addresses")
    if len(data) < size:
        return None
    if not width:
        return Header(size, None)
    packed = data[FIXED : FIXED + width]
    address = str(ipaddress.IPv4Address(packed)) if width == 4 else _v6(ipaddress.IPv6Address(packed))
    port = FIXED + 2 * width
    return Header(size, (address, int.from_bytes(data[port : port + 2])))
