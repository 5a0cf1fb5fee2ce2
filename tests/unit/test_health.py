"""When probes make a target ill, and when it is well again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from gateway.process.probe import Watch
from gateway.process.prober import Prober
from gateway.upstream.health import Check, Condition
from tests.fakes import Clock, Dice

CHECK = Check(path="/healthz", interval=5.0, timeout=1.0, healthy_after=2, unhealthy_after=3)

Ill = frozenset[tuple[str, str]]


def after(probes: str, condition: Condition | None = None) -> Condition:
    """The condition after these probes: + for a good one, - for a bad one."""
    condition = condition or Condition()
    for probe in probes:
        condition.saw(probe == "+", CHECK)
    return condition


@pytest.mark.parametrize(
    ("probes", "well"),
    [
        ("", True),
        ("--", True),
        ("---", False),
        ("--+--", True),
        ("--+---", False),
        ("---+", False),
        ("---++", True),
        ("---+-+", False),
        ("---+-++", True),
        ("---++--", True),
        ("---++---", False),
    ],
)
def test_it_takes_so_many_in_a_row_either_way(probes: str, well: bool) -> None:
    assert after(probes).well is well


def test_only_the_probe_that_changes_the_condition_says_so() -> None:
    condition = Condition()
    assert [condition.saw(well, CHECK) for well in (False, False, False, False, True, True, True)] == [
        False, False, True, False, False, True, False,
    ]  # fmt: skip


def test_one_that_was_ill_before_a_restart_has_to_show_that_it_is_well() -> None:
    assert not after("+", Condition(well=False)).well
    assert after("++", Condition(well=False)).well


def test_probes_are_spread_by_a_tenth_each_way() -> None:
    assert Condition().pause(CHECK, 0.0) == pytest.approx(4.5)
    assert Condition().pause(CHECK, 1.0) == pytest.approx(5.5)


def test_an_ill_target_is_asked_at_least_once_an_interval() -> None:
    assert after("---").pause(CHECK, 1.0) <= CHECK.interval


def test_an_ill_target_that_answers_is_asked_again_at_once() -> None:
    """With the half of the first interval it is back within one interval and a second, whatever `healthy_after` is."""
    patient = Check(interval=5.0, healthy_after=10)
    condition = Condition(well=False)
    waited = 0.0
    while not condition.saw(True, patient):
        waited += condition.pause(patient, 1.0)
    assert waited < 0.5


def test_a_short_interval_is_not_made_longer_by_making_sure() -> None:
    assert after("---+").pause(Check(interval=0.1), 1.0) < 0.1


def test_a_single_failure_does_not_hurry_anybody() -> None:
    assert after("-").pause(CHECK, 0.5) == pytest.approx(5.0)


@pytest.mark.parametrize(("status", "expected"), [(199, False), (200, True), (204, True), (299, True), (300, False),
                                                  (401, True), (402, False), (503, False)])  # fmt: skip
def test_statuses_are_expected_in_ranges(status: int, expected: bool) -> None:
    assert Check(expect=((200, 299), (401, 401))).expects(status) is expected


class Play:
    """Probes whose results are written down, and pauses that take no time; the last result stays."""

    def __init__(self, **results: list[str]) -> None:
        self.results = results
        self.told: list[Ill] = []
        self.waits: list[float] = []
        self.clock = Clock()
        self.begun: list[Watch] = []

    def prober(self, known: Ill = frozenset()) -> Prober:
        return Prober(self.told.append, known, probing=self.probing, dice=Dice(0.5), sleep=self.sleep, clock=self.clock)

    def probing(self, watch: Watch) -> Callable[[], Awaitable[str]]:
        self.begun.append(watch)
        results = iter(self.results[watch.target])
        last = ""

        async def probe() -> str:
            nonlocal last
            last = next(results, last)
            return last

        return probe

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0)


def watch(target: str, check: Check = CHECK, upstream: str = "orders") -> Watch:
    return Watch(upstream, target, target, 80, check)


async def turns(count: int = 30) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_is_ill_is_told_and_so_is_what_is_well_again(caplog: pytest.LogCaptureFixture) -> None:
    play = Play(a=["", ""], b=["status 503"] * 3 + [""])
    prober = play.prober()
    try:
        prober.watch([watch("a"), watch("b")])
        await turns()
    finally:
        await prober.close()
    assert play.told == [{("orders", "b")}, frozenset()]
    assert [record.message for record in caplog.records] == [
        "upstream orders: the target b is ill: status 503",
        "upstream orders: the target b is well again",
    ]


async def test_the_first_probe_is_not_at_once_but_somewhere_in_the_first_interval() -> None:
    play = Play(a=[""])
    prober = play.prober()
    try:
        prober.watch([watch("a")])
        await turns(5)
    finally:
        await prober.close()
    assert play.waits[:2] == [pytest.approx(2.5), pytest.approx(5.0)]


async def test_who_is_probed_as_before_does_not_notice_a_new_configuration() -> None:
    play = Play(a=[""], b=["", "connect refused"], c=[""])
    prober = play.prober()
    try:
        prober.watch([watch("a"), watch("b")])
        await turns()
        other = watch("b", Check(path="/other"))
        prober.watch([watch("a"), other, watch("c")])
        await turns()
    finally:
        await prober.close()
    assert [each.target for each in play.begun] == ["a", "b", "b", "c"]
    assert play.told == [{("orders", "b")}]


async def test_who_is_probed_in_another_way_stays_ill_until_that_shows_otherwise() -> None:
    play = Play(a=["status 500"])
    prober = play.prober()
    try:
        prober.watch([watch("a")])
        await turns()
        prober.watch([watch("a", Check(path="/other"))])
        await turns(1)
        assert play.told == [{("orders", "a")}]
        play.results["a"] = [""]
        prober.watch([watch("a")])
        await turns()
    finally:
        await prober.close()
    assert play.told == [{("orders", "a")}, frozenset()]


async def test_who_is_no_longer_probed_is_not_ill() -> None:
    play = Play(a=["status 500"])
    prober = play.prober()
    prober.watch([watch("a")])
    await turns()
    prober.watch([])
    await prober.close()
    assert play.told == [{("orders", "a")}, frozenset()]


async def test_after_a_restart_what_was_ill_stays_so_and_nothing_is_told() -> None:
    play = Play(a=[""])
    prober = play.prober(frozenset({("orders", "a")}))
    prober.watch([watch("a")])
    assert play.told == []
    await turns()
    await prober.close()
    assert play.told == [frozenset()]


async def test_the_time_of_a_probe_counts_for_its_pause() -> None:
    play = Play(a=[""])
    prober = play.prober()

    def slow(_: Watch) -> Callable[[], Awaitable[str]]:
        async def probe() -> str:
            play.clock.advance(1.0)
            return ""

        return probe

    play.probing = slow  # type: ignore[method-assign]
    prober = play.prober()
    try:
        prober.watch([watch("a")])
        await turns(8)
    finally:
        await prober.close()
    assert play.waits[1] == pytest.approx(4.0)


async def test_one_upstream_says_nothing_about_another_with_the_same_target() -> None:
    play = Play(a=["status 500"])
    prober = play.prober()
    prober.watch([watch("a"), watch("a", Check(unhealthy_after=1000), upstream="other")])
    await turns()
    await prober.close()
    assert play.told == [{("orders", "a")}]


async def test_closing_ends_all_probes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    play = Play(a=[""], b=[""])
    prober = play.prober()
    before = asyncio.all_tasks()
    prober.watch([watch("a"), watch("b")])
    await turns()
    await prober.close()
    assert asyncio.all_tasks() == before
    assert not caplog.records
