"""What holds for every kind of meter, alone and several of them together; and the Lua of Redis against the Python."""

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from redis import Redis

from gateway.limits.calendar_window import LINGER, CalendarWindow
from gateway.limits.gcra import Rate, rate
from gateway.limits.memory import MemoryStore
from gateway.limits.meter import COUNT, COUNTED, TICKS, Meter
from gateway.limits.redis import SCRIPT, command, told
from gateway.limits.sliding_window import SlidingWindow
from gateway.limits.store import Take, answers
from tests.servers import redis_server

WALL = 1_790_000_000
"""A second in 2026."""

limits = st.integers(1, 20) | st.integers(1, 100_000) | st.just(999_999_999)
spans = st.sampled_from([0.001, 0.1, 1.0, 1.7, 30.0, 60.0, 3600.0, 86_400.0])
zones = st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Africa/Cairo"])
rates = st.builds(
    rate, st.just("g"), st.integers(1, 100_000), spans.filter(lambda s: s >= 0.1), st.none() | st.integers(1, 50)
)
slidings = st.builds(SlidingWindow, st.just("s"), limits, spans)
calendars = st.builds(CalendarWindow, st.just("c"), limits, st.sampled_from(["hour", "day", "week", "month"]), zones)
meters = rates | slidings | calendars
gaps = st.integers(0, 100) | st.integers(0, 3 * TICKS) | st.integers(0, 3 * 86_400 * TICKS)
costs = st.integers(1, 3) | st.integers(1, 100_000)
arrivals = st.lists(st.tuples(gaps, costs | st.integers(-3, 0)), max_size=40)


def full(meter: Meter) -> int:
    """All that there can be at once."""
    return meter.burst if isinstance(meter, Rate) else meter.limit


