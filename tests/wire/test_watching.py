"""What the operator process finds out about upstreams, from configuration to what it posts."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.config.loading import load
from gateway.config.model import Config
from gateway.process.watching import Watching
from gateway.upstream.notices import NOTHING, Found, Notices
from tests.nameserver import DnsServer, dns_server
from tests.servers import free_port
from tests.wire.actors import Upstream, replying
from tests.wire.certificates import Authority

HEALTH = "health: {path: /, interval: 100ms, timeout: 100ms, unhealthy_after: 2}"
ILL = replying(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")


class Board:
    """Keeps what is posted."""

    def __init__(self) -> None:
        self.ill: frozenset[tuple[str, str]] = frozenset()
        self.found: dict[str, tuple[Found, ...]] = {}
        self.posts = 0

    def post(self, **changes: object) -> None:
        self.posts += 1
        for name, value in changes.items():
            setattr(self, name, value)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.005)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    upstream = await Upstream().start()
    yield upstream
    await upstream.stop()


@pytest.fixture
async def server() -> AsyncIterator[DnsServer]:
    async with dns_server() as server:
        yield server


@pytest.fixture
def configured(tmp_path: Path) -> Callable[[str], Config]:
    def configured(up: str) -> Config:
        path = tmp_path / "routes.yaml"
        path.write_text(f"""
upstreams: {{up: {{{up}}}}}
routes: [{{name: all, match: {{path: "/**"}}, upstream: up}}]
""")
        return load(path, {})

    return configured


def probes() -> set["asyncio.Task[object]"]:
    return {task for task in asyncio.all_tasks() if task.get_name().startswith("probe ")}


Configured = Callable[[str], Config]


async def test_configured_targets_are_probed(upstream: Upstream, configured: Configured) -> None:
    board = Board()
    gone = f"http://127.0.0.1:{free_port()}"
    watching = Watching(board.post, NOTHING)
    try:
        watching.configure(configured(f'targets: ["http://127.0.0.1:{upstream.port}", "{gone}"], {HEALTH}'))
        await board.until(lambda: board.ill == {("up", gone)})
        await upstream.hears(b"gateway-health")
    finally:
        await watching.close()
    assert board.posts == 1


async def test_what_nobody_asks_for_is_not_watched(upstream: Upstream, configured: Configured) -> None:
    board = Board()
    before = asyncio.all_tasks()
    watching = Watching(board.post, NOTHING)
    watching.configure(configured(f'targets: ["http://127.0.0.1:{upstream.port}"]'))
    assert asyncio.all_tasks() == before
    await watching.close()


async def test_discovered_targets_are_posted_and_probed(
    upstream: Upstream, server: DnsServer, configured: Configured
) -> None:
    board = Board()
    server.put("one.test.", "A", "127.0.0.1")
    server.put("_http._tcp.orders.test.", "SRV", f"3 7 {upstream.port} one.test.")
    upstream.script = ILL
    watching = Watching(board.post, NOTHING)
    try:
        discover = f"discover: {{dns: _http._tcp.orders.test, type: srv, server: '{server.address}'}}"
        watching.configure(configured(f"{discover}, {HEALTH}"))
        assert watching.reasons() == ["no target of upstream up has been discovered yet"]
        url = f"http://127.0.0.1:{upstream.port}"
        await board.until(lambda: board.ill == {("up", url)})
        assert board.found == {"up": (Found(url, 7, 3),)}
        assert watching.reasons() == []
    finally:
        await watching.close()


async def test_discovered_targets_must_have_the_certificate_of_the_name(
    server: DnsServer, configured: Configured, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    good = await Upstream().start(tls=authority.server("orders.test"))
    bad = await Upstream().start(tls=authority.server("one.test"))
    board = Board()
    server.put("one.test.", "A", "127.0.0.1")
    server.put("_http._tcp.orders.test.", "SRV", f"0 1 {good.port} one.test.", f"0 1 {bad.port} one.test.")
    watching = Watching(board.post, NOTHING)
    try:
        discover = f"{{dns: _http._tcp.orders.test, type: srv, scheme: https, server: '{server.address}'}}"
        patient = "health: {path: /, interval: 200ms, timeout: 200ms}"
        watching.configure(configured(f"discover: {discover}, tls: {{ca: {authority.file}}}, {patient}"))
        await board.until(lambda: len(board.ill) > 0)
        await good.hears(b"gateway-health")
        assert board.ill == {("up", f"https://127.0.0.1:{bad.port}")}
        assert bad.received == b""
    finally:
        await watching.close()
        await good.stop()
        await bad.stop()


async def test_a_reload_leaves_probes_alone_whose_settings_and_files_are_the_same(
    configured: Configured, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    watching = Watching(Board().post, NOTHING)
    targets = 'targets: ["https://127.0.0.1:4430", "http://127.0.0.1:9001"]'
    settings = f"{targets}, tls: {{ca: {authority.file}}}, health: {{path: /, interval: 1h}}"
    try:
        watching.configure(configured(settings))
        first = probes()
        assert len(first) == 2
        watching.configure(configured(f"{settings}, retry: off"))
        assert probes() == first
        Authority(tmp_path)  # another one, in the same file
        watching.configure(configured(settings))
        await asyncio.sleep(0)
        assert len(probes()) == 2
        assert len(probes() & first) == 1
    finally:
        await watching.close()


async def test_a_restarted_process_goes_on_with_what_was_known(server: DnsServer, configured: Configured) -> None:
    board = Board()
    server.silent = True
    found = Found("http://127.0.0.1:9001", 1, 0)
    watching = Watching(board.post, Notices(ill=frozenset({("up", found.url)}), found={"up": (found,)}))
    try:
        discover = f"discover: {{dns: orders.test, server: '{server.address}'}}"
        watching.configure(configured(f"{discover}, health: {{tcp: true, interval: 1h}}"))
        await server.asked(1)
        assert board.posts == 0
        assert watching.reasons() == []
        assert len(probes()) == 1
        watching.configure(configured('targets: ["http://127.0.0.1:9001"]'))
        assert (board.ill, board.found) == (frozenset(), {})
    finally:
        await watching.close()
