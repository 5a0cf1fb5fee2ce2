"""Tells a webhook what is due: one message at a time, again with growing pauses as long as it is not taken.

Certificates are verified, redirects are not followed, and neither the URL nor a reply is logged: both may be secret.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson

from gateway import __version__
from gateway.alerts.payload import payload
from gateway.alerts.states import Alerts

if TYPE_CHECKING:
    from gateway.telemetry.metrics import Metrics

log = logging.getLogger("gateway.alerts")

WITHIN = 10.0
"""Seconds for a receiver to take a message."""

SHORTEST_PAUSE = 2.0
"""Seconds, after the first failure."""

LONGEST_PAUSE = 300.0
"""Seconds: about as long as somebody can be without news once the receiver is back."""

AGENT = f"resilient-gateway/{__version__}"
TAKEN = ""


@dataclass(frozen=True, slots=True)
class Destination:
    """Whom to tell, and how."""

    url: str
    headers: Mapping[str, str]
    labels: Mapping[str, str]
    repeat: float
    """Seconds."""
    admin_url: str
    runbook: str

    @property
    def host(self) -> str:
        """For the log."""
        return urlsplit(self.url).netloc


async def post(destination: Destination, body: bytes) -> str:
    """Why the message was not taken; TAKEN when it was."""
    from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar

    # By lowercase names: a header that is there twice, in another case, makes servers refuse the request.
    own = {name.lower(): value for name, value in destination.headers.items()}
    headers = {"user-agent": AGENT, **own, "content-type": "application/json"}
    try:
        async with (
            asyncio.timeout(WITHIN),
            ClientSession(cookie_jar=DummyCookieJar(), timeout=ClientTimeout()) as session,
            session.post(destination.url, data=body, headers=headers, allow_redirects=False) as reply,
        ):
            return TAKEN if 200 <= reply.status < 300 else f"status {reply.status}"
    except TimeoutError:
        return f"no answer within {WITHIN:g} s"
    except OSError as error:  # from our side: what is not reached, or not trusted
        return error.strerror or type(error).__name__
    except ClientError as error:
        return type(error).__name__


class Notifier:
    """Of one gateway."""

    def __init__(
        self,
        alerts: Alerts,
        metrics: Metrics,
        *,
        posting: Callable[[Destination, bytes], Awaitable[str]] = post,
        dice: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._alerts = alerts
        self._metrics = metrics
        self._posting = posting
        self._dice = dice
        self._clock = clock
        self._wall = wall
        self._destination: Destination | None = None
        self._failures = 0
        """In a row."""
        self._not_before = 0.0

    def tell(self, destination: Destination | None) -> None:
        """Whom from now on; None for nobody. Another receiver has heard nothing yet."""
        if destination is not None:
            for result in ("sent", "failed"):  # before the first one: no rate sees a series begin
                self._metrics.notifications.child(result)
        before, self._destination = self._destination, destination
        if before is None or destination is None or before.url != destination.url:
            self._alerts.forget_told()
            self._failures, self._not_before = 0, 0.0  # and has kept nobody waiting

    async def step(self) -> None:
        """Tell what is due, until nothing is or it is not taken; nothing in a pause. To be called now and then."""
        if self._clock() < self._not_before:
            return
        while (to := self._destination) is not None and (group := self._alerts.due(self._wall(), to.repeat)):
            message: dict[str, Any] = payload(group, to.labels, to.admin_url, to.runbook)
            reason = await self._posting(to, orjson.dumps(message))
            self._metrics.notifications.child("failed" if reason else "sent").inc()
            if to != self._destination:  # a reload has come in between
                continue
            if reason:
                self._failed(to, reason)
                return
            self._took(to)
            self._alerts.was_told(group, self._wall())

    def _failed(self, to: Destination, reason: str) -> None:
        pause = min(LONGEST_PAUSE, SHORTEST_PAUSE * 2.0 ** min(self._failures, 20)) * (0.75 + 0.25 * self._dice())
        self._failures, self._not_before = self._failures + 1, self._clock() + pause
        if self._failures == 1:  # each time would be no news
            log.error("alerts are not taken by %s: %s; trying again", to.host, reason)

    def _took(self, to: Destination) -> None:
        if self._failures:
            log.warning("alerts are taken by %s again", to.host)
        self._failures = 0
