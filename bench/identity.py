"""What it costs to know who is calling: credentials seen again, tokens seen for the first time, and a flood of those.

The flood runs against `gateway run` with one worker on a core of its own: 1,000 requests a second, each with an RS256
token that was never seen before, while another client asks an open route and nothing but the time it waits is counted.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from statistics import median, quantiles
from timeit import default_timer
from typing import Any, cast

import jwt
import uvloop
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from rich.console import Console
from rich.table import Table

from bench.machine import keep
from bench.processes import cores, free_port, server
from gateway.auth.identity import provider
from gateway.auth.providers import Provider
from gateway.config import Config, load
from gateway.exchange import Call, Fields, Peer, Request

ROUNDS = 7
TOKENS = 1000
ISSUER, AUDIENCE = "https://idp.example", "orders-api"
REPEATED_BOUND, FIRST_BOUND, WAIT_BOUND = 2.0, 1.3, 3.0
"""Microseconds; times PyJWT's own decode; times the quiet wait."""

RATE, SECONDS, PROBE_PAUSE = 1000, 4.0, 0.002
REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
REQUIRED: Any = {"require": ["exp"]}
PRIVATE: dict[str, Any] = {
    "HS256": "s" * 40,
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        config = load(configuration(Path(folder)), {})
        again = asyncio.run(seen_again(config))
        first = asyncio.run(seen_first(config))
        waits = flood(Path(folder))
    console = Console()
    rows = {name: (runs, "") for name, runs in again.items()}
    console.print(figures("microseconds for a credential seen again", rows))
    ratios = {name: median(ours) / median(theirs) for name, (ours, theirs) in first.items()}
    rows = {name: (ours, f"{ratios[name]:.2f}x PyJWT") for name, (ours, _) in first.items()}
    console.print(figures("microseconds for a token seen first", rows))
    quiet = median(waits["quiet"])
    rows = {name: (runs, f"{median(runs) / quiet:.2f}x quiet") for name, runs in waits.items()}
    console.print(figures("p99 of an open route, ms", rows))
    kept = {"again_us": again, "first_us": first, "first_ratio": ratios, "open_route_p99_ms": waits}
    keep("identity", kept)
    missed = (
        median(again["RS256 token"]) > REPEATED_BOUND
        or ratios["RS256"] > FIRST_BOUND
        or median(waits["distinct tokens"]) > WAIT_BOUND * quiet
    )
    return int(missed)


def figures(title: str, rows: dict[str, tuple[list[float], str]]) -> Table:
    table = Table("", title=title)
    for heading in ("median", "spread", ""):
        table.add_column(heading, justify="right")
    for name, (runs, remark) in rows.items():
        table.add_row(name, f"{median(runs):.2f}", f"{min(runs):.2f}–{max(runs):.2f}", remark)
    return table


def configuration(folder: Path, port: int = 8080, upstream: int = 9001) -> Path:
    """A provider for each kind of credential, an open route and one with tokens."""
    providers = [f"    HS256: {{type: jwt, issuer: HS256, secret: {PRIVATE['HS256']}, {common('HS256')}}}"]
    for name in ("RS256", "ES256", "EdDSA"):
        public = (
            PRIVATE[name]
            .public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        (folder / f"{name}.pem").write_bytes(public)
        providers.append(f"    {name}: {{type: jwt, issuer: {name}, key: {name}.pem, {common(name)}}}")
    providers.append("    partners: {type: api_key, header: X-API-Key}")
    file = folder / "routes.yaml"
    file.write_text(
        f"listen: {{http: 127.0.0.1:{port}, admin: off}}\nlogging: {{access: off}}\nauth:\n  providers:\n"
        + "\n".join(providers)
        + f"""
  consumers:
    acme: {{keys: ["sha256:{KEY_HASH}"]}}
upstreams:
  up: {{targets: [http://127.0.0.1:{upstream}]}}
routes:
  - {{name: open, match: {{path: /open}}, upstream: up}}
  - {{name: closed, match: {{path: /closed}}, auth: {{providers: [RS256], scopes: [orders:read]}}, upstream: up}}
"""
    )
    return file


KEY = b"gwk_" + b"k" * 43
KEY_HASH = sha256(KEY).hexdigest()


def common(algorithm: str) -> str:
    return f"audience: {AUDIENCE}, algorithms: [{algorithm}]"


def tokens(algorithm: str, count: int) -> list[str]:
    now = int(time.time())
    claims = {"iss": algorithm, "aud": AUDIENCE, "scope": "orders:read orders:write", "iat": now, "exp": now + 7200}
    return [jwt.encode({**claims, "sub": f"user-{n}"}, PRIVATE[algorithm], algorithm) for n in range(count)]


def call_with(name: bytes, value: bytes) -> Call:
    fields = Fields([(b"host", b"api.example.com"), (name, value), (b"accept", b"*/*")], host=b"api.example.com")
    return Call(Request("GET", b"/closed", fields, Peer("127.0.0.1", 1)), "id")


async def seen_again(config: Config) -> dict[str, list[float]]:
    """Of credentials on a connection that repeats its head, as clients do."""
    asked: dict[str, tuple[Provider, Call]] = {
        f"{name} token": (provider(config, name), call_with(b"authorization", b"Bearer " + tokens(name, 1)[0].encode()))
        for name in PRIVATE
    }
    asked["API key"] = provider(config, "partners"), call_with(b"x-api-key", KEY)
    costs: dict[str, list[float]] = {name: [] for name in asked}
    for _ in range(ROUNDS):
        for name, (vouching, call) in asked.items():
            costs[name].append(await each(partial(vouching.identify, call)))
    return costs


async def each(ask: Callable[[], Awaitable[object]], count: int = 20_000) -> float:
    """Microseconds."""
    assert await ask() is not None
    began = default_timer()
    for _ in range(count):
        await ask()
    return (default_timer() - began) / count * 1e6


async def seen_first(config: Config) -> dict[str, tuple[list[float], list[float]]]:
    """Of tokens that were never seen, ours and PyJWT's by turns."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    for name, private in PRIVATE.items():
        ours, theirs = found[name] = ([], [])
        public = private if isinstance(private, str) else private.public_key()
        for _ in range(ROUNDS):
            vouching, made = provider(config, name), tokens(name, TOKENS)
            calls = [call_with(b"authorization", b"Bearer " + token.encode()) for token in made]
            began = default_timer()
            for call in calls:
                await vouching.identify(call)
            ours.append((default_timer() - began) / TOKENS * 1e6)
            began = default_timer()
            for token in made:
                jwt.decode(token, public, [name], REQUIRED, audience=AUDIENCE, issuer=name, leeway=30)
            theirs.append((default_timer() - began) / TOKENS * 1e6)
    return found


def flood(folder: Path) -> dict[str, list[float]]:
    """Milliseconds that 99 of 100 requests of an open route take at most, by what else is going on."""
    ours, other = cores()
    up, port = free_port(), free_port()
    configuration(folder, port, up)
    made = tokens("RS256", int(RATE * SECONDS * 3) + 100)
    loads: dict[str, list[list[str]]] = {
        "quiet": [[], [], []],
        "one token again and again": [made[:1]] * 3,
        "distinct tokens": [made[100 + n * int(RATE * SECONDS) :][: int(RATE * SECONDS)] for n in range(3)],
    }
    found: dict[str, list[float]] = {name: [] for name in loads}
    command = [sys.executable, "-m", "gateway", "run", "-c", str(folder / "routes.yaml")]
    if other is not None:
        os.sched_setaffinity(0, {other})
    with beside(upstream, up), server(command, port, core=ours, log=folder / "gateway.log"):
        for number in range(3):
            for name, rounds in loads.items():
                with beside(ask_with, port, rounds[number]):
                    found[name].append(uvloop.run(probe(port)))
    return found


@contextmanager
def beside(work: Callable[..., None], *arguments: object) -> Iterator[None]:
    """`work` in a process of its own, ended with the block."""
    process = get_context("spawn").Process(target=work, args=arguments, daemon=True)
    process.start()
    try:
        time.sleep(0.5)
        yield
        assert process.is_alive() or process.exitcode == 0, "a process of the benchmark failed"
    finally:
        process.terminate()
        process.join()


class Answering(asyncio.Protocol):
    """An upstream that needs no time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write = cast(asyncio.Transport, transport).write  # uvloop's own is no subclass

    def data_received(self, data: bytes) -> None:
        self._write(REPLY * data.count(b"\r\n\r\n"))


def upstream(port: int) -> None:
    async def serve() -> None:
        listening = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", port)
        await listening.serve_forever()

    uvloop.run(serve())


def ask_with(port: int, given: list[str]) -> None:
    """RATE requests a second in an even stream over 16 connections, with these tokens in turn, as long as SECONDS."""
    if given:
        uvloop.run(_ask_with(port, given))


async def _ask_with(port: int, given: list[str]) -> None:
    ends = [await asyncio.open_connection("127.0.0.1", port) for _ in range(16)]
    reading = [asyncio.create_task(_read(reader)) for reader, _ in ends]
    count = int(RATE * SECONDS)
    began = time.monotonic()
    for number in range(count):
        token = given[number % len(given)]
        ends[number % len(ends)][1].write(
            f"GET /closed HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        )
        await asyncio.sleep(max(0.0, began + number / RATE - time.monotonic()))
    await asyncio.sleep(0.2)
    assert sum(task.done() for task in reading) == 0, "a reply was no good one"
    for task in reading:
        task.cancel()


async def _read(reader: asyncio.StreamReader) -> None:
    while (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200"):
        await reader.readexactly(2)


async def probe(port: int) -> float:
    """Milliseconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    waits = []
    ends = time.monotonic() + SECONDS - 1.0
    while time.monotonic() < ends:
        began = time.perf_counter()
        writer.write(b"GET /open HTTP/1.1\r\nHost: api\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        await reader.readexactly(2)
        waits.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(PROBE_PAUSE)
    writer.close()
    return quantiles(waits, n=100)[98]


if __name__ == "__main__":
    sys.exit(main())
