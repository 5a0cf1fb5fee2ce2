from gateway.process.restarts import FIRST, LIVED, LONGEST, Restarts


def test_the_first_end_is_an_accident_and_costs_no_wait() -> None:
    assert Restarts().wait(3600.0) == 0.0
    assert Restarts().wait(0.0) == 0.0


def test_who_dies_at_its_start_again_and_again_waits_ever_longer() -> None:
    restarts = Restarts()
    waits = [restarts.wait(0.01) for _ in range(20)]
    assert waits[:6] == [0.0, FIRST, FIRST * 2, FIRST * 4, FIRST * 8, FIRST * 16]
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST
    assert [restarts.wait(0.0) for _ in range(10_000)][-1] == LONGEST


def test_a_life_makes_the_next_end_a_new_accident() -> None:
    restarts = Restarts()
    for _ in range(5):
        restarts.wait(0.0)
    assert restarts.wait(LIVED) == 0.0
    assert restarts.wait(LIVED - 0.001) == FIRST


def test_places_do_not_wait_for_each_other() -> None:
    first, second = Restarts(), Restarts()
    for _ in range(5):
        first.wait(0.0)
    assert second.wait(0.0) == 0.0
