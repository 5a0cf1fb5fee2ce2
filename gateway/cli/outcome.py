"""What `gateway explain` has found out about a request, in words: one line for each decision, in their order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.cli.entering import Client, CrossOrigin, Version
    from gateway.cli.explanation import Caller, Explanation
    from gateway.cli.shaping import Answer, Forwarded


def outcome(said: Explanation) -> Iterator[str]:
    """A refusal and what is added to the reply are left to whoever prints them."""
    if said["cors"] is not None:
        yield _cross_origin_text(said["cors"])
    addresses = any(stage["stage"] == "addresses" for stage in said["stages"])
    if said["client"] is not None and addresses and not _preflight(said):
        yield _client_text(said["client"])
    if said["version"] is not None and said["version"]["name"] is not None:
        yield _version_text(said["version"])
    if (caller := said["caller"]) is not None:
        yield _caller_text(caller)
    if said["permitted"]:
        yield "permitted" + (f": {said['reason']}" if said["reason"] else "")
    elif said["refusal"] is None and said["caller"] is None and not _preflight(said):
        yield "whether it is permitted depends on the caller: give --token; if it is:"
    if said["forwarded"] is not None:
        yield from _forwarded_lines(said["forwarded"])
    if said["answer"] is not None:
        yield from _answer_lines(said["answer"])
    if said["compression"] is not None:
        yield f"compressed with {said['compression']}" if said["compression"] else "not compressed for this client"


def _preflight(said: Explanation) -> bool:
    return said["cors"] is not None and said["cors"]["preflight"]


def _cross_origin_text(found: CrossOrigin) -> str:
    kind = "preflight" if found["preflight"] else "page"
    origin = f" of {found['origin']}" if found["origin"] is not None else ""
    return f"{kind}{origin}: {found['reason']}"


def _client_text(client: Client) -> str:
    if client["address"] is None:
        return "client: the address decides: give --client"
    judged = {True: ", allowed", False: ", refused", None: ""}[client["allowed"]]
    return f"client: {client['address']} by {client['source']}{judged}"


def _version_text(version: Version) -> str:
    places = version["found_in"]
    return f"version: {version['name']}, " + (f"named in {' and '.join(places)}" if places else "by default")


def _caller_text(caller: Caller) -> str:
    scopes, roles = caller["scopes"], caller["roles"]
    granted = (f", scopes {' '.join(scopes)}" if scopes else "") + (f", roles {' '.join(roles)}" if roles else "")
    return f"caller: {caller['consumer'] or 'anonymous'}{granted}"


def _forwarded_lines(forwarded: Forwarded) -> Iterator[str]:
    headers, removed = forwarded["headers"], forwarded["removed"]
    more = " with" if headers else ""
    less = f" without the client's {', '.join(removed)}" if removed else ""
    yield f"forwarded: {forwarded['path']}{forwarded['query']}{less}{',' if less and more else ''}{more}"
    yield from (f"  {line}" for line in headers)


def _answer_lines(answer: Answer) -> Iterator[str]:
    size = f", {answer['size']} bytes" if answer["size"] else ""
    yield f"answer: {answer['status']}{size}"
    yield from (f"  {line}" for line in answer["headers"])
