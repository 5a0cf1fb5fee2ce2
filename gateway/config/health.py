"""How an upstream's targets are found, chosen, watched and set aside (keys of `upstreams.NAME`)."""

import re
from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Discriminator, Field, PlainValidator, Tag, WithJsonSchema, model_validator

from gateway.config import units
from gateway.config.complaints import cut, show
from gateway.config.fields import (
    AsWhole,
    Duration,
    Fault,
    Flag,
    OrOne,
    PositiveShare,
    Section,
    Whole,
    one_or_more,
    refuse,
)
from gateway.config.limits import STICKY, sticky
from gateway.config.syntax import host_header, hostname, split_authority, text

MOST_HEDGES = 5
PERCENTILE = re.compile(r"p(5\d|[6-9]\d)")
STATUSES = re.compile(r"([1-5]\d\d)-([1-5]\d\d)")
DNS = 53


class Percentile(int):
    """Of the times that replies have lately taken: `p95` is 95."""

    def __str__(self) -> str:
        return f"p{int(self)}"


class StatusRange(NamedTuple):
    """Both ends belong to it."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}" if self.first != self.last else str(self.first)


def after(value: object) -> float | Percentile:
    """When a late answer is late enough."""
    if isinstance(value, str) and (found := PERCENTILE.fullmatch(value)):
        return Percentile(found[1])
    try:
        return units.positive_duration(value)
    except ValueError:
        raise ValueError(f"{show(value)} is neither a duration such as 200ms nor p50 to p99") from None


def _statuses(value: object) -> StatusRange:
    """`200-299`, or a single one."""
    if isinstance(value, str) and (found := STATUSES.fullmatch(value)):
        first, last = int(found[1]), int(found[2])
        if first <= last:
            return StatusRange(first, last)
    elif re.fullmatch(r"[1-5]\d\d", "" if isinstance(value, bool) else str(value), re.ASCII):
        return StatusRange(int(str(value)), int(str(value)))
    raise ValueError(f"{show(value)} is neither a status nor a range of them such as 200-299")


def _path(value: object) -> str:
    if not re.fullmatch(r"/[\x21-\x22\x24-\x7e]*", text(value)):
        raise ValueError(f"{show(value)} is not a path such as /healthz")
    return str(value)


def _dns_name(value: object) -> str:
    """A name; with a dot at its end the search list of the system is left alone."""
    name = hostname(cut(text(value), text(value).removesuffix(".")))
    if re.fullmatch(r"[0-9.]+|\[.*\]", name):
        raise ValueError(f"{show(value)} is an address, not a name: name it in targets")
    return name + "." * text(value).endswith(".")


def _server(value: object) -> str:
    host, port = split_authority(text(value))
    if port == 0:
        raise ValueError("port 0 cannot be asked")
    return f"{f'[{host}]' if ':' in host else host}:{port or DNS}"


After = Annotated[
    float | Percentile,
    PlainValidator(after),
    WithJsonSchema({"type": "string", "pattern": f"^(?:{units.DURATION}|{PERCENTILE.pattern})$"}),
]
OneOrRange = Annotated[
    StatusRange,
    PlainValidator(_statuses),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^[1-5]\d\d(?:-[1-5]\d\d)?$"},
                {"type": "integer", "minimum": 100, "maximum": 599},
            ]
        }
    ),
]
Statuses = Annotated[tuple[OneOrRange, ...], Field(min_length=1), BeforeValidator(one_or_more), OrOne()]
Sticky = Annotated[
    str, PlainValidator(sticky), WithJsonSchema({"type": "string", "pattern": f"^(?:{STICKY.pattern})$"})
]
ProbePath = Annotated[
    str, PlainValidator(_path), WithJsonSchema({"type": "string", "pattern": r"^/[\x21-\x22\x24-\x7e]*$"})
]
DnsName = Annotated[str, PlainValidator(_dns_name), WithJsonSchema({"type": "string"})]
NameServer = Annotated[str, PlainValidator(_server), WithJsonSchema({"type": "string"})]
ProbeHost = Annotated[str, PlainValidator(host_header), WithJsonSchema({"type": "string"})]


class Hash(Section):
    """The same key leads to the same target, as long as that one is well and not overloaded."""

    hash: Sticky
    """consumer, ip, header:NAME, cookie:NAME, query:NAME or claim:PATH."""


def _kind_of_balance(value: object) -> str:
    return "(hash)" if isinstance(value, (dict, Hash)) else "(name)"


Balance = Annotated[
    Annotated[Literal["round_robin", "least_requests", "random", "peak_ewma"], Tag("(name)")]
    | Annotated[Hash, Tag("(hash)")],
    Discriminator(_kind_of_balance),
]


class Hedge(Section):
    """Ask a second target when the first does not answer soon; the first good answer wins."""

    after: After
    """A time, or p50 to p99 of the times that replies have lately taken."""
    max: Annotated[int, Field(ge=1, le=MOST_HEDGES), AsWhole] = 1
    """How many more tries may run beside the first."""

    def __eq__(self, other: object) -> bool:
        # As numbers p95 and 95s are the same, and whoever is equal is kept by a reload.
        return super().__eq__(other) and isinstance(other, Hedge) and type(self.after) is type(other.after)


class SlowCalls(Section):
    """Slow answers open the circuit as well."""

    over: Duration
    """A try that takes longer is slow."""
    rate: PositiveShare = 0.8
    """Within `window`, once there were `minimum_requests`."""


BY_HTTP = ("path", "expect", "host")
"""What says nothing where a probe only connects."""


class Health(Section):
    """Ask each target now and then whether it is well; one prober per machine."""

    path: ProbePath | None = None
    """What is asked for with GET."""
    tcp: Flag = False
    """Only connect."""
    interval: Duration = 5.0
    timeout: Duration = 1.0
    healthy_after: Whole = 2
    """Good probes in a row."""
    unhealthy_after: Whole = 3
    """Bad probes in a row."""
    expect: Statuses = (StatusRange(200, 299),)
    """Statuses of a good probe: 200-299, 204, or a list."""
    host: ProbeHost | None = None
    """The Host header of probes. Absent: the target's host."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        refuse([*self._faults()])
        return self

    def _faults(self) -> Iterator[Fault]:
        if not self.tcp and self.path is None:
            yield (), "asks for nothing: give it a path, or tcp: true"
        for name in BY_HTTP if self.tcp else ():
            if name in self.model_fields_set:
                yield (name,), "has no effect beside tcp: true, which only connects"
        if self.timeout > self.interval:
            if "timeout" in self.model_fields_set:
                yield ("timeout",), "is longer than health.interval (5s unless set)"
            else:
                yield ("interval",), "is shorter than health.timeout (1s unless set)"


