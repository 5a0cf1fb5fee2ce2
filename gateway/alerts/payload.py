"""What a webhook is sent: what Alertmanager sends, version "4", so that receivers work with both. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from gateway.alerts.states import Alert, Group

RECEIVER = "gateway"
MOST = 100
"""Alerts in one message; how many more there are is told."""

NOT_YET = "0001-01-01T00:00:00Z"
"""The end of what has none."""


def payload(group: Group, labels: Mapping[str, str], url: str, runbook: str) -> dict[str, Any]:
    """One message; `labels` are added to each alert, `url` is that of the gateway's admin listener, "" without one."""
    told = group.alerts[:MOST]
    alerts = [_alert(alert, over, labels, url, runbook) for alert, over in told]
    return {
        "version": "4",
        "groupKey": f'{{}}:{{alertname="{group.name}"}}',
        "truncatedAlerts": len(group.alerts) - len(told),
        "status": "firing" if group.firing else "resolved",
        "receiver": RECEIVER,
        "groupLabels": {"alertname": group.name},
        "commonLabels": _common([each["labels"] for each in alerts]),
        "commonAnnotations": _common([each["annotations"] for each in alerts]),
        "externalURL": url,
        "alerts": alerts,
    }


def labels_of(alert: Alert, added: Mapping[str, str]) -> dict[str, str]:
    """All of them; its own win."""
    return {**added, "alertname": alert.condition.name, **dict(alert.condition.labels)}


def _alert(alert: Alert, over: bool, added: Mapping[str, str], url: str, runbook: str) -> dict[str, Any]:
    labels = labels_of(alert, added)
    return {
        "status": "resolved" if over else "firing",
        "labels": labels,
        "annotations": {
            "summary": alert.condition.summary,
            "description": alert.condition.description,
            "runbook_url": f"{runbook}#{alert.condition.name.lower()}",
        },
        "startsAt": _time(alert.since),
        "endsAt": _time(alert.ended) if over and alert.ended is not None else NOT_YET,
        "generatorURL": url and f"{url}/api/v1/alerts",
        "fingerprint": fingerprint(labels),
    }


def fingerprint(labels: Mapping[str, str]) -> str:
    """The same for the same labels, as long as one of Alertmanager's."""
    return sha256(repr(sorted(labels.items())).encode()).hexdigest()[:16]


def _common(each: list[dict[str, str]]) -> dict[str, str]:
    """What all of them have."""
    first, *others = each
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
