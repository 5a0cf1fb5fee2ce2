"""Forked children: how they are born, what they say, when they end.

`Nursery.run` is the supervisor's event loop. It forks only while that loop stands still: a child that began in
the middle of one would carry half of it along. The process must have no other threads.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

from gateway.process.link import Link, LinkLostError, Message, pair

log = logging.getLogger("gateway.process")

HearChild = Callable[["Child", Message], Awaitable[Message | None]]
"""What the supervisor does with a child's message."""

Life = Callable[[socket.socket], int]
"""What a child does with its end of the link, to its exit status."""

IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
"""They reach a whole process group or control group: what they ask for, the supervisor passes on in order."""


class ChildError(Exception):
    """A child could not begin its work; the message is its reason."""


class Child:
    """One child process. Belongs to the supervisor's loop."""

    def __init__(self, pid: int, sock: socket.socket, hear: HearChild, loop: asyncio.AbstractEventLoop) -> None:
        self.pid = pid
        self.born = time.monotonic()
        self.slots: list[int] = []
        """Of a worker: the sockets it accepts on."""
        self.dismissed = False
        """It was told to go; its end is no accident."""
        self._hear = hear
        self._reason = ""
        self.begun: asyncio.Future[None] = loop.create_future()
        self.exited: asyncio.Future[int] = loop.create_future()
        self.link = Link(sock, self._heard, lambda: None)
        self.link.open(loop)

    @property
    def ready(self) -> bool:
        """It has begun its work, and goes on."""
        return self.begun.done() and not self.begun.exception() and not self.exited.done()

    def tell(self, message: Message, descriptors: tuple[int, ...] = ()) -> None:
        """Say something to it. One that cannot hear any more is ended: its successor will be told."""
        try:
            self.link.tell(message, descriptors)
        except LinkLostError:
            self.kill()

    async def ask(self, message: Message, patience: float, descriptors: tuple[int, ...] = ()) -> Message:
        """Its answer. One that does not answer in time, or is gone, is ended; then {"gone": True}."""
        try:
            return await self.link.ask(message, patience, descriptors)
        except (LinkLostError, TimeoutError):
            self.kill()
            return {"gone": True}

    def kill(self) -> None:
        """End it at once."""
        if not self.exited.done():
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def buried(self, status: int) -> None:
        """The system says that it has ended."""
        self.link.close()
        if not self.exited.done():
            self.exited.set_result(status)
        if not self.begun.done():
            self.begun.set_exception(ChildError(self._reason or f"a process ended at its start: {describe(status)}"))
            self.begun.exception()  # it is no surprise that nobody may wait for it

    async def _heard(self, message: Message, descriptors: list[int]) -> Message | None:
        match message["do"]:
            case "ready":
                if not self.begun.done():
                    self.begun.set_result(None)
                return None
            case "failed":
                self._reason = message["reason"]
                return {}
        return await self._hear(self, message)


class Nursery:
    """Bears children and notices their ends."""

    def __init__(self) -> None:
        self.children: dict[int, Child] = {}
        self._wanted: asyncio.Queue[Callable[[], None]] = asyncio.Queue()

    def run(self, main: Callable[[], Coroutine[Any, Any, int]]) -> int:
        """Run `main` in an event loop that pauses for births; returns what it returns."""
        loop = asyncio.SelectorEventLoop()
        try:
            task = loop.create_task(main())
            while (birth := loop.run_until_complete(self._next(task))) is not None:
                birth()
            return task.result()
        finally:
            loop.close()

    async def bear(self, life: Life, hear: HearChild, close: Callable[[], None]) -> Child:
        """A new child; in it, `close` lets go of what it must not hold, and then `life` is all it does.

        Raises ChildError.
        """
        loop = asyncio.get_running_loop()
        born: asyncio.Future[Child] = loop.create_future()

        def birth() -> None:
            if born.cancelled():
                return
            try:
                pid, ours = self._fork(life, close)
            except OSError as error:  # the system has no room for another process
                born.set_exception(ChildError(f"cannot start a process: {error.strerror}"))
                return
            child = self.children[pid] = Child(pid, ours, hear, loop)
            born.set_result(child)

        self._wanted.put_nowait(birth)
        return await born

    def bury(self) -> None:
        """Collect every child that has ended, ours or (as PID 1) anybody's."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self.children.pop(pid, None)
            if child is not None:
                child.buried(os.waitstatus_to_exitcode(status))

    async def _next(self, main: asyncio.Task[int]) -> Callable[[], None] | None:
        """The next birth that is due; None when `main` is done."""
        getting = asyncio.ensure_future(self._wanted.get())
        await asyncio.wait([main, getting], return_when=asyncio.FIRST_COMPLETED)
        if not main.done():
            return getting.result()
        getting.cancel()
        return None

    def _fork(self, life: Life, close: Callable[[], None]) -> tuple[int, socket.socket]:
        ours, theirs = pair()
        sys.stdout.flush()
        sys.stderr.flush()
        # Until the child ignores them: the supervisor would hear through their common wakeup descriptor.
        signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)
        try:
            pid = os.fork()
            if not pid:
                signal.set_wakeup_fd(-1)
                for number in IGNORED:
                    signal.signal(number, signal.SIG_IGN)
        except OSError:
            ours.close()
            theirs.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED)
        if pid:
            theirs.close()
            return pid, ours
        status = 1
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            ours.close()
            for child in self.children.values():  # who kept one would hide the supervisor's death from a sibling
                child.link.abandon()
            close()
            status = life(theirs)
        except BaseException:
            log.exception("a process failed")
        finally:
            sys.stderr.flush()
            os._exit(status)  # what the parent wants to do at its end is none of our business


def describe(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
