import pytest

from gateway.errors import Shed
from gateway.resilience.breaker import ALWAYS, EARLY, Breaker, SlowCalls, State
from gateway.resilience.verdict import Verdict
from tests.fakes import Clock, Dice

SUCCESS, FAILURE, NEUTRAL = Verdict.SUCCESS, Verdict.FAILURE, Verdict.NEUTRAL
CLOSED, HALF_OPEN, OPEN = State.CLOSED, State.HALF_OPEN, State.OPEN

changes: list[tuple[str, State, State]] = []


@pytest.fixture
def clock() -> Clock:
    return Clock()


def built(
    clock: Clock, slow_calls: SlowCalls | None = None, open_for_max: float | None = None, dice: float = 0.0
) -> Breaker:
    changes.clear()
    return Breaker(
        "a",
        consecutive_failures=3,
        failure_rate=0.5,
        window=10.0,
        minimum_requests=10,
        open_for=5.0,
        trials=2,
        clock=clock,
        on_change=lambda circuit, old, new: changes.append((circuit.name, old, new)),
        open_for_max=open_for_max,
        slow_calls=slow_calls,
        dice=Dice(dice),
    )


@pytest.fixture
def circuit(clock: Clock) -> Breaker:
    return built(clock)


def settle(circuit: Breaker, *verdicts: Verdict) -> None:
    for verdict in verdicts:
        circuit.admit().settle(verdict)


def test_failures_in_a_row_open_it(circuit: Breaker) -> None:
    settle(circuit, FAILURE, FAILURE)
    assert circuit.state is CLOSED
    settle(circuit, FAILURE)
    assert circuit.state is OPEN
    assert changes == [("a", CLOSED, OPEN)]


def test_a_success_starts_the_count_of_failures_in_a_row_again(circuit: Breaker) -> None:
    settle(circuit, FAILURE, FAILURE, SUCCESS, FAILURE, FAILURE)
    assert circuit.state is CLOSED
    settle(circuit, FAILURE)
    assert circuit.state is OPEN


def test_neutral_outcomes_neither_count_nor_interrupt(circuit: Breaker) -> None:
    settle(circuit, FAILURE, NEUTRAL, FAILURE, *[NEUTRAL] * 50)
    assert circuit.state is CLOSED
    settle(circuit, FAILURE)
    assert circuit.state is OPEN


def test_a_share_of_failures_opens_it_once_there_are_enough_requests(circuit: Breaker) -> None:
    settle(circuit, *[SUCCESS, FAILURE] * 4, SUCCESS)
    assert circuit.state is CLOSED, "9 requests are too few to speak of a rate"
    settle(circuit, FAILURE)
    assert circuit.state is OPEN


def test_failures_older_than_the_window_do_not_count_towards_the_rate(circuit: Breaker, clock: Clock) -> None:
    settle(circuit, *[SUCCESS, FAILURE] * 4)
    clock.advance(11.0)
    settle(circuit, *[SUCCESS, SUCCESS, FAILURE] * 6)
    assert circuit.state is CLOSED


def test_while_open_everybody_is_told_how_long_it_will_take(circuit: Breaker, clock: Clock) -> None:
    settle(circuit, *[FAILURE] * 3)
    clock.advance(2.0)
    assert not circuit.ready()
    with pytest.raises(Shed) as caught:
        circuit.admit()
    assert (caught.value.code, caught.value.status, caught.value.retry_after) == ("circuit_open", 503, 3.0)


def test_ready_answers_without_changing_anything(circuit: Breaker, clock: Clock) -> None:
    settle(circuit, *[FAILURE] * 3)
    clock.advance(5.0)
    assert circuit.ready()
    assert circuit.state is OPEN


def half_open(circuit: Breaker, clock: Clock) -> None:
    settle(circuit, *[FAILURE] * 3)
    clock.advance(5.0)


def test_half_open_it_admits_only_as_many_at_once_as_it_has_trials(circuit: Breaker, clock: Clock) -> None:
    half_open(circuit, clock)
    trials = [circuit.admit(), circuit.admit()]
    assert circuit.state is HALF_OPEN
    assert not circuit.ready()
    with pytest.raises(Shed) as caught:
        circuit.admit()
    assert caught.value.retry_after > 0
    trials[0].settle(NEUTRAL)
    assert circuit.ready()


