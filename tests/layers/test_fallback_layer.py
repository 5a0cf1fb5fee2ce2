import asyncio

import pytest

from gateway.errors import ClientGone, DeadlinePassed, GatewayError, Refused, Shed, UpstreamFailed
from gateway.exchange import NEVER, Body, Call, Reply, Stream
from gateway.pipe import Send, pipe
from gateway.resilience.budget import RetryBudget
from gateway.resilience.deadline import deadline
from gateway.resilience.fallback import Other, Static, fallback
from gateway.resilience.fallback_answers import text_body
from gateway.resilience.retry import RetryPolicy, retry
from tests.fakes import (
    Chunks,
    Clock,
    Dice,
    FakeTarget,
    Script,
    Sleep,
    delayed,
    explosive,
    failing,
    make_call,
    read_all,
    replying,
    stages,
)

DEGRADED = Static(
    frozenset({"open", "timeout", "connect_failure", "5xx", "quota", "no_healthy_target"}),
    200,
    ((b"cache-control", b"no-store"),),
    b'{"degraded":true}',
    b"application/json",
)


def covered(send: Send, *entries: Static | Other) -> Send:
    return fallback(entries or [DEGRADED], Clock())(send)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Shed("circuit_open"), "open"),
        (UpstreamFailed("upstream_timeout", sent=True), "timeout"),
        (DeadlinePassed(), "deadline_passed"),
        (UpstreamFailed("upstream_unreachable", sent=False), "connect_failure"),
        (UpstreamFailed("upstream_failed", sent=True), "reset"),
        (Shed("upstream_quota"), "quota"),
        (Shed("no_healthy_target"), "no_healthy_target"),
    ],
)
async def test_a_failure_is_answered_from_configuration(error: GatewayError, kind: str) -> None:
    call = make_call()
    reply = await covered(failing(error))(call)
    assert (reply.status, reply.body, reply.fallback) == (200, b'{"degraded":true}', "static")
    assert reply.headers == [
        (b"cache-control", b"no-store"),
        (b"x-gateway-fallback", b"static"),
        (b"content-type", b"application/json"),
    ]
    assert [(hop.stage, hop.name, hop.outcome) for hop in call.hops] == [("fallback", "static", kind)]
    assert call.error is None


async def test_a_bad_reply_is_replaced_and_closed() -> None:
    body, call = Chunks(b"a stack trace"), make_call()
    reply = await covered(replying(500, body=body))(call)
    assert (reply.status, body.closed, call.hops[0].outcome) == (200, True, "500")


@pytest.mark.parametrize("status", [200, 404, 429])
async def test_other_replies_pass_untouched(status: int) -> None:
    body, call = Chunks(b"x"), make_call()
    reply = await covered(replying(status, body=body))(call)
    assert (reply.status, reply.body, body.closed, stages(call)) == (status, body, False, [])


@pytest.mark.parametrize(
    "error", [Refused("forbidden", 403), ClientGone(), asyncio.CancelledError(), Shed("overloaded"), RuntimeError()]
)
async def test_what_is_not_the_upstreams_fault_never_falls_back(error: BaseException) -> None:
    everything = Static(frozenset({"open", "timeout", "connect_failure", "reset", "5xx", "4xx"}), 200)
    with pytest.raises(type(error)):
        await covered(failing(error), everything)(make_call())


async def test_a_failure_that_no_entry_names_stands() -> None:
    with pytest.raises(UpstreamFailed):
        await covered(failing(UpstreamFailed("upstream_failed", sent=True)), Static(frozenset({"open"}), 200))(
            make_call()
        )


async def test_the_first_entry_that_covers_the_outcome_answers() -> None:
    entries = [
        Static(frozenset({"open"}), 201),
        Static(frozenset({"503", "open"}), 202),
        Static(frozenset({"5xx"}), 203),
    ]
    answered = [
        (await covered(send, *entries)(make_call())).status
        for send in (failing(Shed("circuit_open")), replying(503), replying(500))
    ]
    assert answered == [201, 202, 203]


