"""A reload builds the next runtime out of the parts of the last: what stays the very same, and what is new."""

import asyncio
import gc
import time
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.assemble import World, assemble
from gateway.auth.identity import provider
from gateway.auth.tokens import JwtProvider
from gateway.config import Config, load
from gateway.exchange import Fields, Peer, Reply, Request
from gateway.http.tls import server_context
from gateway.limits.failover import SharedStore
from gateway.limits.memory import MemoryStore
from gateway.resilience.breaker import State
from gateway.resilience.verdict import Verdict
from gateway.runtime import Runtime
from gateway.telemetry.metrics import Metrics
from gateway.upstream.notices import Found, Notices
from gateway.upstream.target import HttpTarget
from tests.fakes import Clock
from tests.wire.actors import Upstream, Visit
from tests.wire.certificates import Authority

TARGET = "http://127.0.0.1:9001"


class Gateway:
    """A worker's runtime through its reloads, without sockets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Clock(time.monotonic())  # connections ask the real one
        self.metrics = Metrics()
        self.embedded = ""
        self.runtime: Runtime = assemble(load_text(folder, "routes: []"), self.world())

    def world(self) -> World:
        return World(self.metrics, instance="test", embedded_store=self.embedded, clock=self.clock)

    def reload(self, text: str) -> Runtime:
        self.runtime = assemble(load_text(self.folder, text), self.world(), self.runtime)
        return self.runtime


def load_text(folder: Path, text: str) -> Config:
    file = folder / "routes.yaml"
    file.write_text(text)
    return load(file, {})


def config(settings: str = "", *, targets: str = TARGET, route: str = "", more: str = "", name: str = "u") -> str:
    """One upstream with `settings`, and one open route to it."""
    upstream = f"upstreams: {{{name}: {{targets: [{targets}]{', ' + settings if settings else ''}}}}}\n"
    return (
        f"{more}{upstream}routes: [{{name: r, match: {{path: /r}}, upstream: {name}{', ' + route if route else ''}}}]\n"
    )


def target(runtime: Runtime, number: int = 0, upstream: str = "u") -> HttpTarget:
    return runtime.upstreams[upstream].targets[number]


async def ask(runtime: Runtime, path: bytes = b"/r", body: bytes = b"") -> Reply:
    request = Request("GET", path, Fields([], host=b"example.com"), Peer("192.0.2.7", 50000), body=body)
    call = runtime.handler.open(request)
    reply = await runtime.handler.handle(call)
    runtime.handler.finished(call, reply.status, 0, 0, 0.0)
    return reply


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(tmp_path)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    upstream = await Upstream().start()
    yield upstream
    await upstream.stop()


# -- upstreams -----------------------------------------------------------------------------------------


def test_an_upstream_that_stays_as_it_is_is_the_very_same(gateway: Gateway) -> None:
    old = gateway.reload(config())
    new = gateway.reload(config(route="body_limit: 1KiB", more="wire: {connections: 5}\n"))
    assert new is not old
    assert new.handler is not old.handler
    assert new.upstreams["u"] is old.upstreams["u"]
    assert new.upstreams["u"].send is old.upstreams["u"].send
    assert target(new).pool is target(old).pool
    assert new.store is old.store


def test_an_open_circuit_stays_open_and_opens_again_in_its_time(gateway: Gateway) -> None:
    old = gateway.reload(config("breaker: {consecutive_failures: 2, open_for: 10s}"))
    for _ in range(2):
        target(old).circuit.admit().settle(Verdict.FAILURE)
    assert target(old).circuit.state is State.OPEN
    gateway.clock.advance(4)
    settings = "breaker: {consecutive_failures: 2, open_for: 10s}, timeouts: {try: 1s}"
    circuit = target(gateway.reload(config(settings))).circuit
    assert circuit is target(old).circuit
    assert circuit.state is State.OPEN
    assert 5.0 <= circuit.time_left() <= 6.0  # chance may cut a tenth off


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "timeouts: {try: 1s}"),
        ("", "timeouts: {total: 20s}"),
        ("", "retry: {attempts: 5}"),
        ("", "retry: off"),
        ("", "host: client"),
    ],
)
def test_what_belongs_to_the_road_changes_neither_pool_nor_circuit(gateway: Gateway, before: str, after: str) -> None:
    old, new = gateway.reload(config(before)), gateway.reload(config(after))
    assert new.upstreams["u"].send is not old.upstreams["u"].send
    assert target(new) is not target(old)
    assert target(new).pool is target(old).pool
    assert target(new).circuit is target(old).circuit


async def test_another_weight_keeps_pool_and_circuit(gateway: Gateway, upstream: Upstream) -> None:
    other = await Upstream().start()
    try:
        first, second = (f"http://127.0.0.1:{port}" for port in (upstream.port, other.port))
        old = gateway.reload(config(targets=f"{first}, {second}"))
        await ask(old)
        new = gateway.reload(config(targets=f"{{url: '{first}', weight: 3}}, {second}"))
        for number in range(2):
            assert target(new, number).pool is target(old, number).pool
            assert target(new, number).circuit is target(old, number).circuit
        for _ in range(8):
            await ask(new)
        assert (len(upstream.requests), len(other.requests)) == (1 + 6, 2)
        assert len(upstream.visits) == 1
    finally:
        await other.stop()
        await gateway.runtime.close()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "breaker: {consecutive_failures: 3}"),
        ("breaker: {open_for: 5s}", "breaker: {open_for: 6s}"),
        ("", "breaker: {per: upstream}"),
        ("", "breaker: off"),
        ("breaker: off", ""),
    ],
)
def test_another_breaker_makes_a_new_circuit_and_keeps_the_pool(gateway: Gateway, before: str, after: str) -> None:
    old, new = gateway.reload(config(before)), gateway.reload(config(after))
    assert target(new).circuit is not target(old).circuit
    assert target(new).pool is target(old).pool


@pytest.mark.parametrize("settings", ["timeouts: {connect: 2s}", "timeouts: {idle: 30s}"])
def test_what_belongs_to_connections_makes_a_new_pool_and_keeps_the_circuit(gateway: Gateway, settings: str) -> None:
    old, new = gateway.reload(config()), gateway.reload(config(settings))
    assert target(new).pool is not target(old).pool
    assert target(new).circuit is target(old).circuit


def test_further_targets_leave_the_others_alone(gateway: Gateway) -> None:
    old = gateway.reload(config(targets=f"{TARGET}, http://127.0.0.1:9002"))
    new = gateway.reload(config(targets=f"http://127.0.0.1:9003, {TARGET}"))
    assert target(new, 1).pool is target(old, 0).pool
    assert target(new, 1).circuit is target(old, 0).circuit
    assert target(new, 0).pool not in (target(old, 0).pool, target(old, 1).pool)


def test_a_pause_for_a_quota_that_one_target_alone_has_asked_for_ends_when_there_are_more(gateway: Gateway) -> None:
    """What a 503 with Retry-After means depends on that."""
    alone = gateway.reload(config("quota: {}")).upstreams["u"].pause
    assert gateway.reload(config("quota: {}, timeouts: {try: 1s}")).upstreams["u"].pause is alone
    more = gateway.reload(config("quota: {}", targets=f"{TARGET}, http://127.0.0.1:9002")).upstreams["u"].pause
    assert more is not alone


def test_two_upstreams_share_nothing_even_at_the_same_address(gateway: Gateway) -> None:
    two = f"upstreams: {{u: {{targets: [{TARGET}]}}, v: {{targets: [{TARGET}]}}}}\nroutes: []\n"
    runtime = gateway.reload(two)
    assert target(runtime).pool is not target(runtime, upstream="v").pool
    assert target(runtime).circuit is not target(runtime, upstream="v").circuit
    renamed = gateway.reload(two.replace("v:", "w:"))
    assert target(renamed).pool is target(runtime).pool
    assert target(renamed, upstream="w").pool is not target(runtime, upstream="v").pool


def test_all_targets_may_share_a_circuit_that_stays(gateway: Gateway) -> None:
    settings = "breaker: {per: upstream}"
    old = gateway.reload(config(settings, targets=f"{TARGET}, http://127.0.0.1:9002"))
    new = gateway.reload(config(settings, targets=f"{TARGET}, http://127.0.0.1:9003"))
    assert target(old, 0).circuit is target(old, 1).circuit is target(new, 0).circuit is target(new, 1).circuit


def test_a_renewed_certificate_makes_a_new_pool_and_a_file_that_was_only_touched_does_not(
    gateway: Gateway, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.sign("client")
    tls = f"tls: {{ca: {authority.file}, certificate: {certificate}, key: {key}}}"
    text = config(tls, targets="https://127.0.0.1:9001")
    first = gateway.reload(text)
    certificate.write_bytes(certificate.read_bytes())
    same = gateway.reload(text)
    assert target(same).pool is target(first).pool
    authority.sign("client")
    renewed = gateway.reload(text)
    assert target(renewed).pool is not target(first).pool
    assert target(renewed).circuit is target(first).circuit
    authority.file.write_bytes(authority.file.read_bytes() + b"\n")
    assert target(gateway.reload(text)).pool is not target(renewed).pool


def test_further_identity_fields_change_what_is_forwarded_and_no_connection(gateway: Gateway) -> None:
    jwt = "auth: {{providers: {{p: {{type: jwt, secret: {}, algorithms: [HS256], forward: {{{}: sub}}}}}}}}\n"
    old = gateway.reload(config(more=jwt.format("s" * 32, "X-One")))
    new = gateway.reload(config(more=jwt.format("s" * 32, "X-Two")))
    assert target(new)._forwarder is not target(old)._forwarder
    assert target(new).pool is target(old).pool


# -- what is left behind -------------------------------------------------------------------------------


def other(port: int) -> str:
    """A configuration without the upstream `u`."""
    return config(targets=f"http://127.0.0.1:{port}", name="other")


async def test_connections_of_an_upstream_that_goes_are_closed(gateway: Gateway, upstream: Upstream) -> None:
    old = gateway.reload(config(targets=f"http://127.0.0.1:{upstream.port}"))
    assert (await ask(old)).status == 200
    assert target(old).pool.idle == 1
    new = gateway.reload(other(upstream.port))
    await old.retire(new)
    await asyncio.wait_for(upstream.visits[0].ended.wait(), 2)
    assert target(old).pool.idle == 0


@pytest.mark.parametrize(
    "settings", [("", "", "", ""), ("", "retry: off", "", "retry: off"), ("", "", "retry: off", "")]
)
async def test_connections_of_an_upstream_that_stays_serve_on(
    gateway: Gateway, upstream: Upstream, settings: tuple[str, ...]
) -> None:
    old = gateway.reload(config(targets=f"http://127.0.0.1:{upstream.port}"))
    circuit = target(old).circuit
    for number, changed in enumerate(settings):
        assert (await ask(old)).status == 200
        text = config(changed, targets=f"http://127.0.0.1:{upstream.port}", route=f"body_limit: {number}KiB")
        new = gateway.reload(text)
        await old.retire(new)
        old = new
    assert (await ask(old)).status == 200
    assert len(upstream.visits) == 1, "one connection for all"
    assert target(old).circuit is circuit
    await old.close()


async def test_connections_that_several_runtimes_have_used_are_closed_by_the_last(
    gateway: Gateway, upstream: Upstream
) -> None:
    for number in range(3):
        old = gateway.runtime
        new = gateway.reload(config(targets=f"http://127.0.0.1:{upstream.port}", route=f"body_limit: {number}KiB"))
        await old.retire(new)
        await ask(new)
    await new.retire(gateway.reload(other(upstream.port)))
    await asyncio.wait_for(upstream.visits[0].ended.wait(), 2)


async def test_requests_under_way_end_in_peace_and_so_do_those_that_have_not_connected_yet(
    gateway: Gateway, upstream: Upstream
) -> None:
    gate = asyncio.Event()

    async def slow(visit: Visit) -> None:
        await visit.request()
        await gate.wait()
        await visit.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    upstream.script = slow
    old = gateway.reload(config(targets=f"http://127.0.0.1:{upstream.port}"))
    asking = asyncio.ensure_future(ask(old))
    await upstream.hears(b"\r\n\r\n")
    await old.retire(gateway.reload(other(upstream.port)))
    late = asyncio.ensure_future(ask(old))
    gate.set()
    assert [(await asking).status, (await late).status] == [200, 200]
    for visit in upstream.visits:
        await asyncio.wait_for(visit.ended.wait(), 2)
    pool = target(old).pool
    assert (pool.busy, pool.idle) == (0, 0)


async def test_what_was_prepared_in_vain_lets_go_of_its_own_parts_only(gateway: Gateway, upstream: Upstream) -> None:
    old = gateway.reload(config(targets=f"http://127.0.0.1:{upstream.port}"))
    await ask(old)
    text = config(targets=f"http://127.0.0.1:{upstream.port}, http://127.0.0.1:9002")
    prepared = assemble(load_text(gateway.folder, text), gateway.world(), old)
    await prepared.retire(old)  # the reload was called off
    assert (await ask(old)).status == 200
    assert len(upstream.visits) == 1
    await old.close()


class ClosedStore(SharedStore):
    """A store that says whether it was closed."""

    def __init__(self) -> None:
        self.closed = False

    async def close(self) -> None:
        self.closed = True


async def test_a_store_that_goes_stays_usable_for_a_while(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.runtime.PATIENCE", 0.02)
    old, new = gateway.reload(config()), gateway.reload(config(route="body_limit: 1KiB"))
    store = old.parts.get("store", ClosedStore)
    retiring = asyncio.ensure_future(old.retire(new))
    await asyncio.sleep(0)
    assert not store.closed
    await retiring
    assert store.closed


async def test_a_store_that_stays_is_not_closed(gateway: Gateway) -> None:
    old, new = gateway.reload(config()), gateway.reload(config(route="body_limit: 1KiB"))
    store = old.parts.get("store", ClosedStore)
    assert new.parts.get("store", lambda: store) is store
    await asyncio.wait_for(old.retire(new), 1)
    assert not store.closed


# -- limits, stores, providers -------------------------------------------------------------------------


async def test_limits_go_on_counting_where_they_were(gateway: Gateway, upstream: Upstream) -> None:
    def limited(route: str) -> str:
        limits = "rate_limits: {few: {by: ip, limit: 2/hour}}\n"
        return config(targets=f"http://127.0.0.1:{upstream.port}", route=f"rate_limit: few{route}", more=limits)

    routes = ["", *(f", body_limit: {size}KiB" for size in range(1, 4))]
    assert [(await ask(gateway.reload(limited(route)))).status for route in routes] == [200, 200, 429, 429]
    await gateway.runtime.close()


LIMITED = "rate_limit: {by: ip, limit: 5/minute}"


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("store: {url: 'redis://a'}", "store: {url: 'redis://a'}\nwire: {connections: 5}", True),
        ("store: {url: 'redis://a'}", "store: {url: 'redis://b'}", False),
        ("store: {url: 'redis://a'}", "store: {url: 'redis://a', timeout: 60ms}", False),
        ("store: {url: 'redis://a'}", "store: {url: 'redis://a', prefix: 'x:'}", False),
        ("store: {url: 'redis://a'}", "store: {url: 'redis://a', on_failure: open}", False),
        ("store: {url: 'redis://a'}", "store: {url: memory}", False),
        ("store: {url: memory}", "store: {url: memory, on_failure: open}", True),
        ("store: {url: embedded}", "store: {url: embedded}", True),
        ("workers: 2", "workers: 3", True),
        ("workers: 1", "workers: 2", False),
    ],
)
async def test_a_store_is_the_same_while_its_settings_are(
    gateway: Gateway, before: str, after: str, same: bool
) -> None:
    gateway.embedded = "unix:///nowhere/store.sock"
    old = gateway.reload(config(route=LIMITED, more=before + "\n"))
    new = gateway.reload(config(route=LIMITED, more=after + "\n"))
    assert (new.store is old.store) == same
    await old.store.close()
    await new.store.close()


def test_without_limits_there_is_no_embedded_store_to_ask(gateway: Gateway) -> None:
    assert isinstance(gateway.reload(config(more="workers: 2\n")).store, MemoryStore)


def jwt(settings: str, secret: str = "s" * 32) -> str:
    auth = f"auth: {{providers: {{p: {{type: jwt, secret: {secret}, algorithms: [HS256]{settings}}}}}}}\n"
    return config(more=auth)


@pytest.mark.parametrize(
    ("after", "same"),
    [
        (jwt(""), True),
        (jwt("") + "wire: {connections: 5}\n", True),
        (jwt("", "t" * 32), False),
        (jwt(", issuer: other"), False),
        (jwt(", leeway: 10s"), False),
        (jwt(", claims: {tier: plan}"), False),
    ],
)
def test_a_provider_is_the_same_while_its_settings_and_its_secret_are(gateway: Gateway, after: str, same: bool) -> None:
    def current(text: str) -> JwtProvider:
        runtime = gateway.reload(text)
        return provider(load_text(gateway.folder, text), "p", runtime.parts)

    assert (current(jwt("")) is current(after)) == same


def test_a_providers_key_is_its_content(gateway: Gateway, tmp_path: Path) -> None:
    text = config(more="auth: {providers: {p: {type: jwt, key: key.pem, algorithms: [ES256]}}}\n")
    authority = Authority(tmp_path)
    found = []
    for name in ("a", "b"):
        _, key = authority.sign(name)
        (tmp_path / "key.pem").write_bytes(key.read_bytes())
        for _ in range(2):
            runtime = gateway.reload(text)
            found.append(provider(load_text(tmp_path, text), "p", runtime.parts))
    assert found[0] is found[1]
    assert found[2] is found[3]
    assert found[0] is not found[2]


# -- the old runtime -----------------------------------------------------------------------------------


async def test_the_old_runtime_serves_on_unchanged_while_the_next_is_built(
    gateway: Gateway, upstream: Upstream
) -> None:
    old = gateway.reload(config(targets=f"http://127.0.0.1:{upstream.port}"))
    parts = dict(old.parts._parts)
    await ask(old)
    text = config("breaker: off", targets=f"http://127.0.0.1:{upstream.port}").replace("/r", "/other")
    prepared = assemble(load_text(gateway.folder, text), gateway.world(), old)
    assert old.parts._parts == parts
    assert [(await ask(old)).status, (await ask(old, b"/other")).status] == [200, 404]
    assert [(await ask(prepared)).status, (await ask(prepared, b"/other")).status] == [404, 200]
    assert len(upstream.visits) == 1
    await old.close()


async def test_a_runtime_that_cannot_be_built_leaves_the_old_one_as_it_was(
    gateway: Gateway, upstream: Upstream, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    old = gateway.reload(config(targets=f"http://127.0.0.1:{upstream.port}"))
    tls = f"tls: {{ca: {authority.file}}}"
    settings = load_text(gateway.folder, config(tls, targets="https://127.0.0.1:9001"))
    authority.file.unlink()  # between the check and the use
    parts = dict(old.parts._parts)
    with pytest.raises(OSError, match="No such file"):
        assemble(settings, gateway.world(), old)
    assert old.parts._parts == parts
    assert (await ask(old)).status == 200
    await old.close()


# -- what the DNS tells ---------------------------------------------------------------------------------

URL = "http://192.0.2.1:80"


def discovering(settings: str = "", dns: str = "{dns: orders.test}") -> str:
    return (
        f"upstreams: {{u: {{discover: {dns}{', ' + settings if settings else ''}}}}}\n"
        "routes: [{name: r, match: {path: /r}, upstream: u}]\n"
    )


def found(*urls: str) -> Notices:
    return Notices(found={"u": tuple(Found(url, 1, 0) for url in urls)})


def follow(gateway: Gateway, settings: str = "", *urls: str) -> Runtime:
    """A reload, and what the operator process says to it."""
    runtime = gateway.reload(discovering(settings))
    runtime.heed(found(*(urls or (URL,))))
    return runtime


def test_a_discovered_target_has_an_open_circuit_still_when_other_settings_change(gateway: Gateway) -> None:
    breaker = "breaker: {consecutive_failures: 1}"
    circuit = target(follow(gateway, breaker)).circuit
    circuit.admit().settle(Verdict.FAILURE)
    for number in range(1, 4):
        assert target(follow(gateway, f"{breaker}, timeouts: {{total: {number + 5}s}}")).circuit is circuit
    assert circuit.state is State.OPEN
    assert target(follow(gateway, "breaker: {consecutive_failures: 2}")).circuit is not circuit


def test_a_target_that_left_the_dns_begins_anew_when_it_is_back(gateway: Gateway) -> None:
    runtime = follow(gateway)
    circuit = target(runtime).circuit
    runtime.heed(found("http://192.0.2.2:80"))
    runtime.heed(found("http://192.0.2.2:80", URL))
    assert target(runtime, 1).circuit is not circuit


@pytest.mark.parametrize("per", ["target", "upstream"])
def test_targets_that_come_and_go_leave_nothing_behind(gateway: Gateway, per: str) -> None:
    runtime = follow(gateway, f"breaker: {{per: {per}}}")
    before = ours()
    for number in range(2, 200):
        runtime.heed(found(f"http://192.0.2.{number}:80"))
    gc.collect()  # a closed circuit and its permit hold each other
    assert ours() - before == Counter()


def test_runtimes_whose_targets_were_discovered_go_with_the_last_reference(gateway: Gateway, uncollected: None) -> None:
    old = []
    for number in range(6):
        runtime = follow(gateway, f"timeouts: {{total: {number // 2 + 5}s}}", URL, f"http://192.0.2.{number + 2}:80")
        old.append(weakref.ref(runtime.parts))
    del runtime
    assert [reference() is not None for reference in old] == [False] * 5 + [True]


def test_a_target_is_found_without_another_look_at_files(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker finds it while it serves, and the authority's file may have gone."""
    ca = Authority(tmp_path).file
    runtime = gateway.reload(discovering(f"tls: {{ca: {ca}}}", "{dns: orders.test, scheme: https}"))
    ca.unlink()
    runtime.heed(found("https://192.0.2.1:443", "https://192.0.2.2:8443"))
    one, two = runtime.upstreams["u"].targets
    assert one.pool._tls is not None
    assert one.pool._tls is two.pool._tls
    assert (one._authority, two._authority) == (b"orders.test", b"orders.test:8443")


