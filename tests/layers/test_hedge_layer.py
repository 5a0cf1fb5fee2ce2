"""Hedging, with tries that end when the test says how and timers that it fires itself."""

import asyncio
import gc
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from gateway.errors import DeadlinePassed, Shed, UpstreamFailed
from gateway.exchange import Call, Hop, Reply
from gateway.limits.concurrency import Gate, limited
from gateway.pipe import Layer, Send, pipe
from gateway.resilience import race as racing
from gateway.resilience.breaker import NoCircuit, Permit, judged
from gateway.resilience.budget import RetryBudget
from gateway.resilience.hedge import Percentile, hedge
from gateway.resilience.recent_times import FEWEST, UNKNOWN
from gateway.resilience.replay import discard
from gateway.resilience.retry import RetryPolicy, retry
from gateway.resilience.verdict import Verdict
from gateway.upstream.balance import balance
from tests.fakes import Chunks, Clock, FakeTarget, Sleep, in_turn, make_call, to_target

RESET = UpstreamFailed("upstream_failed", sent=True)


@dataclass
class Timer:
    seconds: float
    callback: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        """Lets go of its callback, as the loop's own timers do."""
        self.cancelled = True
        self.callback = lambda: None


@dataclass
class Timers:
    """Set, but never fired by themselves."""

    clock: Clock
    set: list[Timer] = field(default_factory=list)

    def __call__(self, seconds: float, callback: Callable[[], None]) -> Timer:
        self.set.append(Timer(seconds, callback))
        return self.set[-1]

    def fire(self) -> None:
        """The time of the last one has come."""
        timer = self.set[-1]
        assert not timer.cancelled
        timer.cancelled = True
        self.clock.advance(timer.seconds)
        timer.callback()

    @property
    def pending(self) -> int:
        return sum(not timer.cancelled for timer in self.set)


class Diary(NoCircuit):
    """A circuit that writes down what it is told."""

    __slots__ = ("verdicts",)

    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []

    def admit(self) -> Permit:
        return self

    def settle(self, verdict: Verdict) -> None:
        self.verdicts.append(verdict)


class Try:
    """One try under way at a target."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.end: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    def reply(self, status: int = 200) -> Chunks:
        """Its reply's head is there; returns the body."""
        body = Chunks(b"x")
        self.end.set_result(Reply(status, [], body))
        return body

    def become(self, outcome: Exception | int) -> Chunks | None:
        """It fails, or has a reply with this status; returns that one's body."""
        if isinstance(outcome, int):
            return self.reply(outcome)
        self.end.set_exception(outcome)
        return None

    @property
    def cancelled(self) -> bool:
        return self.end.cancelled()


class Race:
    """One call on its way through a hedge layer; everything around it under control."""

    def __init__(
        self,
        call: Call | None = None,
        *,
        after: float | Percentile = 0.2,
        most: int = 1,
        budget: RetryBudget | None = None,
        outside: Layer | None = None,
        below: Layer | None = None,
        count: bool = False,
    ) -> None:
        self.clock = Clock()
        self.timers = Timers(self.clock)
        self.tries: list[Try] = []
        self.diaries = [Diary(), Diary(), Diary()]
        targets = [FakeTarget(name, diary, self._send) for name, diary in zip("abc", self.diaries, strict=True)]
        self.call = call or make_call()
        self.send: Send = pipe(
            outside,
            hedge(
                "orders",
                after,
                most,
                budget or RetryBudget(0.2),
                clock=self.clock,
                later=self.timers,
                count=count,
            ),
            below,
            balance(in_turn(targets)),
            judged(),
            to=to_target,
        )
        self.left = 0
        """Cancellations that the caller's task has not taken back, once it is done."""

    async def _send(self, call: Call) -> Reply:
        assert call.target is not None
        one = Try(call.target.name)
        self.tries.append(one)
        outcome = "cancelled"
        started = self.clock()
        try:
            reply = await one.end
            outcome = str(reply.status)
            return reply
        except asyncio.CancelledError:
            if not one.cancelled:  # the reply came in the same moment, as for UpstreamConnection.abandon
                discard(one.end.result())
            raise
        finally:
            call.hops.append(Hop("try", call.target.name, outcome, started, self.clock() - started))

    async def begin(self) -> None:
        self.task = asyncio.ensure_future(self._run())
        await turn()

    async def _run(self) -> Reply:
        task = asyncio.current_task()
        assert task is not None
        try:
            reply = await self.send(self.call)
            try:
                await asyncio.sleep(0)  # a cancellation that is left behind would strike here
            except asyncio.CancelledError:
                discard(reply)
                raise
            return reply
        finally:
            self.left = task.cancelling()

    async def late(self, times: int = 1) -> None:
        """The time after which another try begins has come."""
        for _ in range(times):
            self.timers.fire()
            await turn()

    async def end(self) -> Reply:
        """The reply; raises what is raised. Nothing may be left of the call."""
        try:
            async with asyncio.timeout(1):
                return await self.task
        finally:
            assert self.timers.pending == 0
            assert [one for one in self.tries if not one.end.done()] == []

    @property
    def hedges(self) -> list[str]:
        return [hop.outcome for hop in self.call.hops if hop.stage == "hedge"]

    @property
    def target(self) -> str:
        return self.call.target.name if self.call.target is not None else ""


