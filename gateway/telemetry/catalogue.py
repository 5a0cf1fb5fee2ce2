"""Writes docs/metrics.md: every metric with its labels and what they mean. `python -m gateway.telemetry.catalogue`.

What a metric is says its help text, which scrapes show, too; here is what else a reader should know.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from gateway.telemetry.collector import INSTANCE
from gateway.telemetry.exposition import BUILD_INFO
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tally import Family

INTRODUCTION = """\
# Metrics

This page is made by `make docs` from the code that counts; a test holds it to that. How to ask for metrics, and what to
ask of them, is in [observability.md](observability.md).

Labels come from the configuration or from short fixed lists, never from what a client sent, so the number of series is
bounded. `route` is `none` for requests that no route took. `target` is a target's URL; beyond 2,000 of them, which only
the DNS can bring, counters say `other`. All workers are one: what they counted is summed, with that of workers that
have ended, so that neither a worker's end nor a reload takes anything back ([decision
7](decisions/0007-shared-metrics.md)). Counters begin at zero when the gateway is started, or replaced by SIGUSR2; a
series appears when it is first counted. Gauges of workers are written four times a second, memory and descriptors every
five seconds.
"""

AFTERWORD = """\
## Exemplars

Where [tracing](tracing.md) is configured, a scrape in the OpenMetrics format shows for each bucket of
`gateway_request_duration_seconds` the last request of a recorded trace that fell into it: `# {trace_id="…"} value time`
behind the `_bucket` line. Prometheus keeps them with `--enable-feature=exemplar-storage`.

## Native histograms

There are none: Prometheus takes them in its protobuf format only, which prometheus-client for Python does not write.
It can carry such samples in OpenMetrics 2.0, a draft, but does not make them from observations. Classic buckets of the
bounds above are what one gets. A Prometheus of today makes native histograms with custom buckets of them when it is
told to (`convert_classic_histograms_to_nhcb`).

## Where the numbers are

In files of the [runtime directory](deployment.md), 32 KiB for some 250 histograms or 4000 counters per worker. Where
there is no room for a new series the log says so; requests are served all the same. A scrape of 1,000 routes, 100,000
lines, takes 0.15 s in a thread of the operator process, and 640 KB of network: it is compressed for who accepts gzip,
as Prometheus does.

A request is counted within 2 ms of its end, together with others: so much is missing of a worker that is killed. What
was counted before is in the files, and the worker that takes its place counts on: no counter goes backwards.
"""

GROUPS = {
    "gateway_requests_total": "Requests",
    "gateway_upstream_attempts_total": "Upstreams",
    "gateway_auth_total": "Stages",
    "gateway_connections": "The gateway itself",
}
"""Where each part of the list begins."""

NOTES = {
    "Requests": """\
`method` is one of the nine of RFC 9110 and RFC 5789, else `other`. `status_class` is `2xx`, `4xx`, …. `consumer` is the
configured consumer, else the provider that vouched for the caller, empty for anonymous ones. `version` is the
[version](versions.md) as the configuration names it, empty where a route has none or the request named none of them.
""",
    "Upstreams": """\
`outcome` is the status that the target replied, or how the try failed: `connect_failure`, `reset`, `timeout`,
`deadline_passed` (`total` was over), `cancelled` (the client left, or another try had won), or the problem code of what
came in between, such as `overloaded` or `request_timeout`. The `reason` of a retry is one of these. The `reason` of a
withheld one is `attempts` (used up), `deadline` (no time left), `budget` (used up), `method` (not safe to repeat) or
`body` (cannot be sent again).
""",
    "Stages": "`store` is `redis`, whoever runs it.\n",
    "The gateway itself": """\