def test_enough_good_trials_close_it_with_a_clean_slate(circuit: Breaker, clock: Clock) -> None:
    half_open(circuit, clock)
    settle(circuit, SUCCESS)
    assert circuit.state is HALF_OPEN
    settle(circuit, SUCCESS)
    assert circuit.state is CLOSED
    settle(circuit, FAILURE, FAILURE)
    assert circuit.state is CLOSED
    assert [new for _, _, new in changes] == [OPEN, HALF_OPEN, CLOSED]


def test_the_window_starts_afresh_when_it_closes(circuit: Breaker, clock: Clock) -> None:
    settle(circuit, *[SUCCESS, FAILURE] * 5)
    assert circuit.state is OPEN
    clock.advance(5.0)
    settle(circuit, SUCCESS, SUCCESS, FAILURE)
    assert circuit.state is CLOSED


def test_one_bad_trial_opens_it_again_for_the_whole_time(circuit: Breaker, clock: Clock) -> None:
    half_open(circuit, clock)
    settle(circuit, SUCCESS, FAILURE)
    assert circuit.state is OPEN
    clock.advance(4.9)
    assert not circuit.ready()
    clock.advance(0.1)
    assert circuit.ready()


def test_cancelled_trials_say_nothing_and_leave_their_place(circuit: Breaker, clock: Clock) -> None:
    half_open(circuit, clock)
    settle(circuit, *[NEUTRAL] * 200)
    assert circuit.state is HALF_OPEN
    settle(circuit, SUCCESS, SUCCESS)
    assert circuit.state is CLOSED


def test_a_trial_settled_twice_gives_back_one_place(circuit: Breaker, clock: Clock) -> None:
    half_open(circuit, clock)
    first, _second = circuit.admit(), circuit.admit()
    first.settle(NEUTRAL)
    first.settle(NEUTRAL)
    circuit.admit()
    assert not circuit.ready()


def test_late_results_of_an_earlier_state_are_dropped(circuit: Breaker, clock: Clock) -> None:
    late_failure, late_success = circuit.admit(), circuit.admit()
    half_open(circuit, clock)
    trial = circuit.admit()
    late_failure.settle(FAILURE)
    late_success.settle(SUCCESS)
    assert circuit.state is HALF_OPEN
    settle(circuit, FAILURE)
    trial.settle(SUCCESS)
    assert circuit.state is OPEN


def test_a_late_trial_does_not_free_a_place_in_the_next_half_open(circuit: Breaker, clock: Clock) -> None:
    half_open(circuit, clock)
    late = circuit.admit()
    settle(circuit, FAILURE)
    clock.advance(5.0)
    circuit.admit(), circuit.admit()
    late.settle(NEUTRAL)
    assert not circuit.ready()


def test_a_failure_of_an_older_closed_time_does_not_count_in_the_new_one(circuit: Breaker, clock: Clock) -> None:
    old = [circuit.admit() for _ in range(9)]
    half_open(circuit, clock)
    settle(circuit, SUCCESS, SUCCESS)
    for permit in old:
        permit.settle(FAILURE)
    assert circuit.state is CLOSED


def test_the_wall_clock_plays_no_part(circuit: Breaker, clock: Clock) -> None:
    settle(circuit, *[FAILURE] * 3)
    clock.advance(3600.0)  # pybreaker's own timer has not moved at all
    settle(circuit, SUCCESS, SUCCESS)
    assert circuit.state is CLOSED


def test_without_a_breaker_everything_is_admitted_for_ever() -> None:
    for _ in range(100):
        ALWAYS.admit().settle(FAILURE)
    assert (ALWAYS.ready(), ALWAYS.state, ALWAYS.time_left()) == (True, CLOSED, 0.0)


@pytest.fixture
def timed(clock: Clock) -> Breaker:
    """80 % slow tries open it; what takes 0.06 s is slow, and ten of those fit into the window."""
    return built(clock, SlowCalls(over=0.05, rate=0.8))


