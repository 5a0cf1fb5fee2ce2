"""`tracing`: which requests are recorded as traces, and where their spans go."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema, field_validator

from gateway.config.fields import Duration, Or, SecretHeaders, Section, Share, Text
from gateway.config.keys import url

Collector = Annotated[str, PlainValidator(url), WithJsonSchema({"type": "string", "pattern": "^https?://"})]


def _off(value: object) -> object:
    return None if value == "off" or value is False else value


class Tracing(Section):
    """Traces (W3C Trace Context), exported by OTLP/HTTP. Absent: none, and their headers pass like any others."""

    otlp: Collector
    """The collector, e.g. http://127.0.0.1:4318. Spans go to /v1/traces there, unless the URL ends so itself."""
    sample: Share = 0.1
    """Of the traces that begin here, this share is recorded whatever happens."""
    parent: Literal["always", "trusted", "never"] = "always"
    """Whose word counts on whether a trace is recorded: that of every client, of `trusted_proxies`, of nobody."""
    slow: Annotated[Duration | None, BeforeValidator(_off), Or(enum=["off", False])] = 1.0
    """What takes longer, and what ends with 5xx, is recorded in any case. `off`: only what ends with 5xx."""
    service: Text = "resilient-gateway"
    """The `service.name` of the spans."""
    headers: SecretHeaders = Field(default_factory=dict)
    """For the collector: credentials. Never shown."""

    @field_validator("headers", mode="after")
    @classmethod
    def _no_type(cls, headers: SecretHeaders) -> SecretHeaders:
        if any(name.lower() == "content-type" for name in headers):
            raise ValueError("Content-Type is written by the gateway itself")
        return headers

    @field_validator("service", mode="after")
    @classmethod
    def _a_name(cls, service: str) -> str:
        if not service:
            raise ValueError("is empty: it must be the name under which traces are found")
        return service
