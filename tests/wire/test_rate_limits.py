"""Rate limits at the whole gateway, and attacks on them: whose requests are counted, what is told, what is spared."""

import asyncio
import json
import re
import time
from collections.abc import Iterator
from hashlib import sha256

import pytest
from redis.asyncio import Redis

from tests.servers import RedisServer, free_port, redis_server
from tests.tokens import SECRET, sign
from tests.wire.actors import Answer, Client, Gateway, Upstream, simple
from tests.wire.conftest import Start
from tests.wire.payloads import get, message

TWO = "limit: 2/hour"
KEY = b"gwk_of-a-test"

IDENTITIES = f"""
auth:
  providers:
    idp: {{type: jwt, secret: "{SECRET.decode()}", algorithms: [HS256]}}
    keys: {{type: api_key, header: X-API-Key}}
  consumers: {{acme: {{keys: ["sha256:{sha256(KEY).hexdigest()}"], tier: gold}}}}
"""
BOTH = "auth: {providers: [idp, keys], optional: true}"


def token(**claims: object) -> bytes:
    return b"Authorization: Bearer " + sign({"sub": "alice", "exp": int(time.time()) + 600, **claims})


def method(name: bytes, target: bytes = b"/") -> bytes:
    return message(b"%b %b HTTP/1.1" % (name, target))


async def statuses(client: Client, *requests: bytes) -> list[int]:
    """One after another, on one connection."""
    found = []
    for request in requests:
        await client.send(request)
        found.append((await client.answer(head_only=request.startswith(b"HEAD"))).status)
    return found


def series(gateway: Gateway, name: str) -> dict[tuple[str, ...], float]:
    """A counter's numbers by its labels."""
    registry = gateway.runtime.metrics.registry
    samples = [sample for metric in registry.collect() for sample in metric.samples if sample.name == name]
    return {tuple(sample.labels.values()): sample.value for sample in samples if sample.value}


# E1, E2, E9, E10: whose requests are counted together


async def test_e1_a_forged_address_is_counted_as_the_peers_own(start: Start) -> None:
    client = await (await start(route=f"rate_limit: {{by: ip, {TWO}}}")).client()
    forged = [
        get(b"X-Forwarded-For: 203.0.113.1"),
        get(b"X-Forwarded-For: 203.0.113.2", b"X-Real-IP: 203.0.113.2"),
        get(b"Forwarded: for=203.0.113.3"),
        get(b"X-Forwarded-For: 203.0.113.4, 203.0.113.5"),
    ]
    assert await statuses(client, *forged) == [200, 200, 429, 429]


async def test_e1_behind_a_trusted_proxy_only_what_it_wrote_itself_counts(start: Start) -> None:
    gateway = await start(more="trusted_proxies: [127.0.0.1]", route=f"rate_limit: {{by: ip, {TWO}}}")
    client = await gateway.client()
    claims = [get(b"X-Forwarded-For: %d.0.0.1, 203.0.113.9" % number) for number in range(1, 5)]
    assert await statuses(client, *claims) == [200, 200, 429, 429]
    assert await statuses(client, get(b"X-Forwarded-For: 203.0.113.10")) == [200]


async def test_e1_the_addresses_of_one_ipv6_network_count_together(start: Start) -> None:
    gateway = await start(more="trusted_proxies: [127.0.0.1]", route=f"rate_limit: {{by: ip, {TWO}}}")
    client = await gateway.client()
    neighbours = [get(b"X-Forwarded-For: 2001:db8::%x" % number) for number in range(1, 5)]
    assert await statuses(client, *neighbours) == [200, 200, 429, 429]
    assert await statuses(client, get(b"X-Forwarded-For: 2001:db8:0:1::1")) == [200]


@pytest.mark.parametrize(
    "by", ["consumer", "header:X-Tenant", "cookie:sid", "query:tenant", "claim:tenant", "[consumer, header:X-Tenant]"]
)
async def test_e2_whoever_brings_no_key_is_not_unlimited(start: Start, by: str) -> None:
    client = await (await start(route=f"rate_limit: {{by: {by}, {TWO}}}")).client()
    empty = [get(), get(b"X-Tenant:", b"Cookie: sid="), get(target=b"/?tenant="), get(b"Cookie: other=1")]
    assert await statuses(client, *empty) == [200, 200, 429, 429]


