"""Host names as routing compares them: without port, in lower case, without the root's trailing dot."""

import re

_AUTHORITY = re.compile(rb"(\[[0-9A-Fa-f:.]++\]|[A-Za-z0-9._~!$&'()*+,;=%-]++)(?::([0-9]*+))?+")


def host_key(host: bytes) -> bytes:
    """The name alone; an IPv6 literal keeps its brackets and is compared as text."""
    name = host.lower()
    if name.startswith(b"["):
        return name[: name.find(b"]") + 1]
    return name.partition(b":")[0].removesuffix(b".")


def authority_key(authority: bytes, default_port: bytes) -> tuple[bytes, bytes] | None:
    """Name and port, to compare two authorities; None when there is userinfo or anything else odd in it."""
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        return None
    return host_key(authority), match[2] or default_port