def take(circuit: Breaker, clock: Clock, seconds: float, verdict: Verdict = SUCCESS, times: int = 1) -> None:
    for _ in range(times):
        permit = circuit.admit()
        clock.advance(seconds)
        permit.settle(verdict)


def test_a_share_of_slow_answers_opens_it_once_there_are_enough_requests(timed: Breaker, clock: Clock) -> None:
    take(timed, clock, 0.01, times=2)
    take(timed, clock, 0.06, times=7)
    assert timed.state is CLOSED, "9 requests are too few to speak of a share"
    take(timed, clock, 0.06)
    assert timed.state is OPEN


def test_fewer_slow_answers_than_the_share_leave_it_closed(timed: Breaker, clock: Clock) -> None:
    for _ in range(10):
        take(timed, clock, 0.01)
        take(timed, clock, 0.06, times=3)
    assert timed.state is CLOSED


def test_an_answer_that_takes_exactly_the_limit_is_not_slow(clock: Clock) -> None:
    circuit = built(clock, SlowCalls(over=0.0625, rate=0.8))
    take(circuit, clock, 0.0625, times=50)
    assert circuit.state is CLOSED


def test_a_slow_answer_is_not_a_failure_in_a_row(timed: Breaker, clock: Clock) -> None:
    take(timed, clock, 0.01, FAILURE, times=2)
    take(timed, clock, 0.06)
    take(timed, clock, 0.01, FAILURE, times=2)
    assert timed.state is CLOSED
    take(timed, clock, 0.01, FAILURE)
    assert timed.state is OPEN


def test_a_failure_that_took_long_counts_as_slow_as_well(timed: Breaker, clock: Clock) -> None:
    take(timed, clock, 0.06, FAILURE, times=2)
    take(timed, clock, 0.06, times=7)
    assert timed.state is CLOSED
    take(timed, clock, 0.06)
    assert timed.state is OPEN


def test_a_client_that_left_after_a_long_time_is_neither_slow_nor_counted(timed: Breaker, clock: Clock) -> None:
    take(timed, clock, 0.06, NEUTRAL, times=50)
    take(timed, clock, 0.06, times=9)
    assert timed.state is CLOSED


def test_slow_answers_older_than_the_window_are_forgotten(timed: Breaker, clock: Clock) -> None:
    take(timed, clock, 0.06, times=9)
    clock.advance(11.0)
    take(timed, clock, 0.06, times=9)
    assert timed.state is CLOSED


def test_it_opens_again_when_its_trials_are_as_slow_as_before(timed: Breaker, clock: Clock) -> None:
    take(timed, clock, 0.06, times=10)
    clock.advance(5.0)
    take(timed, clock, 0.06)
    assert timed.state is HALF_OPEN, "one slow trial of two is less than 80 %"
    take(timed, clock, 0.06)
    assert timed.state is OPEN
    clock.advance(5.0)
    take(timed, clock, 0.06)
    take(timed, clock, 0.01)
    assert timed.state is CLOSED
    take(timed, clock, 0.06, times=9)
    assert timed.state is CLOSED, "what was slow before it opened is forgotten"


def test_a_late_slow_answer_of_an_earlier_closed_time_does_not_count(timed: Breaker, clock: Clock) -> None:
    late = [timed.admit() for _ in range(10)]
    take(timed, clock, 0.01, FAILURE, times=3)
    clock.advance(5.0)
    take(timed, clock, 0.01, times=2)
    for permit in late:
        permit.settle(SUCCESS)
    assert timed.state is CLOSED


def fail_trials(circuit: Breaker, clock: Clock) -> float:
    """A round of trials that fails; returns the seconds for which it is open then."""
    clock.advance(circuit.time_left())
    settle(circuit, FAILURE)
    return circuit.time_left()


def test_each_failed_trial_doubles_the_open_time_up_to_the_most(clock: Clock) -> None:
    circuit = built(clock, open_for_max=30.0)
    settle(circuit, *[FAILURE] * 3)
    assert circuit.time_left() == 5.0
    assert [fail_trials(circuit, clock) for _ in range(4)] == [10.0, 20.0, 30.0, 30.0]


