"""One probe of one target: a connection of its own, as strict and as suspicious as those of requests.

Judged is the status, read by the parser that reads the replies to clients; a body is not waited for.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass
from typing import cast

from gateway.http.reply_reader import ReplyReader
from gateway.http.resolving import Addresses
from gateway.upstream.health import Check

WELL = ""


@dataclass(frozen=True, slots=True)
class Watch:
    """A target and how it is probed; equal ones are the same to whoever probes."""

    upstream: str
    target: str
    """Its name: scheme://host:port."""
    host: str
    port: int
    check: Check
    tls: ssl.SSLContext | None = None
    server_name: str = ""
    """The name that its certificate must have."""


class Probe:
    """Probes one target as often as it is called."""

    def __init__(self, watch: Watch) -> None:
        self._addresses = Addresses(watch.host, watch.port)
        self._check = check = watch.check
        self._tls = watch.tls
        self._server_name = (watch.server_name or watch.host) if watch.tls is not None else None
        host = check.host or watch.target.partition("://")[2]
        self._request = (
            f"GET {check.path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: gateway-health\r\n"
            "Accept: */*\r\nConnection: close\r\n\r\n"
        ).encode()

    async def __call__(self) -> str:
        """Why the target is not well; WELL when it is."""
        try:
            async with asyncio.timeout(self._check.timeout):
                return await self._ask()
        except TimeoutError:
            return f"no answer within {self._check.timeout:g} s"
        except ConnectionRefusedError:
            return "connect refused"
        except ssl.SSLCertVerificationError as error:
            return f"certificate not trusted: {error.verify_message}"
        except ssl.SSLError as error:
            return f"TLS failed: {error.reason or error}"
        except OSError as error:
            if isinstance(error.__cause__, socket.gaierror):
                return f"name cannot be resolved: {error.__cause__.strerror}"
            return error.strerror or str(error)

    async def _ask(self) -> str:
        loop = asyncio.get_running_loop()
        question = await self._addresses.connect(lambda: Question(loop), self._tls, self._server_name)
        try:
            if not self._check.path:
                return WELL
            status = await question.ask(self._request)
        finally:
            question.transport.abort()
        if isinstance(status, str):
            return status
        return WELL if self._check.expects(status) else f"status {status}"


class Question(asyncio.Protocol):
    """A connection that asks one thing."""

    transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._reader = ReplyReader()
        self._answer: asyncio.Future[int | str] = loop.create_future()

    def ask(self, request: bytes) -> asyncio.Future[int | str]:
        """The status of the reply, or why there is none."""
        self._reader.begin("GET", False)
        self.transport.write(request)
        return self._answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are not of asyncio's class

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        reader.feed(data)
        if reader.bad:
            self._found("the answer is not HTTP as it should be")
        elif reader.reply is not None:
            self._found(reader.reply.status)

    def connection_lost(self, exc: Exception | None) -> None:
        self._found("connection closed without an answer")

    def _found(self, what: int | str) -> None:
        if not self._answer.done():
            self._answer.set_result(what)