async def test_e2_a_caller_without_a_name_is_counted_apart_from_those_with_one(start: Start) -> None:
    gateway = await start(more=IDENTITIES, route=f"{BOTH}, rate_limit: {{by: consumer, {TWO}}}")
    client = await gateway.client()
    assert await statuses(client, get(), get(), get()) == [200, 200, 429]
    assert await statuses(client, get(token()), get(token()), get(token())) == [200, 200, 429]
    assert await statuses(client, get(token(sub="bob"))) == [200]


@pytest.mark.parametrize(
    ("by", "one", "other"),
    [
        ("header:X-Tenant", get(b"X-Tenant: a"), get(b"X-Tenant: b")),
        ("cookie:sid", get(b"Cookie: lang=de; sid=a"), get(b"Cookie: sid=b")),
        ("query:tenant", get(target=b"/?x=1&tenant=a"), get(target=b"/?tenant=b")),
        ("claim:org.name", get(token(org={"name": "a"})), get(token(sub="bob", org={"name": "b"}))),
    ],
)
async def test_each_value_is_counted_for_itself(start: Start, by: str, one: bytes, other: bytes) -> None:
    gateway = await start(more=IDENTITIES, route=f"{BOTH}, rate_limit: {{by: '{by}', {TWO}}}")
    client = await gateway.client()
    assert await statuses(client, one, one, one, other) == [200, 200, 429, 200]


async def test_each_combination_is_counted_for_itself(start: Start) -> None:
    by = "[consumer, 'header:X-Tenant']"
    gateway = await start(more=IDENTITIES, route=f"{BOTH}, rate_limit: {{by: {by}, limit: 1/hour}}")
    client = await gateway.client()
    for identity in (token(), token(sub="bob")):
        for tenant in (b"X-Tenant: a", b"X-Tenant: b"):
            assert await statuses(client, get(identity, tenant), get(identity, tenant)) == [200, 429]


STRANGE = [b"a:b", b"a b", b"x" * 10_000, "ключ".encode(), b"{tag}", b"\xff\xfe", b"%00", b"gw:limit:x", b"'; DROP"]


async def test_e9_keys_of_any_form_are_counted_and_never_collide(start: Start) -> None:
    client = await (await start(route="rate_limit: {by: 'header:X-Key', limit: 1/hour}")).client()
    for value in STRANGE:
        request = get(b"X-Key: " + value)
        assert await statuses(client, request, request) == [200, 429], value


async def test_e9_a_claim_of_any_form_is_counted(start: Start) -> None:
    gateway = await start(more=IDENTITIES, route=f"{BOTH}, rate_limit: {{by: 'claim:t', limit: 1/hour}}")
    client = await gateway.client()
    for value in ("a:b", "x" * 3000, "ключ", 7, True, ["a"], {"a": 1}):
        assert await statuses(client, get(token(t=value)), get(token(t=value))) == [200, 429], value


VARIANTS = [
    b"/orders/7",
    b"/orders//7",
    b"/./orders/7",
    b"/x/../orders/7",
    b"/%6frders/7",
    b"/orders/%37",
    b"//orders/7",
]


@pytest.mark.parametrize("by", ["route", "ip", "[route, ip]"])
async def test_e10_every_spelling_of_a_path_counts_in_one_bucket(start: Start, by: str) -> None:
    client = await (await start(route=f"rate_limit: {{by: {by}, limit: {len(VARIANTS)}/hour}}")).client()
    assert set(await statuses(client, *(get(target=variant) for variant in VARIANTS))) == {200}
    assert set(await statuses(client, *(get(target=variant) for variant in VARIANTS))) == {429}


@pytest.mark.parametrize("host", [b"Host: A", b"Host: a:80", b"host: a"])
async def test_e10_every_spelling_of_a_host_counts_in_one_bucket(start: Start, host: bytes) -> None:
    client = await (await start(route="rate_limit: {by: route, limit: 2/hour}")).client()
    assert await statuses(client, get(), get(host=host), get(host=host)) == [200, 200, 429]


async def test_e10_every_spelling_of_a_parameter_counts_in_one_bucket(start: Start) -> None:
    client = await (await start(route="rate_limit: {by: 'query:key', limit: 2/hour}")).client()
    spelled = [b"/?key=a%20b", b"/?key=a+b", b"/?%6bey=%61%20b", b"/x?y=1&key=a+b"]
    assert await statuses(client, *(get(target=target) for target in spelled)) == [200, 200, 429, 429]


