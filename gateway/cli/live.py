"""How commands follow a running gateway: server-sent events from its admin listener, one after the other."""

from __future__ import annotations

import argparse
import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import orjson

from gateway.cli.admin_client import TOKEN, Answer, one_line, stream
from gateway.cli.output import Failure

PATIENCE = 15.0
"""Seconds of silence after which the gateway counts as gone: it says something every five or ten."""

LONGEST = 64 * 1024 * 1024
"""Bytes of a line: the state of 10,000 routes takes a tenth of it."""


class Event(NamedTuple):
    """What the gateway has said."""

    name: str
    """"message" where it has none."""
    data: bytes


@contextmanager
def events(options: argparse.Namespace, path: str) -> Iterator[Iterator[Event]]:
    """The events at `path`, as they come. Raises Failure when there are none, and when the gateway ends."""
    with stream(options.admin, path, PATIENCE) as reply:
        if isinstance(reply, Answer):
            raise _refused(options, reply)
        yield _events(options, reply)


def json_object(data: bytes) -> dict[str, Any]:
    """The one in an event; empty for anything else."""
    try:
        said = orjson.loads(data)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _events(options: argparse.Namespace, reply: http.client.HTTPResponse) -> Iterator[Event]:
    name, data = "message", b""
    while True:
        try:
            line = reply.readline(LONGEST)
        except TimeoutError:
            raise Failure(f"the gateway at {one_line(options.admin)} says nothing any more") from None
        except (http.client.HTTPException, OSError):
            line = b""
        if not line:
            raise Failure(f"the gateway at {one_line(options.admin)} has ended, or does not let us listen any more")
        field, _, value = line.rstrip(b"\r\n").partition(b": ")
        if field == b"event":
            name = value.decode("ascii", "replace")
        elif field == b"data":
            data = value  # the gateway's events have one line
        elif line.isspace() and data:
            yield Event(name, data)
            name, data = "message", b""


def _refused(options: argparse.Namespace, answer: Answer) -> Failure:
    status, said = answer
    if status in (200, 404):
        what = f"what listens at {one_line(options.admin)} knows nothing of {options.command}"
        return Failure(f"{what}: is it the gateway's admin listener?")
    hint = f": set {TOKEN}" if status == 401 else ""
    reason = said.get("detail") or said.get("title") or f"the answer was {status}"
    return Failure(one_line(f"gateway {options.command}: {reason}{hint}"), status=2 if status == 422 else 1)
