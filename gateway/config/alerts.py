"""`alerts`: when something is worth a notification, and whom the gateway itself tells of it (a webhook)."""

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainValidator, SecretStr, WithJsonSchema

from gateway.config.complaints import show
from gateway.config.fields import Duration, DurationOrZero, SecretHeaders, Section, Text
from gateway.config.keys import url
from gateway.config.syntax import text

LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
"""What Prometheus takes for a label's name."""
OWN = ("alertname", "severity")
DAY = 86400.0


def _label(value: object) -> str:
    if not LABEL.fullmatch(text(value)):
        raise ValueError(f"{show(value)} is not the name of a label: letters, digits and _")
    if value in OWN:
        raise ValueError(f"{show(value)} is what every alert says of itself")
    return str(value)


Webhook = Annotated[SecretStr, BeforeValidator(url)]
"""Never shown: many a webhook's URL is its own key."""
LabelName = Annotated[str, PlainValidator(_label), WithJsonSchema({"type": "string", "pattern": f"^{LABEL.pattern}$"})]


class Alerts(Section):
    """What the gateway finds wrong with itself; for those without Prometheus and Alertmanager."""

    webhook: Webhook | None = None
    """Is sent what Alertmanager sends to its webhooks. Absent: alerts are only shown."""
    headers: SecretHeaders = Field(default_factory=dict)
    """For the webhook."""
    labels: dict[LabelName, Text] = Field(default_factory=dict)
    """Added to each alert, to tell gateways apart. `instance` is the machine's name unless it is here."""
    after: DurationOrZero = 60.0
    """How long something must be wrong before it is news."""
    repeat: Duration = 4 * 3600.0
    """Tell once more of what is still wrong."""
    certificate: Duration = 14 * DAY
    """Before its end."""
    runbook: Text = "https://resilient-gateway.example/docs/runbook.md"
    """Where your copy of docs/runbook.md is: alerts name their place in it."""