def test_good_trials_bring_back_the_first_open_time(clock: Clock) -> None:
    circuit = built(clock, open_for_max=30.0)
    settle(circuit, *[FAILURE] * 3)
    fail_trials(circuit, clock)
    clock.advance(circuit.time_left())
    settle(circuit, SUCCESS, SUCCESS, *[FAILURE] * 3)
    assert (circuit.state, circuit.time_left()) == (OPEN, 5.0)


def test_without_a_most_the_open_time_stays_the_same(circuit: Breaker, clock: Clock) -> None:
    settle(circuit, *[FAILURE] * 3)
    assert [fail_trials(circuit, clock) for _ in range(3)] == [5.0, 5.0, 5.0]


def test_chance_cuts_off_a_tenth_of_the_open_time_at_most_and_adds_nothing(clock: Clock) -> None:
    circuit = built(clock, open_for_max=30.0, dice=1.0)
    settle(circuit, *[FAILURE] * 3)
    assert circuit.time_left() == pytest.approx(4.5)
    assert [fail_trials(circuit, clock) for _ in range(3)] == pytest.approx([9.0, 18.0, 27.0])


def test_a_held_circuit_stays_open_until_it_is_released(circuit: Breaker, clock: Clock) -> None:
    circuit.hold()
    assert repr(circuit) == "<Breaker a open, held>"
    clock.advance(1e6)
    assert (circuit.state, circuit.held, circuit.ready(), circuit.time_left()) == (OPEN, True, False, 5.0)
    with pytest.raises(Shed) as caught:
        circuit.admit()
    assert caught.value.retry_after == 5.0
    circuit.release()
    assert (circuit.state, circuit.held, circuit.ready(), circuit.time_left()) == (CLOSED, False, True, 0.0)
    assert changes == [("a", CLOSED, OPEN), ("a", OPEN, CLOSED)]
    assert repr(circuit) == "<Breaker a closed>"


def test_holding_an_open_circuit_is_no_change_of_state_and_outlasts_its_open_time(
    circuit: Breaker, clock: Clock
) -> None:
    settle(circuit, *[FAILURE] * 3)
    circuit.hold()
    circuit.hold()
    assert changes == [("a", CLOSED, OPEN)]
    clock.advance(5.0)
    assert not circuit.ready()


def test_a_circuit_that_cannot_be_spared_is_tried_early(circuit: Breaker, clock: Clock) -> None:
    circuit.hasten()
    assert circuit.ready()
    settle(circuit, *[FAILURE] * 3)
    circuit.hasten()
    assert circuit.time_left() == pytest.approx(EARLY)
    clock.advance(EARLY)
    assert circuit.ready()


def test_one_that_an_operator_holds_open_is_not(circuit: Breaker, clock: Clock) -> None:
    circuit.hold()
    circuit.hasten()
    clock.advance(1000.0)
    assert not circuit.ready()


def test_tries_under_way_when_it_is_held_or_released_count_no_more(circuit: Breaker, clock: Clock) -> None:
    before = [circuit.admit() for _ in range(3)]
    circuit.hold()
    circuit.release()
    for permit in before:
        permit.settle(FAILURE)
    assert circuit.state is CLOSED
    half_open(circuit, clock)
    trials = [circuit.admit(), circuit.admit()]
    circuit.hold()
    for permit in trials:
        permit.settle(SUCCESS)
    assert repr(circuit) == "<Breaker a open, held>"


def test_releasing_forgets_failures_even_where_it_is_closed_already(circuit: Breaker) -> None:
    settle(circuit, *[SUCCESS, FAILURE] * 4, FAILURE)
    under_way = circuit.admit()
    changes.clear()
    circuit.release()
    under_way.settle(FAILURE)
    settle(circuit, FAILURE, FAILURE, SUCCESS)
    assert (circuit.state, changes) == (CLOSED, [])


def test_releasing_a_circuit_that_opened_by_itself_closes_it_at_once(clock: Clock) -> None:
    circuit = built(clock, open_for_max=30.0)
    settle(circuit, *[FAILURE] * 3)
    fail_trials(circuit, clock)
    circuit.release()
    assert circuit.state is CLOSED
    settle(circuit, *[FAILURE] * 3)
    assert circuit.time_left() == 5.0
