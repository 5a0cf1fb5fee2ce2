"""Sets, adds and removes parameters of the query; all others go on byte for byte. Pure."""

from collections.abc import Iterable, Mapping
from urllib.parse import unquote_to_bytes

from gateway.exchange import Call
from gateway.transform.fields import CallFields
from gateway.transform.paths import Edit
from gateway.transform.template import COMPONENT, compile_text, filled


def query_edit(set: Mapping[str, str], add: Mapping[str, str], remove: Iterable[str], fields: CallFields) -> Edit:
    """Raises ValueError for a value whose braces are no field."""
    dropped = frozenset(name.encode() for name in (*set, *remove))
    pairs = [
        (COMPONENT.literal(name) + b"=", compile_text(value, fields, COMPONENT))
        for given in (set, add)
        for name, value in given.items()
    ]

    def edit(call: Call) -> None:
        query = call.query[1:]
        pieces = query.split(b"&") if query else []
        if dropped:
            pieces = [piece for piece in pieces if _name(piece) not in dropped]
        pieces += [name + filled(value, call) for name, value in pairs]
        call.query = b"?" + b"&".join(pieces) if pieces else b""

    return edit


def _name(piece: bytes) -> bytes:
    """The decoded name of a parameter, as forms write it: + is a space."""
    name = piece.partition(b"=")[0]
    return unquote_to_bytes(name.replace(b"+", b" ")) if b"%" in name or b"+" in name else name