# E5, E6, E11, E14: what is counted, and what callers are told


async def test_e5_round_the_edge_of_a_second_no_more_pass_than_the_burst_and_the_rate(start: Start) -> None:
    """A window that begins anew each second would let 2 × 20 pass within a moment; here there is no edge."""
    client = await (await start(route="rate_limit: {by: ip, limit: 20/second, burst: 5}")).client()
    passed: list[float] = []
    began = time.monotonic()
    while time.monotonic() < began + 1.3:
        await client.send(get() * 5)
        passed += [time.monotonic() for _ in range(5) if (await client.answer()).status == 200]
    for number, moment in enumerate(passed):
        within = [each for each in passed[number:] if each < moment + 0.5]
        assert len(within) <= 5 + 10 + 2  # burst, rate, and what a loaded machine is late by
    assert len(passed) >= 20


async def test_e6_refusals_cost_nothing_however_many_there_are(start: Start) -> None:
    client = await (await start(route="rate_limit: {by: ip, limit: 10/second, burst: 2}")).client()
    assert await statuses(client, get(), get()) == [200, 200]
    until = time.monotonic() + 0.25
    refused = 0
    while time.monotonic() < until:
        refused += (await client.ask(get())).status == 429
    assert refused > 20
    await asyncio.sleep(0.1)
    assert (await client.ask(get())).status == 200


async def test_e6_a_refusal_by_one_limit_takes_nothing_from_another(start: Start) -> None:
    limits = "{by: ip, limit: 3/hour}, {by: 'header:X-Key', limit: 1/hour}"
    client = await (await start(route=f"rate_limit: [{limits}]")).client()
    assert await statuses(client, get(b"X-Key: a"), *[get(b"X-Key: a")] * 5) == [200] + [429] * 5
    assert await statuses(client, get(b"X-Key: b"), get(b"X-Key: c"), get(b"X-Key: d")) == [200, 200, 429]


def told(answer: Answer) -> tuple[int, int]:
    """What remains and when there is more, as RateLimit says it."""
    found = re.fullmatch(r'"[^"]+";r=(\d+);t=(\d+)', answer.headers["ratelimit"])
    assert found, answer.headers
    return int(found[1]), int(found[2])


async def test_e11_a_refusal_says_when_to_come_back_and_which_limit_it_was(start: Start) -> None:
    more = "rate_limits: {slow: {by: ip, limit: 1/90s}, wide: {by: ip, limit: 100/day}}"
    client = await (await start(more=more, route="rate_limit: [slow, wide]")).client()
    first, second = await client.ask(get()), await client.ask(get())
    assert first.headers["ratelimit-policy"] == '"slow";q=1;w=90, "wide";q=100;w=86400'
    assert first.headers["ratelimit"] == '"slow";r=0;t=90, "wide";r=99;t=864'
    assert "retry-after" not in first.headers
    assert (second.status, second.headers["retry-after"]) == (429, "90")
    assert second.headers["ratelimit"] == '"slow";r=0;t=90, "wide";r=99;t=864'
    problem = json.loads(second.body)
    assert (problem["code"], problem["policy"], problem["retry_after"]) == ("rate_limited", "slow", 90)
    assert problem["detail"] == "The limit slow allows 1 requests in 90 seconds."


async def test_e11_at_concurrency_every_reply_says_something_else_is_left(start: Start) -> None:
    gateway = await start(route="rate_limit: {by: ip, limit: 30/hour}")
    clients = [await gateway.client() for _ in range(45)]
    answers = await asyncio.gather(*(client.ask(get()) for client in clients))
    passed = [answer for answer in answers if answer.status == 200]
    assert sorted(told(answer)[0] for answer in passed) == list(range(30))
    refused = [answer for answer in answers if answer.status == 429]
    assert len(refused) == 15
    for answer in refused:
        assert told(answer) == (0, int(answer.headers["retry-after"]))
        assert 0 < int(answer.headers["retry-after"]) <= 120


