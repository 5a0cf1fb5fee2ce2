"""A gateway with one route for each kind of key, and how to say that an attempt to get in was refused by it."""

import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.assemble import World, assemble
from gateway.config import load
from gateway.http.server import Limits, Server
from gateway.telemetry.metrics import Metrics
from tests.jwks import IdentityProvider, jwk, jwks
from tests.tokens import SECRET, claims, ec_key, ed_key, rsa_key, sign
from tests.wire.actors import Answer, Client, Gateway, Upstream
from tests.wire.payloads import get

Make = Callable[[], bytes]

ISSUER = "https://idp.example.com/"
AUDIENCE = "orders-api"

BEARER = re.compile(r'Bearer realm="gateway"((?:, [a-z_]+="[ !#-\[\]-~]*")*)')
"""RFC 6750 section 3: the scheme, and parameters whose values need no escape."""


def each(table: Mapping[str, Any]) -> pytest.MarkDecorator:
    """One test per line: the name of an attempt, and how it is made."""
    return pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in table.items()])


def said(**changes: Any) -> dict[str, Any]:
    """Good claims as of now."""
    now = time.time()
    return claims(**({"iss": ISSUER, "aud": AUDIENCE, "iat": now - 1, "exp": now + 600} | changes))


def hmac_token(header: dict[str, Any] | bytes | None = None, alg: Any = "HS256", **changes: Any) -> bytes:
    """For /hmac, and signed by its secret whatever its header says."""
    return sign(said(**changes), SECRET, alg, header, sign_as="HS256")


def signed(payload: str | bytes) -> bytes:
    """Any text as the payload for /hmac, signed well; `NOW` in it stands for the present second."""
    raw = payload.encode() if isinstance(payload, str) else payload
    return sign(raw.replace(b"NOW", b"%d" % time.time()), SECRET)


def rsa_token(header: dict[str, Any] | bytes | None = None, alg: str = "RS256", **changes: Any) -> bytes:
    """For /rsa and /pem."""
    return sign(said(**changes), rsa_key(), alg, header if header is not None else {"kid": "rsa"})


def ec_token(header: dict[str, Any] | bytes | None = None, **changes: Any) -> bytes:
    """For /ec."""
    return sign(said(**changes), ec_key(), "ES256", header if header is not None else {"kid": "ec"})


def ed_token() -> bytes:
    """For /ed."""
    return sign(said(), ed_key(), "EdDSA", {"kid": "ed"})


GOOD: dict[str, Make] = {
    **dict.fromkeys(("/hmac", "/scoped", "/optional"), hmac_token),
    **dict.fromkeys(("/rsa", "/pem"), rsa_token),
    "/ec": ec_token,
    "/ed": ed_token,
}
"""What each route lets in."""


def keys(folder: Path) -> None:
    """The files that the configuration names."""
    (folder / "rsa.json").write_bytes(
        jwks(jwk(rsa_key(), "rsa"), jwk(ec_key(), "enc", use="enc"), jwk(ec_key(), "ops", key_ops=["sign"]))
    )
    (folder / "ec.json").write_bytes(jwks(jwk(ec_key(), "ec")))
    (folder / "ed.json").write_bytes(jwks(jwk(ed_key(), "ed")))
    public = rsa_key().public_key()
    (folder / "rsa.pem").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def config(upstream: Upstream) -> str:
    issued = f'issuer: "{ISSUER}", audience: [{AUDIENCE}]'
    return f"""
listen: {{admin: "off"}}
auth:
  providers:
    hmac:
      type: jwt
      secret: "{SECRET.decode()}"
      algorithms: [HS256]
      issuer: "{ISSUER}"
      audience: [{AUDIENCE}]
      forward: {{X-User-Id: sub, X-Plan: plan, X-Roles: roles}}
    rsa: {{type: jwt, jwks: rsa.json, algorithms: [RS256, ES256], {issued}}}
    pem: {{type: jwt, key: rsa.pem, algorithms: [RS256], {issued}}}
    ec: {{type: jwt, jwks: ec.json, algorithms: [ES256], {issued}}}
    ed: {{type: jwt, jwks: ed.json, algorithms: [EdDSA], {issued}}}
upstreams:
  up: {{targets: ["http://127.0.0.1:{upstream.port}"], retry: off, breaker: off}}
routes:
  - {{name: hmac, match: {{path: "/hmac/**"}}, auth: {{providers: [hmac]}}, upstream: up}}
  - {{name: rsa, match: {{path: "/rsa"}}, auth: {{providers: [rsa]}}, upstream: up}}
  - {{name: pem, match: {{path: "/pem"}}, auth: {{providers: [pem]}}, upstream: up}}
  - {{name: ec, match: {{path: "/ec"}}, auth: {{providers: [ec]}}, upstream: up}}
  - {{name: ed, match: {{path: "/ed"}}, auth: {{providers: [ed]}}, upstream: up}}
  - {{name: scoped, match: {{path: "/scoped"}}, auth: {{providers: [hmac], scopes: ["orders:read"]}}, upstream: up}}
  - {{name: optional, match: {{path: "/optional"}}, auth: {{providers: [hmac], optional: true}}, upstream: up}}
"""


