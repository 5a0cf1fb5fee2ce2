"""From the configuration to a tracer and its exporter, which outlives a reload that does not concern it."""

from __future__ import annotations

import math
import socket

from gateway import __version__
from gateway.config.model import Config
from gateway.config.tracing import Tracing
from gateway.parts import Parts
from gateway.telemetry.tally import Children, Counter
from gateway.tracing.exporter import Exporter
from gateway.tracing.otlp import around, traces_url
from gateway.tracing.tracer import Tracer


def tracer(config: Config, instance: str, counted: Children[Counter], parts: Parts) -> Tracer | None:
    """None when nothing is traced. `counted` are spans, by what became of them."""
    settings = config.tracing
    if settings is None:
        return None
    return Tracer(
        _exporter(settings, instance, counted, parts).put,
        share=settings.sample,
        parent=settings.parent,
        slow=math.inf if settings.slow is None else settings.slow,
        paths={route.name: route.match.path for route in config.routes},
    )


def _exporter(settings: Tracing, instance: str, counted: Children[Counter], parts: Parts) -> Exporter:
    headers = {name: value.get_secret_value() for name, value in settings.headers.items()}
    url = traces_url(settings.otlp)

    def make() -> Exporter:
        # Here, not at the top: without traces no worker needs aiohttp, which takes 0.2 s to import.
        from gateway.tracing.collector import Collector

        resource = {
            "service.name": settings.service,
            "service.version": __version__,
            "service.instance.id": instance,
            "host.name": socket.gethostname(),
        }
        exported, dropped = counted.child("exported"), counted.child("dropped")
        frame = around(resource, __version__)
        return Exporter(Collector(url, headers), frame, exported=exported.inc, dropped=dropped.inc)

    return parts.get(("spans", url, tuple(headers.items()), settings.service), make)