@pytest.mark.parametrize(("form", "new", "old"), [("ietf", True, False), ("legacy", False, True), ("both", True, True)])
async def test_e11_the_headers_are_those_that_were_asked_for(start: Start, form: str, new: bool, old: bool) -> None:
    limits = "{by: ip, limit: 50/hour}, {by: global, limit: 2/day}"
    client = await (await start(more=f"rate_limit_headers: {form}", route=f"rate_limit: [{limits}]")).client()
    answers = [await client.ask(get()) for _ in range(3)]
    for answer in answers:
        assert ("ratelimit" in answer.headers, "ratelimit-policy" in answer.headers) == (new, new)
        assert ("x-ratelimit-limit" in answer.headers) == old
    if old:  # of the limit that is nearest to its end
        assert [answer.headers["x-ratelimit-limit"] for answer in answers] == ["2"] * 3
        assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["1", "0", "0"]
        assert answers[2].headers["x-ratelimit-reset"] == answers[2].headers["retry-after"]


async def test_e14_a_refusal_of_ours_is_neither_retried_nor_a_failure_of_the_upstream(
    start: Start, upstream: Upstream
) -> None:
    up = "retry: {attempts: 3, on: [connect_failure, 429, 503]}, breaker: {consecutive_failures: 2}"
    fallback = "fallback: [{on: [open, timeout, connect_failure, reset, 5xx, 429], json: {}}]"
    gateway = await start(route=f"rate_limit: {{by: 'header:X-Key', limit: 1/hour}}, {fallback}", up=up)
    client = await gateway.client()
    assert await statuses(client, *[get(b"X-Key: a")] * 10) == [200] + [429] * 9
    assert len(upstream.requests) == 1
    assert await statuses(client, get(b"X-Key: b")) == [200]  # the circuit is closed
    assert series(gateway, "gateway_retries_total") == {}
    assert series(gateway, "gateway_breaker_transitions_total") == {}
    assert series(gateway, "gateway_fallbacks_total") == {}


# Tiers, costs, limits that only observe


async def test_a_tier_has_a_limit_of_its_own_wherever_it_comes_from(start: Start) -> None:
    tiers = "tiers: {gold: 3/hour, tin: {limit: 5/hour, burst: 1}}"
    gateway = await start(more=IDENTITIES, route=f"{BOTH}, rate_limit: {{by: consumer, {TWO}, {tiers}}}")
    client = await gateway.client()
    for identity, passed in (
        (token(), 2),
        (token(sub="bob", tier="gold"), 3),
        (token(sub="eve", tier="tin"), 1),
        (token(sub="dan", tier="platinum"), 2),
        (b"X-API-Key: " + KEY, 3),
    ):
        assert await statuses(client, *[get(identity)] * (passed + 1)) == [200] * passed + [429]
    answer = await client.ask(get(token(sub="gil", tier="gold")))
    assert answer.headers["ratelimit-policy"] == '"all-1";q=3;w=3600'


async def test_a_request_costs_what_its_method_costs(start: Start) -> None:
    cost = "cost: {GET: 1, POST: 4, OPTIONS: 0, '*': 10}"
    client = await (await start(route=f"rate_limit: {{by: ip, limit: 10/hour, {cost}}}")).client()
    assert await statuses(client, method(b"POST"), method(b"HEAD"), method(b"POST")) == [200] * 3
    assert (
        await statuses(client, method(b"POST"), method(b"DELETE"), *[method(b"OPTIONS")] * 5) == [429] * 2 + [200] * 5
    )
    assert await statuses(client, get(), get()) == [200, 429]
    answer = await client.ask(method(b"DELETE"))
    assert json.loads(answer.body)["detail"] == (
        "The limit all-1 allows 10 requests in 3600 seconds, and this one counts for 10."
    )


async def test_a_limit_that_observes_refuses_nobody_and_is_counted(start: Start) -> None:
    more = f"rate_limits: {{new: {{by: ip, {TWO}, mode: observe}}, old: {{by: ip, limit: 4/hour}}}}"
    gateway = await start(more=more, route="rate_limit: [new, old]")
    client = await gateway.client()
    answers = [await client.ask(get()) for _ in range(6)]
    assert [answer.status for answer in answers] == [200] * 4 + [429] * 2
    assert answers[3].headers["ratelimit-policy"] == '"old";q=4;w=3600'
    assert series(gateway, "gateway_rate_limit_decisions_total") == {
        ("all", "new", "allowed"): 2.0,
        ("all", "new", "observed"): 2.0,
        ("all", "old", "allowed"): 4.0,
        ("all", "old", "refused"): 2.0,
    }