async def turn() -> None:
    """Everything that can happen now has happened."""
    for _ in range(8):
        await asyncio.sleep(0)


async def begun(call: Call | None = None, *, late: int = 1, **options: object) -> Race:
    """A race whose first try was late so many times."""
    race = Race(call, **options)  # type: ignore[arg-type]
    await race.begin()
    await race.late(late)
    return race


# -- who is hedged --------------------------------------------------------------------------------------


async def test_a_reply_in_time_is_all_there_is() -> None:
    race = Race()
    await race.begin()
    race.tries[0].reply()
    assert (await race.end()).status == 200
    assert (len(race.tries), race.hedges, race.timers.set[0].seconds) == (1, [], 0.2)


@pytest.mark.parametrize("failure", [RESET, Shed("overloaded"), DeadlinePassed(), RuntimeError("ours")], ids=repr)
async def test_a_failure_in_time_stands_at_once(failure: Exception) -> None:
    race = Race()
    await race.begin()
    race.tries[0].become(failure)
    with pytest.raises(type(failure)):
        await race.end()
    assert race.hedges == []


async def test_when_the_first_is_late_a_second_begins_at_another_target() -> None:
    race = await begun()
    assert [one.target for one in race.tries] == ["a", "b"]
    assert [target.name for target in race.call.tried] == ["a", "b"]
    race.tries[0].reply()
    await race.end()


def upgrading() -> Call:
    call = make_call()
    call.request.fields.upgrade = b"websocket"
    return call


@pytest.mark.parametrize(
    "call", [make_call("POST"), make_call("PATCH"), make_call("PUT", body=Chunks(b"x")), upgrading()], ids=repr
)
async def test_what_may_not_be_done_twice_or_cannot_be_is_not_hedged(call: Call) -> None:
    race = Race(call)
    await race.begin()
    assert race.timers.set == []
    race.tries[0].reply()
    await race.end()


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_idempotent_methods_are_hedged_with_their_bodies(method: str) -> None:
    race = await begun(make_call(method, body=b"x"))
    assert len(race.tries) == 2
    race.tries[1].reply()
    await race.end()


async def test_a_post_is_hedged_when_the_gateway_sees_to_it_that_it_is_done_once() -> None:
    call = make_call("POST")
    call.repeatable = True
    race = await begun(call)
    race.tries[1].reply()
    await race.end()
    assert race.hedges == ["won"]


async def test_at_most_so_many_tries_are_added_one_after_the_other() -> None:
    race = await begun(most=2, late=2)
    assert [one.target for one in race.tries] == ["a", "b", "c"]
    assert race.timers.pending == 0
    race.tries[1].reply()
    await race.end()
    assert (race.hedges, race.target) == (["won", "lost"], "b")
    assert [one.cancelled for one in race.tries] == [True, False, True]


async def test_no_try_begins_while_the_first_still_waits_for_its_place() -> None:
    gate = Gate(1, 1, 60.0)
    assert gate.take()
    race = await begun(below=limited("orders", lambda call: gate), late=2)
    assert race.tries == []
    gate.leave()
    await turn()
    await race.late()
    assert len(race.tries) == 1, "the second one waits in line"
    gate.resize(2)
    await turn()
    race.tries[1].reply()
    reply = await race.end()
    assert not isinstance(reply.body, bytes)
    reply.body.close()
    assert gate.busy == 0


# -- the budget -----------------------------------------------------------------------------------------


async def test_without_budget_the_first_try_stays_alone() -> None:
    race = await begun(budget=RetryBudget(0.0, floor=0))
    assert (len(race.tries), race.timers.pending) == (1, 0)
    race.tries[0].reply()
    await race.end()
    assert race.hedges == ["budget"]


