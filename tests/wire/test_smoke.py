"""The simplest things a wire does."""

from tests.wire.actors import Client, Upstream


async def test_a_request_goes_through_and_its_reply_comes_back(client: Client, upstream: Upstream) -> None:
    answer = await client.ask(b"GET /a/b?c=d HTTP/1.1\r\nHost: example.com\r\nX-Own: 1\r\n\r\n")
    assert (answer.status, answer.body) == (200, b"ok")
    assert upstream.requests == [b"GET /a/b?c=d"]
    assert b"\r\nx-own: 1\r\n" in upstream.received


async def test_a_connection_is_kept_for_the_next_request(client: Client, upstream: Upstream) -> None:
    for _ in range(3):
        assert (await client.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")).status == 200
    assert len(upstream.visits) == 1


async def test_pipelined_requests_are_answered_in_order(client: Client, upstream: Upstream) -> None:
    await client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(5)))
    for _ in range(5):
        assert (await client.answer()).status == 200
    assert upstream.requests == [b"GET /%d" % n for n in range(5)]
