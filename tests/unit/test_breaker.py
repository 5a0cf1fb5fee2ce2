import pytest

from gateway.errors import Shed
from gateway.resilience.breaker import ALWAYS, Breaker, State
from gateway.resilience.verdict import Verdict
from tests.fakes import Clock

SUCCESS, FAILURE, NEUTRAL = Verdict.SUCCESS, Verdict.FAILURE, Verdict.NEUTRAL
CLOSED, HALF_OPEN, OPEN = State.CLOSED, State.HALF_OPEN, State.OPEN

changes: list[tuple[str, State, State]] = []


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuit(clock: Clock) -> Breaker:
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
    )


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
