"""Vouches for callers by an API key in a header or a parameter of the query.

Only SHA-256 digests are known here. Keys are random and long, so a fast hash is enough, and finding its digest
in a dictionary tells nothing about the others. A key never reaches an upstream: its header is among those that
`http/forward.py` drops, and `without` cuts its parameter out of the query.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from gateway.auth.consumers import Consumer
from gateway.auth.providers import REALM, BadCredential, Reason
from gateway.exchange import Call, Caller, header_values

if TYPE_CHECKING:
    from gateway.auth.door import Identify


class ApiKeyProvider:
    """Knows the keys of all consumers, those of the configuration and those that were made since.

    At least one of `header` (lowercase) and `query` names where a key stands.
    """

    challenge = b"ApiKey " + REALM

    def __init__(
        self,
        name: str,
        *,
        consumers: Iterable[Consumer],
        header: bytes | None = None,
        query: bytes | None = None,
        signed: bool = False,
        stored: Callable[[bytes], str | None] = lambda digest: None,
    ) -> None:
        """`stored` finds the name of the consumer who owns a key by its SHA-256; it raises Shed when it cannot tell."""
        self.name = name
        self._header = header
        self._query = query
        self._stored = stored
        known = tuple(consumers)
        self._consumers = {each.name: each.caller(name, signed=signed) for each in known}
        self._callers = {digest: self._consumers[each.name] for each in known for digest in each.keys}

    async def identify(self, call: Call) -> Caller | None:
        """The caller, None without a key. Raises BadCredential (401), Shed (503)."""
        fields, name = call.request.fields, self._header
        key = fields.index.get(name) if name is not None else None
        several = key is not None and fields.repeated and len(header_values(fields.headers, name or b"")) > 1
        if self._query is not None and call.query:
            found = values(call.query, self._query)
            several = several or len(found) + (key is not None) > 1
            key = found[0] if found else key
        if key is None:
            return None
        if several:  # whoever comes after us may read another one
            raise self.refusal("There is more than one API key.", "ambiguous")
        digest = sha256(key).digest()
        caller = self._callers.get(digest) or self._consumers.get(self._stored(digest) or "")
        if caller is None:
            raise self.refusal("The API key is not valid.", "unknown")
        return caller

    def refusal(self, detail: str, reason: Reason) -> BadCredential:
        """A 401 that asks for another key."""
        return BadCredential(detail, self.challenge, reason, self.name)


def values(query: bytes, name: bytes) -> list[bytes]:
    """Every value of the parameter, however its name is escaped."""
    if name not in query and b"%" not in query and b"+" not in query:
        return []
    pairs = (piece.partition(b"=") for piece in query.removeprefix(b"?").split(b"&"))
    return [_decoded(value) for key, _, value in pairs if _decoded(key) == name]


def without(identify: Identify, names: Iterable[bytes]) -> Identify:
    """`identify`, and then these parameters leave the query, whoever has vouched in the end."""
    cut = frozenset(names)

    async def identify_and_cut(call: Call) -> Caller:
        caller = await identify(call)
        if call.query:
            pieces = call.query[1:].split(b"&")
            kept = [piece for piece in pieces if _decoded(piece.partition(b"=")[0]) not in cut]
            if len(kept) < len(pieces):
                call.query = b"?" + b"&".join(kept) if kept else b""
        return caller

    return identify_and_cut


def _decoded(text: bytes) -> bytes:
    if b"+" in text:
        text = text.replace(b"+", b" ")
    return unquote_to_bytes(text) if b"%" in text else text
