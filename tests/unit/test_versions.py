"""What the door does with the version of a request: chosen, told to both sides, refused."""

import timeit

import pytest

from gateway.config.versions import Versions as Settings
from gateway.errors import Refused
from gateway.routing.version_names import UNKNOWN
from gateway.routing.versions import REMOVED, Versions, by_version, unspoken
from tests.fakes import Clock, make_call, replying

NOW = 1_795_253_892.0  # 2026-11-21T09:38:12Z
DOCS = "https://docs.example.com/migrate"
OLD = {
    "upstream": "one",
    "deprecated": "2026-01-01",
    "sunset": "2027-06-30",
    "successor": "v2",
    "link": DOCS,
    "brownouts": [{"from": "2026-11-21T09:30:00Z", "to": "2026-11-21T09:35:00Z"}],
}
ALL = {
    "from": ["path", "header", "query", "media_type"],
    "header": "X-Version",
    "query": "version",
    "media_type": "application/vnd.example.{version}+json",
    "default": "v2",
    "aliases": {"latest": "v2"},
    "available": {"v1": OLD, "v2": {"upstream": "two"}, "v10+": {"upstream": "ten"}},
}
RETIRING = (
    "x-api-version: v1\r\ndeprecation: @1767225600\r\nsunset: Wed, 30 Jun 2027 00:00:00 GMT\r\n"
    f'link: <{DOCS}>; rel="deprecation", <{DOCS}>; rel="sunset"\r\n'
)
SUCCESSOR = 'link: </v2/orders/7>; rel="successor-version"\r\n'
VARY = "vary: X-Version, Accept\r\n"


def versions(clock=None, **settings):
    return Versions(Settings.model_validate(ALL | settings), clock or Clock(NOW))


def entered(rules, segment="", headers=(), query=b"", path=b"/orders/7"):
    """A call after it has gone through; `segment` is what the router has read in the path."""
    call = make_call(headers=list(headers))
    call.version, call.query, call.path = segment, query, path
    rules.enter(call)
    return call


def refused(rules, *given, **more):
    """The refusal: status and code, and its detail."""
    with pytest.raises(Refused) as refusal:
        entered(rules, *given, **more)
    return refusal.value


def accept(version):
    return b"accept", f"application/vnd.example.{version}+json".encode()


def body(version):
    return b"content-type", f"application/vnd.example.{version}+json".encode()


# -- chosen --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("segment", "headers", "query", "version"),
    [
        ("v1", [], b"", "v1"),
        ("", [(b"x-version", b"v1")], b"", "v1"),
        ("", [(b"x-version", b"latest")], b"", "v2"),
        ("", [(b"x-version", b"v11.5")], b"", "v10"),
        ("", [], b"?a=1&version=v1", "v1"),
        ("", [], b"?%76ersion=v%31", "v1"),
        ("", [], b"?aversion=v1", "v2"),
        ("", [accept("v1")], b"", "v1"),
        ("", [body("v1")], b"", "v1"),
        ("", [], b"", "v2"),
        ("", [(b"accept", b"*/*")], b"?a=version", "v2"),
        ("v1", [(b"x-version", b"v1"), accept("v1"), body("v1")], b"?version=v1&version=v1", "v1"),
        ("", [(b"x-version", b"v2"), (b"accept", accept("v1")[1] + b", " + accept("v2")[1])], b"", "v2"),
        ("", [accept("v1"), (b"accept", accept("v2")[1] + b";q=0.9")], b"", "v1"),
        ("", [(b"accept", accept("v3")[1] + b", " + accept("v1")[1] + b";q=0.1")], b"", "v1"),
        ("", [(b"accept", accept("v3")[1] + b", */*;q=0.1")], b"", "v2"),
        ("v1", [(b"accept", accept("v2")[1] + b", */*;q=0.1")], b"", "v1"),
    ],
)
def test_a_version_is_found_in_each_place(segment, headers, query, version):
    call = entered(versions(), segment, headers, query)
    assert call.version == version
    assert call.lines == f"x-api-version: {version}\r\n".encode()
    assert call.added.startswith(call.lines)
    assert call.removed == REMOVED


