"""What `gateway top` shows of a state of the live feed: a head, and a table for each view. Asks nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.cli.admin_client import one_line

Told = Mapping[str, Any]

VIEWS = ("routes", "upstreams", "consumers", "problems")
SORTS = ("rate", "errors", "p99", "name")

BAD, WARNING, FINE, FAINT = "red", "yellow", "green", "dim"
MUCH, SOME = 0.05, 0.01
"""Shares of errors from which on they are red, and yellow."""

SHOWN_EVERYWHERE = 3
"""Problems below every other view."""

SHOWN_ONCE = 5
"""Problems below all views together."""


def frame(state: Told, view: str, sort: str, rows: int) -> RenderableType:
    """One screen with `rows` lines for the view."""
    parts: list[RenderableType] = [head(state), Text()]
    if view == "problems":
        return Group(*parts, problems(state, max(1, rows - 3)))
    room = rows - 2 * SHOWN_EVERYWHERE - 2
    table = TABLES[view](state, sort, max(3, room))
    return Group(*parts, table, Text(), problems(state, SHOWN_EVERYWHERE, brief=True))


def everything(state: Told, sort: str, rows: int) -> RenderableType:
    """All views, one below the other."""
    parts: list[RenderableType] = [head(state)]
    for view in VIEWS[:3]:
        parts += [Text(), TABLES[view](state, sort, rows)]
    return Group(*parts, Text(), problems(state, SHOWN_ONCE))


def head(state: Told) -> RenderableType:
    """How the instance and all of its traffic are: three lines."""
    instance, totals = _part(state, "instance"), _part(state, "totals")
    workers, open_now = _part(instance, "workers"), _part(instance, "listeners")
    reasons = [one_line(each) for each in _list(instance, "reasons")]
    first = Text.assemble(
        ("gateway ", "bold"),
        _text(instance, "version"),
        f"  {_text(workers, 'ready')} of {_text(workers, 'configured')} workers  ",
        ("ready", FINE) if instance.get("ready") else ("not ready", BAD),
        *([] if instance.get("reload_ok", True) else [("  the last reload failed", WARNING)]),
        (f"  since {_text(instance, 'started')}", FAINT),
        f"  lag {_ms(instance.get('loop_lag_ms'))}",
    )
    second = Text.assemble(
        (_rate(totals.get("rate")), "bold"),
        "/s  errors ",
        _errors(totals),
        f"  p50 {_ms(totals.get('p50_ms'))}  p95 {_ms(totals.get('p95_ms'))}  p99 {_ms(totals.get('p99_ms'))}",
        f"  clients {sum(each for each in open_now.values() if isinstance(each, int))}",
    )
    lines = [first, second]
    if not instance.get("ready") and reasons:
        lines.append(Text("; ".join(reasons), style=BAD))
    if firing := sorted({_text(each, "name") for each in _alerts(state)}):
        lines.append(Text(f"alerts: {', '.join(firing)}", style=BAD))
    return Group(*lines)


def routes(state: Told, sort: str, most: int) -> RenderableType:
    table = _table("ROUTE", "RATE/S", "ERRORS", "P50", "P99", "OWN P99", "REFUSED")
    found = _sorted(state, "routes", sort)
    for each in found[:most]:
        figures = (_ms(each.get(name)) for name in ("p50_ms", "p99_ms", "own_p99_ms"))
        table.add_row(_text(each, "name"), _rate(each.get("rate")), _errors(each), *figures, _count(each, "refused"))
    return _cut(table, len(found) - most)


def upstreams(state: Told, sort: str, most: int) -> RenderableType:
    table = _table("UPSTREAM", "RATE/S", "ERRORS", "P99", "STATE")
    lines = [line for each in _sorted(state, "upstreams", sort) for line in _upstream(each)]
    for line in lines[:most]:
        table.add_row(*line)
    return _cut(table, len(lines) - most)


def consumers(state: Told, sort: str, most: int) -> RenderableType:
    table = _table("CONSUMER", "RATE/S", "REQUESTS", "ERRORS", "REFUSED")
    found = _sorted(state, "consumers", sort)
    for each in found[:most]:
        counts = (_count(each, name) for name in ("requests", "errors", "refused"))
        table.add_row(_text(each, "name") or "(anonymous)", _rate(each.get("rate")), *counts)
    return _cut(table, len(found) - most)


def problems(state: Told, most: int, *, brief: bool = False) -> RenderableType:
    """The newest ones, with what they mean said once for those in a row; `brief` cuts it at the end of the line."""
    found = sorted(_list(state, "errors"), key=_refused)
    if not found:
        return Text("no recent problems", style=FAINT)
    lines: list[RenderableType] = [Text(f"recent problems, failures first{' (4 for all)' if brief else ''}", "bold")]
    explained = ""
    for each in found[:most]:
        lines.append(_problem(each))
        if explained != (explained := _text(each, "explanation")):
            said = Text(f"  {explained}", style=FAINT)
            if brief:
                said.no_wrap, said.overflow = True, "ellipsis"
            lines.append(said)
    return Group(*lines)


def _refused(problem: Told) -> bool:
    """Clients can cause it at will."""
    status = problem.get("status")
    return isinstance(status, int) and 400 <= status < 500


def _problem(each: Told) -> Text:
    return Text.assemble(
        (_text(each, "at")[11:19], FAINT),
        " ",
        (_text(each, "status"), WARNING if _refused(each) else BAD),
        f" {_text(each, 'method')} {_text(each, 'path')} ",
        (_text(each, "reason") or "of the upstream", "bold"),
        (f"  {_text(each, 'id')}", FAINT),
        no_wrap=True,
        overflow="ellipsis",
    )


TABLES: dict[str, Callable[[Told, str, int], RenderableType]] = {
    "routes": routes,
    "upstreams": upstreams,
    "consumers": consumers,
}


def _upstream(upstream: Told) -> Iterable[tuple[str | Text, ...]]:
    """Its line, and one for each of its targets."""
    open_now, paused = _part(upstream, "connections"), upstream.get("paused")
    notes = f"{_text(open_now, 'busy')} busy, {_text(open_now, 'idle')} idle"
    if isinstance(paused, int | float) and paused > 0:
        notes += f", paused for {paused:.0f} s"
    figures = _rate(upstream.get("rate")), _errors(upstream), _ms(upstream.get("p99_ms"))
    yield (Text(_text(upstream, "name"), style="bold"), *figures, notes)
    for target in _list(upstream, "targets"):
        figures = _rate(target.get("rate")), _errors(target), _ms(target.get("p99_ms"))
        yield (f"  {_text(target, 'url')}", *figures, _target(target))


def _target(target: Told) -> Text:
    """Whether it is used, and why not."""
    circuit = target.get("circuit")
    wrong = [
        "ill" if target.get("healthy") is False else "",
        "ejected" if target.get("ejected") else "",
        f"circuit {one_line(circuit)}" if circuit not in (None, "closed") else "",
        "held open" if target.get("held") else "",
    ]
    said = ", ".join(filter(None, wrong))
    if not said:
        return Text("in use", style=FINE)
    return Text(said, style=WARNING if said == "circuit half-open" else BAD)


def _sorted(state: Told, kind: str, sort: str) -> list[Told]:
    found = _list(state, kind)
    if sort == "name":
        return sorted(found, key=lambda each: _text(each, "name"))
    member = {"rate": "rate", "errors": "error_rate" if kind != "consumers" else "errors", "p99": "p99_ms"}[sort]
    return sorted(found, key=lambda each: _number(each.get(member)), reverse=True)


def _alerts(state: Told) -> list[Told]:
    return [each for each in _list(state, "alerts") if each.get("state") == "firing"]


def _table(name: str, *figures: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(name, overflow="ellipsis", no_wrap=True, min_width=8)
    for title in figures:
        state = title == "STATE"
        table.add_column(title, justify="left" if state else "right", no_wrap=not state)
    return table


def _cut(table: Table, left: int) -> RenderableType:
    return table if left <= 0 else Group(table, Text(f"… and {left} lines more", style=FAINT))


def _part(told: Told, name: str) -> Told:
    found = told.get(name)
    return found if isinstance(found, dict) else {}


def _list(told: Told, name: str) -> list[Any]:
    found = told.get(name)
    return [each for each in found if isinstance(each, dict | str)] if isinstance(found, list) else []


def _text(told: Told, name: str) -> str:
    """Whoever wrote it: no character that a terminal would obey."""
    value = told.get(name)
    return "" if value is None else one_line(value)


def _count(told: Told, name: str) -> str:
    value = told.get(name)
    return f"{value:,}" if isinstance(value, int) else "-"


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else -1.0


def _rate(value: object) -> str:
    if not isinstance(value, int | float):
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _errors(told: Told) -> Text:
    """The share of errors; what is not nothing does not look like it."""
    share = told.get("error_rate")
    if not isinstance(share, int | float):
        return Text("-")
    style = BAD if share >= MUCH else WARNING if share >= SOME else ""
    return Text("<0.1%" if 0 < share < 0.001 else f"{share:.1%}", style=style)


def _ms(value: object) -> str:
    """Three digits are enough to be looked at."""
    if not isinstance(value, int | float):
        return "-"
    if value >= 10_000:
        return f"{value / 1000:.1f} s"
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms" if value >= 1 else f"{value:.2f} ms"
