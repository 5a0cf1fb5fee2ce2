"""One run of a probe: a request over the gateway's own listener, as a client on this machine would send it.

A connection of its own, one time limit for all of it, no redirects, no cookies, no proxies from the environment.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple

from gateway import __version__
from gateway.config.probes import nearest
from gateway.http.address import join_address, split_address
from gateway.probes.expectation import LARGEST, Seen, judge

if TYPE_CHECKING:
    from aiohttp import BaseConnector, ClientResponse

    from gateway.config.probes import Probe

AGENT = f"resilient-gateway-probe/{__version__}"


class Way(NamedTuple):
    """Where the gateway itself listens."""

    address: str
    """host:port, [v6]:port or unix:path, as it is bound."""
    secure: bool


class Outcome(NamedTuple):
    """What a run has found."""

    result: str
    """One of expectation.RESULTS."""
    status: int | None
    """None when there was no reply."""
    took: float
    """Seconds."""
    detail: str
    """What is wrong, in words; "" when nothing is."""


async def ask(probe: Probe, way: Way) -> Outcome:
    """Send its request once, and judge the reply."""
    from aiohttp import ClientError

    began = time.perf_counter()
    try:
        async with asyncio.timeout(probe.timeout):
            seen, request_id = await _exchange(probe, way, began)
    except TimeoutError:
        return Outcome("timeout", None, time.perf_counter() - began, f"no whole reply within {probe.timeout:g} s")
    except (ClientError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Outcome("unreachable", None, time.perf_counter() - began, printable(reason))
    result, detail = judge(probe.expect, seen)
    if detail and request_id:
        detail += f" (request {printable(request_id)})"
    return Outcome(result, seen.status, seen.took, detail)


async def _exchange(probe: Probe, way: Way, began: float) -> tuple[Seen, str]:
    from aiohttp import ClientSession, ClientTimeout, DummyCookieJar
    from multidict import CIMultiDict
    from yarl import URL

    headers = CIMultiDict({"User-Agent": AGENT, "Host": probe.host})
    headers.update({name: value.get_secret_value() for name, value in probe.headers.items()})
    url = URL(_origin(way) + probe.path, encoded=True)
    # Certificates name the gateway as clients know it, not this address; the name that is asked for picks one.
    secure = {"ssl": False, "server_hostname": _name(probe.host)} if way.secure else {}
    async with (
        ClientSession(
            connector=_connector(way),
            cookie_jar=DummyCookieJar(),
            timeout=ClientTimeout(),
            auto_decompress=False,
            skip_auto_headers=("Accept-Encoding", "Content-Type"),
        ) as session,
        session.request(
            probe.method,
            url,
            headers=headers,
            data=_body(probe),
            allow_redirects=False,
            **secure,  # type: ignore[arg-type]
        ) as reply,
    ):
        body = await _read(reply)
        seen = Seen(reply.status, [*reply.headers.items()], body, time.perf_counter() - began)
        return seen, reply.headers.get("X-Request-Id", "")


def _connector(way: Way) -> BaseConnector:
    from aiohttp import TCPConnector, UnixConnector

    if way.address.startswith("unix:"):
        return UnixConnector(path=way.address.removeprefix("unix:"), force_close=True)
    return TCPConnector(force_close=True)


def _origin(way: Way) -> str:
    scheme = "https" if way.secure else "http"
    if way.address.startswith("unix:"):
        return f"{scheme}://localhost"
    host, port = split_address(way.address)
    return f"{scheme}://{join_address(nearest(host), port)}"


def _name(host: str) -> str:
    """Without a port."""
    return host if host.endswith("]") else host.partition(":")[0]


def _body(probe: Probe) -> bytes | None:
    return None if probe.body is None else probe.body.encode()


async def _read(reply: ClientResponse) -> bytes | None:
    """All of it; None when it is too long, and then the rest is left."""
    body = bytearray()
    async for piece in reply.content.iter_any():
        body += piece
        if len(body) > LARGEST:
            return None
    return bytes(body)


def printable(text: str) -> str:
    """What the other end may have written, fit for a line of a log."""
    return "".join(char if char.isprintable() else " " for char in text[:200])
