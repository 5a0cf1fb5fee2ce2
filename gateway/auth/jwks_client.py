"""Fetches an issuer's keys: from the URL of a JWK set, or found by OpenID Connect Discovery.

The other end may be slow, broken or hostile: one time limit for all of it, a limit for what is read, no redirects,
no decompression, and what a discovery document names is not followed to places where an outsider should not lead us.
"""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

from aiohttp import ClientError, ClientSession
from yarl import URL

from gateway.auth import jws
from gateway.auth.fetching import open_session, printable, read
from gateway.auth.jwk import JwkSet, read_set
from gateway.auth.keyset import FetchError

LIMIT = 1024 * 1024
"""Bytes of a document. Sets of large issuers have 20 KiB."""

WITHIN = 5.0
"""Seconds for all there is to fetch."""

WELL_KNOWN = "/.well-known/openid-configuration"

HEADERS = {"Accept": "application/jwk-set+json, application/json"}


class JwksClient:
    """Fetches the set at `jwks`, or without one the set that `issuer` publishes."""

    def __init__(self, algorithms: frozenset[str], *, jwks: str = "", issuer: str = "", within: float = WITHIN) -> None:
        self._algorithms = algorithms
        self._jwks = jwks
        self._issuer = issuer
        self._within = within

    async def fetch(self) -> JwkSet:
        """The usable keys of the set. Raises FetchError."""
        try:
            # A session for one fetch: there is one in ten minutes.
            async with asyncio.timeout(self._within), open_session(HEADERS) as session:
                url = self._jwks or await self._discover(session)
                text = await self._read(session, url)
            # In a thread: a hostile set takes long to read, and the loop has others to serve.
            return await asyncio.to_thread(read_set, text, self._algorithms)
        except TimeoutError:
            raise FetchError(f"not within {self._within:g} s") from None
        except (ClientError, OSError, ValueError) as error:
            raise FetchError(printable(str(error) or type(error).__name__)) from None

    async def _discover(self, session: ClientSession) -> str:
        """Where the issuer says that its keys are (OpenID Connect Discovery 1.0, section 4)."""
        text = await self._read(session, self._issuer.removesuffix("/") + WELL_KNOWN)
        try:
            document = jws.json_object(text)
        except jws.MalformedError:
            raise FetchError("what was discovered is not JSON, or not one clear object") from None
        if document.get("issuer") != self._issuer:
            raise FetchError("what was discovered is of another issuer")
        url = document.get("jwks_uri")
        if not isinstance(url, str) or not may_lead_to(self._issuer, url):
            raise FetchError("what was discovered names no place for keys that is acceptable (jwks_uri)")
        return url

    async def _read(self, session: ClientSession, url: str) -> bytes:
        async with session.get(url, allow_redirects=False) as reply:
            if reply.status != 200:
                raise FetchError(f"{printable(url)} replied with status {reply.status}")
            return await read(reply, LIMIT)


def may_lead_to(issuer: str, url: str) -> bool:
    """Whether an issuer may say that its keys are at `url`.

    With no less protection than its own, and not at an address within somebody's network unless it is there itself.
    """
    try:
        home, there = URL(issuer), URL(url)  # as aiohttp reads them: two parsers could be led to two places
    except ValueError:
        return False
    if there.scheme != home.scheme or not there.host or there.user is not None:
        return False
    return there.host == home.host or not _inside(there.host.rstrip("."))


def _inside(host: str) -> bool:
    try:
        return not ip_address(host).is_global
    except ValueError:
        # What systems resolve to an address although it is not written as one: 127.1, 0x7f000001, 2130706433.
        return host == "localhost" or host.endswith(".localhost") or host.rpartition(".")[2][:1].isdigit()
