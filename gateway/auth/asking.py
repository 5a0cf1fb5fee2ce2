"""An issuer that is asked about tokens (RFC 7662): when it is left alone, and what the log says of it.

It fails closed: what is no clear answer is none, and who has none is told 503. After failures in a row the issuer is
asked once in a second only, so that its absence does not cost every request its patience.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from gateway.auth.providers import Unavailable
from gateway.limits.health import StoreHealth

log = logging.getLogger("gateway.auth")

FAILURES = 5
PAUSE = 1.0
"""Seconds."""

BETWEEN_LINES = 10.0
"""Seconds between two lines of the log at least: whoever sends tokens must not be able to fill it."""


class AskError(Exception):
    """There was no answer, or none that counts.

    The text is for the log. It holds nothing that the issuer wrote, because that may be the token.
    """

    def __init__(self, text: str, *, away: bool = True, refused: bool = False) -> None:
        """`away`: others will fare no better. `refused`: the gateway itself may not ask."""
        super().__init__(text)
        self.away = away
        self.refused = refused


Observe = Callable[[str, float], None]
"""Hears how an issuer was asked, `ok` or `failed`, and how many seconds it took."""


def unobserved(outcome: str, took: float) -> None:
    """Nobody counts."""


class Client(Protocol):
    """Puts the question."""

    async def ask(self, token: bytes) -> Mapping[str, Any]:
        """The issuer's answer. Raises AskError."""

    async def close(self) -> None:
        """Put no more questions."""


class Issuer:
    """Asked through `client`. It outlives a reload as long as nothing changes in how it is asked."""

    def __init__(self, name: str, client: Client, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`name` is the provider's."""
        self.name = name
        self._client = client
        self._clock = clock
        self._health = StoreHealth(FAILURES, PAUSE)
        self._trouble = ""
        self._told = -math.inf
        self.observe: Observe = unobserved

    async def ask(self, token: bytes) -> Mapping[str, Any]:
        """What the issuer says; `active` is true or false. Raises Unavailable."""
        if not self._health.admits(self._clock()):
            raise Unavailable(self.name)
        started = self._clock()
        outcome = "failed"
        try:
            answer = await self._client.ask(token)
            if not isinstance(answer.get("active"), bool):
                raise AskError("its answer does not say whether the token is active")
            outcome = "ok"
        except AskError as error:
            self._failed(error)
            raise Unavailable(self.name) from None
        finally:
            self.observe(outcome, self._clock() - started)
        self._trouble = ""
        if self._health.answered():
            log.info("provider %s: the issuer answers again", self.name)
        return answer

    async def close(self) -> None:
        """Ask no more: from now on nothing new is known about any token."""
        await self._client.close()

    def _failed(self, error: AskError) -> None:
        now, trouble = self._clock(), str(error)
        # A token that the issuer chokes on says nothing about others: else five of them would shut everybody out.
        down = error.away and self._health.failed(now)
        if trouble == self._trouble or now < self._told + BETWEEN_LINES:
            if down:
                log.warning("provider %s: the issuer is left alone, but for one question a second", self.name)
            return
        self._trouble, self._told = trouble, now
        if error.refused:
            cure = "check client_id and client_secret, and that this client may ask about tokens"
            log.error("provider %s: the issuer does not answer the gateway (%s): %s", self.name, trouble, cure)
        else:
            log.warning("provider %s: the issuer could not be asked about a token: %s", self.name, trouble)
