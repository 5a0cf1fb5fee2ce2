"""PROXY headers as load balancers write them, and what only looks like one."""

import ipaddress

import pytest

from gateway.http.proxy_protocol import LONGEST, SIGNATURE, Header, parse

V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
REST = b"GET / HTTP/1.1\r\n"


def v2(
    source: str = "192.0.2.7", port: int = 56324, *, command: int = 0x21, family: int = 0, more: bytes = b""
) -> bytes:
    """A binary header with the address of a client, and whatever follows the addresses."""
    address = ipaddress.ip_address(source)
    family = family or {4: 0x11, 6: 0x21}[address.version]
    body = address.packed * 2 + port.to_bytes(2) + (443).to_bytes(2) + more
    return SIGNATURE + bytes([command, family]) + len(body).to_bytes(2) + body


@pytest.mark.parametrize(
    ("header", "source"),
    [
        (V1, ("192.0.2.7", 56324)),
        (b"PROXY TCP6 2001:DB8:0::1 ::1 1 0\r\n", ("2001:db8::1", 1)),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 65535 0\r\n", ("192.0.2.7", 65535)),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff::1 whatever 1 2 3\r\n", None),
        (v2(), ("192.0.2.7", 56324)),
        (v2("2001:db8::1", 1), ("2001:db8::1", 1)),
        (v2("::ffff:192.0.2.7"), ("192.0.2.7", 56324)),
        (v2(more=b"\x03\x00\x04abcd" + b"\x20\x01\x00" + bytes(256)), ("192.0.2.7", 56324)),
        (v2(command=0x20), None),
        (SIGNATURE + b"\x20\x00\x00\x00", None),
        (SIGNATURE + b"\x21\x00\x00\x00", None),
        (SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216), None),
        (v2(family=0x12), None),
    ],
)
def test_a_header_is_read_from_its_first_byte_to_its_last(header: bytes, source: tuple[str, int] | None) -> None:
    assert parse(header + REST) == Header(len(header), source)
    for size in range(len(header)):
        assert parse(header[:size]) is None, header[:size]


@pytest.mark.parametrize(
    "data",
    [
        b"G",
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00",
        b"proxy TCP4 192.0.2.7 198.51.100.1 56324 443\r\n",
        b"PROXY  TCP4 192.0.2.7 198.51.100.1 56324 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 56324\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443 \r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443 more\r\n",
        b"PROXY TCP4 192.0.2.07 198.51.100.1 56324 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.256 56324 443\r\n",
        b"PROXY TCP4 ::1 ::1 56324 443\r\n",
        b"PROXY TCP6 192.0.2.7 ::1 56324 443\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 56324 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 056 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 +56 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\xb2\r\n",
        b"PROXY TCP4 192.0.2.\xb27 198.51.100.1 56324 443\r\n",
        b"PROXY TCP5 192.0.2.7 198.51.100.1 56324 443\r\n",
        b"PROXY UDP4 192.0.2.7 198.51.100.1 56324 443\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\n" + bytes(70),
        b"PROXY UNKNOWN " + b"x" * 93,
        b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
        SIGNATURE[:-1] + b"\r",
        v2(command=0x11),
        v2(command=0x31),
        v2(command=0x22),
        v2(family=0x41),
        v2(family=0x13),
        SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11),
        SIGNATURE + b"\x21\x21\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\xff\xff",
        SIGNATURE + b"\x20\x00" + (LONGEST - 15).to_bytes(2),
    ],
)
def test_what_is_not_exactly_a_header_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(data)


def test_the_longest_headers_are_taken() -> None:
    line = b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n"
    assert parse(line) == Header(107, None)
    assert parse(v2(more=bytes(LONGEST - 28))) == Header(LONGEST, ("192.0.2.7", 56324))
