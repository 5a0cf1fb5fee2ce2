"""Brings batches of spans to a collector by HTTP. Without trust in it: bounded in time and bytes, no redirects."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from aiohttp import ClientError, ClientSession

from gateway import __version__
from gateway.auth.fetching import open_session, printable, read
from gateway.exchange import Reply
from gateway.resilience.retry_after import retry_after
from gateway.tracing.otlp import AGAIN, Answer, partial_success

WITHIN = 10.0
"""Seconds for a request and its answer: OTLP's usual time limit."""

LIMIT = 64 * 1024
"""Bytes of an answer. Real ones are a few."""


class Collector:
    """The collector at `url`; its connection is made when it is first used."""

    def __init__(
        self, url: str, headers: Mapping[str, str], *, within: float = WITHIN, wall: Callable[[], float] = time.time
    ) -> None:
        self._url = url
        self._headers = {
            "Content-Type": "application/json",
            "User-Agent": f"resilient-gateway/{__version__}",
            **headers,
        }
        self._within = within
        self._wall = wall
        self._session: ClientSession | None = None

    async def send(self, body: bytes) -> Answer:
        """Whatever goes wrong is an answer, too."""
        if self._session is None:
            self._session = open_session(self._headers, connections=1)
        try:
            async with (
                asyncio.timeout(self._within),
                self._session.post(self._url, data=body, allow_redirects=False) as reply,
            ):
                asked = reply.headers.get("Retry-After", "").encode("latin-1", "replace")
                return self._understood(reply.status, asked, await read(reply, LIMIT))
        except TimeoutError:
            return Answer(False, f"no answer within {self._within:g} s", again=True)
        except (ClientError, OSError) as error:
            return Answer(False, printable(str(error) or type(error).__name__), again=True)
        except ValueError as error:  # an answer without an end
            return Answer(False, printable(str(error)))

    async def close(self) -> None:
        """Let go of the connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _understood(self, status: int, asked: bytes, text: bytes) -> Answer:
        if 200 <= status < 300:
            rejected, why = partial_success(text)
            return Answer(True, printable(why), rejected=rejected)
        pause = retry_after(Reply(status, [(b"retry-after", asked)] if asked else []), self._wall()) or 0.0
        return Answer(False, f"it replied with status {status}", again=status in AGAIN, retry_after=pause)
