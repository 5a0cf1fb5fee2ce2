"""Max-Forwards (C14, RFC 9110 7.6.2): counted down, and who receives a 0 with OPTIONS answers itself."""

import pytest

from tests.wire.actors import Client, Upstream
from tests.wire.payloads import get, message

OPTIONS = b"OPTIONS / HTTP/1.1"


async def test_c14_options_that_may_go_no_further_is_answered_here(client: Client, upstream: Upstream) -> None:
    answer = await client.ask(message(OPTIONS, b"Max-Forwards: 0"))
    assert answer.status == 204
    assert "OPTIONS" in answer.headers["allow"]
    assert upstream.visits == []


@pytest.mark.parametrize(("sent", "forwarded"), [(b"1", b"0"), (b"10", b"9")])
async def test_c14_max_forwards_is_counted_down(
    client: Client, upstream: Upstream, sent: bytes, forwarded: bytes
) -> None:
    assert (await client.ask(message(OPTIONS, b"Max-Forwards: " + sent))).status == 200
    assert upstream.received.count(b"\r\nmax-forwards: " + forwarded + b"\r\n") == 1


@pytest.mark.parametrize("sent", [b"-1", b"x", b"1" * 5000, b"1, 2"])
async def test_c14_what_is_no_number_is_dropped(client: Client, upstream: Upstream, sent: bytes) -> None:
    assert (await client.ask(message(OPTIONS, b"Max-Forwards: " + sent))).status == 200
    assert b"max-forwards" not in upstream.received


async def test_c14_other_methods_pass_a_0(client: Client, upstream: Upstream) -> None:
    assert (await client.ask(get(b"Max-Forwards: 0"))).status == 200
    assert b"\r\nmax-forwards: 0\r\n" in upstream.received
