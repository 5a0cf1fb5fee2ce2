import pytest

from gateway.resilience.recent_times import FEWEST, KEPT, REFRESH, UNKNOWN, Percentile


def told(share: float, times: list[float]) -> Percentile:
    percentile = Percentile(share)
    for took in times:
        percentile.add(took)
    return percentile


def test_before_there_are_enough_times_there_is_no_percentile() -> None:
    assert told(0.95, [1.0] * (FEWEST - 1)).after == UNKNOWN
    assert told(0.95, [1.0] * FEWEST).after == 1.0


@pytest.mark.parametrize(("share", "after"), [(0.5, 10.0), (0.95, 19.0), (0.99, 20.0), (1.0, 20.0), (0.0, 1.0)])
def test_so_many_of_the_times_lie_within_it(share: float, after: float) -> None:
    assert told(share, [float(n) for n in range(FEWEST, 0, -1)]).after == after


def test_it_is_worked_out_again_for_every_so_many_times() -> None:
    percentile = told(0.5, [1.0] * FEWEST)
    for _ in range(REFRESH - 1):
        percentile.add(3.0)
    assert percentile.after == 1.0
    percentile.add(3.0)
    assert percentile.after == 3.0


def test_old_times_are_forgotten() -> None:
    assert told(1.0, [9.0] * KEPT + [1.0] * (KEPT + REFRESH)).after == 1.0
