"""Attacks on the logs (C11, D21, H10), by real requests, in every form of the access log and the gateway's own."""

import io
import json
import logging
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.assemble import World, assemble
from gateway.config import load
from gateway.http.server import Limits, Server
from gateway.logs.own_log import OwnLog
from gateway.telemetry.metrics import Metrics
from tests.tokens import SECRET
from tests.wire.actors import Gateway, Upstream
from tests.wire.attempts import hmac_token
from tests.wire.payloads import get

FORMS = ("json", "ecs", "combined")
COMBINED = re.compile(r'(\S+) (\S+) (\S+) \[([^\]]+)\] "([^"]*)" (\d{3}) (\d+|-) "([^"]*)" "([^"]*)"')


class Seen:
    """A gateway and what it has written."""

    def __init__(self, gateway: Gateway, form: str, lines: list[bytes], own: io.StringIO) -> None:
        self.gateway = gateway
        self.form = form
        self.lines = lines
        self._own = own

    @property
    def everything(self) -> str:
        return b"".join(self.lines).decode() + self._own.getvalue()

    async def ask(self, data: bytes) -> int:
        """The status of the answer, on a connection of its own."""
        client = await self.gateway.client()
        return (await client.ask(data)).status

    def whole(self, line: bytes) -> bool:
        """It is one line, printable, and as its readers expect it."""
        text = line.decode()
        if not text.endswith("\n") or not text[:-1].isprintable():
            return False
        return bool(COMBINED.fullmatch(text[:-1])) if self.form == "combined" else isinstance(json.loads(text), dict)


class Sink(list[bytes]):
    put = list.append


@pytest.fixture
def own() -> Iterator[io.StringIO]:
    """What the gateway says of itself, down to the debug messages."""
    stream, log = io.StringIO(), logging.getLogger("gateway")
    handler, level = OwnLog(stream), log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    yield stream
    log.removeHandler(handler)
    log.setLevel(level)


@pytest.fixture(params=FORMS)
async def seen(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path: Path, own: io.StringIO
) -> AsyncIterator[Seen]:
    (tmp_path / "routes.yaml").write_text(f"""
listen: {{admin: "off"}}
trusted_proxies: ["127.0.0.0/8"]
logging: {{access: {request.param}}}
auth:
  providers:
    hmac: {{type: jwt, secret: "{SECRET.decode()}", algorithms: [HS256]}}
    asked: {{type: jwt, secret: "{SECRET.decode()}", algorithms: [HS256], query: access_token}}
upstreams: {{up: {{targets: ["http://127.0.0.1:{upstream.port}"], retry: off, breaker: off}}}}
routes:
  - {{name: open, match: {{path: "/open/**"}}, upstream: up}}
  - {{name: hmac, match: {{path: "/hmac"}}, auth: {{providers: [hmac]}}, upstream: up}}
  - {{name: asked, match: {{path: "/asked"}}, auth: {{providers: [asked]}}, upstream: up}}
""")
    lines = Sink()
    runtime = assemble(load(tmp_path / "routes.yaml", {}), World(Metrics(), access_log=lines))
    runtime.start()
    server = Server(runtime.handler, Limits(drain_timeout=0.2), load(tmp_path / "routes.yaml", {}).trusted_proxies)
    address = await server.listen("127.0.0.1:0")
    gateway = Gateway(runtime, server, int(address.rpartition(":")[2]))
    try:
        yield Seen(gateway, request.param, lines, own)
    finally:
        await gateway.stop()


HOSTILE = [
    get(b"User-Agent: x\x1b[2Jy"),
    get(b"User-Agent: " + bytes(range(0x80, 0x100)), target=b"/open/a"),
    get(b'User-Agent: " 200 1 "-" "-', b'Referer: " x', target=b"/open/a"),
    get(b"User-Agent: \\x22", target=b"/open/%0a%0d%1b%5b2J%22"),
    get(target=b"/open/\x85\xe2\x80\xa8"),
    get(target=b"/open/a\x1b[2J"),
    get(target=b'/open/"a"'),
    get(target=b"/open/\x7f"),
    get(b"X-Forwarded-For: 198.51.100.7\x85, fe80::1%\xe2\x80\xa8x", target=b"/open/a"),
    get(b'X-Forwarded-For: fe80::1%" 200 1 "', target=b"/open/a"),
    get(b'Forwarded: for="[fe80::1%x\x9by]"', target=b"/open/a"),
    get(b"User-Agent: " + b"x" * 30_000, target=b"/open/a"),
    get(target=b"/open/" + b"x" * 8_000),
    b"GET /open/a HTTP/1.1\nHost: a\n\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
async def test_h10_each_request_is_one_line_that_nobody_has_forged(seen: Seen, number: int) -> None:
    """H10: line ends, ANSI sequences, quotes and long values, in what is answered and in what is refused."""
    await seen.ask(HOSTILE[number])
    (line,) = seen.lines
    assert seen.whole(line), line
    assert len(line) < 6 * 1024
    assert all(each.isprintable() for each in seen.everything.split("\n"))


async def test_h10_a_zone_in_a_forwarded_address_is_not_believed(seen: Seen) -> None:
    """H10: it may be any text (RFC 4007), and what is shown as the client is what limits count by."""
    await seen.ask(get(b"X-Forwarded-For: fe80::1%zone", target=b"/open/a"))
    assert "127.0.0.1" in seen.lines[0].decode()
    assert "zone" not in seen.everything


@pytest.mark.parametrize(
    "value", [b"a" * 129, b"a\x1b[2J", b'a"b', b"a b", b"\xe2\x80\xa8", b"a;b", b'","status":200,"x":"']
)
async def test_c11_an_odd_request_id_reaches_no_log(seen: Seen, value: bytes) -> None:
    """C11: not even that of a trusted peer, which this client is."""
    await seen.ask(get(b"X-Request-Id: " + value, target=b"/open/a"))
    (line,) = seen.lines
    assert seen.whole(line)
    assert value not in line
    if seen.form == "json":
        assert re.fullmatch(r"[0-9a-f]{20}", json.loads(line)["id"])


async def test_d21_a_token_in_the_query_is_refused_and_never_logged(seen: Seen) -> None:
    """D21: neither by a route that does not ask for it, nor by one that does, nor where nothing was found."""
    token = hmac_token()
    for target, status in (
        (b"/hmac?access_token=" + token, 401),
        (b"/asked?access_token=" + token, 200),
        (b"/asked?access_token=x" + token, 401),
        (b"/nowhere?access_token=" + token, 404),
        (b"/open/../../x?access_token=" + token, 400),
        (b"/open/a\x1b?access_token=" + token, 400),
        (b"http://user:" + token[:40] + b"@a/open/a?access_token=" + token, 400),
    ):
        said = await seen.ask(get(b"Referer: https://a.example/x?access_token=" + token, target=target))
        assert said in (status, 200) if status == 400 else said == status, target
    assert len(seen.lines) == 7
    for part in token.decode().split("."):
        assert part not in seen.everything
    assert "access_token" not in seen.everything
