"""`routes[].slo`: what share of a route's requests shall be answered, and how fast. Alerts watch how it is kept."""

from typing import Annotated, Self

from pydantic import AfterValidator, PlainValidator, WithJsonSchema, model_validator

from gateway.config import units
from gateway.config.complaints import show
from gateway.config.fields import Duration, Section, refuse

LEAST, MOST = 0.5, 0.99999
"""Below the first a promise is none. Above the second a request in 100,000 may fail: too few for anybody to count."""


def _promise(part: float) -> float:
    if not LEAST <= part <= MOST:
        raise ValueError("must be from 50% to 99.999%: nothing is always there, and alerts watch what may fail")
    return part


def percentile(value: object) -> float:
    """Of requests, as a share: 99 is 0.99."""
    try:
        number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else 0.0
    except ValueError:
        number = 0.0
    if not 50 <= number <= 99.99:
        raise ValueError(f"{show(value)} is not a percentile from 50 to 99.99")
    return float(f"{number:f}e-2")  # as written: 99.9 is 0.999


Availability = Annotated[
    float,
    PlainValidator(units.share),
    AfterValidator(_promise),
    WithJsonSchema({"type": "string", "pattern": f"^(?:{units.SHARE})$"}),
]
Percentile = Annotated[
    float, PlainValidator(percentile), WithJsonSchema({"type": "number", "minimum": 50, "maximum": 99.99})
]


class Latency(Section):
    """How many of the requests that are answered are answered in time."""

    p: Percentile
    """99: that share of them."""
    under: Duration
    """From the request's head to the first byte of the reply."""


class Slo(Section):
    """Service level objectives: each is one alert, and one share of requests that may miss it."""

    availability: Availability | None = None
    """The share of requests that are not answered with 5xx."""
    latency: Latency | None = None

    @model_validator(mode="after")
    def _promises_something(self) -> Self:
        if self.availability is None and self.latency is None:
            refuse([((), "needs availability, latency or both")])
        return self
