import pytest

from gateway.resilience.budget import RetryBudget


def taken(budget: RetryBudget, now: float, asked: int) -> int:
    return sum(budget.take(now) for _ in range(asked))


def test_retries_are_at_most_the_share_of_the_requests() -> None:
    budget = RetryBudget(0.2)
    for _ in range(1000):
        budget.request(50.0)
    assert taken(budget, 50.0, 1000) == 200


def test_a_few_retries_are_allowed_however_few_the_requests() -> None:
    budget = RetryBudget(0.2, floor=3)
    budget.request(50.0)
    assert taken(budget, 50.0, 10) == 3


def test_a_share_of_nothing_and_no_floor_allow_no_retry() -> None:
    budget = RetryBudget(0.0, floor=0)
    for _ in range(100):
        budget.request(50.0)
    assert taken(budget, 50.0, 10) == 0


def test_the_budget_of_a_busy_time_is_not_saved_for_a_quiet_one() -> None:
    budget = RetryBudget(0.2, floor=3)
    for _ in range(1000):
        budget.request(50.0)
    assert taken(budget, 61.0, 1000) == 3


def test_retries_are_forgotten_with_the_window_that_they_were_made_in() -> None:
    budget = RetryBudget(0.2, floor=3)
    assert taken(budget, 50.0, 10) == 3
    assert taken(budget, 55.0, 10) == 0
    assert taken(budget, 61.0, 10) == 3


def test_a_storm_adds_at_most_a_fifth_to_the_load() -> None:
    budget, retries = RetryBudget(0.2), 0
    for n in range(5000):
        budget.request(100.0 + n / 250)
        retries += taken(budget, 100.0 + n / 250, 2)
    assert 900 <= retries <= 1005


@pytest.mark.parametrize("rate", [2.5, 10.0, 1000.0])
def test_h11_no_ten_seconds_of_a_storm_see_more_retries_than_a_fifth_of_the_requests_or_the_floor(rate: float) -> None:
    """Every request fails and asks for two retries, at a steady rate, for a minute."""
    budget = RetryBudget(0.2)
    retried = []
    for n in range(int(60 * rate)):
        now = 100.0 + n / rate
        budget.request(now)
        retried += [now] * taken(budget, now, 2)
    for start in range(100, 151):
        within = sum(start <= now < start + 10 for now in retried)
        # The window slides in tenths: one of them may count on either side.
        assert within <= max(5, 0.2 * rate * 11)
    assert len(retried) >= 0.18 * 60 * rate, "and it is used"
