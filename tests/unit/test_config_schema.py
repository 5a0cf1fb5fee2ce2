import json
import re
from collections.abc import Iterator
from typing import Any

from gateway.config import json_schema
from gateway.config.fields import Section
from gateway.config.model import Config


def properties(section: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json_schema()["$defs"][section]["properties"][name]
    return found


def test_the_schema_is_json_and_strict_everywhere() -> None:
    schema = json_schema()
    assert json.loads(json.dumps(schema)) == schema
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["required"] == ["routes"]
    for name, part in {"": schema, **schema["$defs"]}.items():
        assert part["additionalProperties"] is False, name


def sections(of: type[Section]) -> Iterator[type[Section]]:
    """Those that can be written, not what some of them have in common."""
    for model in of.__subclasses__():
        yield from sections(model)
        if not model.__subclasses__():
            yield model


def test_every_section_is_there_with_its_description() -> None:
    schema = json_schema()
    models = {model.__name__ for model in sections(Section) if model.__module__.startswith("gateway.")}
    assert set(schema["$defs"]) == models - {"Config"}
    for name, part in schema["$defs"].items():
        assert part["description"], name
    assert schema["description"] == Config.__doc__


def test_keys_are_those_of_the_file_with_descriptions() -> None:
    assert properties("Timeouts", "try")["description"] == "For one try, to the head of its reply."
    assert "json" in json_schema()["$defs"]["Fallback"]["properties"]
    assert not [key for part in json_schema()["$defs"].values() for key in part["properties"] if key.endswith("_")]


def test_durations_are_described_by_a_pattern_and_may_be_references() -> None:
    written, reference = properties("Timeouts", "connect")["anyOf"]
    for text in ("50ms", "1.5m"):
        assert re.search(written["pattern"], text)
    for text in ("5", "5 s", "x5s"):
        assert not re.search(written["pattern"], text)
    assert re.search(reference["pattern"], "${TIMEOUT:-5s}")


def test_defaults_are_given_where_they_are_what_one_writes() -> None:
    assert properties("Retry", "attempts")["default"] == 3
    assert properties("Store", "on_failure")["default"] == "local"
    assert properties("Store", "prefix")["default"] == "gw:"
    assert "default" not in properties("Timeouts", "connect")
    assert "default" not in json_schema()["properties"]["wire"]


def test_bounds_are_described() -> None:
    assert properties("Retry", "attempts")["anyOf"][0] == {"type": "integer", "minimum": 1, "maximum": 20}
    assert properties("Fallback", "status")["anyOf"][0] == {"type": "integer", "minimum": 200, "maximum": 599}
    for section, listener in (("Listen", "http"), ("Https", "address")):
        assert [way["minItems"] for way in ways(properties(section, listener)) if way.get("type") == "array"] == [1]
    assert {"type": "integer", "minimum": 1, "maximum": 128} in ways(json_schema()["properties"]["workers"])


def test_other_ways_to_write_a_value_are_described() -> None:
    assert {"enum": ["off", False]} in [
        part for way in properties("Upstream", "retry")["anyOf"] for part in way.get("anyOf", [way])
    ]
    assert "#/$defs/RateLimit" in json.dumps(properties("Route", "rate_limit"))
    for listener in ("http", "admin"):
        assert {"enum": ["off", False]} in ways(properties("Listen", listener))
    assert {"enum": ["auto"]} in ways(json_schema()["properties"]["workers"])
    assert {"type": "boolean"} in ways(properties("Listen", "redirect_to_https"))
    assert re.search(properties("Store", "url")["anyOf"][0]["pattern"], "embedded")


def ways(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Every way in which a value may be written, however deep it is nested."""
    return [way for part in schema["anyOf"] for way in ways(part)] if "anyOf" in schema else [schema]
