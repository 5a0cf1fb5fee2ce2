import asyncio
import random
from collections.abc import Callable
from email.utils import formatdate

import pytest

from gateway.errors import DeadlinePassed, Shed, UpstreamFailed
from gateway.exchange import Body, Call, Headers, Reply
from gateway.pipe import Send
from gateway.resilience.budget import RetryBudget
from gateway.resilience.retry import RetryPolicy, retry
from gateway.upstream.balance import balance
from tests.fakes import Chunks, Clock, Dice, FakeTarget, Script, Sleep, in_turn, make_call, read_all, stages, to_target

WALL = 1_770_000_000.0
UNREACHABLE = UpstreamFailed("upstream_unreachable", sent=False)
RESET = UpstreamFailed("upstream_failed", sent=True)
TIMEOUT = UpstreamFailed("upstream_timeout", sent=True)


def stale() -> UpstreamFailed:
    return UpstreamFailed("upstream_failed", sent=True, stale=True)


async def result_of(send: Send, call: Call) -> Reply | UpstreamFailed:
    """What comes of the call, be it returned or raised."""
    try:
        return await send(call)
    except UpstreamFailed as error:
        return error


class Bench:
    """A retry layer with everything around it under control."""

    def __init__(
        self,
        send: Send,
        *,
        attempts: int = 3,
        budget: RetryBudget | None = None,
        falls: float = 1.0,
        base: float = 0.1,
        cap: float = 0.5,
        elsewhere: Callable[[Call], bool] = lambda call: False,
        attempts_header: bool = False,
    ) -> None:
        self.clock = Clock()
        self.sleep = Sleep(self.clock)
        policy = RetryPolicy(
            attempts=attempts,
            on=["connect_failure", "reset", "timeout", "502", "503", "504"],
            methods=["GET", "PUT"],
            base=base,
            cap=cap,
            replay_limit=8,
        )
        layer = retry(
            policy,
            budget or RetryBudget(0.2),
            elsewhere=elsewhere,
            attempts_header=attempts_header,
            clock=self.clock,
            wall=lambda: WALL,
            dice=Dice(falls),
            sleep=self.sleep,
        )
        self.send = layer(send)


async def test_a_first_try_that_succeeds_is_all_there_is() -> None:
    script, call = Script(Reply(200, [])), make_call()
    bench = Bench(script)
    assert (await bench.send(call)).status == 200
    assert (bench.sleep.waits, call.hops) == ([], [])


@pytest.mark.parametrize("failure", [UNREACHABLE, RESET, TIMEOUT, Reply(503, [])], ids=repr)
async def test_after_a_failure_the_next_good_reply_is_the_answer(failure: Reply | UpstreamFailed) -> None:
    script = Script(failure, Reply(200, []))
    assert (await Bench(script).send(make_call())).status == 200
    assert len(script.calls) == 2


@pytest.mark.parametrize("failure", [UNREACHABLE, Reply(502, [])], ids=repr)
async def test_when_every_try_fails_the_last_outcome_stands_as_it_was(failure: Reply | UpstreamFailed) -> None:
    last = Reply(503, []) if isinstance(failure, Reply) else UpstreamFailed("upstream_timeout", 504, sent=True)
    script, call = Script(failure, failure, last), make_call()
    assert await result_of(Bench(script).send, call) is last
    assert stages(call)[-1] == ("withheld", "attempts")


async def test_waits_double_up_to_the_cap_and_the_dice_decide_how_much_of_them() -> None:
    full, half = (Bench(Script(*[RESET] * 5, Reply(200, [])), attempts=6, falls=falls) for falls in (1.0, 0.5))
    await full.send(make_call())
    await half.send(make_call())
    assert full.sleep.waits == pytest.approx([0.1, 0.2, 0.4, 0.5, 0.5])
    assert half.sleep.waits == pytest.approx([0.05, 0.1, 0.2, 0.25, 0.25])


async def test_each_wait_is_a_hop_with_its_reason_and_its_time() -> None:
    call = make_call()
    await Bench(Script(UNREACHABLE, Reply(503, []), Reply(200, []))).send(call)
    assert [(hop.stage, hop.name, hop.outcome, hop.waited) for hop in call.hops] == [
        ("wait", "connect_failure", "retry", True),
        ("wait", "503", "retry", True),
    ]
    assert [hop.took for hop in call.hops] == pytest.approx([0.1, 0.2])