def start_of(meter: Meter, now: int) -> int:
    """When the aligned window began that this tick is in."""
    if isinstance(meter, CalendarWindow):
        return meter.bounds(now // TICKS)[0] * TICKS
    assert isinstance(meter, SlidingWindow)
    return now - now % meter.length


def after(meter: Meter, steps: list[tuple[int, int]]) -> tuple[int, int]:
    """The state of a key, and the tick, after these gaps and costs."""
    state, now = 0, WALL * TICKS
    for gap, cost in steps:
        now += gap
        state, _ = meter.take(state, now, cost)
    return state, now


@given(meters, arrivals, costs)
def test_retry_after_is_the_first_moment_at_which_the_cost_passes(
    meter: Meter, steps: list[tuple[int, int]], cost: int
) -> None:
    state, now = after(meter, steps)
    state, quota = meter.take(state, now, cost)
    if quota.allowed:
        assert quota.retry_after == 0
        return
    wait = round(quota.retry_after * TICKS)
    assert wait > 0
    assert not meter.take(state, now + wait - 1, cost)[1].allowed
    assert meter.take(state, now + wait, cost)[1].allowed == (cost <= full(meter))


@given(meters, arrivals)
def test_what_remains_passes_and_no_more(meter: Meter, steps: list[tuple[int, int]]) -> None:
    state, now = after(meter, steps)
    same, quota = meter.take(state, now, 0)
    assert quota.allowed
    assert 0 <= quota.remaining <= full(meter)
    assert not meter.take(same, now, quota.remaining + 1)[1].allowed
    _, taken = meter.take(same, now, quota.remaining)
    assert (taken.allowed, taken.remaining) == (True, 0)


@given(meters, arrivals)
def test_reset_after_is_the_first_moment_at_which_all_is_back(meter: Meter, steps: list[tuple[int, int]]) -> None:
    state, now = after(meter, steps)
    wait = round(meter.take(state, now, 0)[1].reset_after * TICKS)
    assert meter.take(state, now + wait, 0)[1].remaining == full(meter)
    if wait:
        assert meter.take(state, now + wait - 1, 0)[1].remaining < full(meter)


@given(meters, arrivals, costs, st.integers(1, 30))
def test_e6_refusals_and_questions_change_no_answer(
    meter: Meter, steps: list[tuple[int, int]], cost: int, hammering: int
) -> None:
    state, now = after(meter, steps)
    asked, quota = meter.take(state, now, 0)
    refused = full(meter) + 1
    for _ in range(hammering):
        state, _ = meter.take(state, now, 0)
        state, no = meter.take(state, now, refused)
        assert (no.allowed, no.remaining, no.reset_after) == (False, quota.remaining, quota.reset_after)
    assert meter.take(state, now, cost) == meter.take(asked, now, cost)


@given(meters, arrivals, costs, st.integers(0, 10))
def test_what_is_given_back_at_once_was_never_taken(
    meter: Meter, steps: list[tuple[int, int]], cost: int, more: int
) -> None:
    state, now = after(meter, steps)
    _, before = meter.take(state, now, 0)
    taken, quota = meter.take(state, now, cost)
    assume(quota.allowed)
    back, quota = meter.take(taken, now, -cost)
    assert quota == before
    _, quota = meter.take(back, now, -more)  # of the others: up to what they have taken, never more
    assert before.remaining <= quota.remaining <= min(full(meter), before.remaining + more)


@given(
    slidings | calendars,
    st.lists(st.tuples(gaps, costs, st.integers(0, 2), st.booleans()), min_size=1, max_size=60),
)
def test_no_aligned_window_sees_more_than_the_limit_whatever_is_given_back(
    meter: Meter, steps: list[tuple[int, int, int, bool]]
) -> None:
    kept: Counter[int] = Counter()
    state, now = 0, WALL * TICKS
    for gap, cost, later, regretted in steps:
        now += gap
        state, quota = meter.take(state, now, cost)
        if not quota.allowed:
            continue
        window = start_of(meter, now)
        kept[window] += cost
        if regretted and start_of(meter, now + later) == window:
            now += later
            state, _ = meter.take(state, now, -cost)
            kept[window] -= cost
    assert not kept or max(kept.values()) <= meter.limit


@given(
    st.builds(SlidingWindow, st.just("s"), st.integers(1, 20), spans),
    st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 3)), min_size=1, max_size=80),
)
def test_any_stretch_of_a_sliding_window_sees_less_than_twice_the_limit(
    meter: SlidingWindow, steps: list[tuple[int, int]]
) -> None:
    passed: list[tuple[int, int]] = []
    state, now = 0, WALL * TICKS
    for thousandths, cost in steps:
        now += thousandths * meter.length // 1000
        state, quota = meter.take(state, now, cost)
        if quota.allowed:
            passed.append((now, cost))
    for end, _ in passed:
        assert sum(cost for at, cost in passed if end - meter.length < at <= end) < 2 * meter.limit