The `process_…` metrics are about the workers, not the supervisor, the operator process and the embedded store, except
for the start time.
""",
}

ABOUT = {
    "gateway_own_duration_seconds": "Waiting is: for upstreams, the store, an issuer, a place in line, a back-off, and"
    " (streaming) for either end.",
    "gateway_ended_total": "`reason` is a [reason code](problems.md#reason-codes).",
    "gateway_slo_requests_total": "`slo` is `availability` (bad: 5xx) or `latency` (bad: the first byte came too late;"
    " failures do not count); `result` is `good` or `bad`. Clients that left count for neither.",
    "gateway_slo_objective": "As [`slo`](configuration.md) says, `0.999` for 99.9%.",
    "gateway_refusals_total": "`code` is a [problem code](problems.md). Without clients that left.",
    "gateway_upstream_connect_seconds": "Or waiting for one that comes free.",
    "gateway_upstream_connections": "`state` is `busy` or `idle`.",
    "gateway_breaker_state": "Open by itself or by hand; always 0 with `breaker: off`.",
    "gateway_breaker_transitions_total": "`to` is `closed`, `half-open` or `open`; `target` is empty with"
    " `per: upstream`.",
    "gateway_target_healthy": "See [health](resilience.md#health) and [ejection](resilience.md#ejection); only with"
    " `health`, `eject` or `slow_start`.",
    "gateway_ejections_total": "Each worker counts its own.",
    "gateway_hedges_total": "`outcome` is `won`, `lost`, or `budget`: not made because that was used up.",
    "gateway_upstream_paused_seconds": "Of the workers the longest; only with"
    " [`quota`](resilience.md#the-upstreams-own-limit).",
    "gateway_auth_total": "`result` is `ok`; `missing` or `throttled` (and then no provider); `unavailable` (could not"
    " be checked); or why it was refused: `ambiguous`, `malformed`, `too_large`, `algorithm`, `unknown_key`,"
    " `signature`, `expired`, `not_yet_valid`, `issuer`, `audience`, `type`, `claims`, `unknown`, `inactive`,"
    " `revoked`.",
    "gateway_keyset_age_seconds": "See [published keys](identity.md#published-keys).",
    "gateway_rate_limit_decisions_total": "`decision` is `allowed`, `refused`, `observed` (would have been refused, but"
    " the limit only observes), or while the store is away `local` (allowed by this process's own count), `open` (let"
    " pass), `closed` (refused).",
    "gateway_issuer_duration_seconds": "`request` is `keys` (fetching them) or `introspection`; `outcome` is `ok` or"
    " `failed`.",
    "gateway_queue_seconds": "`kind` is `route` or `upstream`; `outcome` is `queued` (its turn came), `timeout`,"
    " `refused` (the line was full: no wait) or `cancelled` (the client left).",
    "gateway_store_up": "Only with a shared store.",
    "gateway_concurrency": "Places of a `route` or an `upstream` with `concurrency`; `state` is `busy`, `queued`, or"
    " `limit`, the one in force (of a route with `by`: for each value). The workers' sum.",
    "gateway_shed_total": "See [`shedding`](configuration.md#shedding); `reason` is `lag` or `age`. Those without a"
    ' place are in `gateway_refusals_total{code="overloaded"}`.',
    "gateway_fallbacks_total": "`kind` is `static`, `file` or `upstream`, `reason` the failure that it covered.",
    "gateway_deprecated_requests_total": "[Whether or not the day has"
    " come](versions.md#the-end-of-a-version); those that were refused included.",
    "gateway_mirrored_total": "`outcome` is the class of the reply (`2xx`), `failed`, or `skipped`"
    " ([when](resilience.md#mirroring)).",
    "gateway_faults_total": "A [rehearsal](resilience.md#faults-and-rehearsals); `kind` is `delay` or `abort`, and one"
    " with both counts for both.",
    "gateway_idempotency_total": "`outcome` is `new`, `replayed`, `in_flight` (409), `not_kept` (409), `mismatch` (422)"
    " or `unknown` (could not be looked up). See [idempotency keys](resilience.md#idempotency-keys).",
    "gateway_connections": "`listener` is `http` or `https`.",
    "gateway_loop_lag_seconds": "Of the workers the longest: above some 50 ms they are short of CPU.",
    "gateway_tls_handshake_failures_total": "No handshake, an old version, a client certificate that was refused.",
    "gateway_probe_runs_total": "`result` is `ok`, or what was not as it should be: `status`, `header`, `json`, `slow`,"
    " `timeout`, `unreachable`.",
    "gateway_spans_total": "`outcome` is `exported` or `dropped`.",
    "gateway_notifications_total": "`result` is `sent` or `failed`.",
    "process_resident_memory_bytes": "Needs `/proc`.",
    "process_open_fds": "Needs `/proc`.",
    "gateway_workers": "`state` is `configured` or `ready`.",
    "gateway_config_reloads_total": "`result` is `success`, or `failure`: the old one stays.",
    "gateway_config_last_reload_successful": "Also 1 when there was none.",
    "gateway_config_last_reload_success_timestamp_seconds": "Unix time.",
    "process_start_time_seconds": "Reloads and replaced workers do not change it.",
}
"""What a help text does not say, most of all what values the labels have."""


def families() -> list[Family]:
    """All there are, in the order of the page."""
    return [*Metrics().families, *(family for family, _ in INSTANCE), BUILD_INFO]


def page() -> str:
    """The whole page, in Markdown."""
    return "\n".join([INTRODUCTION, *_tables(), *_buckets(), AFTERWORD])


def _tables() -> Iterator[str]:
    group, rows = "", list[str]()
    for family in families():
        if family.name in GROUPS:
            if rows:
                yield _table(group, rows)
            group, rows = GROUPS[family.name], []
        rows.append(_row(family))
    yield _table(group, rows)


def _table(group: str, rows: Iterable[str]) -> str:
    lines = [f"## {group}", "", "| metric | type | labels | meaning |", "|---|---|---|---|", *rows, ""]
    return "\n".join([*lines, NOTES[group]])


def _row(family: Family) -> str:
    labels = " ".join(f"`{label}`" for label in family.labels) or "–"
    meaning = f"{family.help} {ABOUT.get(family.name, '')}".strip().replace("|", r"\|")
    return f"| `{family.name}` | {family.kind} | {labels} | {meaning} |"


def _buckets() -> Iterator[str]:
    """The bounds of the histograms, each list with those that have it."""
    users: dict[tuple[float, ...], list[str]] = {}
    for family in families():
        if family.kind == "histogram":
            users.setdefault(family.bounds, []).append(f"`{family.name}`")
    yield "## Buckets\n"
    yield "\n".join(f"- {', '.join(map(_seconds, bounds))}:\n  {', '.join(names)}" for bounds, names in users.items())
    yield ""


def _seconds(bound: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if bound >= size:
            return f"{bound / size:g} {unit}"
    return f"{bound / 1e-6:g} µs"


if __name__ == "__main__":
    sys.stdout.write(page())
