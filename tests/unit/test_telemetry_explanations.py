"""Every reason code has an explanation for operators, and the words in it fit the request."""

import re
from pathlib import Path

import pytest

from gateway.errors import TITLES
from gateway.resilience.verdict import KINDS
from gateway.telemetry.explanations import COVERED, EXPLANATIONS, UPSTREAM_ANSWERED, explanation, slowness

OTHERS = {"client_gone", "fallback", "replayed", "redirect", "respond", "preflight", "options", "https_redirect"}
RECORD = {
    "route": "orders", "upstream": "orders-up", "target": "http://a:9001", "status": 503, "tries": 2, "method": "GET",
    "auth": "expired", "fallback": "static", "reason": "",
}  # fmt: skip
ROOT = Path(__file__).parents[2]


def test_every_reason_code_is_explained_and_no_other():
    assert EXPLANATIONS.keys() == {*TITLES, *OTHERS, UPSTREAM_ANSWERED}


def test_every_reason_that_the_code_gives_is_explained():
    given = re.compile(r"\.reason = \"(\w+)\"|[(=]reason=\"(\w+)\"")
    sources = [path.read_text() for path in (ROOT / "gateway").rglob("*.py") if "cli" not in path.parts]
    found = {one or other for text in sources for one, other in given.findall(text) if "call.reason" in text}
    assert {each for each in found if each in OTHERS} >= {"options"}
    assert found <= EXPLANATIONS.keys()


@pytest.mark.parametrize("reason", EXPLANATIONS)
def test_an_explanation_is_a_sentence_or_three_without_gaps(reason):
    for record in ({**RECORD, "reason": reason}, {"reason": reason}, dict.fromkeys(RECORD) | {"reason": reason}):
        said = explanation(record)
        assert not re.search(r"[{}]|None", said)
        assert said.endswith((".", "`"))
        assert 20 < len(said) < 400


def test_a_fallback_says_which_failure_it_has_covered_and_what_that_means():
    hops = [{"stage": "try", "outcome": "reset"}, {"stage": "fallback", "name": "static", "outcome": "open"}]
    said = explanation({**RECORD, "reason": "fallback", "hops": hops})
    assert said.startswith("The fallback of route orders (static) answered in place of circuit_open: ")
    assert said.endswith(explanation({**RECORD, "reason": "circuit_open"}))
    hops[1]["outcome"] = "503"
    assert "in place of 503: " in explanation({**RECORD, "reason": "fallback", "hops": hops})


def test_what_a_fallback_covers_is_explained_whatever_the_configuration_calls_it():
    assert {kind: code for kind, code in COVERED.items() if KINDS[code] != kind} == {}
    assert COVERED.keys() | {"no_healthy_target"} == set(KINDS.values())


def test_names_stand_in_it():
    said = explanation({**RECORD, "reason": "circuit_open"})
    assert "orders-up" in said
    assert "`gateway circuits`" in said
    said = explanation({**RECORD, "reason": "circuit_open", "upstream": None})
    assert "all targets of the upstream of route orders are open" in said


def test_an_error_of_the_upstream_itself_is_not_blamed_on_the_gateway():
    assert explanation(RECORD).startswith(
        "Upstream orders-up itself answered 503; the gateway passed it on after 2 tries."
    )
    assert "after 1 try." in explanation({**RECORD, "tries": 1})


def test_braces_in_names_are_only_text():
    assert "{route}" in explanation({**RECORD, "reason": "circuit_open", "upstream": "{route}"})


def test_an_unknown_code_still_says_something():
    assert "of_tomorrow" in explanation({**RECORD, "reason": "of_tomorrow"})


@pytest.mark.parametrize(
    ("took", "own", "said"),
    [(100.0, 90.0, "gateway itself"), (100.0, 1.0, "waiting for orders-up"), (0, 0, "hops"), (None, None, "hops")],
)
def test_a_slow_request_is_blamed_on_who_took_the_time(took, own, said):
    assert said in slowness({**RECORD, "duration_ms": took, "own_ms": own})
