"""The dashboard's page, /dashboard: files as they are, for everybody who can reach the listener.

They hold no secret; what they show comes from the API, which asks for its token. Nothing is loaded from elsewhere and
nothing inline is executed, so what clients wrote can be shown and never run.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

FOLDER = Path(__file__).with_name("dashboard")

TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}

POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
    ]
)

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # asked for each time, and answered with 304 until another version is installed
}


def page_routes() -> list[web.RouteDef]:
    """The page at /dashboard, and what it loads below."""
    files = sorted(path for path in FOLDER.iterdir() if path.suffix in TYPES)
    routes = [web.get(f"/dashboard/{path.name}", _served(path)) for path in files if path.name != "index.html"]
    return [web.get("/dashboard", _served(FOLDER / "index.html")), web.get("/dashboard/", _home), *routes]


async def _home(_: web.Request) -> web.Response:
    return web.Response(status=308, headers={"Location": "../dashboard"})


def _served(path: Path) -> Handler:
    content = path.read_bytes()
    tag = sha256(content).hexdigest()[:32]
    headers = {**HEADERS, "ETag": f'"{tag}"'}

    async def serve(request: web.Request) -> web.StreamResponse:
        if any(each.value == tag for each in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return web.Response(body=content, headers=headers, content_type=TYPES[path.suffix], charset="utf-8")

    return serve
