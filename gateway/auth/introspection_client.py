"""Asks an issuer about a token (RFC 7662 section 2), with the gateway's own credentials there.

The other end may be slow, broken or hostile: one time limit for all of it, a limit for what is read, and nothing that
it writes goes into a log or an error, because it knows the token.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from typing import Any
from urllib.parse import quote_plus, urlencode

from aiohttp import ClientConnectorError, ClientError, ClientOSError, ClientSession, ServerDisconnectedError

from gateway.auth import jws
from gateway.auth.asking import AskError
from gateway.auth.fetching import open_session, printable, read

LIMIT = 64 * 1024
"""Bytes of an answer. Real ones have under 4 KiB."""

WITHIN = 2.0
"""Seconds for a question and its answer."""

CONNECTIONS = 16
"""To one issuer, from one worker. More questions at once wait for their turn, within their time."""


class IntrospectionClient:
    """Asks at `url`; keeps its connections, which are made in the loop that asks first."""

    def __init__(self, url: str, client_id: str, client_secret: str, *, within: float = WITHIN) -> None:
        """`within` is in seconds."""
        self._url = url
        self._headers = {
            "Authorization": _basic(client_id, client_secret),
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        self._within = within
        self._session: ClientSession | None = None
        self._closed = False

    async def ask(self, token: bytes) -> dict[str, Any]:
        """The issuer's answer: one JSON object. Raises AskError."""
        form = urlencode({"token": token, "token_type_hint": "access_token"}).encode()
        try:
            async with asyncio.timeout(self._within):
                text = await self._post_again(form)
            return jws.json_object(text)
        except TimeoutError:
            raise AskError(f"no answer within {self._within:g} s") from None
        except jws.MalformedError:
            raise AskError("its answer is not JSON, or not one clear object") from None
        except OSError as error:  # from our side: what is not reached, or not trusted, and why
            raise AskError(printable(str(error) or type(error).__name__)) from None
        except ClientError as error:
            raise AskError(f"its answer is broken ({type(error).__name__})") from None

    async def close(self) -> None:
        """Let go of the connections; questions under way get no answer."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    async def _post_again(self, form: bytes) -> bytes:
        """A kept connection may have been closed by the other end in this very moment; to ask twice does no harm."""
        try:
            return await self._post(form)
        except ClientConnectorError:
            raise
        except (ServerDisconnectedError, ClientOSError):
            return await self._post(form)

    async def _post(self, form: bytes) -> bytes:
        if self._closed:
            raise AskError("it is not asked any more")
        if self._session is None:
            self._session = open_session(self._headers, CONNECTIONS)
        async with self._session.post(self._url, data=form, allow_redirects=False) as reply:
            if reply.status != 200:
                raise _refusal(reply.status)
            if reply.content_type != "application/json":
                raise AskError("its answer is not of the type application/json")
            try:
                return await read(reply, LIMIT)
            except ValueError as error:
                raise AskError(str(error)) from None


def _basic(client_id: str, client_secret: str) -> str:
    """Each form-encoded before they are joined, so that both may hold a colon (RFC 6749 section 2.3.1)."""
    credentials = f"{quote_plus(client_id, safe='')}:{quote_plus(client_secret, safe='')}"
    return "Basic " + b64encode(credentials.encode()).decode()


def _refusal(status: int) -> AskError:
    # A 403 may come from a filter that did not like the token. 429 is meant for all of us.
    about_token = 400 <= status < 500 and status not in (401, 429)
    return AskError(f"it replied with status {status}", away=not about_token, refused=status in (401, 403))
