"""Who may come, by address, and what browsers are told for safety: at the whole gateway."""

import json

from tests.wire.actors import Answer, Upstream, Visit, simple
from tests.wire.conftest import Start

GET = b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n"


async def test_an_address_that_is_not_allowed_is_refused_before_anything_else(upstream: Upstream, start: Start) -> None:
    gateway = await start(simple(upstream, 'allow_ip: ["10.0.0.0/8"]'))
    answer = await (await gateway.client()).ask(GET % b"X-Forwarded-For: 10.1.2.3\r\n")
    assert (answer.status, json.loads(answer.body)["code"]) == (403, "forbidden")
    assert b"127.0.0.1" not in answer.body
    assert not upstream.visits


async def test_behind_a_trusted_proxy_it_is_the_clients_address_that_counts(upstream: Upstream, start: Start) -> None:
    trusting = 'trusted_proxies: ["127.0.0.0/8"]'
    gateway = await start(simple(upstream, 'allow_ip: ["10.0.0.0/8"], deny_ip: ["10.9.0.0/16"]', trusting))
    client = await gateway.client()
    for chain, status in [
        (b"10.1.2.3", 200), (b"10.9.1.1", 403), (b"192.0.2.7", 403), (b"::ffff:10.1.2.3", 200),
        (b"10.1.2.3, 192.0.2.7", 403), (b"192.0.2.7, 10.1.2.3", 200), (b"10.1.2.3, 127.0.0.9", 200),
    ]:  # fmt: skip
        assert (await client.ask(GET % (b"X-Forwarded-For: %b\r\n" % chain))).status == status, chain


def careful(answer: Answer) -> list[str | None]:
    names = ("x-content-type-options", "x-frame-options", "referrer-policy", "content-security-policy")
    return [answer.headers.get(name) for name in names]


OWN = ["nosniff", "DENY", "no-referrer", "default-src 'none'; frame-ancestors 'none'"]


async def test_browsers_are_told_to_be_careful_where_upstreams_do_not(upstream: Upstream, start: Start) -> None:
    async def script(visit: Visit) -> None:
        while True:
            own = b"framed: no" in await visit.request()
            policy = b"Content-Security-Policy: default-src *\r\nX-Frame-Options: DENY\r\n" if own else b""
            await visit.write(b"HTTP/1.1 200 OK\r\n" + policy + b"Content-Length: 2\r\n\r\nok")

    upstream.script = script
    client = await (await start(simple(upstream, more="security_headers: true"))).client()
    for _ in range(2):
        answer = await client.ask(GET % b"")
        assert careful(answer) == ["nosniff", "SAMEORIGIN", "strict-origin-when-cross-origin", None]
        answer = await client.ask(GET % b"framed: no\r\n")
        assert careful(answer) == ["nosniff", "DENY", "strict-origin-when-cross-origin", "default-src *"]


async def test_the_gateways_own_answers_can_run_nothing(upstream: Upstream, start: Start) -> None:
    gateway = await start(simple(upstream, 'deny_ip: ["127.0.0.1"]', "security_headers: true"))
    assert careful(await (await gateway.client()).ask(GET % b"")) == OWN
    malformed = await (await gateway.client()).ask(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    assert (malformed.status, careful(malformed)) == (400, OWN)


async def test_off_is_nothing(upstream: Upstream, start: Start) -> None:
    client = await (await start()).client()
    assert careful(await client.ask(GET % b"")) == [None] * 4
    assert careful(await client.ask(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")) == [None] * 4