async def test_each_answer_has_headers_of_its_own() -> None:
    send = covered(replying(503))
    first = await send(make_call())
    first.headers.append((b"x-request-id", b"somebody else's"))
    assert (b"x-request-id", b"somebody else's") not in (await send(make_call())).headers


async def test_overload_falls_back_only_where_it_is_named() -> None:
    named = Static(frozenset({"overloaded"}), 200)
    assert (await covered(failing(Shed("overloaded")), named)(make_call())).status == 200
    with pytest.raises(Shed):
        await covered(failing(Shed("overloaded")))(make_call())


@pytest.mark.parametrize(
    ("send", "told"),
    [(failing(Shed("circuit_open")), b"503 open"), (replying(500), b"500 500")],
    ids=["error", "reply"],
)
async def test_an_answer_can_tell_what_it_stands_for(send: Send, told: bytes) -> None:
    entry = Static(frozenset({"open", "5xx"}), 200, body=text_body("{status} {reason}"))
    assert (await covered(send, entry)(make_call())).body == told


# -- another upstream


BROKEN = UpstreamFailed("upstream_failed", sent=True)
ON = frozenset({"open", "timeout", "connect_failure", "5xx"})
MARKED = (b"x-gateway-fallback", b"upstream")


async def echo(call: Call) -> Reply:
    """Replies with the request's body."""
    return Reply(200, [], await read_all(call.body))


async def reading(call: Call) -> Reply:
    """Reads the request's body and fails."""
    await read_all(call.body)
    raise BROKEN


async def test_another_upstream_answers_and_its_reply_says_so() -> None:
    other = Reply(200, [(b"a", b"b"), (b"x-gateway-fallback", b"static")], b"spare", lines=b"a: b\r\n")
    call = make_call()
    reply = await covered(failing(BROKEN), Other(ON, Script(other)))(call)
    assert (reply.body, reply.fallback, reply.headers, reply.lines) == (
        b"spare",
        "upstream",
        [(b"a", b"b"), MARKED],
        None,
    )
    assert [(hop.stage, hop.name, hop.outcome, hop.waited) for hop in call.hops] == [
        ("fallback", "upstream", "reset", False)
    ]


async def test_another_upstream_is_not_asked_when_all_is_well() -> None:
    assert (await covered(replying(404), Other(ON, explosive()))(make_call())).status == 404


async def test_another_upstream_has_a_total_time_of_its_own() -> None:
    clock, given = Clock(), []

    async def late(call: Call) -> Reply:
        clock.advance(10)
        raise DeadlinePassed

    async def spare(call: Call) -> Reply:
        given.append(call.deadline - clock())
        return Reply(200, [])

    road = pipe(deadline(10.0, clock), to=late)
    entry = Other(ON, pipe(deadline(3.0, clock), to=spare))
    call = make_call()
    assert call.deadline == NEVER
    await fallback([entry], clock)(road)(call)
    assert given == [3.0]


async def test_a_deadline_from_outside_holds_for_the_other_upstream_too() -> None:
    clock, given = Clock(), []

    async def spare(call: Call) -> Reply:
        given.append(call.deadline - clock())
        return Reply(200, [])

    call = make_call()
    call.deadline = clock() + 2.0
    entry = Other(ON, pipe(deadline(3.0, clock), to=spare))
    await fallback([entry], clock)(pipe(deadline(1.0, clock), to=failing(BROKEN)))(call)
    assert given == [2.0]


async def test_a_hurried_call_is_not_so_on_a_road_that_does_not_listen_to_callers() -> None:
    clock, call, seen = Clock(1000.0), make_call(headers=[(b"x-timeout", b"500")]), []
    call.request.peer.trusted, call.request.received = True, 1000.0

    async def spare(call: Call) -> Reply:
        seen.append((call.hurried, call.deadline))
        return Reply(200, [])

    first = pipe(deadline(3.0, clock, b"x-timeout"), to=failing(DeadlinePassed()))
    await covered(first, Other(ON, pipe(deadline(2.0, clock), to=spare)))(call)
    assert seen == [(False, 1002.0)]