async def test_a_post_is_not_retried_once_it_was_sent() -> None:
    call, script = make_call("POST"), Script(RESET)
    bench = Bench(script)
    with pytest.raises(UpstreamFailed):
        await bench.send(call)
    assert (bench.sleep.waits, stages(call)) == ([], [("withheld", "method")])


async def test_a_post_that_never_left_is_retried() -> None:
    script = Script(UNREACHABLE, Reply(201, []))
    assert (await Bench(script).send(make_call("POST"))).status == 201


async def test_a_post_with_an_idempotency_key_survives_a_stale_connection() -> None:
    keyed: Headers = [(b"idempotency-key", b"1")]
    assert (await Bench(Script(stale(), Reply(201, []))).send(make_call("POST", keyed))).status == 201
    with pytest.raises(UpstreamFailed):
        await Bench(Script(stale())).send(make_call("POST"))


async def test_an_open_circuit_ends_the_retries() -> None:
    script = Script(RESET, Shed("circuit_open"))
    with pytest.raises(Shed):
        await Bench(script).send(make_call())
    assert len(script.calls) == 2


@pytest.mark.parametrize("error", [Shed("circuit_open"), DeadlinePassed(), RuntimeError("a defect")], ids=repr)
async def test_what_is_no_upstream_failure_is_never_retried(error: Exception) -> None:
    with pytest.raises(type(error)):
        await Bench(Script(error)).send(make_call())
    with pytest.raises(type(error)):
        await Bench(Script(RESET, error)).send(make_call())


async def test_a_wait_that_would_not_end_before_the_deadline_is_not_begun() -> None:
    call, script = make_call(), Script(RESET, RESET)
    bench = Bench(script, attempts=9)
    call.deadline = bench.clock() + 0.3  # room for the first wait of 0.1, not for the second of 0.2
    with pytest.raises(UpstreamFailed):
        await bench.send(call)
    assert stages(call) == [("wait", "reset"), ("withheld", "deadline")]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("value", [b"3", formatdate(WALL + 3, usegmt=True).encode()])
async def test_retry_after_is_honoured_within_the_deadline(status: int, value: bytes) -> None:
    call = make_call()
    bench = Bench(Script(Reply(status, [(b"retry-after", value)]), Reply(200, [])))
    call.deadline = bench.clock() + 10
    assert (await bench.send(call)).status == 200
    assert bench.sleep.waits == [3.0]


async def test_a_retry_after_beyond_the_deadline_lets_the_reply_stand() -> None:
    call, body = make_call(), Chunks(b"busy")
    bench = Bench(Script(Reply(503, [(b"retry-after", b"60")], body)))
    call.deadline = bench.clock() + 10
    reply = await bench.send(call)
    assert (reply.status, body.closed, stages(call)) == (503, False, [("withheld", "deadline")])


async def test_a_retry_after_shorter_than_the_back_off_does_not_shorten_it() -> None:
    bench = Bench(Script(Reply(503, [(b"retry-after", b"1")]), Reply(200, [])), base=2.0, cap=2.0)
    await bench.send(make_call())
    assert bench.sleep.waits == [2.0]


async def test_a_429_that_does_not_say_when_stands_and_nobody_withheld_anything() -> None:
    call = make_call()
    assert (await Bench(Script(Reply(429, []))).send(call)).status == 429
    assert call.hops == []


async def test_replies_discarded_for_a_retry_are_closed_and_the_last_one_is_not() -> None:
    bodies = [Chunks(b"x") for _ in range(3)]
    reply = await Bench(Script(*[Reply(503, [], body) for body in bodies])).send(make_call())
    assert [body.closed for body in bodies] == [True, True, False]
    assert reply.body is bodies[2]


def uploading(outcomes: list[Reply | UpstreamFailed], got: list[bytes], pieces: int) -> Send:
    """Reads that many pieces of the body in each try but the last, which reads all of it."""

    async def send(call: Call) -> Reply:
        outcome = outcomes.pop(0)
        if isinstance(outcome, UpstreamFailed):
            assert not isinstance(call.body, bytes)
            got.append(b"".join([await call.body.read() for _ in range(pieces)]))
            raise outcome
        got.append(await read_all(call.body))
        return outcome

    return send


