"""The adaptive limit in front of a service that is simulated: servers, a line before them, and a clock."""

import heapq
import random
from collections import deque
from collections.abc import Callable
from itertools import pairwise

import pytest

from gateway.limits.adaptive import OVERLOAD, PROBE, WINDOW, Gradient
from gateway.limits.concurrency import Gate

BASE = 0.05
"""Seconds that the service takes for one request."""


class Service:
    """So many servers, and an endless line. Requests come at random, `rate` a second, from each of `workers`."""

    def __init__(self, servers: int, rate: float, *, workers: int = 1, limited: bool = True, seed: int = 1) -> None:
        self.servers = servers
        self.rate = rate
        self.slowness = 1.0
        self.fails = False
        self.gradients = [Gradient(max(1, 5 // workers), 1000) for _ in range(workers)]
        self.gates = [Gate(gradient.limit if limited else 10**9) for gradient in self.gradients]
        self.times: list[tuple[float, float]] = []  # when a reply came, and how long it took
        self.limits: list[tuple[float, int]] = []  # of all workers together, whenever a reply came
        self.refused = 0
        self.now = 1000.0
        self._dice = random.Random(seed)
        self._order = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._line: deque[tuple[int, float]] = deque()
        self._running = 0
        self._at(self.now, self._arrive)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._events[0][0] <= end:
            self.now, _, event = heapq.heappop(self._events)
            event()
        self.now = end

    def limit(self, since: float = 0.0) -> list[int]:
        """The limits since `since`, sorted."""
        return sorted(limit for when, limit in self.limits if when >= since)

    def percentile(self, share: float, since: float = 0.0) -> float:
        """Of the times since then."""
        times = sorted(took for when, took in self.times if when >= since)
        return times[int(share * (len(times) - 1))]

    def _at(self, when: float, event: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._events, (when, self._order, event))

    def _arrive(self) -> None:
        self._at(self.now + self._dice.expovariate(self.rate), self._arrive)
        worker = self._dice.randrange(len(self.gates))
        if self.gates[worker].take():
            self._line.append((worker, self.now))
            self._serve()
        else:
            self.refused += 1

    def _serve(self) -> None:
        while self._line and self._running < self.servers:
            worker, started = self._line.popleft()
            self._running += 1
            takes = BASE * self.slowness * self._dice.uniform(0.5, 1.5)
            self._at(self.now + takes, lambda w=worker, s=started: self._reply(w, s))  # type: ignore[misc]

    def _reply(self, worker: int, started: float) -> None:
        gate, gradient = self.gates[worker], self.gradients[worker]
        self.times.append((self.now, self.now - started))
        if self.fails:
            gradient.ended(self.now, overload=True)
        else:
            gradient.replied(started, self.now, gate.busy)
        if gate.limit < 10**9:
            gate.resize(gradient.limit)
        self.limits.append((self.now, sum(each.limit for each in self.gradients)))
        gate.leave()
        self._running -= 1
        self._serve()


@pytest.mark.parametrize("servers", [5, 10, 20, 50])
def test_it_comes_to_within_half_of_what_the_service_can_do_and_stays_there(servers: int) -> None:
    service = Service(servers, rate=2 * servers / BASE)
    service.run(60 / servers + 5)
    first = [limit for _, limit in service.limits[:1500]]
    assert any(limit >= servers for limit in first), "within so many replies"
    settled = service.limit(since=1002.0)
    # Of 5, which is the lowest limit there is here, one more is a fifth already.
    low, high = 0.5 * servers, (1.8 if servers == 5 else 1.5) * servers
    share = sum(low <= limit <= high for limit in settled) / len(settled)
    assert share > 0.95, f"{share:.1%} of the time between {low} and {high}: {settled[0]} to {settled[-1]}"


def test_times_stay_near_those_without_load_where_without_a_limit_they_explode() -> None:
    limited, unlimited = Service(20, rate=800), Service(20, rate=800, limited=False)
    limited.run(10)
    unlimited.run(10)
    assert limited.percentile(0.99) < 3 * BASE, f"p99 {limited.percentile(0.99) * 1000:.0f} ms"
    assert unlimited.percentile(0.99) > 50 * BASE
    done, possible = len(limited.times), 10 * 20 / BASE
    assert done > 0.9 * possible, f"{done / possible:.0%} of what the service can do"


def test_it_does_not_swing() -> None:
    service = Service(20, rate=800)
    service.run(PROBE + 20)
    probe = (1000 // PROBE + 1) * PROBE  # the first after the start
    quiet = [limit for when, limit in service.limits if 1002 < when < probe]
    assert max(quiet) < 1.5 * min(quiet), f"{min(quiet)} to {max(quiet)}"


def test_a_probe_is_short_and_takes_little_of_the_throughput() -> None:
    service = Service(20, rate=800)
    service.run(2 * PROBE)
    settled = [(when, limit) for when, limit in service.limits if when > 1003]
    low = sum(later - when for (when, limit), (later, _) in pairwise(settled) if limit < 18)
    assert 0 < low < 0.05 * 2 * PROBE, f"{low:.2f} s at a lower limit"
    assert len(service.times) > 0.95 * 2 * PROBE * 20 / BASE


def test_a_lasting_line_is_not_taken_for_the_service_itself() -> None:
    service = Service(20, rate=800)
    service.run(6 * PROBE)
    assert service.limit(since=1000 + 5 * PROBE)[-1] <= 30
    assert service.percentile(0.99, since=1000 + 5 * PROBE) < 3 * BASE


def test_four_workers_in_front_of_one_service_share_it_and_do_not_outbid_each_other() -> None:
    service = Service(40, rate=1600, workers=4)
    service.run(4 * PROBE)
    settled = service.limit(since=1005.0)
    assert settled[len(settled) // 2] <= 2 * 40
    assert service.percentile(0.99, since=1005.0) < 3 * BASE
    assert len(service.times) > 0.9 * 4 * PROBE * 40 / BASE


def test_a_service_that_can_do_more_gets_more() -> None:
    service = Service(10, rate=2000)
    service.run(4)
    service.servers = 40
    service.run(8)
    settled = service.limit(since=1009.0)
    assert 30 <= settled[len(settled) // 2] <= 60


def test_a_service_that_can_do_less_gets_less_soon() -> None:
    service = Service(40, rate=1600)
    service.run(4)
    service.servers = 10
    service.run(6)
    assert service.limit(since=1007.0)[-1] <= 20  # even if a probe came in between


def test_a_service_that_has_become_slower_is_believed_after_the_next_probe() -> None:
    service = Service(20, rate=800)
    service.run(3)
    service.slowness = 2.0
    service.run(2 * PROBE)
    late = service.limit(since=service.now - 5)
    assert 0.5 * 20 <= late[len(late) // 2] <= 1.5 * 20


def test_failures_take_it_to_the_minimum_and_success_brings_it_back() -> None:
    service = Service(20, rate=800)
    service.run(3)
    service.fails = True
    service.run(2)
    assert service.gradients[0].limit == 5
    service.fails = False
    service.run(4)
    assert 10 <= service.gradients[0].limit <= 30


def test_a_few_failures_among_many_replies_change_nothing() -> None:
    gradient, now = Gradient(1, 100), 1000.0
    for number in range(20_000):
        now += 0.001
        if number % 50:
            gradient.replied(now - 0.05, now, gradient.limit)
        else:
            gradient.ended(now, overload=True)
    assert gradient.limit > 90


def test_a_limit_that_nobody_comes_near_does_not_grow() -> None:
    gradient, now = Gradient(5, 100), 1000.0
    for _ in range(5000):
        now += 0.01
        gradient.replied(now - 0.05, now, 2)
    assert gradient.limit == 5


@pytest.mark.parametrize(("minimum", "maximum"), [(1, 1), (5, 5), (3, 40)])
def test_it_never_leaves_its_bounds(minimum: int, maximum: int) -> None:
    gradient, now, dice = Gradient(minimum, maximum), 1000.0, random.Random(7)
    seen = set()
    for _ in range(20_000):
        now += dice.expovariate(200)
        if dice.random() < 0.02:
            gradient.ended(now, overload=dice.random() < 0.5)
        else:
            gradient.replied(now - dice.expovariate(10) * (1 + now // 10 % 3), now, gradient.limit)
        seen.add(gradient.limit)
    assert (min(seen), max(seen)) == (minimum, maximum)


def test_the_end_of_a_try_whose_time_says_nothing_moves_nothing() -> None:
    gradient, now = Gradient(1, 100), 1000.0
    for _ in range(10 * WINDOW):
        now += 0.01
        gradient.ended(now, overload=False)
    assert gradient.limit == 1
    assert frozenset({503, 504}) == OVERLOAD
