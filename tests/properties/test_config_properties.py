"""Whatever is written into a configuration file: a configuration or complaints, never anything else."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import Config, ConfigError, load, units
from gateway.config.complaints import Substituted, show
from gateway.config.document import compose
from gateway.config.paths import path_pattern, shape
from gateway.config.substitute import Substitution
from gateway.config.values import Builder
from gateway.routing.pattern import Pattern, parse_path
from tests.configs import SECRET

GOOD: dict[str, Any] = {
    "listen": {"http": ["127.0.0.1:8080", "unix:a.sock"], "admin": "off"},
    "trusted_proxies": ["10.0.0.0/8"],
    "store": {"url": "redis://localhost:6379/0", "on_failure": "open", "timeout": "50ms"},
    "wire": {"header_limit": "32KiB", "connections": 10},
    "auth": {"providers": {"p": {"type": "jwt", "secret": SECRET, "algorithms": ["HS256"], "forward": {"X-U": "sub"}}}},
    "rate_limits": {"a": {"by": "ip", "limit": "1/second", "burst": 2}},
    "upstreams": {
        "u": {
            "targets": ["http://a", {"url": "https://b:1", "weight": 2}],
            "timeouts": {"try": "1s", "header": "X-T"},
            "retry": {"attempts": 2, "on": ["timeout", 503], "backoff": {"base": "1ms"}, "budget": "10%"},
            "breaker": {"failure_rate": "50%", "slow_calls": {"over": "900ms", "rate": "80%"}, "open_for_max": "1m"},
            "balance": {"hash": "header:X-A"},
            "slow_start": "5s",
            "panic": "20%",
            "hedge": {"after": "p95", "max": 2},
            "health": {"path": "/h?a", "interval": "2s", "expect": ["200-299", 404], "host": "a.b:1"},
            "eject": {"consecutive_failures": 3, "for": "1s", "max_share": "10%"},
            "quota": {"respect": "true"},
        },
        "v": {
            "discover": {"dns": "_http._tcp.a.", "type": "srv", "refresh": "1s", "server": "10.0.0.1"},
            "health": {"tcp": True},
        },
    },
    "routes": [
        {
            "name": "r",
            "match": {
                "path": "/a/{b}/**",
                "methods": ["GET"],
                "host": "*.a",
                "headers": {"x": "y"},
                "query": {"q": "z"},
            },
            "auth": {"providers": ["p"], "scopes": {"GET": ["s"]}},
            "rate_limit": ["a", {"by": "consumer", "limit": "5/30s"}],
            "fallback": [
                {"on": ["reset"], "upstream": "v"},
                {"on": ["5xx"], "json": {"k": [1, None, "{path}"]}},
                {"on": ["quota"], "text": "{reason}", "headers": {"X-A": "{route}"}},
            ],
            "body_limit": "none",
            "upstream": "u",
        },
        {
            "name": "s",
            "match": {"path": "/s"},
            "split": {"u": 9, "v": 1},
            "split_by": "cookie:a",
            "mirror": {"upstream": "v", "share": "5%"},
            "fault": {"share": "1%", "status": 503, "delay": "5ms", "header": "X-Test"},
            "idempotency": {"header": "X-Key", "keep": "1h"},
        },
    ],
    "logging": {"access": "off"},
}


@pytest.fixture(scope="module")
def file() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "routes.yaml"


def outcome(file: Path, content: bytes, environ: dict[str, str] | None = None) -> Config | ConfigError:
    file.write_bytes(content)
    try:
        return load(file, environ or {})
    except ConfigError as error:
        result = error
    # What YAML counts as line ends: also NEL, LS and PS.
    lines = sum(content.count(end) for end in (b"\n", b"\r", b"\x85", b"\xa8", b"\xa9")) + 2
    assert result.complaints
    assert list(result.complaints) == sorted(result.complaints)
    for complaint in result.complaints:
        assert 1 <= complaint.line <= lines
        assert complaint.column >= 1
        assert complaint.message
        assert "\n" not in str(complaint)
    return result


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every value in `value`."""
    yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        yield from places(entry, (*path, key))


def replaced(value: Any, path: tuple[str | int, ...], by: Any) -> Any:
    """A copy of `value` with `by` at `path`."""
    if not path:
        return by
    if isinstance(value, dict):
        return {key: replaced(entry, path[1:], by) if key == path[0] else entry for key, entry in value.items()}
    return [replaced(entry, path[1:], by) if index == path[0] else entry for index, entry in enumerate(value)]


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.sampled_from(
        [
            "off",
            "5s",
            "5MiB",
            "50%",
            "1/second",
            "${X}",
            "${file:x}",
            "/",
            "/{a}",
            "http://a",
            "*",
            "GET",
            "a:1",
            "p95",
            "200-299",
            "{b}",
            "\0",
        ]
    ),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