@pytest.mark.parametrize(
    ("segment", "headers", "query", "status"),
    [
        (UNKNOWN, [], b"", 404),
        ("", [(b"x-version", b"v3")], b"", 400),
        ("", [(b"x-version", b"")], b"", 400),
        ("", [(b"x-version", b"v1, v2")], b"", 400),
        ("", [(b"x-version", b"\xff")], b"", 400),
        ("", [(b"x-version", b"v" + b"1" * 30_000)], b"", 400),
        ("", [], b"?version=v3", 400),
        ("", [], b"?version=", 400),
        ("", [accept("v3")], b"", 406),
        ("v1", [accept("v3")], b"", 406),
        ("", [body("v3")], b"", 415),
    ],
)
def test_an_unknown_version_is_refused_by_where_it_was_asked_for_with_the_known_ones(segment, headers, query, status):
    refusal = refused(versions(), segment, headers, query)
    assert (refusal.status, refusal.code) == (status, "unknown_version")
    assert refusal.members == {"versions": ["v1", "v2", "v10+"]}


@pytest.mark.parametrize(
    ("segment", "headers", "query", "detail"),
    [
        ("v1", [(b"x-version", b"v2")], b"", "v1 in the path, v2 in the header"),
        ("", [(b"x-version", b"v1"), (b"x-version", b"v2")], b"", "v1 in the header, v2 in the header"),
        ("", [(b"x-version", b"v1")], b"?version=latest", "v1 in the header, v2 in the query"),
        ("", [], b"?version=v1&version=v2", "v1 in the query, v2 in the query"),
        ("v1", [accept("v2")], b"", "v1 in the path, v2 in the media types that are accepted"),
        (
            "",
            [body("v1"), accept("v2")],
            b"",
            "v1 in the media type of the body, v2 in the media types that are accepted",
        ),
        ("v2", [body("v1")], b"", "v2 in the path, v1 in the media type of the body"),
    ],
)
def test_versions_that_contradict_each_other_are_400(segment, headers, query, detail):
    refusal = refused(versions(), segment, headers, query)
    assert (refusal.status, refusal.code) == (400, "bad_request")
    assert refusal.detail == f"The request names two versions: {detail}."


def test_without_a_default_a_request_must_name_one():
    refusal = refused(versions(default=None))
    assert (refusal.status, refusal.code) == (400, "unknown_version")
    assert refusal.members == {"versions": ["v1", "v2", "v10+"]}
    by_path = {"from": ["path"], "header": None, "query": None, "media_type": None}
    assert refused(versions(default=None, **by_path)).status == 400
    assert entered(versions(**by_path)).version == "v2"
    assert refused(versions(**by_path), UNKNOWN).status == 404


def test_a_refused_request_has_no_version_that_a_metric_could_see():
    call = make_call()
    call.version = UNKNOWN
    with pytest.raises(Refused):
        versions().enter(call)
    assert call.version == ""


BY_PATH = {"from": ["path"], "header": None, "query": None, "media_type": None}


@pytest.mark.parametrize(
    ("settings", "segment", "target"),
    [
        ({}, UNKNOWN, b"/v9/./orders?a=b"),
        ({}, "v2", b"/v2/orders?version=v1"),
        (BY_PATH, UNKNOWN, b"/v9/orders"),
    ],
)
def test_a_refused_request_has_the_path_that_was_asked_for_in_the_log(settings, segment, target):
    call = make_call()
    call.request.target, call.path, call.version = target, b"/orders", segment
    call.query = b"?" + target.partition(b"?")[2]
    with pytest.raises(Refused):
        versions(**settings).enter(call)
    assert call.path == target[:3] + b"/orders"


def test_places_that_are_not_named_are_not_looked_at():
    rules = versions(**{"from": ["query"], "header": None, "media_type": None})
    call = entered(rules, "", [(b"x-version", b"v1"), accept("v1")], b"?version=v10")
    assert call.version == "v10"
    assert b"vary" not in call.added


# -- told ----------------------------------------------------------------------------------------------


def test_a_version_that_goes_away_tells_so_and_where_to_go():
    assert entered(versions(), "v1").added.decode() == RETIRING + SUCCESSOR
    assert entered(versions(), "v2").added == b"x-api-version: v2\r\n"


@pytest.mark.parametrize(
    ("headers", "query", "vary"),
    [([(b"x-version", b"v1")], b"", VARY), ([accept("v1")], b"", VARY), ([], b"?version=v1", "")],
)
def test_vary_names_the_headers_that_decided_or_could_have(headers, query, vary):
    assert entered(versions(), "", headers, query).added.decode() == RETIRING + vary + SUCCESSOR
    assert entered(versions()).added.decode() == "x-api-version: v2\r\n" + VARY


def test_what_others_have_asked_for_stays():
    call = make_call()
    call.version, call.path, call.added, call.lines, call.removed = "v1", b"/", b"vary: Origin\r\n", b"a: b\r\n", {b"a"}
    versions().enter(call)
    assert call.added.startswith(b"vary: Origin\r\nx-api-version: v1\r\n")
    assert call.lines == b"a: b\r\nx-api-version: v1\r\n"
    assert call.removed == {b"a", b"x-api-version"}


