"""Sets, adds and removes header fields of replies. Pure, but for its place in the pipe."""

from collections.abc import Iterable, Mapping

from gateway.exchange import Call, Headers, Reply
from gateway.pipe import Layer, Send
from gateway.transform.fields import CallFields
from gateway.transform.template import HEADER, compile_text, filled


def response_headers(
    set: Mapping[str, str], add: Mapping[str, str], remove: Iterable[str], fields: CallFields
) -> Layer:
    """A field whose template comes out empty is not sent. Raises ValueError for braces that are no field."""
    dropped = frozenset(name.lower().encode() for name in (*set, *remove))
    more = [
        (name.lower().encode(), compile_text(value, fields, HEADER))
        for given in (set, add)
        for name, value in given.items()
    ]

    def layer(send: Send) -> Send:
        async def with_headers(call: Call) -> Reply:
            reply = await send(call)
            headers: Headers = [field for field in reply.headers if field[0] not in dropped]
            for name, template in more:
                value = filled(template, call)
                if value or isinstance(template, bytes):
                    headers.append((name, value))
            reply.headers = headers
            reply.lines = None
            return reply

        return with_headers

    return layer
