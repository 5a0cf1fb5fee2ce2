"""What is turned away when there is too much to do: who first, and when it ends."""

import pytest

from gateway.errors import Shed
from gateway.exchange import ANONYMOUS, Call, Caller, Hop
from gateway.limits.shedding import PRIORITIES, Shedding, admit_all
from tests.fakes import Clock, make_call

LATE, BETTER, WELL = 0.11, 0.06, 0.04
GOLD = Caller(consumer="acme", tier="gold")


def shedding(clock: Clock, level: int = 0) -> Shedding:
    made = Shedding(loop_lag=0.1, queue_age=0.5, last=("gold",), clock=clock)
    for _ in range(level):
        made.tick(LATE)
    return made


def call(clock: Clock, age: float = 0.0) -> Call:
    made = make_call()
    made.request.received = clock() - age
    return made


def admitted(priority: str, level: int, caller: Caller = ANONYMOUS, age: float = 0.0) -> bool:
    clock = Clock()
    try:
        shedding(clock, level).admit(priority)(call(clock, age), caller)
    except Shed:
        return False
    return True


@pytest.mark.parametrize(
    ("level", "pass_"),
    [
        (0, {"low", "normal", "high", "critical"}),
        (1, {"normal", "high", "critical"}),
        (2, {"high", "critical"}),
        (3, {"critical"}),
        (9, {"critical"}),
    ],
)
def test_each_level_turns_one_more_priority_away_and_none_what_is_critical(level: int, pass_: set[str]) -> None:
    assert {priority for priority in PRIORITIES if admitted(priority, level)} == pass_


def test_callers_of_the_last_tiers_count_as_one_priority_higher() -> None:
    assert [[admitted(priority, level, GOLD) for level in range(4)] for priority in PRIORITIES] == [
        [True, True, False, False],
        [True, True, True, False],
        [True, True, True, True],
        [True, True, True, True],
    ]
    assert not admitted("low", 1, Caller(consumer="acme", tier="free"))


def test_the_level_rises_by_one_a_tick_and_falls_by_one_when_the_loop_is_well_again() -> None:
    made = shedding(Clock())
    levels = []
    for lag in (LATE, LATE, LATE, LATE, BETTER, WELL, WELL, LATE, BETTER, WELL, WELL, WELL):
        made.tick(lag)
        levels.append(made.level)
    assert levels == [1, 2, 3, 3, 3, 2, 1, 2, 2, 1, 0, 0]


def test_a_request_that_waited_too_long_is_turned_away_unless_it_is_critical() -> None:
    assert [admitted(priority, 0, age=0.51) for priority in PRIORITIES] == [False, False, False, True]
    assert all(admitted(priority, 0, age=0.5) for priority in PRIORITIES)
    assert admitted("high", 0, GOLD, age=0.51)
    assert not admitted("normal", 0, GOLD, age=0.51)


def test_waiting_for_somebody_else_is_no_sign_of_load_here() -> None:
    clock = Clock()
    admit = shedding(clock).admit("low")
    asked = call(clock, age=3.0)
    asked.hops.append(Hop("ask", "issuer", "", clock() - 3.0, 2.8))
    admit(asked, ANONYMOUS)
    own = call(clock, age=3.0)
    own.hops.append(Hop("auth", "basic", "ok", clock() - 3.0, 2.8, waited=False))
    with pytest.raises(Shed):
        admit(own, ANONYMOUS)


@pytest.mark.parametrize(("level", "age", "reason"), [(1, 0.0, "lag"), (0, 1.0, "age"), (1, 1.0, "lag")])
def test_who_is_turned_away_learns_when_to_come_back_and_the_log_learns_why(
    level: int, age: float, reason: str
) -> None:
    clock = Clock()
    shed_call = call(clock, age)
    with pytest.raises(Shed) as shed:
        shedding(clock, level).admit("low")(shed_call, ANONYMOUS)
    assert (shed.value.code, shed.value.status, shed.value.retry_after) == ("overloaded", 503, 1.0)
    assert shed_call.hops == [Hop("shed", "low", reason, clock(), 0.0, waited=False)]


def test_who_passes_leaves_no_trace_and_what_is_critical_is_not_even_asked() -> None:
    clock = Clock()
    passing = call(clock)
    shedding(clock).admit("low")(passing, ANONYMOUS)
    assert passing.hops == []
    assert shedding(clock).admit("critical") is admit_all