class Eject(Section):
    """Set aside a target whose tries fail one after the other."""

    consecutive_failures: Whole = 5
    for_: Duration = Field(default=30.0, alias="for")
    """Longer each time, up to ten times as long."""
    max_share: PositiveShare = 0.5
    """Never more of the targets than this."""


class Discover(Section):
    """Find the targets in the DNS instead of naming them."""

    dns: DnsName
    """The name; with a dot at its end the search list of the system is not tried."""
    type: Literal["a", "srv"] = "a"
    """Addresses (A, or AAAA where a name has none), or services (SRV), which tell port, priority and weight."""
    port: Annotated[int, Field(ge=1, le=65535), AsWhole] | None = None
    """For `type: a`. Absent: 80, or 443 with https."""
    scheme: Literal["http", "https"] = "http"
    refresh: Duration = 10.0
    """Ask again at least so often; earlier when the records' time to live is shorter."""
    server: NameServer | None = None
    """The name server, host:port. Absent: those of the system."""

    @model_validator(mode="after")
    def _port_of_use(self) -> Self:
        if self.type == "srv" and self.port is not None:
            refuse([(("port",), "has no effect: SRV records tell the port")])
        return self

    @property
    def target_port(self) -> int:
        """For `type: a`."""
        return self.port or (443 if self.scheme == "https" else 80)


class UpstreamQuota(Section):
    """The upstream's own limits, as its replies tell them."""

    respect: Flag = True
    """When nothing is left, ask no more until its reset."""
