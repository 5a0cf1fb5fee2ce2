"""Sets, adds and removes header fields on their way to the upstream. Pure.

What is set takes the place of all that the client has sent under that name, in any spelling (`http/forward.py`),
also when there is nothing to say: a field whose template comes out empty is not sent at all.
"""

from collections.abc import Iterable, Mapping

from gateway.exchange import Call
from gateway.transform.fields import CallFields
from gateway.transform.paths import Edit
from gateway.transform.template import HEADER, compile_text


def request_headers(set: Mapping[str, str], add: Mapping[str, str], remove: Iterable[str], fields: CallFields) -> Edit:
    """Raises ValueError for a value whose braces are no field."""
    dropped = frozenset(name.lower().encode() for name in (*set, *remove))
    fixed, varying = b"", []
    for given in (set, add):
        for name, value in given.items():
            prefix, template = name.lower().encode() + b": ", compile_text(value, fields, HEADER)
            if isinstance(template, bytes):
                fixed += prefix + template + b"\r\n"
            else:
                varying.append((prefix, template))

    def edit(call: Call) -> None:
        lines = call.lines + fixed
        for prefix, template in varying:
            value = template(call)
            if value:
                lines = b"%b%b%b\r\n" % (lines, prefix, value)
        call.lines = lines
        if dropped:
            # One and the same set for all calls where nobody else has asked: the memory of heads goes by it.
            call.removed = call.removed | dropped if call.removed else dropped

    return edit
