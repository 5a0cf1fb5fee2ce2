from pathlib import Path

import pytest

from tests.configs import SECRET, UPSTREAM, between, complaint, complaints, loaded, route

NAMED = (
    f"auth: {{providers: {{idp: {{type: jwt, secret: {SECRET}, algorithms: [HS256]}}}}}}\n"
    "rate_limits: {standard: {by: ip, limit: 1/second}}\n"
)


def routes(*matches: str) -> str:
    lines = [f"  - {{name: r{index}, match: {{{match}}}, upstream: u}}\n" for index, match in enumerate(matches)]
    return UPSTREAM + "routes:\n" + "".join(lines)


def test_unknown_names_are_reported_where_they_are_used_with_the_nearest(tmp_path: Path) -> None:
    text = NAMED + route("auth: {providers: [ipd]}\n    rate_limit: [standrd, per_ip]").replace(
        "upstream: u", "upstream: v"
    )
    assert complaints(tmp_path, text) == [
        "8:24: routes[0].auth.providers[0]: there is no provider 'ipd' (did you mean 'idp'?)",
        "9:18: routes[0].rate_limit[0]: there is no rate limit 'standrd' (did you mean 'standard'?)",
        "9:27: routes[0].rate_limit[1]: there is no rate limit 'per_ip'",
        "10:15: routes[0].upstream: there is no upstream 'v'",
    ]


def test_every_place_that_names_an_upstream_is_checked(tmp_path: Path) -> None:
    text = between(
        "split: {u: 1, w: 1}\n    mirror: {upstream: x}\n"
        "    fallback: [{upstream: y}, {text: a}, {on: [open], upstream: vv}]"
    )
    assert complaints(tmp_path, text) == [
        "7:19: routes[0].split.w: there is no upstream 'w'",
        "8:24: routes[0].mirror.upstream: there is no upstream 'x'",
        "9:27: routes[0].fallback[0].upstream: there is no upstream 'y'",
        "9:65: routes[0].fallback[2].upstream: there is no upstream 'vv' (did you mean 'v'?)",
    ]


def test_every_version_names_an_upstream_that_exists(tmp_path: Path) -> None:
    text = between("versions: {available: {v1: {upstream: u}, v2+: {upstream: vv}, v4: {upstream: 5}}}")
    assert complaints(tmp_path, text) == [
        "7:63: routes[0].versions.available.'v2+'.upstream: there is no upstream 'vv' (did you mean 'v'?)",
        "7:83: routes[0].versions.available.v4.upstream: must be text, not 5; put it in quotes",
    ]


@pytest.mark.parametrize("versions", ["5", "[a]", "{available: 5}", "{available: [u]}", "{available: {v1: u}}"])
def test_versions_of_a_wrong_type_have_one_complaint(tmp_path: Path, versions: str) -> None:
    assert complaint(tmp_path, between(f"versions: {versions}"))


def test_names_from_the_environment_are_not_quoted(tmp_path: Path) -> None:
    text = route("body_limit: 1B").replace("upstream: u", "upstream: ${U}")
    assert complaint(tmp_path, text, {"U": "uu"}) == "7:15: routes[0].upstream: there is no upstream ***"


def test_references_are_checked_even_where_other_things_are_wrong(tmp_path: Path) -> None:
    text = route("body_limit: x\n    rate_limit: nobody\n    surprise: 1")
    assert [line.split(": ")[1] for line in complaints(tmp_path, text)] == [
        "routes[0].body_limit",
        "routes[0].rate_limit",
        "routes[0].surprise",
    ]


def test_a_name_that_exists_but_is_wrong_itself_is_no_unknown_name(tmp_path: Path) -> None:
    text = "upstreams: {u: {targets: []}}\n" + routes("path: /").removeprefix(UPSTREAM)
    assert complaint(tmp_path, text) == "1:26: upstreams.u.targets: must have at least one entry"


