"""Leads clients back to the public address where an upstream's reply names its own: Location and cookies. Pure.

What the gateway did to the path of the request is undone for the paths of the reply: the segments at its beginning
in which the public and the forwarded path differ are put in each other's place. An address becomes a path alone
(RFC 9110 section 10.2.2 allows it): whichever name and scheme the client has used, it comes back by them.
"""

import re
from collections.abc import Callable, Iterable

from gateway.exchange import Call, Reply
from gateway.routing.host import authority_key
from gateway.routing.path import normalise

Authority = tuple[bytes, bytes]
"""Name and port as `authority_key` makes them; b"" for any port."""

Prefixes = tuple[bytes, bytes]
"""How paths begin for the upstream, and for clients."""

LOCATIONS = frozenset((b"location", b"content-location"))
COOKIES = frozenset((b"set-cookie",))
ABSOLUTE = re.compile(rb"(?:(https?):)?//([^/?#\\]*)([^?#]*)(.*)", re.IGNORECASE | re.DOTALL)
PATH = re.compile(rb"(/[^?#]*)(.*)", re.DOTALL)
SLASHES = b"/\\\t "
"""What browsers take for another slash, or overlook: two of them would begin the name of another host."""

Undo = Callable[[Call, Reply], None]


class PublicAddress:
    """Rewrites the replies of one route, while the call still has the path that was forwarded."""

    def __init__(
        self,
        own: Iterable[Authority],
        *,
        client_host: bool = False,
        location: bool = False,
        cookie_domain: str | None = None,
        cookie_path: bool = False,
    ) -> None:
        """`own` are the addresses of the upstreams; with `client_host` they take the public one for theirs.
        `cookie_domain` stands instead of any Domain, "" for none.
        """
        self._own = frozenset(own)
        self._client_host = client_host
        self._location = location
        self._domain = None if cookie_domain is None else cookie_domain.encode()
        self._cookie_path = cookie_path
        cookies = cookie_domain is not None or cookie_path
        self._names = (LOCATIONS if location else frozenset()) | (COOKIES if cookies else frozenset())

    def __call__(self, call: Call, reply: Reply) -> None:
        names = self._names
        for name, _ in reply.headers:
            if name in names:
                self._rewrite(call, reply)
                return

    def _rewrite(self, call: Call, reply: Reply) -> None:
        begins = prefixes(call)
        headers = []
        for name, value in reply.headers:
            if name in self._names:
                value = self._cookie(value, begins) if name == b"set-cookie" else self._address(value, call, begins)
            headers.append((name, value))
        reply.headers = headers
        reply.lines = None

    def _address(self, value: bytes, call: Call, begins: Prefixes) -> bytes:
        found = ABSOLUTE.fullmatch(value)
        if found is not None:
            scheme, authority, path, rest = found.groups()
            if not self._is_own(scheme, authority, call):
                return value
            return public(b"/" + path.lstrip(SLASHES), begins) + rest
        found = PATH.fullmatch(value)
        return value if found is None else public(found[1], begins) + found[2]

    def _is_own(self, scheme: bytes | None, authority: bytes, call: Call) -> bool:
        at, _, target = (call.target.name if call.target is not None else "").encode().partition(b"://")
        port = b"443" if (scheme or at).lower() == b"https" else b"80"
        named = authority_key(authority, port)
        if named is None:
            return False
        if named in self._own or (named[0], b"") in self._own or named == authority_key(target, port):
            return True
        return self._client_host and named == authority_key(call.host, port)

    def _cookie(self, value: bytes, begins: Prefixes) -> bytes:
        """Set-Cookie with other attributes (RFC 6265 section 4.1); whatever else it says stays byte for byte."""
        pair, *attributes = value.split(b";")
        # Browsers refuse a cookie of this name with any other path, or with a domain.
        bound = pair.lstrip(b" \t").lower().startswith(b"__host-")
        kept = [pair]
        for attribute in attributes:
            name, _, said = attribute.partition(b"=")
            match name.strip(b" \t").lower():
                case b"domain" if self._domain is not None:
                    if self._domain:
                        kept.append(b" Domain=" + self._domain)
                case b"path" if self._cookie_path and not bound and said.strip(b" \t").startswith(b"/"):
                    kept.append(b" Path=" + public(said.strip(b" \t"), begins))
                case _:
                    kept.append(attribute)
        return b";".join(kept)


def prefixes(call: Call) -> Prefixes:
    """What the path of this call began with before the gateway changed it, and after."""
    theirs = call.path.split(b"/")[1:]
    ours = normalise(call.request.target, call.request.fields.host).path.split(b"/")[1:]
    while ours and theirs and ours[-1] == theirs[-1]:
        ours.pop()
        theirs.pop()
    return _joined(theirs), _joined(ours)


def public(path: bytes, begins: Prefixes) -> bytes:
    """`path` of the upstream's as clients know it; as it is when it lies outside of what was forwarded."""
    theirs, ours = begins
    if path == theirs:
        return ours or b"/"
    return ours + path[len(theirs) :] if path.startswith(theirs + b"/") else path


def _joined(segments: list[bytes]) -> bytes:
    if segments[-1:] == [b""]:
        segments.pop()
    return b"".join(b"/" + segment for segment in segments)
