"""C13: what a problem says comes from the request and from the configured limits, never from the inside.

All places that end a request early are read from the source, so that a new one cannot tell an address or the text of
an exception without somebody noticing here. How the answers look on the wire is in tests/wire/test_attacks_headers.py.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import orjson
import pytest

from gateway import errors
from gateway.errors import TITLES, GatewayError, reply_to

GATEWAY = Path(errors.__file__).parent
CLASSES = {name: each for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, Exception)}

FROM_INSIDE = {
    *("circuit_open", "no_healthy_target", "upstream_unreachable", "upstream_failed", "upstream_timeout"),
    *("bad_upstream_reply", "deadline_passed", "identity_unavailable", "loop_detected", "shutting_down", "fault"),
    "internal",
}
"""Whose reasons concern nobody outside: they say nothing but their title."""

TOLD = {"limit", "method", "part", "shown", "limits.header_count", "self.limit", "terms.header"} | {
    f"self._limits.{name}_limit" for name in ("header", "target")
}
"""What details may quote: limits as configured, the client's own method, names of headers."""


class Place(NamedTuple):
    """Where a request is ended."""

    where: str
    code: str
    detail: ast.expr | None


def places() -> Iterator[Place]:
    for file in sorted(GATEWAY.rglob("*.py")):
        if file.parent.name == "cli":
            continue  # it talks to operators
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CLASSES:
                yield _place(f"{file.relative_to(GATEWAY)}:{node.lineno}", node.func.id, node)


def _place(where: str, name: str, call: ast.Call) -> Place:
    detail = next((each.value for each in call.keywords if each.arg == "detail"), None)
    if len(call.args) > 2:
        detail = call.args[2]
    if not call.args:
        return Place(where, getattr(CLASSES[name], "code", ""), detail)
    assert isinstance(call.args[0], ast.Constant), f"{where}: a code is written out, so that it can be found"
    return Place(where, call.args[0].value, detail)


PLACES = list(places())


@pytest.mark.parametrize("code", TITLES)
def test_c13_every_problem_code_tells_nothing_of_the_inside(code: str) -> None:
    """C13: no stack, no upstream address, no configuration."""
    found = [each for each in PLACES if each.code == code]
    assert found, "a code that nobody uses"
    for each in found:
        assert code not in FROM_INSIDE or each.detail is None, each.where
        for part in ast.walk(each.detail) if each.detail is not None else ():
            if isinstance(part, ast.FormattedValue):
                assert ast.unparse(part.value) in TOLD, each.where
            # A detail that is the text of an exception would be anything.
            assert not (isinstance(part, ast.Call) and ast.unparse(part.func) in ("str", "repr")), each.where


def test_c13_a_problem_without_a_detail_says_its_title_and_the_request_id_alone() -> None:
    """C13: the text of the exception it comes from is not among it."""
    for code in FROM_INSIDE:
        error = GatewayError(code, 503)
        error.__cause__ = OSError(111, "Connect call failed ('10.0.0.7', 9001)")
        problem = orjson.loads(reply_to(error, "id-1").body)
        assert problem == {
            "type": errors.PROBLEMS + code,
            "title": TITLES[code],
            "status": 503,
            "code": code,
            "instance": "id-1",
        }
