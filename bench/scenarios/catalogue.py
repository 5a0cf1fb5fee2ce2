"""The scenarios: which targets misbehave in which way, how long, under how many requests a second.

Each begins with a quiet second; then comes the trouble, then the time in which callers should notice nothing any more.
What is counted ends AFTER seconds behind the trouble, for all systems at the same moment; requests go on until every
target answers again, or until nobody can still hope for it, to find out how long that takes.
"""

from collections.abc import Callable
from dataclasses import dataclass

from bench.scenarios.plans import Crew, Fault, Plan, Spell

BEFORE, TROUBLE, AFTER = 1.0, 4.0, 3.0
"""Seconds."""
TRY, TOTAL, ATTEMPTS = 0.5, 2.0, 3
"""The same for all systems: seconds for a try, seconds for a request, tries."""
OPEN_FOR = 10.0
"""Seconds for which a target is left alone: our default, nginx's too."""
BACK_WITHIN = OPEN_FOR + 1.0

RATE = 100
CREW = Crew(workers=4, seconds=0.04, queue=30)
"""100 requests a second; who comes last waits 0.3 s."""
FULL = 0.9
"""Of the targets' capacity."""
ALWAYS = (float("-inf"), float("inf"))

Spells = Callable[[float, float], tuple[Spell, ...]]
"""From when to when the trouble lasts -> what a troubled target does."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One of them. Targets are numbered from 1; the troubled ones come first."""

    name: str
    title: str
    spells: Spells
    targets: int = 3
    troubled: int = 1
    rate: float = RATE
    seconds: float | None = None
    """How long the trouble lasts, where that is fixed."""
    signal: str = ""
    """`kill` or `stop`: what is done to the process of a troubled target."""
    crew: Crew | None = None
    most_attempts: float | None = None
    """Attempts per request at most, while the trouble lasts."""
    flawless: bool = False
    """No caller may notice anything but a wait of one try."""
    most_paying: int | None = None
    """How many may wait for as long as a try."""

    def trouble(self, seconds: float) -> tuple[float, float]:
        """When it begins and ends, if others last for `seconds`."""
        return BEFORE, BEFORE + (seconds if self.seconds is None else self.seconds)

    def plans(self, begin: float, end: float) -> list[tuple[int, Plan]]:
        """Target number and its plan. A killed target has a successor of the same number, which listens later."""
        ill = self.spells(begin, end)
        plans = [
            (number, Plan(ill if number <= self.troubled else (), self.crew)) for number in range(1, self.targets + 1)
        ]
        if self.signal == "kill":
            late = Plan((Spell(ALWAYS[0], end, Fault.REFUSE),), self.crew)
            plans += [(number, late) for number in range(1, self.troubled + 1)]
        return plans


def all_along(fault: Fault, share: float = 1.0) -> Spells:
    return lambda begin, end: (Spell(begin, end, fault, share),)


def by_turns(fault: Fault, each: float) -> Spells:
    """`each` seconds bad, as many good."""

    def spells(begin: float, end: float) -> tuple[Spell, ...]:
        count = int((end - begin) / (2 * each))
        return tuple(Spell(begin + 2 * n * each, begin + (2 * n + 1) * each, fault) for n in range(count))

    return spells


def nothing(begin: float, end: float) -> tuple[Spell, ...]:
    """Of its own accord: signals do it."""
    return ()


SCENARIOS = (
    Scenario("slow", f"one of three answers after 1 s (a try may take {TRY} s)", all_along(Fault.SLOW)),
    Scenario("refusing", "one of three refuses connections", all_along(Fault.REFUSE)),
    Scenario("cut", "one of three resets in the middle of the body", all_along(Fault.CUT)),
    Scenario("some-503", "one of three answers 503 to 30 %", all_along(Fault.UNAVAILABLE, 0.3)),
    Scenario(
        "outage-503", "all answer 503 for 10 s", all_along(Fault.UNAVAILABLE), troubled=3, seconds=10, most_attempts=1.2
    ),
    Scenario(
        "outage-refused", "all refuse for 10 s", all_along(Fault.REFUSE), troubled=3, seconds=10, most_attempts=1.2
    ),
    Scenario("flapping", "one of three is down for every other second", by_turns(Fault.REFUSE, 1.0), seconds=8),
    Scenario(
        "storm",
        f"all need twice as long at {FULL:.0%} of their capacity",
        all_along(Fault.TIRED),
        troubled=3,
        rate=FULL * 3 * CREW.workers / CREW.seconds,
        crew=CREW,
        most_attempts=1.2,
    ),
    Scenario("drip-body", "one of three takes 1 s to send a body byte by byte", all_along(Fault.DRIP)),
    Scenario("drip-head", "one of three sends a head byte by byte, without end", all_along(Fault.WITHHOLD)),
    *(
        Scenario(
            name,
            f"one of two {what} for 3 s",
            spells,
            targets=2,
            rate=50,
            seconds=3,
            signal=signal,
            flawless=True,
            most_paying=3 if signal == "stop" else None,
        )
        for name, what, spells, signal in (
            ("two-killed", "is killed", nothing, "kill"),
            ("two-503", "answers 503", all_along(Fault.UNAVAILABLE), ""),
            ("two-reset", "resets connections", all_along(Fault.RESET), ""),
            ("two-frozen", "is frozen", nothing, "stop"),
        )
    ),
)
