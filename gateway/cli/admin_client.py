"""How commands talk to a running gateway: JSON to and from its admin listener, every failure as one clear line.

Over http.client: importing aiohttp would take longer than most answers.
"""

from __future__ import annotations

import argparse
import http.client
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import orjson

from gateway.cli import admin_tls
from gateway.cli.output import Failure

DEFAULT = "http://127.0.0.1:9901"
TOKEN = "GATEWAY_ADMIN_TOKEN"  # noqa: S105 - the name of the variable, not a token
PATIENCE = 60.0
"""Seconds of silence after which the gateway counts as not answering."""
LARGEST = 64 * 1024 * 1024
"""Bytes of an answer: the configuration of 10,000 routes takes a tenth of it."""
JSON = ("application/json", "application/problem+json")
EVENTS = "text/event-stream"
VIA = "1.1 gateway"
"""What the listeners for clients say in every reply, and the admin listener never does."""


class Answer(NamedTuple):
    """What the gateway said."""

    status: int
    parsed: dict[str, Any]


def admin_argument(parser: argparse.ArgumentParser) -> None:
    """Adds `--admin URL`."""
    parser.add_argument(
        "--admin", metavar="URL", default=DEFAULT, help=f"where the gateway listens for operators (default: {DEFAULT})"
    )


def call(admin_url: str, method: str, path: str, body: object = None, patience: float = PATIENCE) -> Answer:
    """Ask the gateway at `admin_url`. Raises Failure when it gives no answer.

    `http://host:port`, `https://host:port` or `unix:path`.
    """
    connection = _connection(admin_url, patience)
    headers = {"Accept": "application/json", "X-Gateway-Client": "cli", **_authorization()}
    content = None
    if body is not None:
        content, headers["Content-Type"] = orjson.dumps(body), "application/json"
    try:
        with _explained(admin_url, patience):
            connection.request(method, path, content, headers)
            reply = connection.getresponse()
            return Answer(reply.status, _parsed(admin_url, reply))
    finally:
        connection.close()


@contextmanager
def stream(admin_url: str, path: str, patience: float) -> Iterator[http.client.HTTPResponse | Answer]:
    """A reply of server-sent events, to be read, or what the gateway says instead. Raises Failure as `call` does."""
    connection = _connection(admin_url, patience)
    headers = {"Accept": f"{EVENTS}, application/json", "X-Gateway-Client": "cli", **_authorization()}
    try:
        # Only to here: what the caller does meanwhile may fail for reasons of its own.
        with _explained(admin_url, patience):
            connection.request("GET", path, headers=headers)
            reply = connection.getresponse()
            streamed = reply.status == 200 and reply.headers.get_content_type() == EVENTS
            answer = None if streamed else Answer(reply.status, _parsed(admin_url, reply))
        yield reply if answer is None else answer
    finally:
        connection.close()


@contextmanager
def _explained(admin_url: str, patience: float) -> Iterator[None]:
    """What goes wrong between here and the gateway, as one line."""
    try:
        yield
    except TimeoutError:
        raise Failure(f"the gateway at {admin_url} did not answer within {patience:g} s") from None
    except (ConnectionRefusedError, FileNotFoundError):
        raise Failure(f"nobody listens at {admin_url}: is the gateway running? --admin says where") from None
    except ssl.SSLError as error:
        raise admin_tls.trouble(admin_url, error) from None
    except (http.client.HTTPException, ConnectionError):
        raise Failure(_stranger(admin_url, "broke off, or does not speak HTTP")) from None
    except OSError as error:
        raise Failure(f"cannot reach {admin_url}: {error.strerror or error}") from None


def one_line(text: object) -> str:
    """`text` as a terminal may have it: whoever answered, no control characters."""
    return "".join(character if character.isprintable() else " " for character in str(text))


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _connection(url: str, patience: float) -> http.client.HTTPConnection:
    if url.startswith("unix:") and len(url) > len("unix:"):
        return _UnixConnection(url.removeprefix("unix:"), patience)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")  # where the resolver would fail
    except ValueError:
        host, port = None, None
    else:
        if (
            parts.scheme not in ("http", "https")
            or "@" in parts.netloc
            or parts.path not in ("", "/")
            or parts.query
            or parts.fragment
        ):
            host = None
    if not host or not host.isascii() or not host.isprintable() or " " in host:
        kinds = "http://host:port, https://host:port and unix:path"
        raise Failure(f"--admin {one_line(url)!r} is none of {kinds}", status=2)
    if parts.scheme == "https":
        port = http.client.HTTPS_PORT if port is None else port
        return http.client.HTTPSConnection(host, port, timeout=patience, context=admin_tls.context())
    return http.client.HTTPConnection(host, http.client.HTTP_PORT if port is None else port, timeout=patience)


def _authorization() -> dict[str, str]:
    token = os.environ.get(TOKEN, "")
    if not (token.isascii() and token.isprintable()):
        raise Failure(f"{TOKEN} has characters that a header cannot have", status=2)
    return {"Authorization": f"Bearer {token}"} if token else {}


def _parsed(url: str, reply: http.client.HTTPResponse) -> dict[str, Any]:
    """The JSON object in `reply`. Raises Failure."""
    for_clients = reply.headers.get("Via", "").endswith(VIA)
    if reply.headers.get_content_type() not in JSON:
        raise Failure(_for_clients(url) if for_clients else _stranger(url, f"answered {reply.status} with no JSON"))
    content = reply.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise Failure(_stranger(url, f"answered with more than {LARGEST} bytes"))
    if reply.length:  # read(n) does not tell that the end is missing
        raise http.client.IncompleteRead(content)
    try:
        parsed = orjson.loads(content)
    except ValueError:
        raise Failure(_stranger(url, f"answered {reply.status} with broken JSON")) from None
    if not isinstance(parsed, dict):
        raise Failure(_stranger(url, f"answered {reply.status} with JSON that is no object"))
    # Only a problem of its own: an admin listener may stand behind another gateway, whose replies it goes through.
    if for_clients and parsed.get("instance") == reply.headers.get("X-Request-Id", ""):
        raise Failure(_for_clients(url))
    return parsed


def _for_clients(url: str) -> str:
    return f"{url} is where a gateway listens for clients, not for operators: --admin takes its listen.admin"


def _stranger(url: str, what: str) -> str:
    return f"what listens at {url} {what}: is it the gateway's admin listener?"
