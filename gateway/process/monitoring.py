"""Watches the gateway itself, in the operator process: probes of its routes, and alerts about what is wrong with it."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from gateway.admin.times import written
from gateway.alerts.conditions import METRICS, Facts, FailingProbe, Judge
from gateway.alerts.notifier import Destination, Notifier
from gateway.alerts.payload import labels_of
from gateway.alerts.states import Alerts
from gateway.config.probes import over_tls
from gateway.probes.asking import Way
from gateway.probes.watching import Probes
from gateway.process.chores import Chores

if TYPE_CHECKING:
    from gateway.config.listen import Listen
    from gateway.config.model import Config
    from gateway.telemetry.collector import Snapshot
    from gateway.telemetry.metrics import Metrics
    from gateway.telemetry.tally import Readings

LOOK = 2.0
"""Seconds between two looks at what is wrong."""

NOTIFY = 1.0
"""Seconds between two looks at what somebody has to be told."""


class Monitoring:
    """Of one gateway. `readings` may be slow: it is asked in a thread."""

    def __init__(
        self,
        metrics: Metrics,
        readings: Callable[..., Mapping[str, Readings]],
        reasons: Callable[[], list[str]],
        snapshot: Callable[[], Snapshot],
    ) -> None:
        self._readings = readings
        self._reasons = reasons
        self._snapshot = snapshot
        self._probes = Probes(metrics)
        self._alerts = Alerts()
        self._judge = Judge()
        self._notifier = Notifier(self._alerts, metrics)
        self._config: Config | None = None
        self._labels: Mapping[str, str] = {}
        self._chores = Chores()

    def configure(self, config: Config) -> None:
        """Watch what `config` says from now on. In the loop."""
        first = self._config is None
        self._config = config
        self._labels = {"instance": socket.gethostname(), **config.alerts.labels}
        self.heard()
        self._probes.watch(config.probes)
        self._notifier.tell(self._destination(config))
        if first:
            self._chores.repeat(self._look, LOOK, "look-for-alerts", first=LOOK)
            self._chores.repeat(self._notifier.step, NOTIFY, "notify")

    def heard(self) -> None:
        """The supervisor has told something."""
        if self._config is not None:
            self._probes.through(way(self._config.listen, self._snapshot()))

    async def close(self) -> None:
        """Watch no more."""
        self._chores.cancel()
        await self._probes.close()

    def probes(self) -> list[dict[str, Any]]:
        """For the admin API."""
        return [record.told() for record in self._probes.records]

    def alerts(self) -> list[dict[str, Any]]:
        """What is wrong now, for the admin API."""
        return [
            {
                "name": alert.condition.name,
                "state": "firing" if alert.firing else "pending",
                "since": written(alert.since),
                "labels": labels_of(alert, self._labels),
                "summary": alert.condition.summary,
                "description": alert.condition.description,
            }
            for alert in self._alerts.shown
        ]

    async def _look(self) -> None:
        """See what is wrong."""
        readings = await asyncio.to_thread(self._readings, *METRICS)
        config, snapshot = self._config, self._snapshot()
        if config is None or snapshot["draining"]:  # who leaves has nothing to say about who is not ready
            return
        now = time.time()
        facts, settings = self._facts(readings, snapshot, now), config.alerts
        # In the thread, too: thousands of series take 20 ms.
        conditions = partial(self._judge.conditions, facts, settings.after, settings.certificate)
        self._alerts.see(await asyncio.to_thread(conditions), now)

    def _facts(self, readings: Mapping[str, Readings], snapshot: Snapshot, now: float) -> Facts:
        failing = [(record.probe.name, record.failed, record.last) for record in self._probes.records if record.failed]
        return Facts(
            now=now,
            readings=readings,
            workers=(snapshot["workers"]["configured"], snapshot["workers"]["ready"]),
            restarts=float(snapshot["worker_restarts"]),
            reasons=self._reasons(),
            reload_ok=snapshot["last_reload"]["ok"],
            certificates=snapshot["certificates"],
            probes=[FailingProbe(name, times, last.detail if last else "") for name, times, last in failing],
        )

    def _destination(self, config: Config) -> Destination | None:
        settings = config.alerts
        if settings.webhook is None:
            return None
        headers = {name: value.get_secret_value() for name, value in settings.headers.items()}
        admin, scheme = config.listen.admin, "http" if config.listen.admin_tls is None else "https"
        url = f"{scheme}://{admin}" if admin is not None and not admin.path else ""
        address = settings.webhook.get_secret_value()
        return Destination(address, headers, self._labels, settings.repeat, url, settings.runbook)


def way(listen: Listen, snapshot: Snapshot) -> Way | None:
    """The listener that probes use; None while the gateway drains or listens nowhere."""
    if snapshot["draining"]:
        return None
    wanted = over_tls(listen)
    ways = (Way(address, secure) for address, secure in snapshot["clients"] if secure == wanted)
    return next((each for each in ways if not (wanted and each.address.startswith("unix:"))), None)