@pytest.mark.parametrize(
    ("strip", "segment", "path", "successor"),
    [
        (True, "v1", b"/orders/7", b"</v2/orders/7>"),
        (True, "v1", b"/", b"</v2/>"),
        (False, "v1", b"/v1/orders/7", b"</v2/orders/7>"),
        (False, "v1", b"/v1", b"</v2>"),
        (False, "", b"/orders/7", b"</v2/orders/7>"),
    ],
)
def test_the_successor_is_the_same_path_of_its_version(strip, segment, path, successor):
    call = entered(versions(strip=strip, default="v1"), segment, path=path)
    assert b"link: " + successor + b'; rel="successor-version"\r\n' in call.added


def test_without_versions_in_the_path_the_link_leads_to_the_successor():
    by_header = {"from": "header", "query": None, "media_type": None}
    added = entered(versions(**by_header), "", [(b"x-version", b"v1")]).added
    assert f'link: <{DOCS}>; rel="successor-version"\r\n'.encode() in added
    unexplained = {"available": {"v1": {"upstream": "a", "successor": "v2"}, "v2": {"upstream": "b"}}}
    assert b"link" not in entered(versions(**by_header, **unexplained), "", [(b"x-version", b"v1")]).added


# -- the end -------------------------------------------------------------------------------------------


def test_after_its_sunset_a_version_is_gone_and_says_where_to_go():
    clock = Clock(NOW)
    rules = versions(clock)
    clock.now = 1_814_313_600.0  # 2027-06-30
    call = make_call()
    call.version, call.path = "v1", b"/orders/7"
    with pytest.raises(Refused) as gone:
        rules.enter(call)
    assert (gone.value.status, gone.value.code) == (410, "version_gone")
    assert gone.value.members["successor"] == "v2"
    assert call.version == "v1"
    assert call.added.decode() == RETIRING + SUCCESSOR
    assert refused(rules, UNKNOWN).members == {"versions": ["v2", "v10+"]}


def test_a_version_may_serve_on_after_its_sunset():
    old = OLD | {"after_sunset": "serve", "brownouts": []}
    rules = versions(Clock(9e9), available=ALL["available"] | {"v1": old})
    assert entered(rules, "v1").added.decode() == RETIRING + SUCCESSOR


def test_a_brown_out_is_503_until_it_ends():
    clock = Clock(NOW - 300)
    rules = versions(clock)
    paused = refused(rules, "v1")
    assert (paused.status, paused.code, paused.retry_after) == (503, "version_gone", 108.0)
    assert entered(rules, "v2").version == "v2"
    clock.advance(108)
    assert entered(rules, "v1").version == "v1"


def test_versions_that_go_away_are_known():
    assert versions().retiring == {"v1"}


# -- on the way ----------------------------------------------------------------------------------------


async def test_each_version_has_its_upstream_which_does_not_speak_for_the_gateway():
    said = [(b"x-api-version", b"9"), (b"sunset", b"soon"), (b"Deprecation".lower(), b"true"), (b"etag", b"1")]
    send = by_version({"v1": replying(201, said), "v2": replying(202, said)}, frozenset({"v1"}))
    replies = {}
    for name in ("v1", "v2"):
        call = make_call()
        call.version = name
        reply = replies[name] = await send(call)
        reply.lines = b"as they came"
    assert (replies["v1"].status, replies["v1"].headers) == (201, [(b"etag", b"1")])
    assert (replies["v2"].status, [name for name, _ in replies["v2"].headers]) == (
        202,
        [b"sunset", b"deprecation", b"etag"],
    )


async def test_a_fallbacks_upstream_does_not_speak_for_the_gateway_either():
    said = [(b"x-api-version", b"9"), (b"sunset", b"soon"), (b"etag", b"1")]
    send = unspoken(replying(200, said), frozenset({"v1"}))
    for version, left in (("v1", [b"etag"]), ("v2", [b"sunset", b"etag"])):
        call = make_call()
        call.version = version
        assert [name for name, _ in (await send(call)).headers] == left


def test_a_version_in_the_path_costs_less_than_a_microsecond():
    rules = versions(**{"from": ["path"], "header": None, "query": None, "media_type": None})
    call = make_call()

    def go():
        call.version, call.added, call.lines, call.removed = "v2", b"", b"", frozenset()
        rules.enter(call)

    took = min(timeit.repeat(go, number=2000, repeat=5)) / 2000 * 1e6
    assert took < 3, f"{took:.2f} µs"  # thrice what is asked for: machines differ
