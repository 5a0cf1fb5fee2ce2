"""What is decided about a request before anybody asks who is calling: pages of other sites, addresses, versions.

The gateway's own steps are taken one by one, so that each can say what it has found.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TypedDict

from gateway.config.model import Config, Route
from gateway.config.versions import Versions as VersionsConfig
from gateway.errors import Refused
from gateway.exchange import Call, Fields, Headers, Peer, Reply, Request, header
from gateway.http.trust import address_in, hear
from gateway.routing.versions import Versions
from gateway.transform.addresses import addresses
from gateway.transform.cors import HEADERS, PRIVATE_NETWORK, asked, cors

ALWAYS_ALLOWED = ("GET", "HEAD", "POST")
"""Methods for which browsers need no leave (Fetch standard, "CORS-safelisted method")."""
FORWARDED = (b"x-forwarded-for", b"forwarded")


class Client(TypedDict):
    address: str | None
    source: str
    """How it is known: --client or a forwarding header; "" when it is not."""
    allowed: bool | None
    """None: the address decides, and is not known, or nobody came as far as to ask."""


class CrossOrigin(TypedDict):
    origin: str | None
    preflight: bool
    allowed: bool | None
    """None for requests that are not from a page of another site."""
    reason: str


class Version(TypedDict):
    name: str | None
    found_in: list[str]
    """Where the request names it; nowhere when it is the default."""


@dataclass(slots=True)
class Entered:
    """How far a request has come."""

    allowed: bool | None = None
    cross_origin: CrossOrigin | None = None
    version: Version | None = None
    answer: Reply | None = None
    refusal: Refused | None = None


def call_of(config: Config, request: tuple[str, bytes, Headers], host: bytes, scheme: str, client: str | None) -> Call:
    """The call as the gateway would begin it for a client at this address; "" is the address of an unknown one."""
    method, target, headers = request
    trusted = config.trusted_proxies
    address = client or ""
    if client is None and trusted and any(header(headers, name) is not None for name in FORWARDED):
        address = str(trusted[0][0])  # who else would send them?
    peer = Peer(address, 0, scheme, trusted=address_in(address, trusted))
    call = Call(Request(method, target, Fields(headers, host=host), peer), "explain")
    if peer.trusted:
        hear(call, trusted)
        if client is None and call.client_ip == address:
            call.client_ip = ""  # they do not tell
    return call


def client_of(call: Call, entered: Entered) -> Client:
    address, forwarded = call.client_ip, call.client_ip != call.request.peer.address
    name = next((name for name in FORWARDED if header(call.request.headers, name) is not None), b"")
    source = name.decode().title() if forwarded and address else "--client" if address else ""
    return {"address": address or None, "source": source, "allowed": entered.allowed}


def enter(route: Route, versions: Versions | None, call: Call, now: Callable[[], float]) -> Entered:
    """Take the steps of `assemble._enter`, in its order. An address that is not known is not judged."""
    entered, in_path = Entered(), call.version
    try:
        if route.cors is not None:
            entered.answer = _cross_origin(route, call, entered)
            if entered.answer is not None:
                return entered
        if not route.allow_ip and not route.deny_ip:
            entered.allowed = True
        elif call.client_ip:
            entered.allowed = False
            addresses(route.allow_ip, route.deny_ip)(call)
            entered.allowed = True
        if versions is not None and route.versions is not None:
            entered.version = {"name": None, "found_in": []}
            versions.enter(call)
    except Refused as error:
        entered.refusal = error
    if entered.version is not None and route.versions is not None and call.version:
        entered.version = {"name": call.version, "found_in": [*_named_in(route.versions, call, in_path, now)]}
    return entered


def _cross_origin(route: Route, call: Call, entered: Entered) -> Reply | None:
    assert route.cors is not None
    origin = call.request.fields.index.get(b"origin")
    said: CrossOrigin = {
        "origin": None if origin is None else origin.decode("latin-1"),
        "preflight": bool(asked(call.request)),
        "allowed": None,
        "reason": "not from a page of another site: it would send an Origin",
    }
    entered.cross_origin = said
    try:
        reply = cors(route.cors, route.match.methods)(call)
    except Refused as error:
        said["allowed"], said["reason"] = False, error.detail
        raise
    told = dict(line.partition(": ")[::2] for line in lines(call.added))
    if reply is not None:
        missing = [*_missing(call.request, told)]
        said["allowed"], said["reason"] = not missing, "; ".join(missing) or "the page may send this request"
    elif "access-control-allow-origin" in told:
        if origin is not None:
            said["allowed"], said["reason"] = True, "the page may read the reply"
    elif origin is not None:
        said["allowed"], said["reason"] = False, "pages of this origin may not read the reply"
    return reply


def _missing(request: Request, told: dict[str, str]) -> Iterator[str]:
    """What a browser would find missing in the answer to its preflight."""
    method, index = asked(request), request.fields.index
    if method not in (*ALWAYS_ALLOWED, *told["access-control-allow-methods"].split(", ")):
        yield f"the method {method} is not allowed"
    allowed = {name.strip().lower() for name in told.get("access-control-allow-headers", "").split(",")}
    for name in index.get(HEADERS, b"").decode("latin-1").split(","):
        if name.strip() and name.strip().lower() not in allowed:
            yield f"the header {name.strip()} is not allowed"
    if index.get(PRIVATE_NETWORK) == b"true" and "access-control-allow-private-network" not in told:
        yield "requests into a private network are not allowed"


def _named_in(settings: VersionsConfig, call: Call, in_path: str, now: Callable[[], float]) -> Iterator[str]:
    """The places that name the version of `call`: each is asked alone."""
    said = {
        "path": "the path",
        "header": f"the header {settings.header}",
        "query": f"the query parameter {settings.query}",
        "media_type": "the media type",
    }
    for place in settings.from_:
        trial = Call(call.request, call.id)
        trial.path, trial.query, trial.version = call.path, call.query, in_path if place == "path" else ""
        alone = settings.model_copy(update={"from_": (place,), "default": None})
        with suppress(Refused):  # it names none; or one that is gone, which was told before
            Versions(alone, now).enter(trial)
        if trial.version == call.version:
            yield said[place]


def lines(fields: bytes) -> list[str]:
    """Field lines as text."""
    return fields.decode("latin-1").splitlines()
