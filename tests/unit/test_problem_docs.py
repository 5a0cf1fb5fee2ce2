"""docs/problems.md is what the `type` of every problem refers to: it has to know every code, and no others."""

import re
from pathlib import Path

import pytest

from gateway.errors import TITLES

PROBLEMS = Path(__file__).parents[2].joinpath("docs", "problems.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## `(\w+)`\n(.*?)(?=^## |^---|\Z)", PROBLEMS, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("code", TITLES)
def test_every_code_is_documented_with_its_status_the_fault_and_the_remedy(code: str) -> None:
    assert code in SECTIONS
    assert re.search(r"^\d{3}\b.*\*At fault:\*.*\*Do:\*", SECTIONS[code].strip(), re.DOTALL)


def test_no_code_is_documented_that_does_not_exist() -> None:
    assert set(SECTIONS) <= set(TITLES)
