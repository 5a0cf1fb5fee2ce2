"""What becomes of one request on its way, and of its reply: what the upstream gets, what the gateway answers itself."""

from typing import TypedDict

from gateway.cli.entering import lines
from gateway.config.compress import Compress
from gateway.config.model import Config, Route
from gateway.exchange import Call, Headers, Reply
from gateway.pipe import Send, pipe
from gateway.transform.compress import Rules
from gateway.transform.configured import compressed, redirect_end, request_layer, respond_end, response_layer
from gateway.transform.cors import without_cors
from gateway.transform.security import security_headers


class Forwarded(TypedDict):
    path: str
    query: str
    headers: list[str]
    """Lines that versions and transformations add."""
    removed: list[str]
    """The client's headers of these names do not go on."""


class Answer(TypedDict):
    status: int
    headers: list[str]
    size: int


async def forwarded(config: Config, route: Route, call: Call) -> Forwarded | None:
    """What an upstream of `route` gets; None for routes that ask none. Raises Refused for a path that cannot be."""
    if own_end(route) is not None:
        return None
    seen: list[Forwarded] = []

    async def upstream(call: Call) -> Reply:
        seen.append(
            {
                "path": call.path.decode("latin-1"),
                "query": call.query.decode("latin-1"),
                "headers": lines(call.lines),
                "removed": sorted(name.decode() for name in call.removed),
            }
        )
        return Reply(200, [])

    asked = [config.upstreams[name] for name in route.upstreams]
    await pipe(request_layer(route.match.path, route.transform, asked), to=upstream)(call)
    return seen[0]


async def answer(config: Config, route: Route, call: Call) -> Answer | None:
    """What the gateway itself answers, by the outer layers of `assemble._way`; None for routes that ask an upstream.

    Raises Refused, OSError.
    """
    end = own_end(route)
    if end is None:
        return None
    layers = (
        compressed(route.compress) if route.compress is not None else None,
        security_headers() if config.security_headers else None,
        without_cors() if route.cors is not None else None,
        response_layer(route.match.path, route.transform),
    )
    return told(await pipe(*layers, to=end)(call))


def own_end(route: Route) -> Send | None:
    """Raises OSError."""
    if route.redirect is not None:
        return redirect_end(route.match.path, route.redirect)
    return respond_end(route.match.path, route.respond) if route.respond is not None else None


def told(reply: Reply) -> Answer:
    assert isinstance(reply.body, bytes)
    return {"status": reply.status, "headers": _written(reply.headers), "size": len(reply.body)}


async def added_to_replies(route: Route, call: Call) -> list[str]:
    """Lines that the route's transformation puts into the upstream's replies."""

    async def upstream(call: Call) -> Reply:
        return Reply(200, [])

    return _written((await pipe(response_layer(route.match.path, route.transform), to=upstream)(call)).headers)


def compression(settings: Compress, call: Call) -> str:
    """The coding in which this client gets what is compressed; "" for none."""
    rules = Rules([name.encode() for name in settings.encodings], settings.min_size, settings.types)
    # A 304 has neither type nor length: whether it is left alone depends on the request.
    left_alone = rules.taken(call, Reply(304, [])) is None
    return "" if left_alone else rules.coding(call).decode()


def _written(headers: Headers) -> list[str]:
    return [f"{name.decode('latin-1')}: {value.decode('latin-1')}" for name, value in headers]
