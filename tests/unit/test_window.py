from hypothesis import given
from hypothesis import strategies as st

from gateway.resilience.window import BUCKETS, Window


def test_what_happened_longer_ago_than_the_span_is_forgotten() -> None:
    window = Window(10.0)
    window.count(100.0)
    window.count_marked(105.0)
    assert window.totals(105.0) == (2, 1)
    assert window.totals(110.5) == (1, 1)
    assert window.totals(116.0) == (0, 0)


def test_clearing_forgets_at_once() -> None:
    window = Window(10.0)
    window.count_marked(100.0)
    window.clear()
    assert window.totals(100.0) == (0, 0)


def test_marking_does_not_count_again() -> None:
    window = Window(10.0)
    window.count(3.0)
    window.mark(3.5)
    assert window.totals(3.5) == (1, 1)


@given(st.lists(st.tuples(st.floats(0.0, 6.0), st.booleans()), max_size=60), st.floats(0.1, 20.0))
def test_it_counts_exactly_the_buckets_that_the_span_touches(events: list[tuple[float, bool]], span: float) -> None:
    window, now, seen = Window(span), 50.0, []
    for pause, marked in events:
        now += pause
        seen.append((int(now // (span / BUCKETS)), marked))
        (window.count_marked if marked else window.count)(now)
        lately = [was_marked for slot, was_marked in seen if slot > seen[-1][0] - BUCKETS]
        assert window.totals(now) == (len(lately), sum(lately))