async def test_each_hedge_is_taken_from_the_budget() -> None:
    race = await begun(budget=RetryBudget(0.0, floor=1), most=3, late=2)
    assert len(race.tries) == 2
    race.tries[0].reply()
    await race.end()
    assert race.hedges == ["budget", "lost"]


@pytest.mark.parametrize(("count", "left"), [(True, 2), (False, 0)])
async def test_requests_are_counted_where_no_retry_does_that(count: bool, left: int) -> None:
    budget = RetryBudget(0.2, floor=0)
    race = Race(budget=budget, count=count)
    for _ in range(10):
        await race.begin()
        race.tries[-1].reply()
        await race.end()
    assert sum(budget.take(race.clock()) for _ in range(10)) == left


async def test_h11_hedges_and_retries_together_stay_within_the_budget_when_everything_fails() -> None:
    clock, sent = Clock(), 0
    timers, budget = Timers(clock), RetryBudget(0.2)
    policy = RetryPolicy(attempts=3, on=["503"], methods=["GET"], base=0.0, cap=0.0, replay_limit=0)

    async def send(call: Call) -> Reply:
        nonlocal sent
        sent += 1
        if timers.pending:  # late each time, and bad
            timers.fire()
            await asyncio.sleep(0)
        return Reply(503, [])

    layers = (
        retry(policy, budget, clock=clock, sleep=Sleep(clock)),
        hedge("orders", 0.001, 1, budget, clock=clock, later=timers),
        balance(in_turn([FakeTarget("a"), FakeTarget("b")])),
    )
    road = pipe(*layers, to=send)
    for _ in range(500):
        assert (await road(make_call())).status == 503
    assert 590 <= sent <= 600


# -- who wins -------------------------------------------------------------------------------------------


async def test_the_hedge_wins_with_the_first_good_reply_and_the_late_try_is_cancelled() -> None:
    race = await begun()
    body = race.tries[1].reply()
    reply = await race.end()
    assert (reply.body is body, body.closed) == (True, False)
    assert (race.tries[0].cancelled, race.target, race.hedges, race.left) == (True, "b", ["won"], 0)


async def test_the_first_try_may_still_win_and_the_hedge_is_cancelled() -> None:
    race = await begun()
    body = race.tries[0].reply()
    reply = await race.end()
    assert (reply.body is body, body.closed) == (True, False)
    assert (race.tries[1].cancelled, race.target, race.hedges) == (True, "a", ["lost"])


@pytest.mark.parametrize("winner", [0, 1])
async def test_of_two_replies_in_the_same_moment_one_is_kept_and_the_other_discarded(winner: int) -> None:
    race = await begun()
    bodies = [race.tries[n].reply() for n in (winner, 1 - winner)]
    reply = await race.end()
    assert [body.closed for body in bodies].count(True) == 1
    kept = next(body for body in bodies if not body.closed)
    assert (reply.body is kept, race.left) == (True, 0)


@pytest.mark.parametrize("failure", [RESET, Shed("overloaded"), RuntimeError("ours"), 503, 429], ids=repr)
async def test_a_bad_first_outcome_waits_for_the_hedge(failure: Exception | int) -> None:
    race = await begun()
    bad = race.tries[0].become(failure)
    await turn()
    assert not race.task.done()
    body = race.tries[1].reply()
    assert (await race.end()).body is body
    assert (race.target, race.hedges) == ("b", ["won"])
    assert bad is None or bad.closed


@pytest.mark.parametrize("failure", [RESET, Shed("circuit_open"), 503], ids=repr)
async def test_a_bad_hedge_is_forgotten_and_the_first_is_waited_for(failure: Exception | int) -> None:
    race = await begun()
    bad = race.tries[1].become(failure)
    await turn()
    assert not race.task.done()
    assert bad is None or bad.closed
    body = race.tries[0].reply()
    assert (await race.end()).body is body
    assert (race.target, race.hedges) == ("a", ["lost"])


@pytest.mark.parametrize("first", [RESET, 503], ids=repr)
@pytest.mark.parametrize("second", [UpstreamFailed("upstream_timeout", 504, sent=True), 502], ids=repr)
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_when_all_are_bad_what_became_of_the_first_try_stands(
    first: Exception | int, second: Exception | int, order: tuple[int, int]
) -> None:
    race = await begun()
    bodies: dict[int, Chunks | None] = {}
    for n in order:
        bodies[n] = race.tries[n].become((first, second)[n])
        await turn()
    if isinstance(first, Exception):
        with pytest.raises(UpstreamFailed) as raised:
            await race.end()
        assert raised.value is first
    else:
        assert (await race.end()).body is bodies[0]
        assert bodies[0] is not None
        assert not bodies[0].closed
    assert bodies[1] is None or bodies[1].closed
    assert (race.target, race.hedges, race.left) == ("a", ["lost"], 0)


