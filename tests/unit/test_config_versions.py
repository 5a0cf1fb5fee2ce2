"""`versions` as it is written: what it becomes, and every way in which it can be wrong, each at its own place."""

import pytest
from pydantic import ValidationError

from gateway.config.versions import Versions

TWO = {"v1": {"upstream": "a"}, "v2": {"upstream": "b"}}


def read(**settings):
    return Versions.model_validate({"available": TWO} | settings)


def old(**settings):
    """Two versions, the first of which has these."""
    return read(available=TWO | {"v1": {"upstream": "a"} | settings})


def faults(make, **settings):
    """Where, and what is wrong."""
    with pytest.raises(ValidationError) as error:
        make(**settings)
    return [
        (".".join(str(part) for part in line["loc"] if part != "[key]"), line["msg"].removeprefix("Value error, "))
        for line in error.value.errors()
    ]


def test_what_is_not_said():
    versions = read()
    assert versions.from_ == ("path",)
    assert versions.default is None
    assert versions.strip
    assert versions.available["v1"].after_sunset == "gone"
    assert (versions.names, versions.upstreams, versions.retiring) == (("v1", "v2"), ("a", "b"), {})


def test_the_whole_of_it():
    versions = read(
        **{"from": ["path", "header", "query", "media_type"]},
        header="X-API-Version",
        query="version",
        media_type="application/vnd.example.{version}+json",
        default="v1.1",
        aliases={"latest": "v2"},
        strip=False,
        available={
            "v1.1+": {
                "upstream": "a",
                "deprecated": "2026-01-01",
                "sunset": "2027-06-30T12:00:00+02:00",
                "successor": "v2",
                "link": "https://docs.example.com/migrate?from=v1",
                "brownouts": [{"from": "2027-06-01T10:00:00Z", "to": "2027-06-01T10:15:00Z"}],
            },
            "v2": {"upstream": "a"},
        },
    )
    assert versions.names == ("v1.1", "v2")
    assert versions.upstreams == ("a",)
    old = versions.retiring["v1.1"]
    assert (old.deprecated, old.sunset) == ("2026-01-01T00:00:00Z", "2027-06-30T10:00:00Z")


@pytest.mark.parametrize("moment", ["2026-13-01", "2026-02-30", "2026-01-01T25:00:00Z", "0001-01-01T00:00:00+01:00"])
def test_a_date_is_in_the_calendar(moment):
    ((place, message),) = faults(old, sunset=moment)
    assert place == "available.v1.sunset"
    assert "is not in the calendar" in message


@pytest.mark.parametrize(
    "moment", ["soon", "01/02/2026", "2026-01-01T00:00:00", "2026-W01", "20260101", "", 1767225600, True]
)
def test_a_date_is_a_day_or_a_time_with_its_zone(moment):
    assert [place for place, _ in faults(old, deprecated=moment)] == ["available.v1.deprecated"]


@pytest.mark.parametrize(
    ("settings", "place", "message"),
    [
        ({"deprecated": "2026-01-02", "sunset": "2026-01-01"}, "sunset", "is before deprecated"),
        ({"sunset": "1969-12-31"}, "sunset", "'1969-12-31' is before 1970"),
        ({"successor": "v1"}, "successor", "is the version itself"),
        ({"successor": "v3"}, "successor", "there is no version 'v3': there are v1, v2"),
        (
            {"link": "https://docs.example.com"},
            "link",
            "has no effect: the version is neither deprecated nor has it a sunset",
        ),
        (
            {"deprecated": "2026-01-01", "link": "docs"},
            "link",
            "'docs' is not a URL such as https://docs.example.com/migrate",
        ),
        (
            {"deprecated": "2026-01-01", "link": 'https://x/>; rel="evil'},
            "link",
            "'https://x/>; rel=\"evil' is not a URL such as https://docs.example.com/migrate",
        ),
        ({"after_sunset": "serve"}, "after_sunset", "has no effect without sunset"),
        (
            {"brownouts": [{"from": "2026-01-01", "to": "2026-01-02"}]},
            "brownouts",
            "announce an end that does not come: they need a sunset after which it is gone",
        ),
        (
            {"sunset": "2026-03-01", "brownouts": [{"from": "2026-01-02", "to": "2026-01-01"}]},
            "brownouts.0.to",
            "is not after from",
        ),
        (
            {"sunset": "2026-03-01", "brownouts": [{"from": "2026-02-28", "to": "2026-03-02"}]},
            "brownouts.0.to",
            "is after sunset",
        ),
    ],
)
def test_what_can_be_wrong_with_a_version(settings, place, message):
    assert faults(old, **settings) == [(f"available.v1.{place}", message)]