# -- nothing piles up ----------------------------------------------------------------------------------


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Only reference counts free anything, as for what a worker has frozen."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()


def numbered(number: int, port: int = 9001) -> str:
    """Configurations whose routes, limits and provider all differ."""
    secret = f"{number:032}"
    return f"""
rate_limits: {{few: {{by: ip, limit: {number + 1}/hour}}}}
auth: {{providers: {{p: {{type: jwt, secret: "{secret}", algorithms: [HS256]}}}}}}
upstreams:
  u: {{targets: ["http://127.0.0.1:{port}"], timeouts: {{total: {number + 5}s}}}}
routes:
  - {{name: r{number}, match: {{path: "/r{number}/{{id}}", headers: {{X: "y"}}}}, upstream: u, rate_limit: few}}
  - {{name: auth, match: {{path: /auth}}, upstream: u, auth: {{providers: [p], scopes: [a]}}}}
  - {{name: open, match: {{path: /r}}, upstream: u, fallback: [{{on: [open], status: 200, text: x}}]}}
"""


def ours() -> Counter[str]:
    """Objects of the gateway that are alive, by their type."""
    names = Counter(f"{type(each).__module__}.{type(each).__name__}" for each in gc.get_objects())
    return Counter({name: count for name, count in names.items() if name.startswith("gateway.")})


