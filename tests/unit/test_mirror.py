"""What a copy is: the same request, marked, with nothing of the original's fate."""

import asyncio

import pytest

from gateway.exchange import NEVER, Call, Caller, Fields, Headers, Hop, Peer, Quota, Reply, Request
from gateway.http.forward import Forwarder
from gateway.resilience.mirror import MARK, PATIENCE, Copies
from tests.fakes import Clock, FakeTarget, make_call


async def copy_of(call: Call) -> Call:
    """As it reaches the other upstream."""
    sent: list[Call] = []

    async def keep(copy: Call) -> Reply:
        sent.append(copy)
        return Reply(200, [])

    copies = Copies("shadow", keep, lambda outcome: None, Clock())
    copies.begin(call)
    assert sent == []  # only once the loop has time for it
    await asyncio.sleep(0)
    (copy,) = sent
    return copy


def lines(call: Call) -> list[bytes]:
    return Forwarder().head(call, b"shadow.example").split(b"\r\n")


def an_order(headers: Headers | None = None, nominated: tuple[bytes, ...] = ()) -> Call:
    fields = Fields(headers or [], host=b"shop.example", length=5, nominated=nominated)
    request = Request("POST", b"/a/../orders?x=1", fields, Peer("192.0.2.7", 50000), 990.0, b"order")
    call = Call(request, "request-7")
    call.client_ip, call.scheme, call.host = "198.51.100.9", "https", b"shop.example"
    call.path, call.query, call.route, call.version = b"/orders", b"?x=1", "orders", "v2"
    call.params = {"id": "7"}
    call.caller = Caller("acme", forward=((b"x-consumer", b"acme"),))
    return call


async def test_a_copy_carries_what_the_door_found_out() -> None:
    call = an_order()
    copy = await copy_of(call)
    assert copy is not call
    for name in ("id", "body", "client_ip", "scheme", "host", "path", "query", "route", "version", "params", "caller"):
        assert getattr(copy, name) == getattr(call, name), name
    # The token that tells who is calling is signed once for each caller object: another one would be signed each time.
    assert copy.caller is call.caller


async def test_a_copy_shares_nothing_of_the_originals_fate() -> None:
    call = an_order()
    call.deadline = 1000.5
    call.repeatable = True
    call.added = b"x-gateway-fault: delay\r\n"
    call.target = FakeTarget("a")
    call.tried.append(call.target)
    call.hops.append(Hop("auth", "idp", "ok", 1000.0, 0.0))
    call.quotas.append(Quota(True, "standard", 10, 60.0, 9, 6.0, 0.0))
    copy = await copy_of(call)
    assert copy.deadline == 1000.0 + PATIENCE
    assert (copy.repeatable, copy.added, copy.target) == (False, b"", None)
    assert (copy.tried, copy.hops, copy.quotas) == ([], [], [])
    copy.hops.append(Hop("try", "b", "200", 1000.0, 0.0))
    copy.tried.append(FakeTarget("b"))
    assert len(call.hops) == len(call.tried) == 1


async def test_a_copy_is_written_like_the_original_but_for_the_mark() -> None:
    call = an_order([(b"accept", b"*/*"), (b"x-tag", b"1"), (b"x-tag", b"2"), (b"via", b"1.1 edge")])
    call.deadline = NEVER
    original, copied = lines(call), lines(await copy_of(call))
    assert [line for line in copied if line not in original] == [b"x-gateway-mirror: 1"]
    assert [line for line in original if line not in copied] == []
    assert b"content-length: 5" in copied


@pytest.mark.parametrize("own", [b"0", b"1", b"false"])
async def test_a_copy_has_one_mark_whatever_the_client_has_written(own: bytes) -> None:
    call = an_order([(MARK, own), (b"x-tag", b"1"), (MARK, own)], nominated=(MARK, b"x-tag"))
    copied = lines(await copy_of(call))
    assert [line for line in copied if line.startswith(MARK)] == [MARK + b": 1"]
    assert not [line for line in copied if line.startswith(b"x-tag")]  # its own fields it may nominate


async def test_the_original_is_not_marked() -> None:
    call = make_call(headers=[(b"accept", b"*/*")])
    copy = await copy_of(call)
    assert MARK in copy.request.fields.index
    assert MARK not in call.request.fields.index
    assert copy.request.headers is not call.request.headers
