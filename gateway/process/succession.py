"""Handing over to another supervisor, of the version that is installed by now, without closing a socket.

The successor is `gateway run` with the same words, started with the listening sockets. It says through a pipe
that it is ready; if it ends before, the predecessor goes on as if nothing had happened.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path

from gateway.process.listening import Listening
from gateway.process.notify import SUCCESSION

log = logging.getLogger("gateway.succession")

READY = "GATEWAY_READY"
"""The descriptor through which a successor says that it is ready."""

RECORDS = "GATEWAY_RECORDS"
"""Where the predecessor keeps what operators have decided about credentials."""

READY_WITHIN = 60.0
"""Seconds."""


async def successor(listening: Listening, records: Path, environ: Mapping[str, str]) -> int | None:
    """Start one on the sockets of `listening`, which knows `records`; its pid when ready, None when it failed."""
    numbers = [sock.fileno() for sock in listening.sockets]
    hears, says = os.pipe()
    told = {**environ, SUCCESSION: ",".join(map(str, numbers)), READY: str(says), RECORDS: str(records)}
    try:
        process = subprocess.Popen(  # noqa: S603, ASYNC220 - our own words; it returns as soon as it has forked
            [sys.executable, *sys.orig_argv[1:]], env=told, pass_fds=[*numbers, says]
        )
    except OSError as error:
        log.error("cannot start a successor: %s", error)
        os.close(hears)
        return None
    finally:
        os.close(says)
    if await _hears(hears):
        log.info("the successor (pid %d) is ready and takes over", process.pid)
        return process.pid
    log.error("the successor did not become ready: this gateway goes on")
    with suppress(ProcessLookupError):
        process.kill()
    return None


def announce_ready(environ: MutableMapping[str, str]) -> None:
    """Tell the predecessor, if there is one, that it may go."""
    descriptor = environ.pop(READY, "")
    if descriptor:
        os.write(int(descriptor), b"1")
        os.close(int(descriptor))


async def _hears(descriptor: int) -> bool:
    """Whether the successor said that it is ready, and not that it has ended."""
    loop = asyncio.get_running_loop()
    said: asyncio.Future[bytes] = loop.create_future()

    def readable() -> None:
        loop.remove_reader(descriptor)
        if not said.done():
            said.set_result(os.read(descriptor, 1))

    loop.add_reader(descriptor, readable)
    try:
        return bool(await asyncio.wait_for(said, READY_WITHIN))
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
