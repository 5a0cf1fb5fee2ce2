"""From the configuration to what meets failures: policies, circuits, ejection, hedging, fallbacks, faults."""

import logging
import random
from collections.abc import Callable, Mapping

from gateway.config.health import Percentile as PercentileOf
from gateway.config.model import Breaker as BreakerConfig
from gateway.config.model import Fallback as FallbackConfig
from gateway.config.model import Retry as RetryConfig
from gateway.config.model import Upstream as UpstreamConfig
from gateway.config.traffic import FaultInjection
from gateway.exchange import Call, Target
from gateway.pipe import Layer, Send
from gateway.resilience.breaker import ALWAYS, Breaker, Circuit, SlowCalls, State
from gateway.resilience.budget import RetryBudget
from gateway.resilience.ejection import Ejection
from gateway.resilience.fallback import Other, Static
from gateway.resilience.fallback_answers import FIELDS
from gateway.resilience.fault import Fault
from gateway.resilience.hedge import Percentile, hedge
from gateway.resilience.quota import QuotaPause
from gateway.resilience.retry import RetryPolicy, retry
from gateway.transform.answer import content

log = logging.getLogger("gateway.resilience")


def retry_policy(settings: RetryConfig) -> RetryPolicy:
    """What may be tried again."""
    return RetryPolicy(
        attempts=settings.attempts,
        on=frozenset(str(kind) for kind in settings.on),
        methods=frozenset(settings.methods),
        base=settings.backoff.base,
        cap=settings.backoff.max,
        replay_limit=settings.replay_limit,
    )


def retrying(
    settings: UpstreamConfig, budget: RetryBudget, elsewhere: Callable[[Call], bool], clock: Callable[[], float]
) -> Layer | None:
    """More tries after one that failed; `elsewhere` tells whether the next would go to another target."""
    wanted = settings.retry
    if wanted.attempts == 1 and not wanted.attempts_header:
        return None
    policy = retry_policy(wanted)
    return retry(policy, budget, elsewhere=elsewhere, attempts_header=wanted.attempts_header, clock=clock)


def hedging(name: str, settings: UpstreamConfig, budget: RetryBudget, clock: Callable[[], float]) -> Layer | None:
    """A second try beside a late one, from the same budget as retries."""
    wanted = settings.hedge
    if wanted is None:
        return None
    after = Percentile(wanted.after / 100) if isinstance(wanted.after, PercentileOf) else wanted.after
    bad = retry_policy(settings.retry).statuses
    alone = settings.retry.attempts == 1 and not settings.retry.attempts_header  # nobody else counts in the budget
    return hedge(name, after, wanted.max, budget, clock=clock, bad=bad, count=alone)


Changed = Callable[[str, str, str], None]
"""Hears the upstream and the target of a circuit ("" for that of all), and the state it has gone to."""


def circuit(
    upstream: str, target: str, settings: BreakerConfig | None, on_change: Changed, clock: Callable[[], float]
) -> Circuit:
    """Of one target, or with "" of all of an upstream's."""
    if settings is None:
        return ALWAYS
    slow = settings.slow_calls

    def changed(_: Breaker, old: State, new: State) -> None:
        on_change(upstream, target, new.value)
        log.warning("circuit of %s%s: %s -> %s", upstream, f" {target}" if target else "", old.value, new.value)

    return Breaker(
        target or upstream,
        consecutive_failures=settings.consecutive_failures,
        failure_rate=settings.failure_rate,
        window=settings.window,
        minimum_requests=settings.minimum_requests,
        open_for=settings.open_for,
        open_for_max=settings.open_for_max,
        slow_calls=SlowCalls(slow.over, slow.rate) if slow is not None else None,
        trials=settings.trials,
        clock=clock,
        dice=random.random,
        on_change=changed,
    )


def ejection(
    upstream: str, settings: UpstreamConfig, on_eject: Callable[[str, str], None], clock: Callable[[], float]
) -> Ejection | None:
    """Who fails again and again is set aside; `on_eject` hears the upstream and the target."""
    wanted = settings.eject
    if wanted is None:
        return None

    def ejected(target: Target, seconds: float) -> None:
        on_eject(upstream, target.name)
        log.warning("%s %s is set aside for %.0f s: it failed too often", upstream, target.name, seconds)

    return Ejection(
        consecutive_failures=wanted.consecutive_failures,
        duration=wanted.for_,
        max_share=wanted.max_share,
        clock=clock,
        on_eject=ejected,
    )


def quota_pause(upstream: str, settings: UpstreamConfig) -> QuotaPause | None:
    """An upstream that says that its own quota is used up is asked no more for a while."""
    if settings.quota is None or not settings.quota.respect:
        return None

    def paused(seconds: float) -> None:
        log.warning("upstream %s says that its quota is used up: it is left alone for %.0f s", upstream, seconds)

    return QuotaPause(alone=len(settings.targets) == 1, on_pause=paused)


def answer(settings: FallbackConfig, roads: Mapping[str, Send]) -> Static | Other:
    """One entry of a route's fallbacks; `roads` are those of all upstreams. Raises OSError."""
    on = frozenset(str(kind) for kind in settings.on)
    if settings.upstream is not None:
        return Other(on, roads[settings.upstream])
    said = content(settings, FIELDS)
    kind = "static" if settings.file is None else "file"
    return Static(on, settings.status, said.headers, said.body, said.content_type, kind)


def planned(settings: FaultInjection | None) -> Fault | None:
    """What a route is to rehearse."""
    if settings is None:
        return None
    header = (settings.header or "").lower().encode()
    return Fault(settings.share, settings.status or 0, settings.delay, header)
