"""Every metric of the gateway with its labels, as the code has them, and what a query asks for."""

import re
from functools import cache

from gateway.telemetry.collector import INSTANCE
from gateway.telemetry.exposition import BUILD_INFO
from gateway.telemetry.metrics import Metrics

ADDED = frozenset({"instance", "job"})
"""Labels that Prometheus puts on whatever it scrapes."""
OF_PROMETHEUS = {
    "up": ADDED,
    "ALERTS": ADDED | {"alertname", "alertstate", "severity"},
}
NAME = re.compile(
    r"(?<![\w:$\"/.])([A-Za-z_][\w:]*)(?=\s*[\[{]|\s*$|\s*[-+*/<>=)]|\s+(?:or|and|unless|offset)\b)", re.MULTILINE
)
KEYWORDS = frozenset({"or", "and", "unless", "on", "by", "without", "ignoring", "offset", "bool"})
MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"")
GROUPING = re.compile(r"\b(?:by|on|ignoring|without)\s*\(([^)]*)\)")


@cache
def measured() -> dict[str, frozenset[str]]:
    """The labels of every series that a scrape brings, by its name."""
    found: dict[str, frozenset[str]] = {}
    for family in (*Metrics().families, BUILD_INFO, *(family for family, _ in INSTANCE)):
        labels = ADDED | set(family.labels)
        if family.kind == "histogram":
            found |= {
                family.name + "_bucket": labels | {"le"},
                family.name + "_count": labels,
                family.name + "_sum": labels,
            }
        else:
            found[family.name] = labels
    return found


def family_name(series: str) -> str:
    """`gateway_request_duration_seconds` of its buckets."""
    return re.sub(r"_(?:bucket|count|sum)$", "", series)


def names_in(query: str) -> set[str]:
    """The series that a query reads."""
    plain = re.sub(r"\"[^\"]*\"", '""', query)
    plain = GROUPING.sub("", re.sub(r"\{[^}]*\}", "{}", plain))
    return {name for name in NAME.findall(plain) if name not in KEYWORDS}


def labels_in(query: str) -> set[str]:
    """The labels that a query names, in matchers and groupings."""
    return set(MATCHER.findall(query)) | grouped_in(query)


def grouped_in(query: str) -> set[str]:
    """The labels that a query groups by, which are those that its result can have."""
    grouped = (label.strip() for labels in GROUPING.findall(query) for label in labels.split(","))
    return {label for label in grouped if label}
