"""When a shared store is asked."""

from gateway.limits.health import StoreHealth


def test_it_goes_down_after_failures_in_a_row_and_says_so_once() -> None:
    errors: list[str] = []
    health = StoreHealth(failures=3, pause=1.0, on_error=lambda: errors.append("one"))
    assert [health.failed(0.0), health.failed(0.0), health.failed(0.0), health.failed(0.0)] == [
        False,
        False,
        True,
        False,
    ]
    assert not health.up
    assert len(errors) == 4


def test_a_failure_that_counts_at_once_takes_it_down_and_says_so_once() -> None:
    health = StoreHealth(failures=3, pause=1.0)
    assert health.failed(0.0, at_once=True)
    assert not health.up
    assert not health.admits(0.5)
    assert not health.failed(0.6, at_once=True)


def test_an_answer_between_failures_starts_the_count_again() -> None:
    health = StoreHealth(failures=2)
    for _ in range(5):
        assert not health.failed(0.0)
        assert not health.answered()
    assert health.up


def test_while_down_one_question_per_pause_is_let_through() -> None:
    health = StoreHealth(failures=1, pause=1.0)
    assert health.admits(0.0)
    health.failed(10.0)
    assert not health.admits(10.99)
    assert health.admits(11.0)
    assert not health.admits(11.5)
    assert health.admits(12.0)
    health.failed(12.5)
    assert not health.admits(13.4)
    assert health.admits(13.5)


def test_an_answer_brings_it_back_and_says_so_once() -> None:
    health = StoreHealth(failures=1)
    health.failed(0.0)
    assert health.answered()
    assert not health.answered()
    assert health.up
    assert health.admits(0.0)