@pytest.mark.parametrize("body", [b"abcdef", Chunks(b"ab", b"cd", b"ef")], ids=["whole", "streamed"])
async def test_the_next_try_gets_the_whole_body_again(body: Body) -> None:
    got: list[bytes] = []

    async def send(call: Call) -> Reply:
        got.append(await read_all(call.body))
        return Reply(503 if len(got) < 3 else 200, [])

    assert (await Bench(send).send(make_call("PUT", body=body))).status == 200
    assert got == [b"abcdef"] * 3


async def test_a_body_that_was_only_half_read_is_whole_in_the_next_try() -> None:
    got: list[bytes] = []
    send = uploading([RESET, Reply(200, [])], got, pieces=1)
    await Bench(send).send(make_call("PUT", body=Chunks(b"ab", b"cd")))
    assert got == [b"ab", b"abcd"]


async def test_a_body_over_the_replay_limit_is_sent_once() -> None:
    got: list[bytes] = []
    call = make_call("PUT", body=Chunks(b"12345", b"67890"))
    with pytest.raises(UpstreamFailed):
        await Bench(uploading([RESET], got, pieces=2)).send(call)
    assert (got, stages(call)) == ([b"1234567890"], [("withheld", "body")])


async def test_a_body_over_the_replay_limit_is_retried_while_nobody_has_read_of_it() -> None:
    got: list[bytes] = []
    call = make_call("PUT", body=Chunks(b"1234567890", length=10))
    await Bench(uploading([UNREACHABLE, Reply(200, [])], got, pieces=0)).send(call)
    assert got == [b"", b"1234567890"]


async def test_a_stale_connection_is_retried_at_once_and_free_of_charge() -> None:
    empty = RetryBudget(0.0, floor=0)
    bench = Bench(Script(stale(), Reply(200, [])), budget=empty)
    assert (await bench.send(make_call())).status == 200
    assert bench.sleep.waits == [0.0]


async def test_a_target_that_is_stale_twice_in_a_call_is_waited_for_like_any_other_failure() -> None:
    target = FakeTarget()

    async def send(call: Call) -> Reply:
        call.target = target
        call.tried.append(target)
        raise stale()

    bench, call = Bench(send), make_call()
    with pytest.raises(UpstreamFailed):
        await bench.send(call)
    assert bench.sleep.waits == pytest.approx([0.0, 0.2])


async def test_a_try_that_nobody_received_costs_no_budget() -> None:
    empty = RetryBudget(0.0, floor=0)
    assert (await Bench(Script(UNREACHABLE, Reply(200, [])), budget=empty).send(make_call())).status == 200


@pytest.mark.parametrize("outcome", [RESET, Reply(503, [])], ids=repr)
async def test_without_budget_the_outcome_stands(outcome: Reply | UpstreamFailed) -> None:
    call = make_call()
    bench = Bench(Script(outcome), budget=RetryBudget(0.0, floor=0))
    assert await result_of(bench.send, call) is outcome
    assert stages(call) == [("withheld", "budget")]


async def test_an_upstream_that_always_fails_gets_at_most_a_fifth_more_requests() -> None:
    sent = 0

    async def send(call: Call) -> Reply:
        nonlocal sent
        sent += 1
        return Reply(503, [])

    bench = Bench(send, falls=0.0)
    for _ in range(500):
        await bench.send(make_call())
    assert 590 <= sent <= 600


async def test_the_default_dice_spread_the_waits_over_the_whole_interval() -> None:
    clock = Clock()
    sleep = Sleep(clock)
    policy = RetryPolicy(attempts=2, on=["reset"], methods=["GET"], base=1.0, cap=1.0, replay_limit=0)
    layer = retry(policy, RetryBudget(1.0, floor=10_000), clock=clock, sleep=sleep)
    random.seed(20260301)
    for _ in range(300):
        await layer(Script(RESET, Reply(200, [])))(make_call())
    assert 0.0 <= min(sleep.waits) < 0.05
    assert 0.95 < max(sleep.waits) <= 1.0


# -- another target -------------------------------------------------------------------------------------


