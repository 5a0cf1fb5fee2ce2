"""What the admin API says and takes, as JSON Schema (2020-12): the components of its OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
WHOLE: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
TIME: Schema = {"type": "string", "format": "date-time"}
ANYTHING: Schema = {"type": "object"}


def ref(name: str) -> Schema:
    """One of SCHEMAS."""
    return {"$ref": f"#/components/schemas/{name}"}


def of(schema: Schema, about: str, **more: Any) -> Schema:
    """The same with a description."""
    return {**schema, "description": about, **more}


def null(schema: Schema, about: str = "") -> Schema:
    """Or null."""
    either = {**schema, "type": [schema["type"], "null"]} if "type" in schema else {"anyOf": [schema, {"type": "null"}]}
    return of(either, about) if about else either


def several(schema: Schema, about: str = "") -> Schema:
    """A list of these."""
    return of({"type": "array", "items": schema}, about) if about else {"type": "array", "items": schema}


def by_name(schema: Schema, about: str = "") -> Schema:
    """A mapping to these."""
    mapping = {"type": "object", "additionalProperties": schema}
    return of(mapping, about) if about else mapping


def has(*optional: str, **members: Schema) -> Schema:
    """An object with all of these members, but perhaps not the optional ones."""
    required = [name for name in members if name not in optional]
    return {"type": "object", "properties": members, **({"required": required} if required else {})}


def takes(needed: tuple[str, ...] = (), /, **members: Schema) -> Schema:
    """What a body may have, and nothing else."""
    closed = {"type": "object", "properties": members, "additionalProperties": False}
    return {**closed, "required": list(needed)} if needed else closed


DURATION = of(TEXT, "Such as 500ms, 30s, 12h or 30d.")
SHARE = of(TEXT, "Such as 5%.")
CODE = of(TEXT, "Stable; each one is explained in docs/problems.md.")
ENDS_OF_VERSION = {"deprecated": null(TIME), "sunset": null(TIME), "successor": null(TEXT)}
KEY = {"id": TEXT, "key": of(TEXT, "Shown this once."), "hash": TEXT, "consumer": TEXT, "expires": null(TIME)}
DURABLE = of(FLAG, "False: it is gone when the gateway stops.")
CIRCUIT = null({"type": "string", "enum": ["closed", "half-open", "open"]}, "The worst of all workers'.")
FIGURES = {
    "calls": WHOLE,
    "errors": WHOLE,
    "refused": WHOLE,
    "error_share": NUMBER,
    "refused_share": NUMBER,
    "average_ms": NUMBER,
}
RATES = {"rate": of(NUMBER, "Per second."), "error_rate": NUMBER}
TIMES = {name: null(NUMBER) for name in ("p50_ms", "p95_ms", "p99_ms")}
HOP = has(stage=TEXT, name=TEXT, outcome=TEXT, at_ms=NUMBER, took_ms=NUMBER)

SCHEMAS: Mapping[str, Schema] = {
    "Problem": has(
        "detail",
        "errors",
        type={"type": "string", "format": "uri"},
        title=TEXT,
        status=WHOLE,
        code=CODE,
        detail=TEXT,
        errors=several(TEXT, "Each complaint about a configuration, with file, line and column."),
    )
    | {"description": "Problem details (RFC 9457)."},
    "Configuration": has(hash=TEXT, config=of(ANYTHING, "Every default filled in, secrets hidden.")),
    "Reloaded": has(reloaded=FLAG, hash=TEXT, took_ms=NUMBER, workers=WHOLE),
    "Status": has("reasons", status=TEXT, reasons=several(TEXT)),
    "Key": has(
        id=null(TEXT, "Null for a key of the configuration."),
        consumer=TEXT,
        hash=of(TEXT, "Its beginning."),
        source={"type": "string", "enum": ["config", "store"]},
        created=null(TIME),
        expires=null(TIME),
        note=TEXT,
    ),
    "NewKey": has("replaces", **KEY, durable=DURABLE, replaces=has(id=TEXT, expires=null(TIME))),
    "Revocation": has(
        "durable",
        "hint",
        id=TEXT,
        jti=null(TEXT, "Null is any; likewise the next ones."),
        consumer=null(TEXT),
        provider=null(TEXT),
        issued_before=null(TIME),
        created=TIME,
        expires=null(TIME),
        durable=DURABLE,
        hint=of(TEXT, "Where the consumer is not configured, but nearly one is."),
    ),
    "Usage": has(
        **{"from": TIME, "to": TIME},
        unit=TEXT,
        kept_since=TIME,
        durable=FLAG,
        by=several(TEXT),
        total=has(**FIGURES),
        groups=WHOLE,
        rows=several(
            has(
                *("label", "consumer", "route", "version", *ENDS_OF_VERSION),
                **{"label": TEXT, "consumer": TEXT, "route": TEXT, "version": TEXT, **ENDS_OF_VERSION, **FIGURES},
            )
        ),
    ),
    "Upstream": has(
        name=TEXT,
        balance=of({}, "As configured."),
        targets=several(
            has(
                url=TEXT,
                weight=WHOLE,
                priority=WHOLE,
                discovered=FLAG,
                healthy=of(FLAG, "As probes found it."),
                ejected=null(FLAG, "Some worker has set it aside."),
                circuit=CIRCUIT,
                held=FLAG,
            )
        ),
        connections=has(busy=null(WHOLE), idle=null(WHOLE)),
    ),
    "Circuits": has(
        circuits=several(has(upstream=TEXT, target=null(TEXT), state=CIRCUIT, held=FLAG)),
        events=several(
            has(at=TIME, upstream=TEXT, target=null(TEXT), to=TEXT, times=WHOLE), "The last 100, the newest first."
        ),
    ),
    "Held": has(upstream=TEXT, target=null(TEXT, "Null: all of the upstream."), held=FLAG),
    "Fault": has(
        id=TEXT,
        route=TEXT,
        share=SHARE,
        status=null(WHOLE),
        delay=null(DURATION),
        until=TIME,
        left=of(WHOLE, "Seconds."),
    ),
    "Route": has(
        name=TEXT,
        match=has(
            host=null(TEXT, "Null: every host."),
            methods=null(several(TEXT), "Null: every method."),
            path=TEXT,
            headers=several(TEXT, "Names of those that must have a certain value."),
            query=several(TEXT, "Likewise."),
        ),
        precedence=has(
            position=of(WHOLE, "In the order in which routes are preferred, from 1."),
            behind=several(TEXT, "Routes that come first for some of its requests, ten at most."),
        ),
        access=of(TEXT, "Who may call it."),
        priority=TEXT,
        body_limit=null(WHOLE, "Bytes; null for none."),
        limits=several(TEXT, "Names, as in /api/v1/limits."),
        slo=null(has(availability=null(NUMBER), latency=null(has(p=NUMBER, under_ms=NUMBER)))),
        method=of(TEXT, "Whose request meets these stages."),
        stages=several(ref("Stage"), "In the order in which a request meets them."),
        upstreams=several(has(name=TEXT, targets=several(TEXT))),
        split=null(by_name(WHOLE), "Upstreams and their weights."),
        versions=null(
            several(has(name=TEXT, upstreams=several(TEXT), **ENDS_OF_VERSION, after_sunset=TEXT, link=null(TEXT)))
        ),
        redirect=null(has(status=WHOLE, to=TEXT)),
        respond=null(has(status=WHOLE)),
    ),
    "Stage": has(
        part={"type": "string", "enum": ["door", "road"]},
        stage=TEXT,
        settings=of(TEXT, "In short."),
        upstream=null(TEXT, "On whose way it stands, where there are several."),
        why=of(TEXT, "Why it is there, and there."),
    ),
    "Limit": has(
        name=TEXT,
        shared=of(FLAG, "It stands in rate_limits, for any route to use."),
        by=several(TEXT),
        limit=of(TEXT, "Such as 100/60s."),
        burst=null(WHOLE),
        algorithm=TEXT,
        time_zone=null(TEXT),
        tiers=by_name(has(limit=TEXT, burst=null(WHOLE))),
        cost=by_name(WHOLE, "By method."),
        mode={"type": "string", "enum": ["enforce", "observe"]},
        on_failure=of(TEXT, "While the store is away."),
        lease=null(WHOLE),
        summary=TEXT,
        routes=several(TEXT),
        decisions=by_name(WHOLE, "How many of each there were: allowed, refused, observed, local, open, closed."),
    ),
    "LogLevel": has(level=of(TEXT, "Now."), configured=of(TEXT, "From the next reload on.")),
    "Probe": has(
        name=TEXT,
        path=TEXT,
        method=TEXT,
        up=null(FLAG),
        last=null(has(at=TIME, result=TEXT, status=null(WHOLE), took_ms=null(NUMBER), detail=null(TEXT))),
        runs=WHOLE,
        every={},
    ),
    "Alert": has(name=TEXT, state=TEXT, since=null(TIME), labels=by_name(TEXT), summary=TEXT, description=TEXT),
    "Request": has(
        at=TIME,
        id=TEXT,
        method=null(TEXT),
        path=null(TEXT),
        route=null(TEXT),
        version=null(TEXT),
        consumer=null(TEXT),
        provider=null(TEXT),
        status=WHOLE,
        code=null(TEXT),
        reason=null(TEXT),
        detail=null(TEXT, "What the client was told."),
        duration_ms=NUMBER,
        own_ms=NUMBER,
        upstream=null(TEXT),
        target=null(TEXT),
        tries=WHOLE,
        limit=null(TEXT),
        auth=null(TEXT),
        fallback=null(TEXT),
        client=TEXT,
        trace_id=null(TEXT),
        bytes_in=WHOLE,
        bytes_out=WHOLE,
        explanation=of(TEXT, "What that means, and where to look."),
        hops=several(HOP),
    ),
    "Live": has(
        at=TIME,
        instance=ANYTHING,
        totals=has(requests=WHOLE, errors=WHOLE, ended=WHOLE, **RATES, **TIMES, bytes_in=WHOLE, bytes_out=WHOLE),
        routes=several(has(name=TEXT, requests=WHOLE, errors=WHOLE, refused=WHOLE, **RATES, **TIMES)),
        statuses=by_name(WHOLE, "By class, 2xx and so on."),
        reasons=several(has(route=TEXT, reason=TEXT, count=WHOLE, rate=NUMBER)),
        upstreams=several(ANYTHING),
        consumers=several(has(name=TEXT, requests=WHOLE, rate=NUMBER, errors=WHOLE, refused=WHOLE)),
        probes=several(ref("Probe")),
        alerts=several(ref("Alert")),
        slo=several(ANYTHING),
        errors=several(ref("Request")),
        slowest=several(ref("Request")),
    ),
}