def test_the_good_configuration_is_good(file: Path) -> None:
    assert isinstance(outcome(file, yaml.safe_dump(GOOD).encode()), Config)


@given(content=st.binary(max_size=200))
def test_any_bytes_are_a_configuration_or_complaints(file: Path, content: bytes) -> None:
    outcome(file, content)


@given(text=st.text(alphabet="ab:-?[]{},&*!|>'\"%#@`\n\t $~0.<\\x", max_size=60))
def test_any_yaml_is_a_configuration_or_complaints(file: Path, text: str) -> None:
    outcome(file, text.encode())


@given(path=st.sampled_from(list(places(GOOD))), value=VALUES)
def test_any_value_in_any_place_is_taken_or_complained_about(
    file: Path, path: tuple[str | int, ...], value: Any
) -> None:
    changed = yaml.safe_dump(replaced(GOOD, path, value), sort_keys=False)
    outcome(file, changed.encode())


@given(
    path=st.sampled_from([path for path in places(GOOD) if path]),
    secret=st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters="'\\"), min_size=12),
)
def test_no_complaint_quotes_the_environment(file: Path, path: tuple[str | int, ...], secret: str) -> None:
    """A value from the environment, put in any place, alone or within other text, is in no message."""
    for written in (
        "${SECRET}",
        "http://${SECRET}",
        "/${SECRET}",
        "redis://:${SECRET}@",
        "*.${SECRET}",
        "header:${SECRET}",
        "{${SECRET}}",
        "${SECRET}.",
    ):
        changed = yaml.safe_dump(replaced(GOOD, path, written), sort_keys=False)
        result = outcome(file, changed.encode(), {"SECRET": secret})
        if isinstance(result, ConfigError):
            assert secret not in str(result)


@given(st.floats(min_value=0.001, max_value=10_000), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_durations_read_back_what_was_written(amount: float, unit: str) -> None:
    written = f"{amount:.3f}{unit}"
    if float(f"{amount:.3f}") * units.SECONDS[unit] <= units.LONGEST:
        assert units.duration(written) == pytest.approx(float(f"{amount:.3f}") * units.SECONDS[unit])


@given(st.integers(0, 10**12 - 1), st.sampled_from(list(units.BYTES)))
def test_sizes_read_back_what_was_written(amount: int, unit: str) -> None:
    assert units.size(f"{amount}{unit}") == amount * units.BYTES[unit]


@given(st.text())
def test_text_without_references_is_not_changed(text: str) -> None:
    if "${" not in text:
        assert Substitution({}, Path())(text) == text


@given(st.text(), st.text())
def test_shown_values_are_one_printable_line(text: str, secret: str) -> None:
    assert show(text).isprintable()
    assert show(Substituted(secret)) == "***"


SEGMENTS = st.sampled_from(
    [
        "",
        "a",
        "b",
        "{a}",
        "{b}",
        "{1}",
        "*",
        "**",
        "a*",
        ".",
        "..",
        "a b",
        "a%20b",
        "%",
        "%2F",
        "%2e",
        "%ff",
        "%41",
        "A",
        "a;b",
    ]
) | st.text(max_size=3)
PATHS = st.lists(SEGMENTS, max_size=4).map(lambda segments: "/" + "/".join(segments))


def pattern_of(path: str) -> Pattern | None:
    try:
        return parse_path(path)
    except ValueError:
        return None


@given(PATHS, PATHS)
def test_paths_are_those_that_routing_understands_and_the_same_when_routing_cannot_tell_them_apart(
    one: str, other: str
) -> None:
    patterns = []
    for path in (one, other):
        try:
            path_pattern(path)
        except ValueError:
            assert pattern_of(path) is None
        else:
            patterns.append(parse_path(path))
    if len(patterns) == 2:
        assert (shape(one) == shape(other)) == (patterns[0][:2] == patterns[1][:2])


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_json_is_yaml_that_means_the_same(value: Any) -> None:
    """JSON is a subset of YAML 1.2: what a fallback says comes out as it was written."""
    text = json.dumps({"routes": [{"fallback": [{"json": value}]}]})
    if "\\ud" in text or "\\u0000" in text or "${" in text:
        return  # half a surrogate pair is a character of its own for libyaml; references are another matter
    builder = Builder("f", Substitution({}, Path()))
    built = builder.build(compose("f", text.encode()))
    if not builder.faults:
        assert built["routes"][0]["fallback"][0]["json"] == value
