"""CORS as a real browser judges it: a page in headless Chromium, a gateway on another origin.

The page tries everything in turn and writes what it was allowed to see into itself. It is visited twice: under an
origin that the routes list, and under one that they do not.
"""

import asyncio
import html
import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.wire.actors import Gateway, Upstream, replying

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")

PATIENCE = 45.0
"""Seconds for a visit, which takes two on an idle machine."""

PAGE = """<!doctype html><title>page</title><link rel="icon" href="data:,"><pre id="seen"></pre><script>
const attempts = %s
async function attempt([name, path, init]) {
  try {
    const reply = await fetch("%s" + path, init)
    const headers = Object.fromEntries(["x-request-id", "retry-after", "x-private"].map(n => [n, reply.headers.get(n)]))
    return [name, {status: reply.status, body: await reply.text(), headers}]
  } catch (error) {
    return [name, "refused"]
  }
}
async function run() {
  const seen = {}
  for (const each of attempts) { const [name, what] = await attempt(each); seen[name] = what }
  document.getElementById("seen").textContent = JSON.stringify(seen)
}
run()
</script>"""

JSON = {"Content-Type": "application/json"}
ATTEMPTS: list[tuple[str, str, dict[str, Any]]] = [
    ("read", "/listed/a", {}),
    ("read with cookies", "/listed/a", {"credentials": "include"}),
    ("write", "/listed/b", {"method": "PUT", "headers": {"X-A": "1", **JSON}, "body": "{}"}),
    ("authorise", "/listed/c", {"headers": {"Authorization": "Bearer x"}, "credentials": "include"}),
    ("a method that is not allowed", "/listed/d", {"method": "DELETE"}),
    ("a header that is allowed", "/strict/a", {"headers": {"X-A": "1"}}),
    ("a header that is not allowed", "/strict/b", {"headers": {"X-B": "1"}}),
    ("cookies where there are none", "/strict/c", {"credentials": "include"}),
    ("an error", "/locked", {"headers": {"X-API-Key": "wrong"}}),
    ("once", "/limited", {}),
    ("twice", "/limited", {}),
    ("below", "/below", {}),
    ("everybody", "/everybody", {"method": "POST", "headers": {"Authorization": "Basic x"}}),
    ("without cors", "/plain", {}),
]

SAID = b"Access-Control-Allow-Origin: http://other.example\r\nX-Private: 1\r\n"
REPLY = b"HTTP/1.1 200 OK\r\n" + SAID + b"Content-Length: 2\r\n\r\nok"


def config(upstream: int, page: int) -> str:
    origin = f"http://127.0.0.1:{page}"
    return f"""
listen: {{admin: "off"}}
auth:
  providers:
    partners: {{type: api_key, header: X-API-Key}}
upstreams:
  up: {{targets: ["http://127.0.0.1:{upstream}"], retry: off, breaker: off}}
routes:
  - name: listed
    match: {{path: "/listed/**", methods: [GET, PUT]}}
    cors: {{origins: ["{origin}"], credentials: true, expose: [X-Request-Id], max_age: 10m}}
    upstream: up
  - {{name: strict, match: {{path: "/strict/**"}}, cors: {{origins: ["{origin}"], headers: [X-A]}}, upstream: up}}
  - name: locked
    match: {{path: /locked}}
    auth: {{providers: [partners]}}
    cors: {{origins: ["{origin}"], expose: "*"}}
    upstream: up
  - name: limited
    match: {{path: /limited}}
    rate_limit: {{by: global, limit: 1/hour}}
    cors: {{origins: ["{origin}"], expose: [Retry-After]}}
    upstream: up
  - {{name: below, match: {{path: /below}}, cors: {{origins: ["http://*.localhost:{page}"]}}, upstream: up}}
  - {{name: everybody, match: {{path: /everybody, methods: [POST]}}, cors: {{origins: "*"}}, upstream: up}}
  - {{name: plain, match: {{path: /plain}}, upstream: up}}
"""


async def visit(url: str, profile: Path) -> dict[str, Any]:
    """What the page at `url` was allowed to see. Virtual time stands still while requests are under way."""
    assert CHROMIUM is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-proxy-server"]
    options += [f"--user-data-dir={profile}", "--virtual-time-budget=20000", "--dump-dom", url]
    pipe, none = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(CHROMIUM, *options, stdin=none, stdout=pipe, stderr=none)
    try:
        async with asyncio.timeout(PATIENCE):
            page, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    written = re.search(r'<pre id="seen">(.*?)</pre>', page.decode(), re.DOTALL)
    assert written is not None, page.decode()
    assert written[1], "the page has not come to its end"
    seen: dict[str, Any] = json.loads(html.unescape(written[1]))
    return seen


@asynccontextmanager
async def two_origins(folder: Path) -> AsyncIterator[tuple[Upstream, int]]:
    """An upstream behind a gateway, and the port of the page that asks it."""
    upstream, pages = await Upstream(replying(REPLY)).start(), await Upstream().start()
    gateway = await Gateway.start(folder, config(upstream.port, pages.port))
    try:
        page = (PAGE % (json.dumps(ATTEMPTS), f"http://127.0.0.1:{gateway.port}")).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(page)
        pages.script = replying(head + page)
        yield upstream, pages.port
    finally:
        await gateway.stop()
        await pages.stop()
        await upstream.stop()


def statuses(seen: dict[str, Any]) -> dict[str, Any]:
    return {name: what["status"] if isinstance(what, dict) else what for name, what in seen.items()}


async def test_a_page_of_a_listed_origin_sees_what_it_may(tmp_path: Path) -> None:
    async with two_origins(tmp_path) as (upstream, port):
        seen = await visit(f"http://127.0.0.1:{port}/", tmp_path / "profile")
        assert statuses(seen) == {
            "read": 200,
            "read with cookies": 200,
            "write": 200,
            "authorise": 200,
            "a method that is not allowed": "refused",
            "a header that is allowed": 200,
            "a header that is not allowed": "refused",
            "cookies where there are none": "refused",
            "an error": 401,
            "once": 200,
            "twice": 429,
            "below": "refused",
            "everybody": 200,
            "without cors": "refused",
        }
        assert seen["read"]["body"] == "ok"
        assert seen["read"]["headers"]["x-request-id"], "exposed"
        assert seen["read"]["headers"]["x-private"] is None, "not exposed"
        assert seen["an error"]["headers"]["x-request-id"], "everything is exposed"
        assert json.loads(seen["an error"]["body"])["code"] == "unauthenticated"
        assert int(seen["twice"]["headers"]["retry-after"]) > 0
        assert not [line for line in upstream.requests if line.startswith((b"OPTIONS", b"DELETE"))]


async def test_a_page_of_another_origin_sees_what_is_for_everybody(tmp_path: Path) -> None:
    async with two_origins(tmp_path) as (upstream, port):
        seen = await visit(f"http://localhost:{port}/", tmp_path / "profile")
        expected: dict[str, Any] = {name: "refused" for name, *_ in ATTEMPTS}
        assert statuses(seen) == expected | {"everybody": 200}
        assert not [line for line in upstream.requests if line.startswith((b"PUT", b"OPTIONS"))], "nothing was written"


async def test_a_page_below_a_domain_is_taken_by_its_pattern(tmp_path: Path) -> None:
    async with two_origins(tmp_path) as (_, port):
        seen = await visit(f"http://a.b.localhost:{port}/", tmp_path / "profile")
        assert (statuses(seen)["below"], statuses(seen)["read"]) == (200, "refused")
