"""Who may use /api/: whoever has the token, or a client certificate; without a token somebody on this machine.

A page in a browser on this machine is not somebody: it can send neither CLIENT across origins nor, after DNS
rebinding, a Host that is an address. A certificate goes along with whatever page asks: CLIENT is needed with it, too.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import ssl
import time
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.admin.answers import BY, READS, over_unix, problem

if TYPE_CHECKING:
    from gateway.admin.app import Instance

HOST = re.compile(r"(?:\[([0-9a-fA-F:.]{2,45})\]|([A-Za-z0-9.]{1,255}))(?::[0-9]{1,5})?")

CLIENT = "X-Gateway-Client"
"""A header that pages of other sites cannot send: it would take a CORS preflight, which nobody answers."""


def guard(instance: Instance) -> Middleware:
    """Lets in who may use the API, and notes on the request who that is."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith("/api/"):
            return await handler(request)
        caller = known(request, instance)
        if not caller:
            return _unknown(instance)
        request[BY] = caller
        if request.method not in READS and CLIENT not in request.headers:
            return problem(403, "forbidden", "Not from a browser", detail=f"Send the header {CLIENT}.")
        return await handler(request)

    return guarded


def still_known(request: web.Request, instance: Instance) -> bool:
    """For streams: tokens and authorities change, and certificates end, while somebody listens."""
    return known(request, instance) == request[BY]


def known(request: web.Request, instance: Instance) -> str:
    """Who is calling: `token`, `certificate NAME` or `local`; "" for nobody who may."""
    name = _certificate_name(request)
    if name and instance.trusts(request.get_extra_info("sslcontext")):  # not only when the connection began
        return f"certificate {name}"
    if token := instance.token:
        sent = request.headers.get("Authorization", "")
        right = hmac.compare_digest(sent.encode(errors="surrogateescape"), f"Bearer {token}".encode())
        return "token" if right else ""
    # Not request.host: where nobody names a host aiohttp would ask the DNS for the name of this machine.
    return "local" if _local(request) and _by_address(request.headers.get("Host", "")) else ""


def _unknown(instance: Instance) -> web.Response:
    if instance.token:
        headers = {"WWW-Authenticate": 'Bearer realm="gateway admin"'}
        return problem(401, "unauthenticated", "The admin API needs its token", headers=headers)
    detail = "Without listen.admin_token it answers only callers on this machine, asked by address or localhost."
    return problem(403, "forbidden", "The admin API is not for you", detail=detail)


def _certificate_name(request: web.Request) -> str:
    """Of the client certificate that OpenSSL has verified: its common name or else its serial number; "" for none."""
    shown = request.get_extra_info("peercert")
    if not shown or ssl.cert_time_to_seconds(shown["notAfter"]) <= time.time():  # a connection may outlive it
        return ""
    subject = {key: value for part in shown.get("subject", ()) for key, value in part}
    return str(subject.get("commonName") or f"serial {shown['serialNumber']}")


def _local(request: web.Request) -> bool:
    """On this machine: the loopback, or a unix socket."""
    if not request.remote:
        return over_unix(request)
    try:
        return ipaddress.ip_address(request.remote).is_loopback
    except ValueError:
        return False


def _by_address(host: str) -> bool:
    """The Host is an address or localhost; a name may be anybody's that leads here."""
    found = HOST.fullmatch(host)
    if found is None:
        return False
    name = found[1] or found[2]
    if name == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
