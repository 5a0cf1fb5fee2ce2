"""The access log as the configuration asks for it: its form, what it redacts, which routes are sampled."""

from __future__ import annotations

from gateway.config.model import Config
from gateway.logs.access_log import AccessLog, Sink, as_json
from gateway.logs.combined import CombinedLog
from gateway.logs.ecs import Ecs
from gateway.logs.sampling import ALL, Log, Sampled
from gateway.logs.text import ALWAYS_REDACTED, LoggedHeaders
from gateway.telemetry.observer import Reader


def access_log(config: Config, sink: Sink) -> Reader | None:
    """Reads finished calls and writes their lines; None for no log."""
    settings = config.logging
    if settings.access == "off":
        return None
    redacted = redacted_headers(config)
    log: Log
    if settings.access == "combined":
        log = CombinedLog(sink, redacted=redacted)
    else:
        render = as_json if settings.access == "json" else Ecs(service_of(config))
        headers = LoggedHeaders(settings.headers, redacted) if settings.headers else None
        log = AccessLog(sink, render=render, headers=headers, redacted=redacted)
    shares = {route.name: route.log for route in config.routes if route.log != ALL}
    return Sampled(log, shares).add if shares else log.add


def redacted_headers(config: Config) -> frozenset[bytes]:
    """Lowercase names of headers whose values are never shown: also those in which providers look for credentials."""
    providers = (getattr(each, "header", None) for each in config.auth.providers.values())
    named = [*config.logging.redact, *(name for name in providers if name)]
    return ALWAYS_REDACTED | {name.lower().encode() for name in named}


def service_of(config: Config) -> str:
    """The name by which traces and logs of one service find each other."""
    return config.tracing.service if config.tracing is not None else "resilient-gateway"
