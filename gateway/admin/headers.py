"""What every reply of the admin listener tells browsers and caches, whoever made it: a page, a stream or a problem."""

from __future__ import annotations

from aiohttp import web

from gateway.admin.answers import ID

ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Unless the page itself says better."""


async def on_prepare(request: web.Request, response: web.StreamResponse) -> None:
    """Before the head of a reply goes out."""
    for name, value in ALWAYS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = "gateway"  # not with which versions it is made
    if ID in request:
        response.headers["X-Request-Id"] = request[ID]
