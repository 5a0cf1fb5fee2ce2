"""Finds a bearer token where the configuration lets it stand besides Authorization: in a header, a cookie, the query.

A token stands in one place only (RFC 6750 section 2). Two are ambiguous: whoever comes after us may read the other
one. Browsers send a cookie along whoever has made the request. So a token from a cookie changes something, or opens
a WebSocket, only for pages whose Origin may do that (RFC 6454): the gateway's own, or those that are configured.
"""

from collections.abc import Iterable
from hashlib import sha256
from typing import NamedTuple

from gateway.auth.api_keys import values
from gateway.auth.bearer import LONGEST, TOKEN, TokenError, authorization, token_of
from gateway.errors import Refused
from gateway.exchange import Call, Fields, header_values

SAFE = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))
"""Methods that change nothing (RFC 9110 section 9.2.1)."""

AUTHORIZATION, HEADER, COOKIE, QUERY = b"authorization:", b"header:", b"cookie:", b"query:"
"""What a digest begins with: what is remembered of a token in one place does not count in another."""


class Found(NamedTuple):
    """A token, and where it stands."""

    place: bytes
    token: bytes


class OtherPlaces:
    """The token in the Authorization header or in any one of the places that are named here."""

    def __init__(
        self,
        *,
        header: bytes | None = None,
        cookie: bytes | None = None,
        query: bytes | None = None,
        origins: Iterable[bytes] = (),
    ) -> None:
        """`header` is lowercase. `origins`, as `https://app.example.com`, may use the cookie; without any the own."""
        self._header = header
        self._cookie = cookie
        self._query = query
        self._origins = frozenset(map(standard, origins))

    def digest(self, call: Call) -> bytes | None:
        """The place and the SHA-256 of the token, None without one. Raises TokenError, Refused (403)."""
        fields = call.request.fields
        digest = fields.derived.get(self)  # of a head that was seen before on this connection
        if digest is None:
            digest = fields.derived[self] = _digest(self._in_fields(fields))
        if self._query is not None and call.query:
            found = self._in_query(call.query, self._query)
            if found is not None:
                if digest:
                    raise _several()
                return _digest(found)
        if digest.startswith(COOKIE):
            self._judge_origin(call)
        return digest or None

    def token(self, call: Call) -> bytes | None:
        """The token itself, None without one. Raises TokenError."""
        found = self._in_fields(call.request.fields)
        if found is None and self._query is not None:
            found = self._in_query(call.query, self._query)
        return None if found is None else found.token

    def _in_fields(self, fields: Fields) -> Found | None:
        places = (_in_authorization(fields), self._in_header(fields), self._in_cookies(fields))
        found = [each for each in places if each is not None]
        if len(found) > 1:
            raise _several()
        return found[0] if found else None

    def _in_header(self, fields: Fields) -> Found | None:
        value = fields.index.get(self._header) if self._header is not None else None
        if value is None:
            return None
        if fields.repeated and len(header_values(fields.headers, self._header or b"")) > 1:
            raise _several()
        return Found(HEADER, _token(token_of(value, "header with the token") or value))

    def _in_cookies(self, fields: Fields) -> Found | None:
        if self._cookie is None or b"cookie" not in fields.index:
            return None
        lines = header_values(fields.headers, b"cookie") if fields.repeated else [fields.index[b"cookie"]]
        found = [value for line in lines for value in cookies(line, self._cookie)]
        if len(found) > 1:
            raise _several()
        return Found(COOKIE, _token(found[0])) if found else None

    @staticmethod
    def _in_query(query: bytes, name: bytes) -> Found | None:
        found = values(query, name)
        if len(found) > 1:
            raise _several()
        return Found(QUERY, _token(found[0])) if found else None

    def _judge_origin(self, call: Call) -> None:
        """Whether this page may use the cookie. For each request: whose token it is says nothing about that."""
        request = call.request
        fields = request.fields
        if request.method in SAFE and not fields.upgrade:
            return
        origin = standard(fields.index.get(b"origin", b""))
        several = fields.repeated and len(header_values(fields.headers, b"origin")) > 1
        if several or origin not in (self._origins or own_origin(call)):
            raise Refused("forbidden", 403, "This Origin may not use the cookie.")


def cookies(line: bytes, name: bytes) -> list[bytes]:
    """Every value of the cookie in one Cookie header (RFC 6265 section 4.2).

    The value is what stands there: no quotes or spaces are taken away, because not everybody does. A name with white
    space behind it, which only lenient readers take for the same, counts with a value that is no token: b"".
    """
    if name not in line:
        return []
    pairs = (piece.lstrip(b" \t").partition(b"=") for piece in line.split(b";"))
    return [value if key == name else b"" for key, _, value in pairs if key.rstrip(b" \t") == name]


def standard(origin: bytes) -> bytes:
    """An origin as browsers write it (RFC 6454 section 6.1): lowercase, without the port that its scheme implies."""
    origin = origin.lower()
    return origin.removesuffix(b":443" if origin.startswith(b"https:") else b":80")


def own_origin(call: Call) -> tuple[bytes, ...]:
    """The origin of the pages that come from the host which this call asks; none when it names no host."""
    return (standard(b"%b://%b" % (call.scheme.encode(), call.host)),) if call.host else ()


def _in_authorization(fields: Fields) -> Found | None:
    credential = authorization(fields)
    token = None if credential is None else token_of(credential)  # another scheme is not a token's place in use
    return None if token is None else Found(AUTHORIZATION, token)


def _token(value: bytes) -> bytes:
    if len(value) > LONGEST:
        raise TokenError("The token is too large.", "too_large")
    if TOKEN.fullmatch(value) is None:
        raise TokenError("The token is malformed.", "malformed")
    return value


def _digest(found: Found | None) -> bytes:
    """b"" for no token: also worth remembering."""
    return b"" if found is None else found.place + sha256(found.token).digest()


def _several() -> TokenError:
    return TokenError("There is more than one token.", "ambiguous")
