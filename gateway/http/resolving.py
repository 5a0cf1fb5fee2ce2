"""The addresses behind a host name, with the last good ones kept: a DNS that is slow or wrong stops no connection.

One lookup at a time, in the background. A connection waits for it a moment at most where addresses are known from
before; without any it waits as long as it may. Names that are addresses already are never looked up.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from itertools import takewhile
from typing import TypeVar

log = logging.getLogger("gateway.upstream")

FRESH = 1.0
"""Seconds for which an answer, or none, is not asked for again; how long it holds the system does not tell."""

PATIENCE = 0.1
"""Seconds from the beginning of a lookup; then the addresses of the last one will do."""

AT_ONCE = float("-inf")

P = TypeVar("P", bound=asyncio.Protocol)

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""All addresses of a host, best first. Raises OSError."""


class Addresses:
    """Those of one host and port."""

    def __init__(
        self, host: str, port: int, *, resolve: Resolve | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._host = host
        self._port = port
        self._resolve = resolve or system
        self._clock = clock
        self._literal = is_address(host)
        self._known: list[str] = [host] if self._literal else []
        self._alike = 1  # so many at the beginning of them are of one family, and equally good
        self._turn = 0
        self._lookup: asyncio.Task[None] | None = None
        self._began = 0.0
        self._ended = AT_ONCE  # the last lookup
        self._failure: Exception | None = None

    async def get(self) -> list[str]:
        """The addresses to try, in this order. Raises OSError when there never were any."""
        if self._literal:
            return self._known
        if not self._known or self._clock() - self._ended >= FRESH:
            await self._look_up()
            if not self._known:
                raise OSError(f"{self._host}: {self._failure}") from self._failure
        if self._alike == 1:
            return self._known
        # Each connection begins with another one: what comes within a second must not all go to the first.
        self._turn = turn = (self._turn + 1) % self._alike
        known, alike = self._known, self._alike
        return known[turn:alike] + known[:turn] + known[alike:]

    async def connect(self, make: Callable[[], P], secure: ssl.SSLContext | None, server_name: str | None) -> P:
        """A connection to the first address that takes one. Raises OSError; the time limit is the asker's."""
        loop = asyncio.get_running_loop()
        failure = OSError(f"{self._host} has no address")
        for address in await self.get():
            try:
                _, made = await loop.create_connection(
                    make, address, self._port, ssl=secure, server_hostname=server_name
                )
            except OSError as error:
                failure = error
            else:
                return made
        self._ended = AT_ONCE  # it may have moved
        raise failure

    async def _look_up(self) -> None:
        """Wait for the lookup that is under way, or for a new one, as long as it is worth it."""
        if self._lookup is None:
            self._began = self._clock()
            self._lookup = asyncio.get_running_loop().create_task(self._look(), name=f"look-up {self._host}")
        patience = self._began + PATIENCE - self._clock() if self._known else None
        if patience is None or patience > 0:
            await asyncio.wait((self._lookup,), timeout=patience)

    async def _look(self) -> None:
        try:
            found = await self._resolve(self._host, self._port)
            if not found:
                raise OSError("no address")
        except (OSError, UnicodeError) as error:  # no such name; a name that cannot be one
            if self._known and self._failure is None:
                log.warning("%s cannot be resolved: its last addresses stay in use: %s", self._host, error)
            self._failure = error
        else:
            if self._known and self._failure is not None:
                log.info("%s is resolved again", self._host)
            self._known, self._failure = found, None
            ipv6 = ":" in found[0]
            self._alike = sum(1 for _ in takewhile(lambda address: (":" in address) == ipv6, found))
        finally:
            self._lookup = None
            self._ended = self._clock()


async def system(host: str, port: int) -> list[str]:
    """What the system's resolver says, /etc/hosts included."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def is_address(host: str) -> bool:
    """Whether it needs no lookup."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
