"""What the supervisor and its children say to each other: JSON lines over a socket pair, with descriptors attached.

Both ends are alike: `tell` expects nothing, `ask` waits for what the other end's `hear` returns. Messages are
small; what is large travels as an open file. A peer that takes no more messages counts as lost: nobody waits.
A question whose answer fails is answered with {"failed": the reason}.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson

log = logging.getLogger("gateway.link")

Message = dict[str, Any]
Hear = Callable[[Message, list[int]], Awaitable[Message | None]]
"""Takes a message and the descriptors that came with it, which are its own from then on; returns the answer."""

MOST_DESCRIPTORS = 253
"""What Linux lets travel with one message (SCM_MAX_FD)."""

READ = 65536

BUFFER = 1024 * 1024
"""Bytes that the kernel is asked to keep for a peer that is busy; Linux gives 416 KiB. Its default on macOS is 8 KiB,
less than the complaints about one configuration."""


class LinkLostError(Exception):
    """The other end is gone, or takes no more messages."""


class Link:
    """One end."""

    def __init__(self, sock: socket.socket, hear: Hear, lost: Callable[[], None]) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._hear = hear
        self._on_lost = lost
        self._received = b""
        self._descriptors: list[int] = []
        self._next = 0
        self._asked: dict[int, asyncio.Future[Message]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._open = False

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to listen, in this loop."""
        self._loop = loop
        self._loop.add_reader(self._socket.fileno(), self._readable)
        self._open = True

    def close(self) -> None:
        """Hang up; questions that wait for an answer raise LinkLostError."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._socket.fileno())
            for waiter in self._asked.values():
                if not waiter.done():
                    waiter.set_exception(LinkLostError("the other end is gone"))
            self._asked.clear()
            close_all(self._descriptors)
            self._descriptors.clear()
        self._socket.close()

    def abandon(self) -> None:
        """In a forked child: let go of the parent's end without touching the parent's event loop."""
        self._socket.close()

    def tell(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Say something; no answer is expected. Raises LinkLostError, and the link is closed."""
        line = orjson.dumps({**message, "fds": len(descriptors)}) + b"\n"
        try:
            sent = socket.send_fds(self._socket, [line], list(descriptors))
        except OSError as error:
            self._lose()
            raise LinkLostError(str(error)) from None
        if sent < len(line):  # half a line: the other end could not make sense of anything after it
            self._lose()
            raise LinkLostError("the other end takes no more messages")

    async def ask(self, message: Message, patience: float, descriptors: Sequence[int] = ()) -> Message:
        """The other end's answer. Raises LinkLostError, TimeoutError."""
        self._next += 1
        waiter = self._asked[self._next] = self._loop.create_future()
        number = self._next
        try:
            self.tell({**message, "id": number}, descriptors)
            return await asyncio.wait_for(waiter, patience)
        finally:
            self._asked.pop(number, None)

    def _readable(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._socket, READ, MOST_DESCRIPTORS)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        if not data:
            self._lose()
            return
        self._descriptors += descriptors
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            self._take(orjson.loads(line))

    def _lose(self) -> None:
        if self._open:
            self.close()
            self._on_lost()

    def _take(self, message: Message) -> None:
        count = message.pop("fds")
        descriptors, self._descriptors = self._descriptors[:count], self._descriptors[count:]
        if "re" in message:
            waiter = self._asked.get(message.pop("re"))
            if waiter is not None and not waiter.done():
                waiter.set_result(message)
            return
        task = self._loop.create_task(self._answer(message, descriptors))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, message: Message, descriptors: list[int]) -> None:
        try:
            answer = await self._hear(message, descriptors)
        except Exception as error:  # the outermost boundary: who asks must not wait for an answer in vain
            log.exception("the message %r failed", message.get("do"))
            answer = {"failed": f"{type(error).__name__}: {error}"}
        if "id" in message:
            with contextlib.suppress(LinkLostError):
                self.tell({**(answer or {}), "re": message["id"]})


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets, not inherited by programs that are executed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    return ours, theirs


def close_all(descriptors: Sequence[int]) -> None:
    """Close descriptors that came with a message and are of no use."""
    for descriptor in descriptors:
        os.close(descriptor)