async def test_no_further_try_begins_once_the_first_has_failed() -> None:
    race = await begun(most=2)
    race.tries[0].become(RESET)
    await turn()
    assert race.timers.pending == 0
    race.tries[1].become(RESET)
    with pytest.raises(UpstreamFailed):
        await race.end()


async def test_a_retry_follows_when_all_have_failed() -> None:
    clock = Clock()
    policy = RetryPolicy(attempts=2, on=["reset"], methods=["GET"], base=0.0, cap=0.0, replay_limit=0)
    again = retry(policy, RetryBudget(0.2), clock=clock, sleep=Sleep(clock))
    race = await begun(outside=again)
    for one in race.tries[:2]:
        one.become(RESET)
    await turn()
    race.tries[2].reply()
    assert (await race.end()).status == 200
    assert [target.name for target in race.call.tried] == ["a", "b", "c"]


async def test_the_circuit_of_a_loser_hears_nothing_of_it() -> None:
    race = await begun()
    race.tries[1].reply()
    await race.end()
    assert [diary.verdicts for diary in race.diaries] == [[Verdict.NEUTRAL], [Verdict.SUCCESS], []]
    race = await begun()
    race.tries[0].reply()
    await race.end()
    assert [diary.verdicts for diary in race.diaries] == [[Verdict.SUCCESS], [Verdict.NEUTRAL], []]


async def test_a_timer_that_is_due_in_the_moment_in_which_a_hedge_wins_begins_nothing() -> None:
    race = await begun(most=2)
    race.tries[1].reply()
    await asyncio.sleep(0)  # the hedge has won, and the caller does not know yet
    race.timers.fire()
    await race.end()
    assert (len(race.tries), race.hedges) == (2, ["won"])


async def test_a_loser_that_answers_although_it_was_cancelled_is_discarded() -> None:
    body = Chunks(b"x")

    def stubborn(send: Send) -> Send:
        async def one_try(call: Call) -> Reply:
            try:
                return await send(call)
            except asyncio.CancelledError:
                return Reply(200, [], body)

        return one_try

    race = await begun(below=stubborn)
    race.tries[0].reply()
    reply = await race.end()
    assert (body.closed, reply.body is body) == (True, False)


def races() -> int:
    return sum(isinstance(thing, (racing.Race, racing.Other)) for thing in gc.get_objects())


@pytest.mark.parametrize("winner", [0, 1])
async def test_a_race_leaves_nothing_to_the_collector(winner: int) -> None:
    gc.collect()
    before = races()  # what the errors of other tests hold in their tracebacks
    gc.disable()
    try:
        race = await begun()
        race.tries[winner].reply()
        await race.end()
        assert races() == before
    finally:
        gc.enable()


# -- places, time, hops ---------------------------------------------------------------------------------


@pytest.mark.parametrize("winner", [0, 1])
async def test_each_try_has_a_place_of_its_own_and_only_the_winner_keeps_it(winner: int) -> None:
    gate = Gate(2, 0, 0.0)
    race = await begun(below=limited("orders", lambda call: gate))
    assert gate.busy == 2
    race.tries[winner].reply()
    reply = await race.end()
    assert gate.busy == 1
    assert not isinstance(reply.body, bytes)
    reply.body.close()
    assert gate.busy == 0


async def test_a_hedge_that_finds_no_place_does_no_harm() -> None:
    gate = Gate(1, 0, 0.0)
    race = await begun(below=limited("orders", lambda call: gate))
    assert len(race.tries) == 1
    race.tries[0].reply()
    assert (await race.end()).status == 200
    assert race.hedges == ["lost"]


@pytest.mark.parametrize("winner", [0, 1])
async def test_what_was_waited_for_at_the_same_time_is_counted_once(winner: int) -> None:
    race = await begun()
    race.clock.advance(0.3)
    race.tries[winner].reply()
    await race.end()
    waited = [hop.took for hop in race.call.hops if hop.waited]
    assert sum(waited) == pytest.approx(0.5)
    assert {(hop.stage, hop.name) for hop in race.call.hops} == {("try", "a"), ("try", "b"), ("hedge", "orders")}


