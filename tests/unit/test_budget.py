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
