from pathlib import Path

import pytest

from gateway.config.later import KEYS
from gateway.config.translate import Spot
from tests.configs import SECRET, complaint, complaints, provider, route


@pytest.mark.parametrize(
    ("text", "key"),
    [
        *((route(f"{key}: {{a: 1}}"), f"routes[0].{key}") for key in ("cache", "validate")),
        (route("fallback: [{stale: true}]"), "routes[0].fallback[0].stale"),
    ],
)
def test_what_the_contract_names_but_does_not_work_yet_says_so(tmp_path: Path, text: str, key: str) -> None:
    said = complaints(tmp_path, text)
    assert [line.partition(" ")[2] for line in said] == [f"{key}: not supported yet"]


@pytest.mark.parametrize("text", ["store: {url: redis+tls://a}", "logging: {access: combine}"])
def test_impossible_values_are_impossible_and_not_later(tmp_path: Path, text: str) -> None:
    assert "not supported yet" not in complaint(tmp_path, text + "\nroutes: []")


def test_the_table_speaks_of_places_that_exist_and_of_keys_that_do_not_work() -> None:
    for pattern, keys in KEYS.items():
        spot = Spot(tuple(pattern.split(".")) if pattern else ())
        assert spot.pattern == pattern
        assert spot.fields, pattern
        assert not keys & spot.fields.keys()


def test_a_secret_of_the_wrong_place_is_just_unknown(tmp_path: Path) -> None:
    assert "unknown key" in complaint(tmp_path, provider(f"secret: {SECRET}, algorithms: [HS256], password: x"))