async def test_the_wait_for_a_hedge_alone_counts_as_well() -> None:
    race = await begun()
    race.clock.advance(0.1)
    race.tries[0].become(RESET)
    await turn()
    race.clock.advance(0.4)
    race.tries[1].reply()
    await race.end()
    waited = {hop.stage: hop.took for hop in race.call.hops if hop.waited}
    assert waited == pytest.approx({"try": 0.3, "hedge": 0.4})


async def test_with_a_percentile_nothing_is_hedged_before_there_are_enough_times() -> None:
    percentile = Percentile(0.95)
    race = Race(after=percentile)
    for n in range(FEWEST):
        assert percentile.after == UNKNOWN
        await race.begin()
        race.clock.advance(0.01 * (n + 1))
        race.tries[-1].reply(503 if n == 0 else 200)
        await race.end()
    assert percentile.after == UNKNOWN, "a failure's time is no time"
    await race.begin()
    race.clock.advance(0.05)
    race.tries[-1].reply()
    await race.end()
    await race.begin()
    assert race.timers.set[-1].seconds == pytest.approx(0.19)
    race.tries[-1].reply()
    await race.end()


async def test_a_first_try_that_lost_is_still_one_of_the_slow_ones() -> None:
    """Else the slowest would never be known, and ever more calls would be late."""
    percentile = Percentile(1.0)
    for _ in range(FEWEST - 1):
        percentile.add(0.1)
    race = Race(after=percentile)
    await race.begin()
    race.timers.set[-1].seconds = 0.3
    await race.late()
    race.clock.advance(0.2)
    race.tries[1].reply()
    await race.end()
    assert percentile.after == pytest.approx(0.5)


# -- the client leaves ----------------------------------------------------------------------------------


async def leave(race: Race) -> None:
    """Ends only in CancelledError, and with the task cancelled as often as it was from outside."""
    with pytest.raises(asyncio.CancelledError):
        await race.end()
    assert race.left == 1


@pytest.mark.parametrize("late", [0, 1, 2])
async def test_a_client_that_leaves_cancels_every_try(late: int) -> None:
    race = await begun(most=2, late=late)
    race.task.cancel()
    await leave(race)
    assert [one.cancelled for one in race.tries] == [True] * (late + 1)
    assert [diary.verdicts for diary in race.diaries[: late + 1]] == [[Verdict.NEUTRAL]] * (late + 1)


async def test_a_client_that_leaves_while_only_the_hedge_is_waited_for() -> None:
    race = await begun()
    body = race.tries[0].reply(503)
    await turn()
    race.task.cancel()
    await leave(race)
    assert (body.closed, race.tries[1].cancelled) == (True, True)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("winner", [0, 1])
async def test_a_client_that_leaves_as_a_reply_arrives(winner: int, turns: int) -> None:
    """At each turn of the loop the reply goes back, or it is discarded: it is never lost."""
    race = await begun()
    body = race.tries[winner].reply()
    for _ in range(turns):
        await asyncio.sleep(0)
    if race.task.cancel():
        with pytest.raises(asyncio.CancelledError):
            await race.end()
        assert body.closed
    else:
        assert (await race.end()).body is body
    await turn()
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("turns", [0, 1, 2])
async def test_a_client_that_leaves_as_the_awaited_hedge_arrives(turns: int) -> None:
    race = await begun()
    race.tries[0].become(RESET)
    await turn()
    body = race.tries[1].reply()
    for _ in range(turns):
        await asyncio.sleep(0)
    race.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await race.end()
    assert body.closed


@pytest.mark.parametrize("turns", [0, 1])
async def test_a_timeout_outside_that_expires_as_a_hedge_wins_ends_the_call_or_does_not_but_leaves_nothing(
    turns: int,
) -> None:
    """Both cancel the caller's task in the same moment; each takes back its own cancellation and no other."""
    race, limits = Race(), list[asyncio.Timeout]()

    async def around() -> tuple[Reply | None, int]:
        reply = None
        try:
            async with asyncio.timeout(None) as limit:
                limits.append(limit)
                reply = await race.send(race.call)
        except TimeoutError:
            assert reply is None
        task = asyncio.current_task()
        assert task is not None
        return reply, task.cancelling()

    task = asyncio.ensure_future(around())
    await turn()
    await race.late()
    body = race.tries[1].reply()
    for _ in range(turns):
        await asyncio.sleep(0)
    limits[0].reschedule(0.0)
    reply, left = await task
    assert (body.closed, left) == (reply is None, 0)
