"""Callers with credentials: what they are told again and again, and how soon a decision has reached every worker."""

import http.client
import json
import time
from collections import Counter
from collections.abc import Mapping
from select import select
from threading import Thread
from typing import Any, NamedTuple

from gateway.cli.admin_client import call
from tests.system.gateways import Process, command
from tests.system.load import figure
from tests.tokens import SECRET, sign

SOON = 1.0
"""Seconds in which every worker, and every instance, follows what operators decide."""

SURE = 24
"""Equal answers in a row on connections of their own: then both workers were asked, but for 1 in 10 million."""

PATIENCE = 5.0


class Answer(NamedTuple):
    """What a caller was told; status 0 when it was not answered."""

    status: int
    challenge: str = ""
    """WWW-Authenticate."""
    retry_after: str = ""
    body: str = ""


class Heard(NamedTuple):
    """An answer, and the monotonic second in which its question was sent."""

    began: float
    answer: Answer


def ask(port: int, headers: Mapping[str, str], path: str = "/x", *, source: str = "127.0.0.1") -> Answer:
    """On a connection of its own, from this address."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE, source_address=(source, 0))
    try:
        return _ask(connection, path, headers)
    finally:
        connection.close()


def _ask(connection: http.client.HTTPConnection, path: str, headers: Mapping[str, str]) -> Answer:
    connection.request("GET", path, headers=dict(headers))
    reply = connection.getresponse()
    said = reply.headers
    return Answer(
        reply.status, said.get("WWW-Authenticate", ""), said.get("Retry-After", ""), reply.read().decode("latin-1")
    )


def in_force(what: str, wanted: int, headers: Mapping[str, str], *gateways: Process) -> None:
    """Wait until every worker of these gateways answers with this status; that must be soon."""
    began = last = time.monotonic()
    row = 0
    while row < SURE:
        if {ask(each.port, headers).status for each in gateways} == {wanted}:
            row += 1
        else:
            row, last = 0, time.monotonic()
            assert last - began < PATIENCE, f"{what}: never {wanted}"
    figure(f"{what}: in force after {(last - began) * 1000:.0f} ms")
    assert last - began < SOON, what


def tell(gateway: Process, *words: str) -> dict[str, Any]:
    """What a command of an operator says; it must succeed."""
    done = command(*words, "--json", "--admin", f"http://127.0.0.1:{gateway.admin}")
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def operate(gateway: Process, method: str, path: str, **body: object) -> tuple[int, dict[str, Any]]:
    """Status and answer of the admin API, as commands ask it."""
    return call(f"http://127.0.0.1:{gateway.admin}", method, f"/api/v1/{path}", body or None)


def key(word: str) -> dict[str, str]:
    """The headers of whoever has this API key."""
    return {"X-API-Key": word}


def token(sub: str, jti: str, *, iat: float | None = None, secret: bytes = SECRET, **claims: object) -> dict[str, str]:
    """The headers of whoever has this token, which is good for an hour."""
    now = int(time.time())
    told = {"sub": sub, "jti": jti, "iat": now if iat is None else iat, "exp": now + 3600, **claims}
    return {"Authorization": f"Bearer {sign(told, secret).decode()}"}


class Callers:
    """Runs while its `with` does: each caller asks on one connection that is kept, and on ever new ones."""

    def __init__(self, port: int, callers: Mapping[str, Mapping[str, str]], *, pause: float = 0.02) -> None:
        """`callers` are the headers that each of them sends."""
        self.heard: dict[str, list[Heard]] = {name: [] for name in callers}
        self._port = port
        self._pause = pause
        self._stop = False
        self._threads = [
            Thread(target=self._go_on, args=(self.heard[name], headers, kept), daemon=True)
            for name, headers in callers.items()
            for kept in (True, False)
        ]

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        self.go_on(2)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        for thread in self._threads:
            thread.join(PATIENCE + 1)
        assert not any(thread.is_alive() for thread in self._threads), "a caller hangs"

    def go_on(self, more: int = 10) -> None:
        """Return when each caller was answered so many times from now on."""
        before = {name: len(heard) for name, heard in self.heard.items()}
        until = time.monotonic() + PATIENCE
        while any(len(heard) - before[name] < more for name, heard in self.heard.items()):
            assert time.monotonic() < until, "some caller gets no answers"
            time.sleep(0.005)

    def statuses(self, name: str, since: float = 0.0) -> Counter[int]:
        """What this caller was told, when asked not before `since`."""
        return Counter(heard.answer.status for heard in list(self.heard[name]) if heard.began >= since)

    def last(self, name: str, status: int, since: float) -> float:
        """Seconds from `since` until the caller asked for the last time and heard this; 0 when it never did."""
        asked = [heard.began for heard in list(self.heard[name]) if heard.answer.status == status]
        return max(0.0, max(asked, default=0.0) - since)

    def _go_on(self, heard: list[Heard], headers: Mapping[str, str], kept: bool) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        while not self._stop:
            if connection.sock is not None and select([connection.sock], [], [], 0)[0]:
                connection.close()  # the server has: a browser would make another one, too
            began = time.monotonic()
            try:
                answer = _ask(connection, "/x", headers)
            except (OSError, http.client.HTTPException) as error:
                answer = Answer(0, body=repr(error))
            heard.append(Heard(began, answer))
            if not kept or not answer.status:
                connection.close()
            time.sleep(self._pause)
        connection.close()
