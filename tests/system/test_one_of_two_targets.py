"""One of two targets fails under 50 requests a second: callers notice nothing but, perhaps, the time of one try.

The scenarios are those of `bench.scenarios`, which has them longer and beside other proxies; the gateway has its
defaults, but for time-outs.
"""

from collections.abc import Sequence
from dataclasses import replace

import uvloop

from bench.processes import free_port
from bench.scenarios.callers import Asked
from bench.scenarios.catalogue import SCENARIOS, TRY
from bench.scenarios.course import Recovery, live
from bench.scenarios.faulty import Zero, targets
from bench.scenarios.figures import GRACE, PAYING
from bench.scenarios.proxies import ours
from tests.system.gateways import Start
from tests.system.load import figure

TROUBLE, AFTER = 2.0, 0.5
"""Seconds."""
BUSY = 0.15
"""Seconds that a machine which runs other tests may add to a wait: less than a third of a try."""
MOST_PAYING = 3
"""Requests that wait for the whole time of a try before a frozen target is known for what it is."""


def through(name: str, start: Start) -> Sequence[Asked]:
    """What became of every request while the trouble of this name came and went."""
    (known,) = (scenario for scenario in SCENARIOS if scenario.name == name)
    scenario = replace(known, seconds=TROUBLE)
    begin, end = trouble = scenario.trouble(TROUBLE)
    ports = {number: free_port() for number in range(1, scenario.targets + 1)}
    zero = Zero()
    with targets([(number, ports[number], plan) for number, plan in scenario.plans(begin, end)], zero, 1) as running:
        gateway = start(ours([*ports.values()]))
        made = uvloop.run(live(scenario, gateway.port, trouble, zero, running, Recovery(scenario, end, AFTER)))
        gateway.end()
    reached = [f"{asked.due:.2f}" for asked in made if asked.target == 1 and begin + TRY < asked.due < end - TRY]
    figure(f"{name}: {len(made)} requests, longest {max(asked.took for asked in made) * 1000:.0f} ms")
    assert not reached, f"no trouble: the target answered what was due at {reached}"
    return made


def check(made: Sequence[Asked]) -> None:
    """Nobody saw an error, and nobody waited for longer than one try; what the callers were late is their own fault."""
    assert [asked.status for asked in made if not asked.good] == []
    late = max(asked.late for asked in made)
    assert max(asked.took for asked in made) <= TRY + GRACE + BUSY + late


def test_nobody_notices_that_one_of_two_targets_is_killed(start: Start) -> None:
    check(through("two-killed", start))


def test_nobody_notices_that_one_of_two_targets_answers_503(start: Start) -> None:
    check(through("two-503", start))


def test_nobody_notices_that_one_of_two_targets_resets_its_connections(start: Start) -> None:
    check(through("two-reset", start))


def test_at_most_three_requests_wait_for_one_of_two_targets_that_is_frozen(start: Start) -> None:
    made = through("two-frozen", start)
    check(made)
    assert sum(asked.took >= PAYING for asked in made) <= MOST_PAYING