async def test_each_retry_goes_to_a_target_that_has_not_been_tried_as_long_as_there_is_one() -> None:
    targets = [FakeTarget(name, send=Script(RESET, RESET)) for name in "abc"]
    call = make_call()
    with pytest.raises(UpstreamFailed):
        await Bench(balance(in_turn(targets))(to_target), attempts=5).send(call)
    assert {target.name for target in call.tried[:3]} == {"a", "b", "c"}
    assert len(call.tried) == 5


@pytest.mark.parametrize("outcome", [UNREACHABLE, TIMEOUT, RESET, Reply(503, []), Reply(502, [])], ids=repr)
async def test_another_target_is_asked_at_once(outcome: Reply | UpstreamFailed) -> None:
    bench = Bench(Script(outcome, Reply(200, [])), elsewhere=lambda call: True)
    assert (await bench.send(make_call())).status == 200
    assert bench.sleep.waits == [0.0]


async def test_what_has_been_tried_already_is_waited_for() -> None:
    others = [True, True, False]
    bench = Bench(Script(*[RESET] * 3, Reply(200, [])), attempts=4, elsewhere=lambda call: others.pop(0))
    await bench.send(make_call())
    assert bench.sleep.waits == pytest.approx([0.0, 0.0, 0.4])


async def test_a_503_that_asks_for_time_speaks_for_its_own_target_alone() -> None:
    busy = Reply(503, [(b"retry-after", b"30")])
    bench = Bench(Script(busy, Reply(200, [])), elsewhere=lambda call: True)
    assert (await bench.send(make_call())).status == 200
    assert bench.sleep.waits == [0.0]


async def test_a_429_that_asks_for_time_gets_it_whatever_other_targets_there_are() -> None:
    limited = Reply(429, [(b"retry-after", b"3")])
    bench = Bench(Script(limited, Reply(200, [])), elsewhere=lambda call: True)
    assert (await bench.send(make_call())).status == 200
    assert bench.sleep.waits == [3.0]


async def test_going_elsewhere_at_once_costs_budget_and_keeps_the_deadline() -> None:
    call = make_call()
    bench = Bench(Script(RESET), budget=RetryBudget(0.0, floor=0), elsewhere=lambda call: True)
    with pytest.raises(UpstreamFailed):
        await bench.send(call)
    assert stages(call) == [("withheld", "budget")]
    call = make_call()
    bench = Bench(Script(RESET), elsewhere=lambda call: True)
    call.deadline = bench.clock()
    with pytest.raises(UpstreamFailed):
        await bench.send(call)
    assert stages(call) == [("withheld", "deadline")]


async def test_a_post_that_the_gateway_repeats_safely_is_retried_after_it_was_sent() -> None:
    call = make_call("POST")
    call.repeatable = True
    assert (await Bench(Script(TIMEOUT, Reply(201, []))).send(call)).status == 201


# -- the number of tries --------------------------------------------------------------------------------


def numbered(*outcomes: Reply | BaseException) -> Bench:
    target = FakeTarget(send=Script(*outcomes))
    return Bench(balance(in_turn([target]))(to_target), attempts_header=True)


@pytest.mark.parametrize(
    ("outcomes", "tries"),
    [
        ([Reply(200, [])], 1),
        ([RESET, Reply(200, [])], 2),
        ([RESET, RESET, RESET], 3),
        ([RESET, DeadlinePassed()], 2),
        ([asyncio.CancelledError()], 1),
    ],
    ids=["at once", "one retry", "all failed", "too late", "the client left"],
)
async def test_the_reply_says_how_many_tries_there_were_whatever_came_of_them(
    outcomes: list[Reply | BaseException], tries: int
) -> None:
    call = make_call()
    call.added = b"x-before: 1\r\n"
    await asyncio.gather(numbered(*outcomes).send(call), return_exceptions=True)
    assert call.added == b"x-before: 1\r\nx-gateway-attempts: %d\r\n" % tries


async def test_tries_at_two_upstreams_are_said_in_one_line() -> None:
    call = make_call()
    await numbered(Reply(503, []), Reply(503, []), Reply(503, [])).send(call)
    call.added += b"x-between: 1\r\n"
    await numbered(Reply(200, [])).send(call)
    assert call.added == b"x-between: 1\r\nx-gateway-attempts: 4\r\n"


async def test_without_the_option_nothing_is_said() -> None:
    call = make_call()
    await Bench(Script(RESET, Reply(200, []))).send(call)
    assert call.added == b""
