"""Which version of a route a request is for, and what its client and its upstream are told of it.

Looked for where `from` says. Whatever a request names twice must be the same version; what is not known, not named
though there is no default, or gone ends the call. Texts are made at load, so that a request only picks them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus, unquote_to_bytes

from gateway.errors import Refused
from gateway.exchange import Call, Reply, header_values
from gateway.pipe import Send
from gateway.routing import deprecation
from gateway.routing.deprecation import End, Life, Window
from gateway.routing.media_type import MediaType
from gateway.routing.path import normalise
from gateway.routing.router import VersionSegment
from gateway.routing.version_names import UNKNOWN, Names

if TYPE_CHECKING:
    from gateway.config.versions import Version as VersionConfig
    from gateway.config.versions import Versions as VersionsConfig

HEADER = b"x-api-version"
REMOVED = frozenset((HEADER,))
"""Of the client's headers: the upstream hears it from the gateway."""

TOLD = REMOVED | {b"deprecation", b"sunset"}
"""Of the replies' headers, where the gateway says the same of a version that goes away."""

Reader = Callable[[Call], Sequence[str]]
"""What a place of a request says; each is one version."""


class Version:
    """One version, with everything that is said of it."""

    __slots__ = ("_after", "_before", "_path_from_second", "end", "line", "name", "said", "varied")

    def __init__(self, name: str, life: Life, vary: bytes, *, by_path: bool, cut: bool) -> None:
        self.name = name
        self.line = b"%b: %b\r\n" % (HEADER, name.encode("ascii"))
        self.end = End(name, life) if life.sunset is not None and not life.serves_on else None
        self.said = self.line + deprecation.lines(life)
        self._before = self._after = b""
        if life.successor and by_path:
            self._before, self._after = b"link: </" + life.successor.encode("ascii"), b'>; rel="successor-version"\r\n'
        elif life.successor and life.link:
            self.said += b'link: <%b>; rel="successor-version"\r\n' % life.link.encode("ascii")
        self.varied = self.said + vary
        self._path_from_second = not cut

    def tell(self, call: Call, in_path: bool, vary: bool) -> None:
        """Put it on the call: the name, the lines for both sides. `in_path`: the path named the version."""
        call.version = self.name
        call.lines += self.line
        call.removed = call.removed | REMOVED if call.removed else REMOVED
        call.added += self.varied if vary else self.said
        if self._before:
            path = call.path
            if in_path and self._path_from_second:
                second = path.find(b"/", 1)
                path = path[second:] if second > 0 else b""
            call.added += self._before + path + self._after


class Versions:
    """The versions of one route, compiled; `now` is Unix time."""

    def __init__(self, settings: VersionsConfig, now: Callable[[], float]) -> None:
        places = settings.from_
        available = settings.available
        self.names = Names(tuple(available), settings.aliases)
        by_path = "path" in places
        self.segment = VersionSegment(self.names.read, settings.strip) if by_path else None
        """For the route's second rule, `/*` and its path; None where the path names no version."""
        vary = _vary(settings)
        self._of = {
            key.removesuffix("+"): Version(
                key.removesuffix("+"), _life(each), vary, by_path=by_path, cut=settings.strip
            )
            for key, each in available.items()
        }
        self.retiring = frozenset(settings.retiring)
        """Those whose callers are counted."""
        self.sunsets = {
            name: _seconds(each.sunset) for name, each in settings.retiring.items() if each.sunset is not None
        }
        """When they end, by name; Unix time."""
        self._default = self._of[settings.default] if settings.default is not None else None
        self._readers = [(place, _reader(place, settings)) for place in places if place in ("header", "query")]
        self._media_type = MediaType(settings.media_type) if settings.media_type and "media_type" in places else None
        self._path_alone = not self._readers and self._media_type is None
        self._now = now

    def enter(self, call: Call) -> None:
        """Decide, and tell it: in the call's version, lines, removed and added. Raises Refused.

        `call.version` is what the router has read in the path, or "".
        """
        named, call.version = call.version, ""
        in_path = bool(named)
        version = self._of.get(named) if in_path and self._path_alone else None
        if version is not None:
            vary = False
        else:
            try:
                version, vary = self._choose(call, named)
            except Refused:
                if in_path:  # it goes nowhere: the log has the path as it was asked for
                    call.path = normalise(call.request.target, call.request.fields.host).path
                raise
        version.tell(call, in_path, vary)
        if version.end is not None:
            refusal = version.end.refusal(self._now())
            if refusal is not None:
                raise refusal

    def _choose(self, call: Call, named: str) -> tuple[Version, bool]:
        """From all places; and whether the answer depends on headers (RFC 9110 section 12.5.5)."""
        if named == UNKNOWN:
            raise self._unknown(404, "path")
        found, where = named, "path"
        vary = not named
        for place, read in self._readers:
            for text in read(call):
                name = self.names.known(text)
                if name is None:
                    raise self._unknown(400, place)
                if not found:
                    found, where, vary = name, place, place == "header"
                elif name != found:
                    raise _conflict(found, where, name, place)
        if self._media_type is not None:
            found = self._by_media_type(call, self._media_type, found, where)
        version = self._of[found] if found else self._default
        if version is None:
            detail = "This needs a version, and the request names none."
            raise Refused("unknown_version", 400, detail, versions=self._alive())
        return version, vary

    def _by_media_type(self, call: Call, media_type: MediaType, found: str, where: str) -> str:
        """What Content-Type and Accept say; an Accept names several, of which one will do."""
        index = call.request.fields.index
        body = media_type.of_body(index[b"content-type"]) if b"content-type" in index else None
        if body is not None:
            name = self.names.known(body)
            if name is None:
                raise self._unknown(415, "media type of the body")
            if found and name != found:
                raise _conflict(found, where, name, "media type of the body")
            found, where = name, "media type of the body"
        if b"accept" not in index:
            return found
        values = header_values(call.request.headers, b"accept") if call.request.fields.repeated else [index[b"accept"]]
        asked = media_type.accepted(b",".join(values))
        accepted = [name for text in asked.versions if (name := self.names.known(text)) is not None]
        if asked.versions and not accepted and not asked.others:
            raise self._unknown(406, "media types that are accepted")
        if not accepted or found in accepted:
            return found
        if found and not asked.others:
            raise _conflict(found, where, accepted[0], "media types that are accepted")
        return found or accepted[0]

    def _unknown(self, status: int, place: str) -> Refused:
        detail = f"The version in the {place} is not known here."
        return Refused("unknown_version", status, detail, versions=self._alive())

    def _alive(self) -> list[str]:
        """Those that a client could ask for now."""
        now = self._now()
        ended = {name for name, each in self._of.items() if each.end is not None and each.end.passed(now)}
        return [name for name in self.names.listed if name.removesuffix("+") not in ended]


