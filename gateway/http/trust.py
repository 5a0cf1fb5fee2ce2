"""Who the client really is when it comes through trusted proxies. Pure.

X-Forwarded-For is read from the right: every address a trusted proxy wrote is true, the first one that is
not itself a trusted proxy is the client, and whatever stands to its left is only a claim.
"""

import ipaddress
import re
from collections.abc import Sequence

from gateway.exchange import Call, header_values
from gateway.http.syntax import HOST

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

REQUEST_ID = re.compile(r"[A-Za-z0-9._~+/=-]{1,128}")
"""What may stand in a log line and in another system's search box."""


def address_in(address: str, networks: Sequence[Network]) -> bool:
    """Whether an IP address in text lies in one of `networks`; a v4-mapped v6 address counts as v4."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return any(ip in network for network in networks)


def hear(call: Call, trusted: Sequence[Network]) -> None:
    """Take over what a trusted proxy says: client address, scheme, host and request id."""
    headers = call.request.headers
    hops = [hop.strip() for value in header_values(headers, b"x-forwarded-for") for hop in value.split(b",")]
    if not hops:
        hops = _forwarded_for(header_values(headers, b"forwarded"))
    for hop in reversed(hops):
        address = _address(hop.decode("latin-1"))
        if address is None:
            break
        call.client_ip = address
        if not address_in(address, trusted):
            break
    scheme = call.request.fields.index.get(b"x-forwarded-proto", b"").lower()
    if scheme in (b"http", b"https"):
        call.scheme = scheme.decode()
    host = call.request.fields.index.get(b"x-forwarded-host")
    if host and HOST.fullmatch(host):
        call.host = host
    request_id = call.request.fields.index.get(b"x-request-id", b"").decode("latin-1")
    if REQUEST_ID.fullmatch(request_id):
        call.id = request_id


def _forwarded_for(values: list[bytes]) -> list[bytes]:
    """The for= parameters of Forwarded (RFC 7239), in order."""
    return [
        pair.strip()[4:].strip(b'"')
        for value in values
        for element in value.split(b",")
        for pair in element.split(b";")
        if pair.strip()[:4].lower() == b"for="
    ]


def _address(text: str) -> str | None:
    """The IP address in `1.2.3.4`, `1.2.3.4:80`, `::1`, `[::1]` or `[::1]:80`; None for anything else."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    if "%" in text:
        return None  # the zone of a link (RFC 4007): it may be any text, and means something on one machine alone
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
