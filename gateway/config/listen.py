"""`listen`, `store`, `wire` and `logging`: where the gateway listens, what it shares, its limits, its log."""

import re
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema, model_validator

from gateway.config.fields import (
    Address,
    Duration,
    Fault,
    Or,
    OrOne,
    Section,
    Size,
    SizeOrZero,
    Text,
    Whole,
    one_or_more,
    refuse,
)
from gateway.config.syntax import Address as Where
from gateway.config.syntax import split_authority, text

DEFAULT_BODY_LIMIT = 10 * 1024**2
REDIS = re.compile(r"(rediss?)://(?:[^@/?#]*@)?([^@/?#]+)(/[0-9]{0,5})?")


def _off(value: object) -> object:
    return None if value == "off" or value is False else value


def _store_url(value: object) -> str:
    """memory, or Redis by URL. Never quoted in a message: it may carry a password."""
    if value == "memory":
        return "memory"
    if not (found := REDIS.fullmatch(text(value))):
        raise ValueError("is neither memory nor a URL such as redis://host:6379/0 or rediss://user:password@host/0")
    try:
        split_authority(found[2])
    except ValueError:
        raise ValueError("has no valid host and port") from None
    return str(value)


def _without_password(url: str) -> str:
    return re.sub("//.*@", "//***@", url)


Urls = Annotated[tuple[Address, ...], Field(min_length=1), BeforeValidator(one_or_more), OrOne()]


class Listen(Section):
    """Where the gateway listens."""

    http: Urls = (Where("127.0.0.1", 8080),)
    """For clients: host:port, [::1]:port, unix:path, or a list of them. Port 0 takes any free one."""
    admin: Annotated[Address | None, BeforeValidator(_off), Or(enum=["off", False])] = Where("127.0.0.1", 9901)
    """For operators: /metrics, /healthz, /readyz. `off` for none."""

    @model_validator(mode="after")
    def _apart(self) -> Self:
        taken = [address for address in self.http if address.path or address.port]
        faults: list[Fault] = [] if len(taken) == len(set(taken)) else [(("http",), "an address is here twice")]
        if self.admin in taken:
            part = "admin" if "admin" in self.model_fields_set else "http"
            faults.append(((part,), "clients and operators cannot be served at the same address"))
        refuse(faults)
        return self


class Store(Section):
    """Where the counters of rate limits live."""

    url: Annotated[
        str,
        PlainValidator(_store_url),
        PlainSerializer(_without_password),
        WithJsonSchema({"type": "string", "pattern": "^(?:memory|rediss?://.+)$"}),
        Field(repr=False),
    ] = "memory"
    """memory (this process alone), redis://host:6379/0 or rediss://…"""
    on_failure: Literal["local", "open", "closed"] = "local"
    """While the store is away: count in this process, let everything pass, or refuse."""
    timeout: Duration = 0.05
    """The longest that one check may wait for the store."""
    prefix: Text = "gw:"
    """In front of every key, so that several gateways can share a store."""


class Wire(Section):
    """Limits of the HTTP listener."""

    header_limit: Size = 32 * 1024
    """Largest request head; beyond it 431."""
    target_limit: Size = 8 * 1024
    """Longest request target; beyond it 414."""
    body_limit: SizeOrZero = DEFAULT_BODY_LIMIT
    """Largest request body; beyond it 413. A route may set its own, or none."""
    connections: Whole = 10_000
    """Client connections at a time."""
    header_timeout: Duration = 10.0
    """For a whole request head; then 408."""
    body_timeout: Duration = 30.0
    """Between two pieces of a request body; then 408."""
    idle_timeout: Duration = 75.0
    """For a kept-alive connection without a request."""
    drain_timeout: Duration = 30.0
    """For requests under way when the gateway stops."""


class Logging(Section):
    """What is logged."""

    access: Literal["json", "off"] = "json"
    """One line for each request, or none."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important messages of the gateway itself that are written."""
