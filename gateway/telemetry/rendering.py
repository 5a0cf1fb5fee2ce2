"""Numbers -> the text that Prometheus reads, byte for byte what prometheus-client prints, in a tenth of its time.

All that does not change in the lines of a series (names, labels, bounds) is made once and kept as a template,
so that a scrape formats nothing but numbers. prometheus-client takes more than a second for the 100,000 lines of a
thousand routes. The tests hold this text to its: it is the reference for what is allowed in these formats.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from math import inf, isinf, isnan
from typing import NamedTuple

from gateway.telemetry.exemplars import Exemplar
from gateway.telemetry.tally import Family, Labels

PLAIN = 1e6
"""Below this, Go and Python write finite numbers alike."""

END = b"# EOF\n"
"""Of OpenMetrics: what comes without it is incomplete."""


class Reading(NamedTuple):
    """What one metric says now: its cells by label values, as in `tally`."""

    family: Family
    series: Mapping[Labels, list[float]]
    exemplars: Mapping[Labels, Sequence[Exemplar | None]] = {}
    """Of a histogram's buckets."""


class Renderer:
    """Prints readings again and again. May be used by several threads."""

    def __init__(self) -> None:
        self._templates: dict[str, dict[Labels, str]] = {}

    def render(self, readings: Iterable[Reading], openmetrics: bool) -> Iterator[bytes]:
        """The text, in a piece for each metric: long ones are not copied once more to be compressed."""
        for reading in readings:
            lines = [head(reading.family, openmetrics)]
            templates = self._of(reading)
            if reading.family.kind == "histogram":
                lines += _histograms(reading, templates, openmetrics)
            else:
                lines += [
                    f"{templates[labels]} {cell if -inf < cell < PLAIN else number(cell)}\n"
                    for labels, (cell,) in reading.series.items()
                    if cell == cell  # a gauge that is not there now is NaN
                ]
            yield "".join(lines).encode()
        if openmetrics:
            yield END

    def _of(self, reading: Reading) -> dict[Labels, str]:
        """The templates of all its series."""
        family, series, _ = reading
        kept = self._templates.setdefault(family.name, {})
        if len(kept) > 2 * len(series) + 100:  # the configurations of a hundred reloads
            kept = self._templates[family.name] = {}
        make = _of_histogram if family.kind == "histogram" else _of_number
        for labels in series:
            if labels not in kept:
                kept[labels] = make(family, labels)
        return kept


def head(family: Family, openmetrics: bool) -> str:
    """What stands above the series of a metric."""
    text = family.help.replace("\\", r"\\").replace("\n", r"\n")
    name = family.name
    if openmetrics:
        text = text.replace('"', r"\"")
        if family.kind == "counter":
            name = name.removesuffix("_total")
    return f"# HELP {name} {text}\n# TYPE {name} {family.kind}\n"


def upper_bounds(family: Family) -> list[str]:
    """The `le` of each bucket."""
    return [*map(str, family.bounds), "+Inf"]


def _histograms(reading: Reading, templates: Mapping[Labels, str], openmetrics: bool) -> Iterator[str]:
    exemplars = reading.exemplars if openmetrics else {}
    for labels, (total, *counts) in reading.series.items():
        cumulated = list(accumulate(counts))
        count = cumulated[-1]
        if count < PLAIN and -inf < total < PLAIN:
            text = templates[labels] % (*cumulated, count, total)
        else:
            text = templates[labels] % tuple(map(number, (*cumulated, count, total)))
        yield _with(exemplars[labels], text) if labels in exemplars else text


def _with(exemplars: Sequence[Exemplar | None], text: str) -> str:
    lines = text.split("\n")  # a label value may hold what `splitlines` takes for the end of a line
    for bucket, exemplar in enumerate(exemplars):
        if exemplar is not None:
            trace_id, value, at = exemplar
            lines[bucket] += f' # {{trace_id="{trace_id}"}} {number(value)} {at}'
    return "\n".join(lines)


def number(value: float) -> str:
    """As Go writes it."""
    if -inf < value < PLAIN:
        return repr(value)
    if isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    text = repr(value)
    whole, point, rest = text.partition(".")
    if not point or "e" in rest:  # it is in exponents already, or no number
        return "NaN" if isnan(value) else text
    mantissa = f"{whole[0]}.{whole[1:]}{rest}".rstrip("0.")
    return f"{mantissa}e+{len(whole) - 1:02d}"


def _of_number(family: Family, labels: Labels) -> str:
    return family.name + _labels(zip(family.labels, labels, strict=True))


def _of_histogram(family: Family, labels: Labels) -> str:
    """All its lines, with a `%s` for each number."""
    pairs = list(zip(family.labels, labels, strict=True))
    buckets = [f"{family.name}_bucket{_labels([*pairs, ('le', bound)])}" for bound in upper_bounds(family)]
    names = [*buckets, *(f"{family.name}_{part}{_labels(pairs)}" for part in ("count", "sum"))]
    return "".join(f"{name.replace('%', '%%')} %s\n" for name in names)


def _labels(pairs: Iterable[tuple[str, str]]) -> str:
    written = ",".join(f'{name}="{_escaped(value)}"' for name, value in sorted(pairs))
    return f"{{{written}}}" if written else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