def by_version(ways: Mapping[str, Send], retiring: frozenset[str] = frozenset()) -> Send:
    """The end of a route's way: to the upstream of the version, which does not speak for the gateway."""

    def send(call: Call) -> Awaitable[Reply]:
        return _heard(ways[call.version](call), TOLD if call.version in retiring else REMOVED)

    return send


def unspoken(send: Send, retiring: frozenset[str]) -> Send:
    """`send`, of somebody else who may answer for any version: a fallback's upstream does not speak for us either."""

    def asked(call: Call) -> Awaitable[Reply]:
        return _heard(send(call), TOLD if call.version in retiring else REMOVED)

    return asked


async def _heard(answering: Awaitable[Reply], said: frozenset[bytes]) -> Reply:
    """What the gateway says of a version, the reply does not say again: clients could not tell which is true."""
    reply = await answering
    for name, _ in reply.headers:
        if name in said:
            reply.headers = [field for field in reply.headers if field[0] not in said]
            reply.lines = None
            break
    return reply


def _life(settings: VersionConfig) -> Life:
    return Life(
        _moment(settings.deprecated),
        _moment(settings.sunset),
        settings.successor or "",
        settings.link or "",
        settings.after_sunset == "serve",
        tuple(Window(_seconds(each.from_), _seconds(each.to)) for each in settings.brownouts),
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _vary(settings: VersionsConfig) -> bytes:
    """The line for replies whose version a header has decided, or could have."""
    names = []
    for place in settings.from_:
        if place == "header" and settings.header is not None:
            names.append(settings.header)
        elif place == "media_type":
            names.append("Accept")
    return f"vary: {', '.join(names)}\r\n".encode("ascii") if names else b""


def _reader(place: str, settings: VersionsConfig) -> Reader:
    if place == "header":
        assert settings.header is not None
        return _header(settings.header.lower().encode("ascii"))
    assert settings.query is not None
    return _query(settings.query)


def _header(name: bytes) -> Reader:
    def read(call: Call) -> Sequence[str]:
        fields = call.request.fields
        if name not in fields.index:
            return ()
        values = header_values(fields.headers, name) if fields.repeated else [fields.index[name]]
        return [value.decode("latin-1") for value in values]

    return read


def _query(name: str) -> Reader:
    written = name.encode()

    def read(call: Call) -> Sequence[str]:
        query = call.query
        # Only what may hold the name, plain or escaped, is taken apart.
        if not query or (written not in query and b"%" not in query):
            return ()
        found = []
        for pair in query[1:].split(b"&"):
            key, _, value = pair.partition(b"=")
            if key == written or (b"%" in key and unquote_to_bytes(key) == written):
                found.append(unquote_plus(value.decode("ascii")))
        return found

    return read


def _conflict(found: str, where: str, other: str, there: str) -> Refused:
    detail = f"The request names two versions: {found} in the {where}, {other} in the {there}."
    return Refused("bad_request", 400, detail)