@pytest.mark.parametrize(
    ("settings", "policy"),
    [
        ("algorithm: sliding_window, limit: 2/hour", '"all-1";q=2;w=3600'),
        ("algorithm: calendar, limit: 2/week, time_zone: Europe/Berlin", None),
    ],
)
async def test_other_meters_count_as_well(start: Start, settings: str, policy: str | None) -> None:
    client = await (await start(route=f"rate_limit: {{by: ip, {settings}}}")).client()
    answers = [await client.ask(get()) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert [told(answer)[0] for answer in answers] == [1, 0, 0]
    assert policy in (None, answers[0].headers["ratelimit-policy"])
    assert told(answers[2])[1] == int(answers[2].headers["retry-after"]) <= 7 * 86400 + 3600


# With a store


@pytest.fixture(scope="module")
def running() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
async def redis(running: RedisServer) -> RedisServer:
    """A server with nothing in it."""
    client = Redis.from_url(running.url)
    try:
        await client.flushall()
    finally:
        await client.aclose()
    return running


async def keys_of(redis: RedisServer) -> dict[bytes, int]:
    """What is in the store, and the milliseconds that each key has to live."""
    client = Redis.from_url(redis.url)
    try:
        return {key: await client.pttl(key) for key in await client.keys("*")}
    finally:
        await client.aclose()


async def test_e13_every_key_in_redis_is_hashed_and_ends(start: Start, redis: RedisServer) -> None:
    limits = (
        "{by: 'header:X-Key', limit: 5/minute}, {by: ip, limit: 100/hour, algorithm: sliding_window}, "
        "{by: route, limit: 1000/month, algorithm: calendar}, {by: 'header:X-Key', limit: 9/hour, mode: observe}"
    )
    store = f"store: {{url: '{redis.url}', timeout: 2s}}"
    client = await (await start(more=store, route=f"rate_limit: [{limits}]")).client()
    values = [b"k%d" % number for number in range(30)]
    assert set(await statuses(client, *(get(b"X-Key: " + value) for value in values))) == {200}
    found = await keys_of(redis)
    assert len(found) == 30 + 1 + 1 + 30
    for key, life in found.items():
        assert re.match(rb"gw:limit:[0-9a-f]{32}", key)
        assert 0 < life <= 31 * 86_400_000 + 3_600_000 + 60_000
    assert sum(life <= 60_000 for life in found.values()) == 30


async def test_e9_what_a_caller_sends_never_stands_in_a_key(start: Start, redis: RedisServer) -> None:
    store = f"store: {{url: '{redis.url}', timeout: 2s, prefix: 'e9:'}}"
    client = await (await start(more=store, route="rate_limit: {by: 'header:X-Key', limit: 1/hour}")).client()
    for value in STRANGE:
        assert await statuses(client, *[get(b"X-Key: " + value)] * 2) == [200, 429], value
    keys = [key for key in await keys_of(redis) if key.startswith(b"e9:")]
    assert len(keys) == len(STRANGE)
    assert all(re.fullmatch(rb"e9:limit:[0-9a-f]{32}", key) for key in keys)


async def test_without_the_store_each_route_does_what_its_strictest_limit_says(
    start: Start, upstream: Upstream
) -> None:
    routes = "".join(
        f"  - {{name: {name}, match: {{path: /{name}}}, upstream: up, rate_limit: [{limits}]}}\n"
        for name, limits in {
            "usual": "here",
            "let-pass": "anyway",
            "guarded": "never",
            "mixed": "anyway, here, never",
        }.items()
    )
    yaml = simple(upstream).replace("routes:\n", "routes:\n" + routes)
    limits = "here: {by: ip, limit: 1/hour}, anyway: {by: ip, limit: 1/hour, on_failure: open}"
    limits += ", never: {by: ip, limit: 1/hour, on_failure: closed}"
    gateway = await start(f"store: {{url: 'redis://127.0.0.1:{free_port()}/0'}}\nrate_limits: {{{limits}}}\n{yaml}")
    client = await gateway.client()

    async def asked(target: bytes) -> list[int]:
        return await statuses(client, *[get(target=target)] * 3)

    assert await asked(b"/let-pass") == [200] * 3
    assert await asked(b"/usual") == [200, 429, 429]
    assert await asked(b"/guarded") == await asked(b"/mixed") == [503] * 3
    answer = await client.ask(get(target=b"/guarded"))
    assert (json.loads(answer.body)["code"], answer.headers["retry-after"]) == ("overloaded", "1")