class Lines:
    """Keeps the access log."""

    def __init__(self) -> None:
        self.text = b""

    def put(self, line: bytes) -> None:
        self.text += line


class Door:
    """What stands between an attacker and the upstream, and everything that can be seen of an attempt."""

    def __init__(self, gateway: Gateway, upstream: Upstream, log: pytest.LogCaptureFixture, lines: Lines) -> None:
        self.gateway = gateway
        self.upstream = upstream
        self.idp: IdentityProvider | None = None
        """A server of the attacker's, which nobody should ask."""
        self._log = log
        self._lines = lines
        self._client: Client | None = None

    @classmethod
    async def open(cls, folder: Path, upstream: Upstream, log: pytest.LogCaptureFixture, yaml: str = "") -> Self:
        """In front of `upstream`, with the usual routes or those of `yaml`; closed at the end of `async with`."""
        log.set_level(logging.DEBUG, "gateway")
        path, lines = folder / "routes.yaml", Lines()
        keys(folder)
        path.write_text(yaml or config(upstream))
        runtime = assemble(load(path, {}), World(Metrics(), access_log=lines))
        runtime.start()
        server = Server(runtime.handler, Limits(drain_timeout=0.2))
        address = await server.listen("127.0.0.1:0")
        return cls(Gateway(runtime, server, int(address.rpartition(":")[2])), upstream, log, lines)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.gateway.stop()

    async def ask(self, *fields: bytes, target: bytes = b"/hmac") -> Answer:
        """On a connection that is kept, so that whatever is remembered of the last request is there."""
        if self._client is None:
            self._client = await self.gateway.client()
        answer = await self._client.ask(get(*fields, target=target))
        if answer.headers.get("connection") == "close":
            self._client = None
        return answer

    async def lets_in(self, token: bytes, route: str = "/hmac") -> bytes:
        """What the upstream receives."""
        before = len(self.upstream.received)
        answer = await self.ask(b"Authorization: Bearer " + token, target=route.encode())
        assert answer.status == 200, answer
        assert self.counted("ok")
        return self.upstream.received[before:]

    async def refuses(self, token: bytes, route: str = "/hmac", status: int = 401) -> Answer:
        """The answer to a Bearer token; one that is good stands beside it, before and after."""
        await self.lets_in(GOOD[route](), route)
        answer = await self.refuses_fields(b"Authorization: Bearer " + token, route=route, status=status)
        assert status != 401 or 'error="invalid_token"' in answer.headers["www-authenticate"]
        await self.lets_in(GOOD[route](), route)
        return answer

    async def refuses_fields(
        self, *fields: bytes, route: str = "/hmac", status: int = 401, target: bytes = b""
    ) -> Answer:
        """The answer to a request with these fields, as it has to be: nothing is let in, given away or written down."""
        reached, asked = self.upstream.received, list(self.idp.asked) if self.idp else []
        ok, others, refusals = self.counted("ok"), self.counted_otherwise(), self.refusals(status)
        answer = await self.ask(*fields, target=target or route.encode())
        assert answer.status == status, answer
        assert answer.headers["content-type"] == "application/problem+json"
        problem = json.loads(answer.body)
        assert problem["status"] == status
        assert problem["code"] == CODES[status]
        if status in (401, 403):
            assert BEARER.fullmatch(answer.headers["www-authenticate"]), answer.headers
        if status == 401:
            assert (self.counted("ok"), self.counted_otherwise()) == (ok, others + 1)
        assert self.refusals(status) == refusals + 1
        assert self.upstream.received == reached
        assert self.idp is None or self.idp.asked == asked
        for field in fields:
            self.tells_nothing_of(field.partition(b":")[2].strip(), answer)
        return answer

    def tells_nothing_of(self, value: bytes, answer: Answer) -> None:
        """Neither a line of a log nor the answer holds a part of a credential."""
        written = self._log.text.encode() + self._lines.text + answer.body + str(answer.headers).encode()
        for part in re.split(rb"[^A-Za-z0-9_+/=-]", value):
            assert len(part) < 16 or part not in written, part

    def counted(self, result: str) -> float:
        """gateway_auth_total of all providers."""
        return sum(child.values[0] for labels, child in self.gateway.runtime.metrics.auth if labels[1] == result)

    def counted_otherwise(self) -> float:
        return sum(child.values[0] for labels, child in self.gateway.runtime.metrics.auth if labels[1] != "ok")

    def refusals(self, status: int) -> float:
        found = self.gateway.runtime.metrics.refusals
        return sum(child.values[0] for labels, child in found if labels[1] == CODES[status])


CODES = {400: "bad_request", 401: "unauthenticated", 403: "forbidden", 431: "headers_too_large"}
