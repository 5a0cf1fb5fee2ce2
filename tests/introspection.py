"""An authorization server that is asked about tokens (RFC 7662): real, on aiohttp, and as bad as a test wants it.

And one without a wire, with a provider that asks it.
"""

import asyncio
from base64 import b64decode
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, unquote_plus

import pytest
from aiohttp import web

from gateway.auth.asking import AskError, Issuer
from gateway.auth.introspection import IntrospectionProvider
from gateway.auth.providers import BadCredential, Unavailable
from gateway.errors import Shed
from gateway.exchange import Caller, header
from tests.fakes import Clock
from tests.jwks import Answer, LocalServer
from tests.tokens import NOW, bearer

CLIENT, SECRET = "gateway: main", "pss+wörd/ %:"
"""What has to be encoded before it stands in HTTP Basic (RFC 6749 section 2.3.1)."""


def replying(
    body: str | bytes = b'{"active": true, "sub": "mallory"}',
    status: int = 200,
    content_type: str = "application/json",
    **headers: str,
) -> Answer:
    """The same answer to whatever is asked; in names of headers _ stands for -."""

    async def answer(_: web.Request) -> web.StreamResponse:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        raw = body.encode() if isinstance(body, str) else body
        return web.Response(body=raw, status=status, headers={"Content-Type": content_type, **fields})

    return answer


class AuthorizationServer(LocalServer):
    """Knows `tokens` and what is to be said of them; counts what it is asked; `answer` takes over when it is there."""

    path = "/introspect"

    def __init__(self, **tokens: dict[str, Any]) -> None:
        super().__init__()
        self.tokens = tokens
        self.client = (CLIENT, SECRET)
        self.gate = asyncio.Event()
        self.gate.set()
        self.requests: list[web.Request] = []
        self.most_at_once = 0
        self.connections: set[object] = set()
        self._at_once = 0

    async def __aexit__(self, *_: object) -> None:
        self.gate.set()
        await super().__aexit__()

    async def go_away(self) -> None:
        """Refuse connections, and end those that are there."""
        await super().go_away()
        assert self._runner.server is not None
        for connection in self._runner.server.connections:
            if connection.transport is not None:
                connection.transport.abort()

    async def _reply(self, request: web.Request) -> web.StreamResponse:
        form = parse_qs((await request.read()).decode(), strict_parsing=True)
        self.asked.append(form["token"][0])
        self.requests.append(request)
        self.connections.add(request.protocol)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await self.gate.wait()
            return await self.answer(request) if self.answer is not None else self._say(request, form)
        finally:
            self._at_once -= 1

    def _say(self, request: web.Request, form: dict[str, list[str]]) -> web.Response:
        assert (request.method, request.path) == ("POST", "/introspect")
        assert request.content_type == "application/x-www-form-urlencoded"
        assert form == {"token": form["token"], "token_type_hint": ["access_token"]}
        if credentials(request) != self.client:
            return web.json_response({"error": "invalid_client"}, status=401)
        known = self.tokens.get(form["token"][0])
        return web.json_response({"active": False} if known is None else {"active": True, **known})


def credentials(request: web.Request) -> tuple[str, str]:
    """Name and secret of the client that asks."""
    scheme, _, encoded = request.headers["Authorization"].partition(" ")
    assert scheme == "Basic"
    name, _, secret = b64decode(encoded).decode().partition(":")
    return unquote_plus(name), unquote_plus(secret)


ALICE = {"active": True, "sub": "alice", "scope": "orders:read orders:write", "exp": NOW + 600}
INACTIVE = {"active": False}
Said = Mapping[str, Any] | AskError


class Oracle:
    """Says of each token what it says `now`, once the gate is open. Others than `now` are in `of`."""

    def __init__(self, now: Said = ALICE) -> None:
        self.now: Said = now
        self.of: dict[bytes, Said] = {}
        self.asked: list[bytes] = []
        self.closed = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def ask(self, token: bytes) -> Mapping[str, Any]:
        self.asked.append(token)
        await self.gate.wait()
        said = self.of.get(token, self.now)
        if isinstance(said, AskError):
            raise said
        return said

    async def close(self) -> None:
        self.closed = True


class World:
    """A provider that asks `server`; time passes when the test says so."""

    def __init__(self, server: Oracle | None = None, **changes: Any) -> None:
        self.server = server or Oracle()
        self.wall, self.timer = Clock(NOW), Clock(5.0)
        self.issuer = Issuer("opaque", self.server, clock=self.timer)
        usual: dict[str, Any] = {"clock": self.wall, "timer": self.timer, "ask": self.issuer.ask}
        self.provider = IntrospectionProvider("opaque", **(usual | changes))

    def pass_by(self, seconds: float) -> None:
        self.wall.advance(seconds)
        self.timer.advance(seconds)

    @property
    def asked(self) -> int:
        return len(self.server.asked)

    async def accepted(self, token: bytes = b"opaque") -> Caller:
        caller = await self.provider.identify(bearer(token))
        assert caller is not None
        return caller

    async def refused(self, token: bytes = b"opaque") -> BadCredential:
        with pytest.raises(BadCredential) as caught:
            await self.provider.identify(bearer(token))
        error = caught.value
        assert (error.status, error.code, error.provider) == (401, "unauthenticated", "opaque")
        challenge = header(error.headers, b"www-authenticate")
        assert challenge == b'Bearer realm="gateway", error="invalid_token", error_description="%s"' % (
            error.detail.encode()
        )
        return error

    async def unavailable(self, token: bytes = b"opaque") -> Shed:
        with pytest.raises(Unavailable) as caught:
            await self.provider.identify(bearer(token))
        assert (caught.value.status, caught.value.code) == (503, "identity_unavailable")
        assert (caught.value.provider, caught.value.retry_after) == ("opaque", 1.0)
        return caught.value


async def settled() -> None:
    """Let every task go on as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)
