"""`rate_limits`, concurrency and shedding: what can be said, and what cannot be."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.cli.check import as_yaml
from gateway.config.effective import effective
from gateway.config.limits import RateLimit, RouteConcurrency, UpstreamConcurrency
from gateway.config.units import Rate
from gateway.config.warnings import warnings
from tests.configs import ROUTE, UPSTREAM, complaint, complaints, loaded, upstream

REST = UPSTREAM + ROUTE
RATE = {"by": "ip", "limit": "100/minute"}


def limit(**settings: Any) -> RateLimit:
    return RateLimit.model_validate({**RATE, **settings})


def fault(**settings: Any) -> tuple[str, str]:
    """The one thing that is wrong with a limit, and where."""
    with pytest.raises(ValidationError) as caught:
        limit(**settings)
    error, *rest = caught.value.errors()
    assert all(each["type"] == "too_short" for each in rest)  # a list whose only entry is wrong
    return ".".join(map(str, error["loc"])), error["msg"].removeprefix("Value error, ")


def test_a_limit_says_only_what_it_has_to() -> None:
    plain = limit()
    assert (plain.by, plain.limit, plain.burst, plain.cost) == (("ip",), Rate(100, 60.0), None, {"*": 1})
    assert (plain.algorithm, plain.mode, plain.on_failure, plain.lease, plain.tiers) == (
        "gcra", "enforce", None, None, {},
    )  # fmt: skip


def test_a_limit_can_say_all_of_it() -> None:
    full = limit(
        by=["consumer", "header:X-Tenant", "claim:realm.tenant"],
        burst=20,
        tiers={"gold": "6000/minute", "silver": {"limit": "600/minute", "burst": 50}},
        cost={"GET": 0, "POST": 5, "*": 2},
        mode="observe",
        on_failure="closed",
        lease=2,
    )
    assert full.by == ("consumer", "header:X-Tenant", "claim:realm.tenant")
    assert full.tiers["gold"].limit == Rate(6000, 60.0)
    assert (full.tiers["silver"].limit, full.tiers["silver"].burst) == (Rate(600, 60.0), 50)
    assert full.cost == {"GET": 0, "POST": 5, "*": 2}
    assert limit(cost=5).cost == {"*": 5}


@pytest.mark.parametrize("by", ["consumer", "ip", "route", "global", "header:X", "cookie:sid", "query:k", "claim:a.b"])
def test_everything_by_which_can_be_counted(by: str) -> None:
    assert limit(by=by).by == limit(by=[by]).by == (by,)


@pytest.mark.parametrize(
    ("by", "where", "what"),
    [
        ("ips", "by.0", "'ips' is none of consumer, ip, route, global, header:NAME, cookie:NAME, query:NAME"),
        ("header:", "by.0", "'header:' is none of"),
        ("ip:x", "by.0", "'ip:x' is none of"),
        ("header:X Y", "by.0", "'X Y' is not a header name"),
        ("cookie:a;b", "by.0", "'a;b' is not a header name"),
        ("claim:a..b", "by.0", "'a..b' is not the name of a claim"),
        ("header:X-Forwarded-For", "by.0", "'header:X-Forwarded-For' can be written by anybody: ip is"),
        ("header:forwarded", "by.0", "'header:forwarded' can be written by anybody"),
        ([], "by", "Tuple should have at least 1 item"),
        (["ip", "ip"], "by", "names something twice"),
        (["header:X-A", "header:x-a"], "by", "names something twice"),
        (["global", "ip"], "by", "global counts everybody together: it cannot be combined"),
    ],
)
def test_nothing_else_can_be_counted_by(by: object, where: str, what: str) -> None:
    place, message = fault(by=by)
    assert (place, message[: len(what)]) == (where, what)


def test_names_of_claims_cookies_and_parameters_keep_their_case() -> None:
    assert limit(by=["claim:a", "claim:A", "query:k", "query:K"]).by == ("claim:a", "claim:A", "query:k", "query:K")


@pytest.mark.parametrize(
    ("settings", "where", "what"),
    [
        ({"limit": "0/minute"}, "limit", "must allow at least 1 request"),
        ({"limit": "-1/minute"}, "limit", "'-1/minute' is not a rate"),
        ({"limit": "100/fortnight"}, "limit", "'100/fortnight' is not a rate"),
        ({"limit": "100000000/second"}, "limit", "is more than ten million per second"),
        ({"limit": "1/day", "burst": 100_000}, "burst", "takes more than ten years to come back"),
        ({"limit": "1/3650d", "burst": 2}, "burst", "takes more than ten years to come back"),
        ({"burst": 0}, "burst", "Input should be greater than or equal to 1"),
        ({"algorithm": "leaky"}, "algorithm", "Input should be 'gcra', 'sliding_window' or 'calendar'"),
        ({"algorithm": "sliding_window", "burst": 5}, "burst", "has no effect: only gcra has a burst"),
        ({"algorithm": "calendar", "limit": "9/day", "burst": 5}, "burst", "has no effect: only gcra has a burst"),
        ({"algorithm": "calendar"}, "limit", "has to be per hour, day, week or month"),
        ({"limit": "5/month"}, "limit", "per month needs algorithm: calendar"),
        ({"time_zone": "UTC"}, "time_zone", "has no effect without algorithm: calendar"),
        ({"algorithm": "calendar", "limit": "9/day", "time_zone": "Mars"}, "time_zone", "'Mars' is no time zone"),
        ({"algorithm": "calendar", "limit": "9/day", "lease": 1}, "lease", "works with gcra only"),
        ({"lease": 11}, "limit", "must be ten times `lease` or more"),
        ({"lease": 5, "burst": 49}, "burst", "must be ten times `lease` or more"),
        ({"lease": 5, "tiers": {"low": "49/minute"}}, "tiers.low.limit", "must be ten times `lease` or more"),
        ({"tiers": {"low": "0/minute"}}, "tiers.low.limit", "must allow at least 1 request"),
        ({"tiers": {"low": {"limit": "1/month"}}}, "tiers.low.limit", "per month needs algorithm: calendar"),
        ({"tiers": {"low tier": "1/minute"}}, "tiers.low tier.[key]", "'low tier' is not a name"),
        ({"tiers": {"low": {"limit": "9/minute", "by": "ip"}}}, "tiers.low.by", "Extra inputs are not permitted"),
        ({"cost": -1}, "cost.*", "Input should be greater than or equal to 0"),
        ({"cost": 0}, "cost", "is 0 for every request: nothing would ever be counted"),
        ({"cost": {"*": 0, "GET": 0}}, "cost", "is 0 for every request"),
        ({"cost": {}}, "cost", "Dictionary should have at least 1 item"),
        ({"cost": {"get": 1}}, "cost.get.[key]", "'get' is not a method in capitals"),
        ({"cost": {"POST": 101}}, "limit", "is less than the cost of one request, 101"),
        ({"cost": 21, "burst": 20}, "burst", "is less than the cost of one request, 21"),
        ({"cost": {"PUT": 9}, "tiers": {"low": "8/minute"}}, "tiers.low.limit", "is less than the cost of one request"),
        ({"mode": "log"}, "mode", "Input should be 'enforce' or 'observe'"),
        ({"on_failure": "ignore"}, "on_failure", "Input should be 'local', 'open' or 'closed'"),
    ],
)
def test_limits_that_cannot_be(settings: dict[str, Any], where: str, what: str) -> None:
    place, message = fault(**settings)
    assert (place, message[: len(what)]) == (where, what)


@pytest.mark.parametrize(
    "settings",
    [
        {"cost": {"GET": 0}},  # the others count 1
        {"cost": {"*": 0, "POST": 1}},
        {"lease": 10},
        {"limit": "1/week"},
        {"limit": "10/7d"},
        {"algorithm": "sliding_window", "limit": "999999999/90d"},
        {"algorithm": "calendar", "limit": "5/month", "time_zone": "Europe/Berlin"},
        {"algorithm": "calendar", "limit": "5/hour", "tiers": {"gold": "500/week"}},
        {"limit": "1/day", "burst": 3650},
    ],
)
def test_limits_that_can_be(settings: dict[str, Any]) -> None:
    limit(**settings)


def test_complaints_stand_where_the_value_stands(tmp_path: Path) -> None:
    text = "rate_limits:\n  a:\n    by: [ip, ip]\n    limit: 5/minute\n    burst: 2\n    cost: 3\n" + REST
    assert complaints(tmp_path, text) == [
        "3:9: rate_limits.a.by: names something twice",
        "5:12: rate_limits.a.burst: is less than the cost of one request, 3",
    ]


def test_numbers_may_come_from_the_environment(tmp_path: Path) -> None:
    text = "rate_limits: {a: {by: '${BY}', limit: '${LIMIT}', burst: '${N}', cost: '${N}'}}\n" + REST
    read = loaded(tmp_path, text, {"BY": "header:X-A", "LIMIT": "10/second", "N": "3"}).rate_limits["a"]
    assert (read.by, read.limit, read.burst, read.cost) == (("header:X-A",), Rate(10, 1.0), 3, {"*": 3})


def test_an_adaptive_limit_has_bounds_that_fit() -> None:
    assert UpstreamConcurrency.model_validate({"adaptive": True}).least == 5
    assert UpstreamConcurrency.model_validate({"adaptive": True, "limit": 3}).least == 3
    assert UpstreamConcurrency.model_validate({"adaptive": True, "limit": 9, "minimum": 9}).least == 9
    for settings in ({"minimum": 2}, {"adaptive": True, "limit": 3, "minimum": 4}):
        with pytest.raises(ValidationError):
            UpstreamConcurrency.model_validate(settings)


def test_concurrency_is_counted_by_what_limits_are_counted_by() -> None:
    assert RouteConcurrency.model_validate({}).by == ("route",)
    assert RouteConcurrency.model_validate({"by": ["route", "consumer"]}).by == ("route", "consumer")
    for by in (["ip", "ip"], ["global", "ip"], "address"):
        with pytest.raises(ValidationError):
            RouteConcurrency.model_validate({"by": by})


def test_where_a_minimum_has_no_effect_is_told(tmp_path: Path) -> None:
    said = complaint(tmp_path, upstream("concurrency: {minimum: 2}"))
    assert said == "4:28: upstreams.u.concurrency.minimum: has no effect without adaptive: true"


def test_what_is_printed_of_limits_loads_as_the_same(tmp_path: Path) -> None:
    text = """\
rate_limits:
  a: {by: [consumer, "header:X-A"], limit: 100/minute, burst: 50, tiers: {gold: 600/minute}, lease: 2, mode: observe}
  b: {by: "claim:a.b", limit: 5/month, algorithm: calendar, time_zone: Europe/Berlin, cost: {GET: 0, "*": 2}}
  c: {by: "query:k", limit: 9/90s, algorithm: sliding_window, on_failure: closed, cost: 3, tiers: {t: {limit: 9/1h}}}
rate_limit_headers: both
"""
    config = loaded(tmp_path, text + REST)
    assert loaded(tmp_path, as_yaml(effective(config, {}, tmp_path))) == config


def test_a_lease_of_what_is_counted_in_memory_is_warned_of(tmp_path: Path) -> None:
    limits = "rate_limits: {hot: {by: ip, limit: 1000/second, lease: 50}}\n"
    assert [line.partition(" ")[0] for line in warnings(loaded(tmp_path, f"{limits}routes: []\n"))] == [
        "rate_limits.hot.lease"
    ]
    assert warnings(loaded(tmp_path, f"store: {{url: embedded}}\n{limits}routes: []\n")) == []
