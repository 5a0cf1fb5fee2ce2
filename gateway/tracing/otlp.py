"""OTLP/HTTP in its JSON mapping: requests to export spans, and what a collector says to them. Pure.

https://opentelemetry.io/docs/specs/otlp/#otlphttp; why JSON and why by hand: docs/decisions/0013.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import orjson

from gateway.tracing.spans import Span

PATH = "/v1/traces"

AGAIN = frozenset((429, 502, 503, 504))
"""What may be sent again; with every other status it must not be ("Failures", "Retryable Response Codes")."""

SCOPE = "gateway"


class Answer(NamedTuple):
    """What became of a request to the collector."""

    accepted: bool
    reason: str = ""
    """Why it was not accepted, or not whole; fit for a log."""
    again: bool = False
    """It may be sent again."""
    retry_after: float = 0.0
    """Seconds that the collector asks to be left alone."""
    rejected: int = 0
    """Spans that it has not taken, although it has accepted the request."""


def traces_url(base: str) -> str:
    """Where spans go: `base` itself when it says so already."""
    plain, question, query = base.partition("?")
    plain = plain.rstrip("/")
    return (plain if plain.endswith(PATH) else plain + PATH) + question + query


def around(resource: Mapping[str, str], version: str) -> tuple[bytes, bytes]:
    """What stands before and behind the encoded spans of a request."""
    attributes = [{"key": key, "value": {"stringValue": value}} for key, value in resource.items()]
    scope = {"name": SCOPE, "version": version}
    whole = orjson.dumps(
        {"resourceSpans": [{"resource": {"attributes": attributes}, "scopeSpans": [{"scope": scope, "spans": []}]}]}
    )
    before, brackets, behind = whole.rpartition(b"[]")
    return before + brackets[:1], brackets[1:] + behind


def encode(spans: list[Span]) -> bytes:
    """The spans of one call, to be joined with those of others by commas."""
    return orjson.dumps(spans)[1:-1]


def request(frame: tuple[bytes, bytes], encoded: Iterable[bytes]) -> bytes:
    """The body of a request."""
    before, behind = frame
    return before + b",".join(encoded) + behind


def partial_success(body: bytes) -> tuple[int, str]:
    """How many spans were rejected, and why; whatever is not in the right form says nothing."""
    try:
        answer = orjson.loads(body) if body else {}
        partial = answer["partialSuccess"]
        rejected, why = int(partial.get("rejectedSpans", 0)), partial.get("errorMessage")
        return max(0, rejected), why if isinstance(why, str) else ""
    except (AttributeError, KeyError, TypeError, ValueError):  # orjson.JSONDecodeError is a ValueError
        return 0, ""