async def test_tries_of_the_failed_road_stay_on_record() -> None:
    first, spare = FakeTarget("first"), FakeTarget("spare")

    def at(target: FakeTarget, send: Send) -> Send:
        async def tried(call: Call) -> Reply:
            call.target = target
            call.tried.append(target)
            return await send(call)

        return tried

    call = make_call()
    await covered(at(first, failing(BROKEN)), Other(ON, at(spare, replying(200))))(call)
    assert (call.tried, call.target) == ([first, spare], spare)


def noting(line: bytes, send: Send) -> Send:
    """Says something on the reply."""

    async def noted(call: Call) -> Reply:
        call.added += line
        return await send(call)

    return noted


@pytest.mark.parametrize(
    ("spare", "added"), [(replying(200), b"outer;spare;"), (replying(500), b"outer;first;")], ids=["answers", "fails"]
)
async def test_only_the_road_that_counts_has_its_say_on_the_reply(spare: Send, added: bytes) -> None:
    call = make_call()
    call.added = b"outer;"
    await covered(noting(b"first;", replying(503)), Other(ON, noting(b"spare;", spare)))(call)
    assert call.added == added


@pytest.mark.parametrize(
    "spare",
    [
        failing(Shed("circuit_open")),
        failing(UpstreamFailed("upstream_unreachable", sent=False)),
        failing(DeadlinePassed()),
        replying(503),
        replying(500),
    ],
)
async def test_when_the_other_upstream_fails_too_the_next_entry_answers(spare: Send) -> None:
    call = make_call()
    reply = await covered(failing(BROKEN), Other(ON, spare), DEGRADED)(call)
    assert (reply.status, reply.fallback) == (200, "static")
    assert [(hop.name, hop.outcome) for hop in call.hops] == [("static", "reset")]


async def test_entries_are_asked_in_their_order() -> None:
    asked: list[int] = []

    def spare(number: int, status: int) -> Other:
        async def send(call: Call) -> Reply:
            asked.append(number)
            return Reply(status, [])

        return Other(ON, send)

    reply = await covered(failing(BROKEN), spare(1, 503), spare(2, 204), spare(3, 200), DEGRADED)(make_call())
    assert (asked, reply.status) == ([1, 2], 204)


async def test_the_body_of_another_upstreams_failure_is_let_go() -> None:
    body = Chunks(b"a stack trace")
    await covered(failing(BROKEN), Other(ON, replying(500, body=body)), DEGRADED)(make_call())
    assert body.closed


async def test_when_nothing_answers_the_first_failure_stands() -> None:
    first = Shed("circuit_open", retry_after=7.0)
    call = make_call()
    with pytest.raises(Shed) as stands:
        await covered(failing(first), Other(ON, failing(BROKEN)))(call)
    assert stands.value is first
    assert call.hops == []


async def test_when_nothing_answers_the_first_reply_stands_with_its_body() -> None:
    body = Chunks(b"sorry")
    reply = await covered(replying(503, body=body), Other(ON, replying(500)))(make_call())
    assert (reply.status, reply.body, body.closed, reply.fallback) == (503, body, False, "")


async def test_the_first_reply_is_let_go_when_the_other_upstream_answers() -> None:
    body = Chunks(b"sorry")
    assert (await covered(replying(503, body=body), Other(ON, replying(200)))(make_call())).status == 200
    assert body.closed


@pytest.mark.parametrize("error", [Refused("body_too_large", 413), ClientGone(), RuntimeError()])
async def test_what_is_not_the_other_upstreams_failure_is_raised_and_nothing_is_held(error: Exception) -> None:
    body = Chunks(b"sorry")
    with pytest.raises(type(error)):
        await covered(replying(503, body=body), Other(ON, failing(error)), DEGRADED)(make_call())
    assert body.closed


