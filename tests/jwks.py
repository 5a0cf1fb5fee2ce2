"""Keys as issuers publish them, and an issuer to fetch them from: real, on aiohttp, and as bad as a test wants it."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Self

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.tokens import b64

Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
CURVES = {256: "P-256", 384: "P-384", 521: "P-521"}


def jwk(key: Private, kid: str | None = None, **more: Any) -> dict[str, Any]:
    """The public half; `more` members are added, or taken away with None."""
    members = _members(key) | {"kid": kid} | more
    return {name: value for name, value in members.items() if value is not None}


def _members(key: Private) -> dict[str, Any]:
    match key:
        case rsa.RSAPrivateKey():
            public = key.public_key().public_numbers()
            return {"kty": "RSA", "n": _number(public.n), "e": _number(public.e)}
        case ec.EllipticCurvePrivateKey():
            point = key.public_key().public_numbers()
            size = (key.key_size + 7) // 8
            return {"kty": "EC", "crv": CURVES[key.key_size], "x": _number(point.x, size), "y": _number(point.y, size)}
        case _:
            raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
            return {"kty": "OKP", "crv": "Ed25519" if len(raw) == 32 else "Ed448", "x": b64(raw).decode()}


def _number(value: int, size: int | None = None) -> str:
    return b64(value.to_bytes(size or (value.bit_length() + 7) // 8)).decode()


def jwks(*keys: object) -> bytes:
    """The text of a set."""
    return json.dumps({"keys": keys}).encode()


class LocalServer:
    """A server on this machine that can go away and come back at the same address, and counts what it is asked."""

    path = ""
    """Of its one page, if it has only one."""

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.asked: list[str] = []
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._reply)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await self._listen(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _listen(self, port: int) -> None:
        self._site = web.TCPSite(self._runner, "127.0.0.1", port)
        await self._site.start()
        self._port: int = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}{self.path}"

    async def go_away(self) -> None:
        """Refuse connections."""
        await self._site.stop()

    async def come_back(self) -> None:
        await self._listen(self._port)

    async def asked_for(self, times: int) -> None:
        """Wait until it was asked so often."""
        async with asyncio.timeout(5):
            while len(self.asked) < times:
                await asyncio.sleep(0.005)

    async def _reply(self, request: web.Request) -> web.StreamResponse:
        raise NotImplementedError


class IdentityProvider(LocalServer):
    """Publishes `text`; counts what it is asked; `answer` takes over when it is there."""

    def __init__(self, text: bytes = b"") -> None:
        super().__init__()
        self.text = text
        self.discovered: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.discovered = {"issuer": self.url, "jwks_uri": self.url + "/keys"}
        return self

    async def _reply(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        if self.answer is not None:
            return await self.answer(request)
        if request.path == "/.well-known/openid-configuration":
            return web.json_response(self.discovered)
        return web.Response(body=self.text, content_type="application/json")