def test_two_routes_cannot_have_one_name(tmp_path: Path) -> None:
    text = routes("path: /a", "path: /b", "path: /c").replace("r2", "r0")
    assert complaint(tmp_path, text) == "6:12: routes[2].name: 'r0' is also the name of the route at line 4"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("path: /a", "path: /a"),
        ("path: /a", "path: /a/"),
        ("path: '/a/{x}/b'", "path: '/a/{y}/b'"),
        ("path: '/a/{x}'", "path: /a/*"),
        ("path: /a", "path: /a, methods: [GET]"),
        ("path: /a, methods: [GET, PUT]", "path: /a"),
        ("path: /a, methods: [GET, PUT]", "path: /a, methods: [POST, PUT]"),
        ("path: /a, host: a.b", "path: /a, host: A.b"),
        ("path: /a, headers: {X-A: b, c: d}", "path: /a, headers: {c: d, x-a: b}"),
        ("path: /a, query: {a: b}", "path: /a, query: {a: b}"),
    ],
)
def test_a_route_that_takes_what_an_earlier_one_takes_is_refused(tmp_path: Path, first: str, second: str) -> None:
    said = complaint(tmp_path, routes(first, "path: /other", second))
    assert said == "6:23: routes[2].match: takes the same requests as route 'r0' at line 4"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("path: /a", "path: /A"),
        ("path: '/a/{x}'", "path: /a/x"),
        ("path: /a/**", "path: /a/*"),
        ("path: /a, methods: [GET]", "path: /a, methods: [POST]"),
        ("path: /a, host: a.b", "path: /a"),
        ("path: /a, host: a.b", "path: /a, host: '*.b'"),
        ("path: /a, headers: {x: b}", "path: /a, headers: {x: c}"),
        ("path: /a, headers: {x: b}", "path: /a, query: {x: b}"),
        ("path: /a, query: {x: b}", "path: /a"),
    ],
)
def test_routes_that_differ_in_anything_live_side_by_side(tmp_path: Path, first: str, second: str) -> None:
    assert len(loaded(tmp_path, routes(first, second)).routes) == 2


def test_a_conflict_names_the_first_of_several_earlier_routes(tmp_path: Path) -> None:
    said = complaint(tmp_path, routes("path: /a, methods: [PUT]", "path: /a, methods: [GET]", "path: /a"))
    assert said.endswith("takes the same requests as route 'r0' at line 4")


LIMITS = """\
auth:
  providers: {keys: {type: api_key, header: X-API-Key}}
  consumers: {acme: {tier: gld}, globex: {tier: gold}, other: {}}
rate_limits: {standard: {by: consumer, limit: 1/second, tiers: {gold: 5/second}}, unused: {by: ip, limit: 1/second}}
"""


def test_a_tier_that_no_limit_in_use_knows_is_reported_with_the_nearest(tmp_path: Path) -> None:
    expected = "3:28: auth.consumers.acme.tier: no limit of any route knows the tier 'gld' (did you mean 'gold'?)"
    assert complaint(tmp_path, LIMITS + route("rate_limit: [standard]")) == expected
    written_there = route("rate_limit: [{by: consumer, limit: 1/second, tiers: {gold: 5/second}}, unused]")
    assert complaint(tmp_path, LIMITS + written_there) == expected


@pytest.mark.parametrize(
    "text",
    [
        route("rate_limit: [unused]"),
        route("body_limit: 1B"),
        route("rate_limit: [{by: ip, limit: 1/second, tiers: {gold: 5/second, gld: 2/second}}, unused]"),
        "shedding: {last: [gld]}\n" + route("rate_limit: [standard]"),
    ],
)
def test_where_no_limit_tells_tiers_apart_or_one_knows_it_any_tier_will_do(tmp_path: Path, text: str) -> None:
    assert loaded(tmp_path, LIMITS + text).auth.consumers["acme"].tier == "gld"


def test_a_limit_written_in_a_route_is_not_called_like_another(tmp_path: Path) -> None:
    named = "rate_limits: {r-2: {by: ip, limit: 1/second}}\n"
    text = named + route("rate_limit: [r-2, {by: consumer, limit: 1/second}]")
    assert complaint(tmp_path, text) == (
        "7:23: routes[0].rate_limit[1]: is called 'r-2', like one of rate_limits: give one another name"
    )
    assert "routes[0].rate_limit" in complaint(
        tmp_path, named.replace("r-2", "r-1") + route("rate_limit: {by: ip, limit: 1/day}")
    )


@pytest.mark.parametrize(
    "text", ["routes: 5", "routes: [5, [x], {match: 5, auth: 5, rate_limit: {}}]", "auth: 5\nroutes: {}"]
)
def test_values_of_a_wrong_type_do_no_harm(tmp_path: Path, text: str) -> None:
    assert complaints(tmp_path, text)
