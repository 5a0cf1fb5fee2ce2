"""What templates of a route can tell of a call: the names between braces, and how each is read. Pure."""

from collections.abc import Callable, Iterator, Mapping

from gateway.auth.claims import find, header_value
from gateway.exchange import Call
from gateway.transform.template import Written

Reader = Callable[[Call], str] | Written[Call]

KNOWN: Mapping[str, Callable[[Call], str]] = {
    "request.id": lambda call: call.id,
    "consumer": lambda call: call.caller.consumer,
    "version": lambda call: call.version,
    "route": lambda call: call.route,
    "client.ip": lambda call: call.client_ip,
    "host": lambda call: call.host.decode("latin-1"),
    "path": lambda call: call.path.decode("latin-1"),
    "method": lambda call: call.request.method,
}
PARAM, CLAIM = "param.", "claim."


class CallFields(Mapping[str, Reader]):
    """The fields of a route whose path has these `params`; None where the route is not known yet: any will do."""

    def __init__(self, params: frozenset[str] | None, others: Mapping[str, Reader] | None = None) -> None:
        """`others` are read in their own way."""
        self._params = params
        self._known: dict[str, Reader] = {**KNOWN, **(others or {})}

    def __getitem__(self, name: str) -> Reader:
        if name.startswith(PARAM) and (self._params is None or name.removeprefix(PARAM) in self._params):
            return _param(name.removeprefix(PARAM))
        if name.startswith(CLAIM) and all(name.removeprefix(CLAIM).split(".")):
            return _claim(name.removeprefix(CLAIM))
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._known
        yield from (PARAM + name for name in sorted(self._params or ["NAME"]))
        yield CLAIM + "PATH"

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _param(name: str) -> Callable[[Call], str]:
    return lambda call: call.params.get(name, "")


def _claim(path: str) -> Callable[[Call], str]:
    """ "" where there is no such claim, or one that is no plain value."""

    def read(call: Call) -> str:
        claims = call.caller.claims
        value = claims.get(path)
        if isinstance(value, str):  # nearly always
            return value
        value = find(claims, path)
        return value if isinstance(value, str) else (header_value(value) or b"").decode()

    return read