def test_fifty_reloads_leave_nothing_behind_that_only_the_collector_would_find(
    gateway: Gateway, uncollected: None
) -> None:
    old: list[weakref.ReferenceType[Any]] = []
    for number in range(3):
        gateway.reload(numbered(number))
    before = ours()
    for number in range(3, 53):
        runtime = gateway.reload(numbered(number))
        old += [weakref.ref(runtime.handler), weakref.ref(runtime.handler._finder._router), weakref.ref(runtime.parts)]
    del runtime
    assert [reference() is not None for reference in old].count(True) == 3, "those in service"
    assert ours() - before == Counter()


async def test_runtimes_that_have_served_go_with_the_last_reference(
    gateway: Gateway, upstream: Upstream, uncollected: None
) -> None:
    old = []
    for number in range(5):
        runtime = gateway.reload(numbered(number, upstream.port))
        assert (await ask(runtime)).status == 200
        old.append(weakref.ref(runtime.handler))
    del runtime
    assert [reference() is not None for reference in old] == [False] * 4 + [True]
    await gateway.runtime.close()


@pytest.mark.parametrize("path", [b"/nowhere", b"/auth", b"/%zz"])
async def test_runtimes_that_have_refused_go_with_the_last_reference(
    gateway: Gateway, uncollected: None, path: bytes
) -> None:
    old = []
    for number in range(5):
        runtime = gateway.reload(numbered(number))
        assert (await ask(runtime, path)).status in (400, 401, 404)
        old.append(weakref.ref(runtime.handler))
    del runtime
    assert [reference() is not None for reference in old] == [False] * 4 + [True]


def test_contexts_of_renewed_certificates_go_with_the_last_reference(tmp_path: Path, uncollected: None) -> None:
    authority = Authority(tmp_path)
    context = server_context([authority.sign("a"), authority.sign("b")])
    reference = weakref.ref(context)
    del context
    assert reference() is None
