"""Every endpoint of the admin listener with its parameters, bodies and replies: the paths of its OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from gateway.admin.schemas import DURATION, FLAG, SHARE, TEXT, WHOLE, Schema, has, of, ref, several, takes

TIME_OR_UNIX = of({"type": ["string", "number"]}, "RFC 3339, or Unix seconds.")
EVENTS = "text/event-stream"


class Operation(NamedTuple):
    """What one method of one path does."""

    summary: str
    replies: Mapping[int, tuple[str, Schema]]
    """By status: the media type and what it is; an empty media type is JSON."""
    query: Mapping[str, Schema] = {}
    body: Schema | None = None
    problems: tuple[int, ...] = ()
    """Statuses besides those that every operation may have."""


def _says(status: int = 200, **members: Schema) -> dict[int, tuple[str, Schema]]:
    return {status: ("", has(**members))}


def _is(name: str, status: int = 200) -> dict[int, tuple[str, Schema]]:
    return {status: ("", ref(name))}


FILTERS = {
    "route": of(TEXT, "Only this one; empty: those that no route took."),
    "consumer": of(TEXT, "Only this one; empty: anonymous callers."),
    "status": of(TEXT, "Such as 404, 5xx or 400-499."),
    "method": TEXT,
    "min_ms": of({"type": "number"}, "Only what took so long."),
    "path": of(TEXT, "What it begins with."),
    "code": of(TEXT, "The reason code."),
}
TARGET = takes(target=of(TEXT, "A target's URL; absent: all of the upstream."))

OPERATIONS: Mapping[str, Operation] = {
    "GET /metrics": Operation("All metrics, for Prometheus", {200: ("text/plain", TEXT)}),
    "GET /healthz": Operation("Whether the process lives", _is("Status")),
    "GET /readyz": Operation("Whether it should get traffic", {**_is("Status"), **_is("Status", 503)}),
    "GET /.well-known/jwks.json": Operation(
        "The public key of the tokens that the gateway signs",
        {200: ("application/jwk-set+json", has(keys=several({"type": "object"})))},
        problems=(404,),
    ),
    "GET /dashboard": Operation("The dashboard's page", {200: ("text/html", TEXT)}),
    "GET /api/v1/openapi.json": Operation("This document", {200: ("", {"type": "object"})}),
    "GET /api/v1/config": Operation("The configuration in force", _is("Configuration")),
    "POST /api/v1/reload": Operation(
        "Read the configuration again, and put it into force in all workers or not at all",
        _is("Reloaded"),
        body=takes(),
        problems=(500, 503),
    ),
    "POST /api/v1/drain": Operation(
        "Stop the gateway, as SIGTERM does", _is("Status", 202), body=takes(), problems=(503,)
    ),
    "GET /api/v1/routes": Operation(
        "Routes as they were built, with their stages",
        _says(routes=several(ref("Route"))),
        {"route": of(TEXT, "Only this one."), "method": of(TEXT, "Whose request meets the stages.")},
        problems=(404, 422),
    ),
    "GET /api/v1/limits": Operation(
        "Rate limits, who uses them, and what they decided",
        _says(limits=several(ref("Limit")), store=has(url=TEXT, up={"type": ["boolean", "null"]})),
        problems=(422,),
    ),
    "GET /api/v1/log-level": Operation("How much the gateway says", _is("LogLevel"), problems=(422,)),
    "PUT /api/v1/log-level": Operation(
        "Another level in all processes, until a reload or a restart",
        _is("LogLevel"),
        body=takes(("level",), level={"type": "string", "enum": ["debug", "info", "warning", "error"]}),
        problems=(503,),
    ),
    "GET /api/v1/keys": Operation("API keys", _says(keys=several(ref("Key")), durable=FLAG)),
    "POST /api/v1/keys": Operation(
        "Make an API key",
        _is("NewKey", 201),
        body=takes(("consumer",), consumer=TEXT, expires=DURATION, note=TEXT),
        problems=(409, 503),
    ),
    "POST /api/v1/keys/{id}/rotate": Operation(
        "Another key in the place of this one",
        _is("NewKey", 201),
        body=takes(overlap=of(DURATION, "How long the old one stays valid; absent: 1d.")),
        problems=(404, 409, 503),
    ),
    "DELETE /api/v1/keys/{id}": Operation(
        "Withdraw a key", _says(revoked=ref("Key")), body=takes(), problems=(404, 503)
    ),
    "GET /api/v1/revocations": Operation(
        "What is revoked", _says(revocations=several(ref("Revocation")), durable=FLAG, in_force=FLAG)
    ),
    "POST /api/v1/revocations": Operation(
        "Refuse tokens and consumers from now on",
        _is("Revocation", 201),
        body=takes(jti=TEXT, consumer=TEXT, issued_before=TIME_OR_UNIX, provider=TEXT, **{"for": DURATION}),
        problems=(409, 503),
    ),
    "DELETE /api/v1/revocations/{id}": Operation(
        "Lift a revocation", _says(lifted=ref("Revocation")), body=takes(), problems=(404, 503)
    ),
    "GET /api/v1/usage": Operation(
        "Who has called what, how often",
        _is("Usage"),
        {
            "from": TIME_OR_UNIX,
            "to": TIME_OR_UNIX,
            "unit": {"type": "string", "enum": ["hours", "days"]},
            "by": of(TEXT, "Some of consumer,route,version."),
            "limit": {**WHOLE, "minimum": 1, "maximum": 1000},
            "route": TEXT,
            "consumer": TEXT,
            "version": TEXT,
            "deprecated": {"type": "string", "enum": ["true", "false"]},
        },
        problems=(409, 422, 503),
    ),
    "GET /api/v1/upstreams": Operation(
        "Upstreams with their targets, health, circuits and connections", _says(upstreams=several(ref("Upstream")))
    ),
    "GET /api/v1/circuits": Operation("Circuits, and what happened to them", _is("Circuits")),
    "POST /api/v1/circuits/{upstream}/open": Operation(
        "Hold circuits open in all workers", _is("Held"), body=TARGET, problems=(404, 409, 503)
    ),
    "POST /api/v1/circuits/{upstream}/close": Operation(
        "Close circuits, with nothing counted", _is("Held"), body=TARGET, problems=(404, 409, 503)
    ),
    "GET /api/v1/faults": Operation("Rehearsals under way", _says(faults=several(ref("Fault")))),
    "POST /api/v1/faults": Operation(
        "Begin a rehearsal of failures",
        _is("Fault", 201),
        body=takes(
            ("route", "share", "for"),
            route=TEXT,
            share=SHARE,
            status={**WHOLE, "minimum": 400, "maximum": 599},
            delay=DURATION,
            **{"for": of(DURATION, "An hour at most.")},
        ),
        problems=(409, 503),
    ),
    "DELETE /api/v1/faults": Operation(
        "End all rehearsals", _says(stopped=several(ref("Fault"))), body=takes(), problems=(503,)
    ),
    "DELETE /api/v1/faults/{id}": Operation(
        "End a rehearsal", _says(stopped=several(ref("Fault"))), body=takes(), problems=(404, 503)
    ),
    "GET /api/v1/probes": Operation("Probes, and what they found last", _says(probes=several(ref("Probe")))),
    "GET /api/v1/alerts": Operation("Alerts, pending and firing", _says(alerts=several(ref("Alert")))),
    "GET /api/v1/errors": Operation(
        "What went wrong last, with what it means",
        _says(errors=several(ref("Request"))),
        {**FILTERS, "limit": {**WHOLE, "minimum": 1, "maximum": 200}},
        problems=(422,),
    ),
    "GET /api/v1/slowest": Operation(
        "What took longest of late", _says(slowest=several(ref("Request"))), problems=(422,)
    ),
    "GET /api/v1/tail": Operation(
        "The access log as it is written, one JSON object for each event",
        {200: (EVENTS, TEXT)},
        FILTERS,
        problems=(422, 503),
    ),
    "GET /api/v1/live": Operation(
        "The whole state once a second: events `state`, whose data are as components/schemas/Live",
        {200: (EVENTS, TEXT)},
        problems=(503,),
    ),
}