@pytest.mark.parametrize(
    ("settings", "place", "message"),
    [
        ({"from": ["header"]}, "from.0", "needs versions.header beside it"),
        ({"from": ["path", "query"]}, "from.1", "needs versions.query beside it"),
        ({"from": "media_type"}, "from.0", "needs versions.media_type beside it"),
        ({"from": ["path", "path"]}, "from.1", "is here twice"),
        ({"header": "X-Version"}, "header", "has no effect: from does not have header"),
        ({"from": "header", "header": "no header"}, "header", "'no header' is not a header name"),
        (
            {"from": "query", "query": "a&b"},
            "query",
            "'a&b' is not the name of a query parameter: letters, digits and . _ ~ -",
        ),
        (
            {"from": "media_type", "media_type": "application/json"},
            "media_type",
            "'application/json' must have {version} in it, once",
        ),
        ({"default": "v3"}, "default", "there is no version 'v3': there are v1, v2"),
        ({"aliases": {"latest": "v3"}}, "aliases.latest", "there is no version 'v3': there are v1, v2"),
        ({"aliases": {"v1": "v2"}}, "aliases.v1", "is a version itself"),
        ({"aliases": {"V1": "v2"}}, "aliases.V1", "is too much like 'v1'"),
        ({"aliases": {"v3+": "v2"}}, "aliases.v3+", "is a baseline: an alias is one version"),
    ],
)
def test_what_can_be_wrong_with_versions(settings, place, message):
    assert faults(read, **settings) == [(place, message)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v 1", "'v 1' is not a version"),
        ("", "'' is not a version"),
        ("?", "'?' is not a version"),
        ("v" * 40, "is not a version"),
        ("beta+", "'beta+' has no number"),
        ("V1", "is too much like 'v1'"),
        ("v1+", "is too much like 'v1'"),
        ("v1.0", "is too much like 'v1'"),
        ("v01", "is too much like 'v1'"),
    ],
)
def test_a_name_is_one_version_and_no_other(name, message):
    ((place, said),) = faults(read, available=TWO | {name: {"upstream": "c"}})
    assert place == f"available.{name}"
    assert message in said


def test_successors_lead_to_an_end():
    a, b, c = ({"upstream": "u", "successor": successor} for successor in ("v2", "v3", "v2"))
    found = faults(read, available={"v1": a, "v2": b, "v3": c})
    loop = "leads back to the version itself"
    assert found == [("available.v2.successor", loop), ("available.v3.successor", loop)]


def test_there_is_one_version_at_least():
    assert [place for place, _ in faults(read, available={})] == ["available"]


def test_a_version_may_be_shared_by_several_upstreams():
    versions = read(available=TWO | {"v2": {"split": {"b": 95, "c": 5, "d": 0}, "split_by": "cookie:session"}})
    assert versions.upstreams == ("a", "b", "c")
    assert versions.available["v2"].upstream is None


@pytest.mark.parametrize(
    ("settings", "place", "message"),
    [
        ({"split": {"a": 1}}, "available.v1.split", "cannot stand beside upstream"),
        ({"upstream": None, "split": {"a": 0}}, "available.v1.split", "has no weight above 0: nobody would answer"),
        ({"split_by": "ip"}, "available.v1.split_by", "has no effect without split"),
    ],
)
def test_a_split_that_cannot_be(settings, place, message):
    assert faults(old, **settings) == [(place, message)]