@given(slidings, arrivals.filter(lambda steps: all(cost >= 0 for _, cost in steps)), costs)
def test_a_sliding_window_is_the_weighted_sum_of_two(
    meter: SlidingWindow, steps: list[tuple[int, int]], cost: int
) -> None:
    """The model: a log of all that passed, and exact fractions; only its steps are those of the meter."""
    log: Counter[int] = Counter()
    state, now = 0, WALL * TICKS
    for gap, want in [*steps, (0, cost)]:
        now += gap
        state, quota = meter.take(state, now, want)
        number = now // meter.length
        left = 1 - Fraction(now % meter.length // meter.step * meter.step, meter.length)
        used = log[number] + log[number - 1] * left
        assert quota.allowed == (not want or used + want <= meter.limit)
        if quota.allowed:
            log[number] += want
            used += want
        assert quota.remaining == int(meter.limit - used)


@given(meters, meters, st.integers(0, 2**60), arrivals, costs)
def test_nothing_that_was_written_otherwise_locks_out_for_longer_than_the_answer_says(
    meter: Meter, other: Meter, ahead: int, steps: list[tuple[int, int]], cost: int
) -> None:
    """Another tier of the same kind wrote it, and a clock that was ahead."""
    assume(type(meter) is type(other) and cost <= full(meter))
    state, now = 0, (WALL * TICKS) + ahead % (10 * 365 * 86_400 * TICKS)
    for gap, want in steps:
        now += gap
        state, _ = other.take(state, now, want)
    now = WALL * TICKS
    state, quota = meter.take(state, now, cost)
    if not quota.allowed:
        assert quota.reset_after <= 2 * max(quota.window, full(meter) / meter.limit * meter.window) + 1e-6
        assert meter.take(state, now + round(quota.retry_after * TICKS), cost)[1].allowed


# -- the Lua -------------------------------------------------------------------------------------------

FIXED = {
    b"hour": ("hour", "UTC"),
    b"month": ("month", "Europe/Berlin"),
}
"""Keys of calendars; the others may meet another rate or window each time."""

wants = st.one_of(
    st.tuples(st.sampled_from([b"g1", b"g2"]), rates),
    st.tuples(st.sampled_from([b"s1", b"s2"]), slidings),
    st.sampled_from(sorted(FIXED)).flatmap(
        lambda key: st.tuples(
            st.just(key),
            limits.map(lambda limit: CalendarWindow("c" + key.decode(), limit, *FIXED[key])),  # type: ignore[arg-type]
        )
    ),
).flatmap(lambda want: st.tuples(st.just(want[0]), st.just(want[1]), costs | st.integers(-5, 0)))
several = st.lists(wants, max_size=4, unique_by=lambda want: want[0])
moves = st.tuples(gaps | st.integers(-10 * TICKS, -1), st.integers(0, 40 * 86_400 * 10), several)


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    with redis_server() as server, Redis.from_url(server.url) as client:
        yield client


def packed(meter: Meter, raw: bytes | None, wall: int) -> int:
    """What Redis keeps, as memory would."""
    if raw is None:
        return 0
    if isinstance(meter, CalendarWindow):
        return meter.bounds(wall // TICKS)[1] * TICKS << COUNT | int(raw)
    if isinstance(meter, Rate):
        return int(raw)
    ends, current, previous = map(int, raw.split())
    return ends << 2 * COUNT | current << COUNT | previous


def meaning(meter: Meter, state: int, now: int, wall: int) -> object:
    """Everything that a state says at this moment, to the last bit."""
    match meter:
        case Rate():
            return min(max(0, state - now), meter.depth)
        case SlidingWindow():
            return meter._counted(state, now - now % meter.length + 2 * meter.length)
        case _:
            assert isinstance(meter, CalendarWindow)
            current = state >> COUNT == meter.bounds(wall // TICKS)[1] * TICKS
            return min(state & COUNTED, meter.limit) if current else 0


def lasts(meter: Meter, raw: bytes, now: int, wall: int) -> int:
    """The ticks for which it has to be kept."""
    if isinstance(meter, CalendarWindow):
        return (meter.bounds(wall // TICKS)[1] + LINGER) * TICKS - wall
    return int(raw.split()[0]) - now


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=120)
@given(steps=st.lists(moves, max_size=12), epoch=st.integers(10 * 365 * 86_400 * TICKS, 2**52))
def test_the_lua_is_the_python(server: Redis, steps: list[tuple[int, int, list[Take]]], epoch: int) -> None:
    server.flushall()
    now, wall = epoch, WALL * TICKS
    # Exact clocks: a float would lose the last ticks.
    memory = MemoryStore(clock=lambda: Fraction(now, TICKS), wall=lambda: Fraction(wall, TICKS))  # type: ignore[arg-type, return-value]
    kept: dict[bytes, bytes] = {}
    for gap, tenths, takes in steps:
        now += gap
        wall += tenths * (TICKS // 10)
        _, _, _, *words = command([(takes, Fraction(wall, TICKS))], b"", now)  # type: ignore[list-item]
        keys = words[: len(takes)]
        # One transaction, in which Redis lets nothing expire: its clock runs on, that of the test does not.
        with server.pipeline() as transaction:
            for key, raw in kept.items():
                transaction.set(key, raw)
            transaction.eval(SCRIPT, len(takes), *words)
            for key in keys:
                transaction.get(key)
                transaction.pttl(key)
            replies = transaction.execute()[len(kept) :]
        (held,), stored = told(replies[0]), dict(zip(keys, zip(replies[1::2], replies[2::2], strict=True), strict=True))

        quotas = answers(takes, held, Fraction(wall, TICKS))  # type: ignore[arg-type]
        assert quotas == memory.take_all(takes)
        taken = all(quota.allowed for quota in quotas)
        for key, (_, meter, cost), (name, _, _) in zip(keys, takes, takes, strict=True):
            raw, life = stored[key]
            table = memory._tables[meter.table]
            state = table.shards[hash(name) & table.mask].get(name, 0)
            assert meaning(meter, packed(meter, raw, wall), now, wall) == meaning(meter, state, now, wall)
            if raw is None:
                kept.pop(key, None)
                continue
            kept[key] = raw
            if taken and cost:
                assert abs(life * TICKS // 1000 - lasts(meter, raw, now, wall)) < TICKS  # the server's time passes


few = st.integers(1, 40)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(limit=few, window=st.sampled_from([1.7, 60.0, 86_400.0]), first=few, second=few, cost=few, data=st.data())
def test_the_lua_changes_its_mind_at_the_same_tick_as_the_python(
    server: Redis, limit: int, window: float, first: int, second: int, cost: int, data: st.DataObject
) -> None:
    meter = SlidingWindow("s", limit, window)
    start = 2**51 // meter.length * meter.length
    state, _ = meter.take(0, start - 1, first % limit + 1)
    now = start + data.draw(st.integers(0, meter.length - 1))
    state, _ = meter.take(state, now, second % limit)
    cost = cost % limit + 1
    _, quota = meter.take(state, now, cost)
    near = data.draw(st.integers(-meter.step, meter.step) | st.integers(-1, 1))
    now += max(0, round(quota.retry_after * TICKS) + near)
    ends, current, previous = state >> 2 * COUNT, state >> COUNT & COUNTED, state & COUNTED
    with server.pipeline() as transaction:
        transaction.set(b"k", b"%d %d %d" % (ends, current, previous))
        transaction.eval(SCRIPT, 1, *command([([(b"k", meter, cost)], float(WALL))], b"", now)[3:])
        transaction.get(b"k")
        raw = transaction.execute()[-1]
    assert packed(meter, raw, 0) == meter.take(state, now, cost)[0]


def test_the_lua_takes_nothing_for_a_state_that_another_kind_of_meter_wrote(server: Redis) -> None:
    for raw in (b"1 2 3", b"nonsense", b"", b"17", b"1 2", b"-5 x 3"):
        for meter in (rate("p", 10, 60.0), SlidingWindow("p", 10, 60.0)):
            server.set(b"k", raw)
            words = command([([(b"k", meter, 1)], float(WALL))], b"", 2**50)[3:]
            (held,) = told(server.eval(SCRIPT, 1, *words))
            (quota,) = answers([(b"k", meter, 1)], held, float(WALL))
            assert (quota.allowed, quota.remaining) == (True, 9)


def test_an_unused_question_writes_nothing(server: Redis) -> None:
    server.flushall()
    takes: list[Take] = [
        (b"g", rate("p", 10, 60.0), 0),
        (b"s", SlidingWindow("p", 10, 60.0), 0),
        (b"c", CalendarWindow("p", 10, "day", "UTC"), 0),
    ]
    for cost in (0, -3):
        asked = [(key, meter, cost) for key, meter, _ in takes]
        (held,) = told(server.eval(SCRIPT, 3, *command([(asked, float(WALL))], b"")[3:]))
        assert [quota.remaining for quota in answers(asked, held, float(WALL))] == [10, 10, 10]
        assert server.dbsize() == 0
