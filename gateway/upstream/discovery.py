"""What DNS says about an upstream, as targets, and when to ask again. Pure.

Addresses are asked for (A, and AAAA where a name has none of those: a machine with both must not count twice), or
services (SRV, RFC 2782) whose names are resolved in the same place. The time to live of an answer is respected.
"""

from dataclasses import dataclass
from typing import Literal

from gateway.upstream.notices import Found

MOST = 1000
"""Targets of one upstream; the rest is left out."""

MOST_WEIGHT = 1000
"""As in the configuration. Services have weights up to 65535, which mean only what they are to each other."""

LEAST_PAUSE = 1.0
"""Seconds between two questions, also where an answer is said to hold for none."""

MOST_PAUSE = 30.0
"""Seconds between two questions that find no answer."""


@dataclass(frozen=True, slots=True)
class Discovery:
    """Where the targets of an upstream are asked for."""

    dns: str
    """The name."""
    port: int = 0
    """Of all targets; services bring their own."""
    kind: Literal["a", "srv"] = "a"
    scheme: str = "http"
    refresh: float = 10.0
    """Seconds after which to ask again, where an answer holds for longer."""
    server: str = ""
    """host:port of the DNS server; "" for what the system uses."""


class LookupFailed(Exception):
    """There is no answer that counts; says why."""


@dataclass(frozen=True, slots=True)
class Record:
    """An address at which the service is."""

    address: str
    port: int
    weight: int = 1
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the DNS said, and for how many seconds that holds."""

    records: tuple[Record, ...]
    ttl: float


def targets(records: tuple[Record, ...], scheme: str) -> tuple[Found, ...]:
    """The best of them, each once, in an order that does not change by itself."""
    usable = [record for record in records if record.port]
    most = max((record.weight for record in usable), default=0)
    scale = min(1.0, MOST_WEIGHT / most) if most else 1.0
    found: dict[str, Found] = {}
    for record in sorted(usable, key=lambda each: (each.priority, -each.weight)):
        host = f"[{record.address}]" if ":" in record.address else record.address
        url = f"{scheme}://{host}:{record.port}"
        # A weight of 0 is "very small" by the RFC, not nothing.
        found.setdefault(url, Found(url, max(1, round(record.weight * scale)), record.priority))
    return tuple(sorted(found.values(), key=lambda each: (each.priority, each.url))[:MOST])


def pause(refresh: float, ttl: float, fall: float) -> float:
    """Seconds until the next question; `fall` is a dice's, from 0 to 1: many gateways do not ask at the same time."""
    return max(LEAST_PAUSE, min(refresh, ttl) * (1.0 - 0.1 * fall))


def pause_after(failures: int, fall: float) -> float:
    """The same after so many questions in a row that found no answer."""
    longest = min(MOST_PAUSE, LEAST_PAUSE * 2.0 ** min(failures - 1, 10))
    return max(LEAST_PAUSE, longest * (1.0 - 0.1 * fall))


def certified_name(dns: str) -> str:
    """The name that certificates of discovered targets must have: what was asked for, without service and protocol.

    Not the name that an answer gave (RFC 6125 6.2.1): who can forge an answer could choose it.
    """
    labels = dns.rstrip(".").split(".")
    return ".".join(label for label in labels if not label.startswith("_"))


def addresses_in(hosts: str, name: str) -> tuple[str, ...]:
    """The addresses of a name in a hosts file; IPv6 only where there are no others."""
    wanted = name.rstrip(".").lower()
    found: list[str] = []
    for line in hosts.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        if wanted in (each.lower() for each in names):
            found.append(address)
    return tuple([each for each in found if ":" not in each] or found)
