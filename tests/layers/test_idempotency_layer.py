"""Which requests are done once, what their repetitions get, and what becomes of those whose client leaves."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.errors import DeadlinePassed, GatewayError, Refused, Shed, UpstreamFailed
from gateway.exchange import Body, Call, Caller, Headers, Reply, Stream
from gateway.idempotency import keeping
from gateway.idempotency.background import Background
from gateway.idempotency.memory import MemoryRecords
from gateway.pipe import Send
from gateway.resilience.fault import Fault, fault
from gateway.resilience.idempotency import LEEWAY, Terms, idempotency
from tests.fakes import Chunks, Clock, FakeTarget, Script, Sleep, delayed, explosive, make_call, read_all

PATIENCE = 30.0
TARGET = FakeTarget()


class Bench:
    """A layer over records in memory, in front of `send`."""

    def __init__(self, send: Send, *, body_limit: int = 100, reply_limit: int = 100) -> None:
        self.clock = Clock()
        self.records = MemoryRecords(clock=self.clock)
        self.background = Background()
        terms = Terms("Idempotency-Key", 3600.0, PATIENCE, body_limit=body_limit, reply_limit=reply_limit)
        self.send = idempotency(terms, self.records, self.background, clock=self.clock)(tried(send))


def tried(send: Send) -> Send:
    """Begins a try, as balancing would."""

    async def begun(call: Call) -> Reply:
        call.tried.append(TARGET)
        return await send(call)

    return begun


def keyed(body: Body = b'{"a":1}', key: bytes = b"k-1", method: str = "POST", *more: tuple[bytes, bytes]) -> Call:
    call = make_call(method, [(b"content-type", b"application/json"), (b"idempotency-key", key), *more], body)
    call.route, call.path = "orders", b"/orders"
    return call


def created(body: Body = b"7", headers: Headers | None = None) -> Reply:
    return Reply(201, headers or [(b"location", b"/orders/7")], body)


def hops(call: Call) -> list[tuple[str, str]]:
    return [(hop.name, hop.outcome) for hop in call.hops if hop.stage == "idempotency"]


async def refusal(send: Send, call: Call) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await send(call)
    return caught.value


@pytest.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    async with asyncio.timeout(2):
        while asyncio.all_tasks() - before - {asyncio.current_task()}:
            await asyncio.sleep(0)


# -- who is asked for --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
async def test_an_idempotent_method_goes_by_even_with_a_key(method: str) -> None:
    bench, call = Bench(Script(created(), created())), keyed(method=method)
    for _ in range(2):
        assert (await bench.send(call)).status == 201
    assert (len(bench.records), hops(call), call.repeatable) == (0, [], False)


async def test_a_post_without_a_key_goes_by() -> None:
    bench, call = Bench(Script(created())), make_call("POST")
    assert (await bench.send(call)).status == 201
    assert (len(bench.records), call.repeatable) == (0, False)


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_the_first_request_is_sent_as_it_came_and_may_be_retried(method: str) -> None:
    script = Script(created())
    bench, call = Bench(script), keyed(method=method)
    await bench.send(call)
    assert (script.calls, call.repeatable, call.body) == ([call], True, b'{"a":1}')
    assert call.request.fields.index[b"idempotency-key"] == b"k-1"
    assert hops(call) == [("begin", "new"), ("end", "kept")]


async def test_the_exchange_ends_before_its_key_is_free_again() -> None:
    script = Script(created())
    bench, call, short = Bench(script), keyed(), keyed(key=b"short")
    await bench.send(call)
    assert call.deadline == bench.clock.now + PATIENCE
    assert LEEWAY > keeping.COLLECT
    short.deadline = bench.clock.now + 1.0
    script._acts.append(created())
    await bench.send(short)
    assert short.deadline == bench.clock.now + 1.0


@pytest.mark.parametrize("key", [b"", b"a b", b"a\tb", b"\xe4", b"x" * 256, b"a, b"])
async def test_a_key_that_is_no_visible_ascii_is_refused(key: bytes) -> None:
    error = await refusal(Bench(explosive()).send, keyed(key=key))
    assert (error.status, error.code) == (400, "bad_request")


@pytest.mark.parametrize("key", [b"1", b"x" * 255, b'"8e03978e-40d5-43dd-bc93-6894a57f9324"', b"!~"])
async def test_any_visible_ascii_is_a_key(key: bytes) -> None:
    assert (await Bench(Script(created())).send(keyed(key=key))).status == 201


async def test_a_repeated_header_is_refused() -> None:
    call = keyed(b"", b"k-1", "POST", (b"idempotency-key", b"k-1"))
    assert (await refusal(Bench(explosive()).send, call)).status == 400


async def test_another_repeated_header_is_nobodys_business() -> None:
    call = keyed(b"", b"k-1", "POST", (b"x", b"1"), (b"x", b"2"))
    assert (await Bench(Script(created())).send(call)).status == 201


# -- repetitions -----------------------------------------------------------------------------------------


async def test_a_repetition_gets_the_same_reply_and_is_told_so() -> None:
    cookies: Headers = [(b"location", b"/orders/7"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
    bench = Bench(Script(created(b"7", list(cookies))))
    first = await bench.send(keyed())
    assert (first.headers, first.body) == (cookies, b"7")
    for _ in range(2):
        call = keyed()
        again = await bench.send(call)
        assert (again.status, again.body) == (201, b"7")
        assert again.headers == [*cookies, (b"idempotency-replayed", b"true")]
        assert hops(call) == [("begin", "replayed")]


async def test_another_version_of_the_api_is_another_request() -> None:
    bench = Bench(Script(created()))
    first, other = keyed(), keyed()
    first.version, other.version = "v1", "v2"
    await bench.send(first)
    with pytest.raises(Refused) as caught:
        await bench.send(other)
    assert (caught.value.status, caught.value.code) == (422, "idempotency_conflict")


async def test_a_replay_says_so_once_whatever_the_upstream_says() -> None:
    bench = Bench(Script(created(headers=[(b"idempotency-replayed", b"false")])))
    await bench.send(keyed())
    assert (await bench.send(keyed())).headers == [(b"idempotency-replayed", b"true")]


async def test_what_stages_do_to_a_reply_is_not_kept_with_it() -> None:
    bench = Bench(Script(created()))
    for reply in (await bench.send(keyed()), await bench.send(keyed())):
        reply.headers.append((b"x-late", b"1"))
    assert (b"x-late", b"1") not in (await bench.send(keyed())).headers


@pytest.mark.parametrize("status", [200, 204, 302, 400, 404, 409, 422])
async def test_every_answer_below_500_is_the_answer(status: int) -> None:
    bench = Bench(Script(Reply(status, [])))
    assert [(await bench.send(keyed())).status for _ in range(2)] == [status, status]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_a_reply_that_asks_to_come_again_frees_the_key(status: int) -> None:
    body = Chunks(b"no")
    bench, call = Bench(Script(Reply(status, [], body), created())), keyed()
    reply = await bench.send(call)
    assert (reply.status, reply.body) == (status, body)
    assert hops(call)[-1] == ("end", "freed")
    assert (await bench.send(keyed())).status == 201


@pytest.mark.parametrize(
    "error",
    [UpstreamFailed("upstream_failed", sent=True), Shed("circuit_open"), DeadlinePassed(), Refused("x", 400)],
    ids=repr,
)
async def test_an_error_of_ours_frees_the_key(error: GatewayError) -> None:
    bench = Bench(Script(error, created()))
    assert await refusal(bench.send, keyed()) is error
    assert (await bench.send(keyed())).status == 201


async def test_a_failure_inside_the_gateway_is_raised_where_it_would_have_been() -> None:
    bench = Bench(Script(KeyError("bug"), created()))
    with pytest.raises(KeyError):
        await bench.send(keyed())
    assert (await bench.send(keyed())).status == 201


async def test_a_fallback_is_no_answer_of_the_upstream() -> None:
    covered = Reply(200, [], b"later")
    covered.fallback = "static"
    bench = Bench(Script(covered, created()))
    assert (await bench.send(keyed())).body == b"later"
    assert (await bench.send(keyed())).status == 201


async def test_what_another_upstream_has_done_instead_is_not_done_again() -> None:
    spare = created()
    spare.fallback = "upstream"
    bench = Bench(Script(spare))
    assert (await bench.send(keyed())).status == 201
    again = await bench.send(keyed())
    assert (again.status, (b"idempotency-replayed", b"true") in again.headers) == (201, True)


@pytest.mark.parametrize("status", [404, 422])
async def test_a_rehearsed_failure_frees_the_key_whatever_its_status(status: int) -> None:
    rehearsal = fault(Fault(1.0, status, until=100.0), clock=Clock(), wall=Clock(99.0))
    bench = Bench(rehearsal(explosive()))
    assert (await bench.send(keyed())).status == status
    assert hops(call := keyed()) == []
    assert (await bench.send(call)).status == status
    assert hops(call) == [("begin", "new"), ("end", "freed")]


async def test_a_rehearsed_delay_keeps_the_reply_as_ever() -> None:
    rehearsal = fault(Fault(1.0, delay=0.5), clock=(clock := Clock()), sleep=Sleep(clock))
    bench = Bench(rehearsal(Script(created())))
    assert (await bench.send(keyed())).status == 201
    assert (await bench.send(keyed())).status == 201


async def test_while_the_first_is_under_way_a_repetition_has_to_wait() -> None:
    go, script = asyncio.Event(), Script(created())
    bench = Bench(delayed(script, go))
    first = asyncio.ensure_future(bench.send(keyed()))
    await asyncio.sleep(0)
    call = keyed()
    error = await refusal(bench.send, call)
    assert (error.status, error.code, error.retry_after) == (409, "idempotency_conflict", 1.0)
    assert hops(call) == [("begin", "in_flight")]
    go.set()
    await first
    assert (await bench.send(keyed())).status == 201
    assert len(script.calls) == 1


def changed(what: str) -> Call:
    call = keyed(b"other" if what == "body" else b'{"a":1}', method="PATCH" if what == "method" else "POST")
    match what:
        case "path":
            call.path = b"/orders/8"
        case "query":
            call.query = b"?a"
        case "host":
            call.host = b"other.example"
        case "type":
            call.request.fields.index = {**call.request.fields.index, b"content-type": b"text/plain"}
    return call


@pytest.mark.parametrize("what", ["body", "method", "path", "query", "host", "type"])
@pytest.mark.parametrize("under_way", [False, True])
async def test_a_different_request_with_the_same_key_is_a_conflict(what: str, under_way: bool) -> None:
    go = asyncio.Event()
    bench = Bench(delayed(Script(created()), go))
    first = asyncio.ensure_future(bench.send(keyed()))
    await asyncio.sleep(0)
    if not under_way:
        go.set()
        await first
    error = await refusal(bench.send, changed(what))
    assert (error.status, error.code, error.retry_after) == (422, "idempotency_conflict", 0.0)
    go.set()
    await first


async def test_other_headers_may_differ_between_repetitions() -> None:
    bench = Bench(Script(created()))
    await bench.send(keyed())
    again = keyed(b'{"a":1}', b"k-1", "POST", (b"user-agent", b"second"), (b"traceparent", b"00"))
    again.host = b"EXAMPLE.com"
    assert (await bench.send(again)).status == 201


def as_caller(caller: Caller, ip: str = "192.0.2.7", route: str = "orders") -> Call:
    call = keyed()
    call.caller, call.client_ip, call.route = caller, ip, route
    return call


async def test_callers_and_routes_do_not_share_keys() -> None:
    callers = [
        as_caller(Caller()),
        as_caller(Caller(), "192.0.2.8"),
        as_caller(Caller(), route="returns"),
        as_caller(Caller("ann", "idp", "idp")),
        as_caller(Caller("ann", "other", "other")),
        as_caller(Caller("bob", "idp", "idp")),
    ]
    bench = Bench(Script(*(created(b"%d" % n) for n in range(len(callers)))))
    replies = [(await bench.send(call)).body for call in callers]
    assert replies == [b"%d" % n for n in range(len(callers))]


async def test_a_known_caller_keeps_its_keys_when_its_address_changes() -> None:
    bench, ann = Bench(Script(created())), Caller("ann", "idp", "idp")
    await bench.send(as_caller(ann))
    assert (await bench.send(as_caller(ann, "198.51.100.1"))).status == 201


# -- bodies ----------------------------------------------------------------------------------------------


async def test_a_body_that_arrives_in_pieces_is_compared_and_sent_whole() -> None:
    script = Script(created())
    bench = Bench(script)
    await bench.send(keyed(Chunks(b'{"a"', b":1}")))
    assert script.calls[0].body == b'{"a":1}'
    assert (await bench.send(keyed(Chunks(b'{"a":1}', length=7)))).status == 201
    assert (await refusal(bench.send, keyed(Chunks(b'{"a":2}')))).status == 422


@pytest.mark.parametrize(
    "body", [b"x" * 101, Chunks(length=101), Chunks(b"x" * 60, b"x" * 60), Chunks(b"x" * 50, b"x" * 51, length=101)]
)
async def test_a_body_that_is_too_large_to_compare_is_refused(body: Body) -> None:
    bench = Bench(explosive())
    error = await refusal(bench.send, keyed(body))
    assert (error.status, error.code, error.members) == (413, "body_too_large", {"limit": 100})
    assert len(bench.records) == 0


@pytest.mark.parametrize("body", [b"x" * 100, Chunks(b"x" * 50, b"x" * 50), Chunks(b"x" * 100, length=100)])
async def test_a_body_up_to_the_limit_is_compared(body: Body) -> None:
    assert (await Bench(Script(created())).send(keyed(body))).status == 201


async def test_a_body_that_breaks_off_takes_no_key() -> None:
    late = Refused("request_timeout", 408)
    bench = Bench(explosive())
    assert await refusal(bench.send, keyed(Chunks(b"x", late))) is late
    assert len(bench.records) == 0


async def test_a_reply_in_pieces_is_passed_on_as_it_comes_and_kept() -> None:
    bench, body = Bench(Script(created(Chunks(b"one", b"two")))), b""
    first = await bench.send(keyed())
    assert not isinstance(first.body, bytes)
    while piece := await first.body.read():
        assert (await refusal(bench.send, keyed())).retry_after == 1.0
        body += piece
    first.body.close()
    assert (body, first.body.received) == (b"onetwo", 6)
    assert (await bench.send(keyed())).body == b"onetwo"


@pytest.mark.parametrize("body", [b"x" * 101, Chunks(b"x" * 101, length=101), Chunks(b"x" * 60, b"x" * 60)])
async def test_a_reply_too_large_to_be_kept_reaches_the_client_and_nobody_else(body: Body) -> None:
    bench, call = Bench(Script(created(body))), keyed()
    reply = await bench.send(call)
    assert len(await read_all(reply.body)) > 100
    assert hops(call)[-1] == ("end", "not_kept")
    error = await refusal(bench.send, keyed())
    assert (error.status, error.code, error.retry_after) == (409, "idempotency_conflict", 0.0)
    assert "not kept" in error.detail
    assert (await refusal(bench.send, keyed(b"other"))).status == 422


async def test_a_reply_that_broke_off_was_an_answer_all_the_same() -> None:
    broken = UpstreamFailed("upstream_failed", sent=True)
    bench = Bench(Script(created(Chunks(b"half", broken))))
    reply = await bench.send(keyed())
    with pytest.raises(UpstreamFailed):
        await read_all(reply.body)
    assert "not kept" in (await refusal(bench.send, keyed())).detail


class Slow(Chunks):
    """Gives its second piece once it may."""

    def __init__(self, *pieces: bytes) -> None:
        super().__init__(*pieces)
        self.go = asyncio.Event()

    async def read(self) -> bytes:
        if self.received:
            await self.go.wait()
        return await super().read()


async def test_a_reply_that_takes_too_long_is_marked_before_its_key_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    body = Slow(b"one", b"two")
    bench = Bench(Script(created(body)))
    monkeypatch.setattr(keeping, "COLLECT", 0.02)
    reply = await bench.send(keyed())
    assert not isinstance(reply.body, bytes)
    assert await reply.body.read() == b"one"
    await asyncio.sleep(0.05)
    assert "not kept" in (await refusal(bench.send, keyed())).detail
    body.go.set()
    assert await reply.body.read() == b"two"


# -- the client leaves -----------------------------------------------------------------------------------


async def leave(task: "asyncio.Future[Reply]") -> None:
    await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("body", [b"7", "pieces"])
async def test_once_it_is_sent_it_is_carried_through_for_the_next_attempt(body: bytes | str) -> None:
    go, stream = asyncio.Event(), Chunks(b"7")
    reply = created(body if isinstance(body, bytes) else stream)
    bench = Bench(delayed(Script(reply), go))
    await leave(asyncio.ensure_future(bench.send(keyed())))
    assert (await refusal(bench.send, keyed())).status == 409
    go.set()
    await bench.background.land(1.0)
    assert (await bench.send(keyed())).body == b"7"
    assert stream.closed == (body == "pieces")


async def test_what_was_not_begun_is_taken_back() -> None:
    queue, script = asyncio.Event(), Script(created())
    bench = Bench(script)

    async def in_line(call: Call) -> Reply:
        await queue.wait()
        return await script(call)

    terms = Terms("Idempotency-Key", 3600.0, PATIENCE)
    send = idempotency(terms, bench.records, bench.background)(in_line)
    await leave(asyncio.ensure_future(send(keyed())))
    await bench.background.land(1.0)
    assert (len(bench.records), script.calls) == (0, [])
    queue.set()
    assert (await send(keyed())).status == 201


async def test_the_rest_of_a_reply_is_read_for_a_client_that_left_in_the_middle() -> None:
    stream = Chunks(b"one", b"two", b"three")
    bench = Bench(Script(created(stream)))
    reply = await bench.send(keyed())
    assert not isinstance(reply.body, bytes)
    await reply.body.read()
    reply.body.close()
    reply.body.close()
    await bench.background.land(1.0)
    assert stream.closed
    assert (await bench.send(keyed())).body == b"onetwothree"


@pytest.mark.parametrize(
    "stream",
    [Chunks(b"x" * 60, b"x" * 60), Chunks(b"x", UpstreamFailed("upstream_failed", sent=True)), Slow(b"x", b"y")],
)
async def test_a_rest_that_does_not_come_is_marked_and_let_go(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "COLLECT", 0.02)
    bench = Bench(Script(created(stream)))
    reply = await bench.send(keyed())
    assert not isinstance(reply.body, bytes)
    reply.body.close()
    async with asyncio.timeout(0.5):
        while len(bench.background):
            await asyncio.sleep(0.01)
    assert isinstance(stream, Chunks)
    assert stream.closed
    assert "not kept" in (await refusal(bench.send, keyed())).detail


async def test_a_failure_after_the_client_left_frees_the_key() -> None:
    go = asyncio.Event()
    bench = Bench(delayed(Script(UpstreamFailed("upstream_failed", sent=True), created()), go))
    await leave(asyncio.ensure_future(bench.send(keyed())))
    go.set()
    await bench.background.land(1.0)
    assert (await bench.send(keyed())).status == 201


async def test_a_gateway_that_ends_leaves_what_was_sent_to_its_lease() -> None:
    bench = Bench(delayed(Script(), asyncio.Event()))
    await leave(asyncio.ensure_future(bench.send(keyed())))
    assert len(bench.background) == 1
    await bench.background.land(0.01)
    assert len(bench.background) == 0
    assert (await refusal(bench.send, keyed())).status == 409