async def test_a_client_that_leaves_while_the_other_upstream_is_asked_frees_the_first_reply() -> None:
    body = Chunks(b"sorry")
    send = covered(replying(503, body=body), Other(ON, delayed(replying(200), asyncio.Event())))
    task = asyncio.ensure_future(send(make_call()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert body.closed


# -- the request's body


@pytest.mark.parametrize("body", [b"the body", Chunks(b"the ", b"body")], ids=["whole", "streamed"])
async def test_the_other_upstream_gets_the_whole_body(body: Body) -> None:
    call = make_call("PUT", body=body)
    assert (await covered(reading, Other(ON, echo))(call)).body == b"the body"


async def test_each_upstream_asked_gets_the_whole_body() -> None:
    call = make_call("PUT", body=Chunks(b"the ", b"body"))
    assert (await covered(reading, Other(ON, reading), Other(ON, echo))(call)).body == b"the body"


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (UpstreamFailed("upstream_failed", sent=True), False),
        (UpstreamFailed("upstream_unreachable", sent=False), True),
        (Shed("circuit_open"), True),
        (Reply(503, []), False),
    ],
)
async def test_h13_what_must_not_be_done_twice_goes_elsewhere_only_if_nothing_was_sent(
    error: Exception | Reply, asked: bool
) -> None:
    async def failing(call: Call) -> Reply:
        if isinstance(error, Reply):
            return error
        raise error

    other = Script(Reply(200, [], b"other"))
    entries = (Other(frozenset({"open", "reset", "connect_failure", "5xx"}), other), DEGRADED)
    reply = await covered(failing, *entries)(make_call("POST", body=b"order"))
    assert (len(other.calls), reply.fallback) == ((1, "upstream") if asked else (0, "static"))


async def test_what_the_gateway_does_only_once_by_its_key_may_go_elsewhere() -> None:
    call = make_call("POST", body=b"order")
    call.repeatable = True
    assert (await covered(reading, Other(ON, echo))(call)).fallback == "upstream"


async def test_retries_inside_and_another_upstream_after_them_read_the_same_bytes() -> None:
    clock = Clock()
    policy = RetryPolicy(attempts=2, on=["reset"], methods=["PUT"], base=0.1, cap=1.0, replay_limit=1024)

    def retried(send: Send) -> Send:
        return retry(policy, RetryBudget(1.0), clock=clock, dice=Dice(0.0), sleep=Sleep(clock))(send)

    call = make_call("PUT", body=Chunks(b"the ", b"body"))
    first, spare = Script(reading, reading), Script(reading, echo)
    assert (await covered(retried(first), Other(ON, retried(spare)))(call)).body == b"the body"
    assert (len(first.calls), len(spare.calls)) == (2, 2)


async def test_a_body_too_large_to_be_kept_is_left_to_the_next_entry() -> None:
    call = make_call("POST", body=Chunks(b"x" * 40, b"y" * 40))
    send = fallback([Other(ON, explosive()), DEGRADED], Clock(), replay_limit=64)(reading)
    assert (await send(call)).fallback == "static"


async def test_a_body_too_large_to_be_kept_goes_to_the_other_upstream_while_nobody_has_read_it() -> None:
    call = make_call("POST", body=Chunks(b"x" * 40, b"y" * 40))
    send = fallback([Other(ON, echo)], Clock(), replay_limit=64)(failing(Shed("circuit_open")))
    assert (await send(call)).body == b"x" * 40 + b"y" * 40


async def test_a_reply_that_may_still_read_the_body_is_let_go_before_another_upstream_gets_it() -> None:
    streaming = Chunks(b"sorry")

    async def spare(call: Call) -> Reply:
        assert streaming.closed
        raise BROKEN

    call = make_call("POST", body=Chunks(b"the body"))
    with pytest.raises(UpstreamFailed) as stands:
        await covered(replying(503, body=streaming), Other(ON, spare))(call)
    assert (stands.value.status, stands.value.sent) == (503, True)


async def test_prepared_answers_alone_leave_a_body_as_it_is() -> None:
    body: Stream = Chunks(b"the body")
    call = make_call("POST", body=body)
    await covered(failing(Shed("circuit_open")))(call)
    assert call.body is body
