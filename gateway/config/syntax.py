"""What names, methods, header fields, hosts and addresses may look like.

Every function returns the value in the form in which it is used, or raises ValueError that says what is
wrong without quoting a secret.
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import NamedTuple, TypeVar

from gateway.config.complaints import cut, hint, show

TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""RFC 9110 section 5.6.2."""
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,99}")
"""What fits a metric label, a Redis key and a quoted RateLimit-Policy name alike."""
METHOD = re.compile(r"[A-Z][A-Z0-9_-]*")
LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
"""RFC 6749 section 3.3."""
VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
"""A header field's value, RFC 9110 section 5.5."""

FRAMING = frozenset(
    (
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
"""Hop-by-hop and framing fields: the wire's own, RFC 9110 section 7.6.1."""
OURS = frozenset(
    (
        "forwarded",
        "traceparent",
        "tracestate",
        "via",
        "x-api-version",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-request-id",
    )
)
"""Fields that the gateway itself writes towards upstreams."""

AUTHORITY = re.compile(r"(\[[^\]]*\]|[^:]*)(?::([0-9]*))?", re.ASCII)
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Named = TypeVar("Named", bound=Mapping[str, object])

LONGEST_UNIX_PATH = 107
"""sockaddr_un on Linux."""


class Address(NamedTuple):
    """Where to listen: `path` of a unix socket, else `host` (IPv6 without brackets) and `port`; 0 is any free one."""

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"unix:{self.path}" if self.path else f"{host}:{self.port}"


def text(value: object) -> str:
    """Text, as it stands: still marked when it must not be quoted."""
    if isinstance(value, str):
        return value
    wrong = show(value)
    raise ValueError(f"must be text, not {wrong}" + ("" if isinstance(value, (dict, list)) else "; put it in quotes"))


def plain_text(value: object) -> str:
    """Text that no message will quote any more."""
    return str(text(value))


def name(value: object) -> str:
    """The name of a route, an upstream, a provider, a rate limit."""
    if not NAME.fullmatch(text(value)):
        raise ValueError(f"{show(value)} is not a name: up to 100 letters, digits and _ . : / -")
    return str(value)


def method(value: object) -> str:
    if METHOD.fullmatch(text(value)):
        return str(value)
    better = text(value).upper()
    meant = hint(value, [better]) if METHOD.fullmatch(better) else ""
    raise ValueError(f"{show(value)} is not a method in capitals{meant}")


def scope(value: object) -> str:
    if not SCOPE.fullmatch(text(value)):
        raise ValueError(f"{show(value)} is not a scope: no spaces, quotes or backslashes")
    return str(value)


def header_name(value: object) -> str:
    if not TOKEN.fullmatch(text(value)):
        raise ValueError(f"{show(value)} is not a header name")
    return str(value)


def settable_header(value: object) -> str:
    """The name of a header that the configuration may set."""
    lowered = header_name(value).lower()
    if lowered in FRAMING:
        raise ValueError(f"{show(value)} belongs to the connection and cannot be set")
    return str(value)


def identity_header(value: object) -> str:
    """The name of a header that carries a claim to the upstream."""
    lowered = settable_header(value).lower()
    if lowered in OURS:
        raise ValueError(f"{show(value)} is written by the gateway itself")
    return str(value)


def each_header_once(headers: Named) -> Named:
    """`headers`, unless two of their names differ by case alone. Raises ValueError."""
    seen = set()
    for name in headers:
        if name.lower() in seen:
            raise ValueError(f"{name} is here twice: case makes no difference")
        seen.add(name.lower())
    return headers


def header_value(value: object) -> str:
    if not VALUE.fullmatch(text(value)):
        raise ValueError("is not a header value: control characters and characters beyond Latin-1 are not allowed")
    return str(value)


def claim(value: object) -> str:
    """The name of a claim; dots reach into nested ones."""
    if not all(text(value).split(".")):
        raise ValueError(f"{show(value)} is not the name of a claim")
    return str(value)


def hostname(value: object) -> str:
    """A DNS name or an IP address (IPv6 in brackets), lowercase, without a port."""
    written = text(value)
    if written[:1] == "[" and written[-1:] == "]" and _is_ip(written[1:-1], 6):
        return written.lower()
    if len(written) > 253 or not all(map(LABEL.fullmatch, written.split("."))):
        raise ValueError(f"{show(value)} is not a host name{_why_not_a_host(written)}")
    if re.fullmatch(r"[0-9.]+", written) and not _is_ip(written, 4):
        raise ValueError(f"{show(value)} is not an IPv4 address")
    return written.lower()


def host_pattern(value: object) -> str:
    """A host name, or `*.` and the domain whose hosts are meant."""
    written = text(value)
    if not written.startswith("*."):
        return hostname(value)
    return "*." + hostname(cut(written, written[2:]))


def host_header(value: object) -> str:
    """A literal Host: a host name, with or without a port."""
    split_authority(text(value))
    return str(value)


def _why_not_a_host(written: str) -> str:
    if written.count(":") > 1:
        return ": an IPv6 address stands in brackets"
    if re.fullmatch(r".+:\d+", written):
        return ": leave the port out"
    if "*" in written:
        return ": '*.' may stand only in front of a domain; leave it out for any host"
    return "" if written.isascii() else ": write it in its ASCII form (xn--…)"


def _is_ip(written: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(written).version == version
    except ValueError:
        return False


def split_authority(written: str) -> tuple[str, int | None]:
    """`host:port` -> (host, port), IPv6 without brackets; None where there is no port."""
    host, port = written, None
    if found := AUTHORITY.fullmatch(written):
        host, port = found[1], found[2]
    hostname(cut(written, host))
    if port is None:
        return host.strip("[]"), None
    if not port or len(port) > 5 or int(port) > 65535:
        raise ValueError(f"{show(cut(written, port))} is not a port: a number up to 65535")
    return host.strip("[]"), int(port)


def address(value: object) -> Address:
    """Where to listen."""
    written = text(value)
    if written.startswith("unix:"):
        path = written.removeprefix("unix:")
        if not path or "\0" in path or len(path.encode()) > LONGEST_UNIX_PATH:
            raise ValueError(f"a unix socket has a path of up to {LONGEST_UNIX_PATH} bytes")
        return Address("", 0, path)
    if re.fullmatch(r"\*?:[0-9]*|\*", written):
        raise ValueError(f"{show(value)} names no address; all of them are 0.0.0.0 or [::]")
    host, port = split_authority(written)
    if port is None:
        raise ValueError(f"{show(value)} has no port: write host:port, [::1]:port or unix:path")
    return Address(host, port)


def network(value: object) -> Network:
    """A range of addresses in CIDR notation, or a single one."""
    try:
        return ipaddress.ip_network(text(value))
    except ValueError:
        pass
    try:
        wider = str(ipaddress.ip_network(str(value), strict=False))
    except ValueError:
        raise ValueError(f"{show(value)} is not a range of addresses such as 10.0.0.0/8 or fd00::/8") from None
    raise ValueError(f"{show(value)} has bits outside its mask" + hint(value, [wider]))
