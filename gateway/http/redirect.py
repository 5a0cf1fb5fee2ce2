"""Sends plain requests away to https. Pure."""

from gateway.errors import Refused
from gateway.exchange import Call, Reply
from gateway.http.forward import METHOD_BYTES

HTTPS = 443


def to_https(call: Call, port: int) -> Reply:
    """308 to the same URL over https on `port`: the method and the body go along (RFC 9110 15.4.9).

    Raises Refused for what has no URL over https: no Host, or a target that is not a path.
    """
    host = call.host.decode("latin-1")
    path = call.request.target
    if not host or not path.startswith(b"/") or call.request.method not in METHOD_BYTES:
        raise Refused("bad_request", 400, "this service is served over https only")
    name = host[: host.index("]") + 1] if host.startswith("[") else host.partition(":")[0]
    authority = name if port == HTTPS else f"{name}:{port}"
    call.reason = "https_redirect"
    return Reply(308, [(b"location", b"https://%b%b" % (authority.encode("latin-1"), path))])
