"""`tracing`: what it may say, and what is shown of it."""

from pathlib import Path
from typing import Any

import pytest

from gateway.config.effective import effective, marked
from gateway.config.tracing import Tracing
from tests.configs import ROUTE, UPSTREAM, complaint, loaded

BASE = "otlp: http://127.0.0.1:4318"


def text(settings: str) -> str:
    return f"tracing: {{{settings}}}\n{UPSTREAM}{ROUTE}"


def tracing(folder: Path, settings: str = BASE) -> Tracing:
    found = loaded(folder, text(settings)).tracing
    assert found is not None
    return found


def shown(folder: Path, settings: str) -> Any:
    written = text(settings)
    return effective(loaded(folder, written), marked(written.encode()), folder)["tracing"]


def test_without_it_nothing_is_traced(tmp_path: Path) -> None:
    assert loaded(tmp_path, UPSTREAM + ROUTE).tracing is None


def test_it_needs_nothing_but_a_collector(tmp_path: Path) -> None:
    found = tracing(tmp_path)
    assert (found.sample, found.parent, found.slow, found.headers) == (0.1, "always", 1.0, {})
    assert found.service == "resilient-gateway"


@pytest.mark.parametrize(("slow", "seconds"), [("250ms", 0.25), ("off", None), ('"off"', None)])
def test_what_is_slow_can_be_said_or_be_nothing(tmp_path: Path, slow: str, seconds: float | None) -> None:
    assert tracing(tmp_path, f"{BASE}, slow: {slow}").slow == seconds


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("sample: 10%", "otlp: is required"),
        ("otlp: 127.0.0.1:4318", "is not a URL"),
        ("otlp: http://user:password@a.example", "is not a URL"),
        (f"{BASE}, sample: 110%", "tracing.sample"),
        (f"{BASE}, parent: sometimes", "tracing.parent"),
        (f"{BASE}, slow: 0s", "tracing.slow"),
        (f'{BASE}, service: ""', "is empty"),
        (f'{BASE}, headers: {{Authorization: "a\\nb"}}', "is not a header value"),
        (f"{BASE}, headers: {{a: b, A: c}}", "is here twice"),
        (f"{BASE}, headers: {{Content-Type: text/plain}}", "written by the gateway itself"),
        (f"{BASE}, headers: {{Host: a}}", "belongs to the connection"),
    ],
)
def test_what_cannot_be_is_complained_about(tmp_path: Path, settings: str, said: str) -> None:
    assert said in complaint(tmp_path, text(settings))


def test_what_is_shown_hides_credentials(tmp_path: Path) -> None:
    assert shown(tmp_path, f"{BASE}, slow: off, headers: {{Authorization: Bearer x}}") == {
        "otlp": "http://127.0.0.1:4318",
        "sample": "10%",
        "parent": "always",
        "slow": "off",
        "service": "resilient-gateway",
        "headers": {"Authorization": "***"},
    }
