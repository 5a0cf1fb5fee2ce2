"""What becomes of a route's requests besides the plain way to one upstream, and what answers in its place."""

from pathlib import Path

import pytest

from gateway.config.model import Fallback
from gateway.config.warnings import warnings
from tests.configs import UPSTREAM, between, complaint, complaints, loaded, route

ALL = ("open", "timeout", "connect_failure", "reset", "5xx", "quota", "no_healthy_target")


def fallbacks(folder: Path, written: str, environ: dict[str, str] | None = None) -> tuple[Fallback, ...]:
    return loaded(folder, between(f"upstream: u\n    fallback: {written}"), environ).routes[0].fallback


def doubts(folder: Path, text: str) -> list[str]:
    return warnings(loaded(folder, text))


def test_what_is_absent_is_off(tmp_path: Path) -> None:
    only = loaded(tmp_path, route("priority: high")).routes[0]
    assert (only.split, only.split_by, only.mirror, only.fault, only.idempotency) == (None,) * 5
    assert only.upstreams == ("u",)


def test_a_split_stands_in_place_of_an_upstream(tmp_path: Path) -> None:
    only = loaded(tmp_path, between("split: {u: 95, v: 5}\n    split_by: consumer")).routes[0]
    assert (only.upstream, only.split, only.split_by) == (None, {"u": 95, "v": 5}, "consumer")
    assert only.upstreams == ("u", "v")


def test_who_has_no_weight_answers_nobody(tmp_path: Path) -> None:
    assert loaded(tmp_path, between("split: {u: 1, v: 0}")).routes[0].upstreams == ("u",)


def test_a_mirror_a_fault_and_idempotency_have_defaults(tmp_path: Path) -> None:
    settings = "upstream: u\n    mirror: {upstream: v}\n    fault: {status: 503}\n    idempotency: {}"
    only = loaded(tmp_path, between(settings)).routes[0]
    assert only.mirror is not None
    assert only.fault is not None
    assert only.idempotency is not None
    assert (only.mirror.upstream, only.mirror.share) == ("v", 1.0)
    assert (only.fault.share, only.fault.status, only.fault.delay, only.fault.header) == (1.0, 503, 0.0, None)
    assert (only.idempotency.header, only.idempotency.keep) == ("Idempotency-Key", 86400.0)


def test_a_mirror_a_fault_and_idempotency_are_what_is_written(tmp_path: Path) -> None:
    settings = (
        "upstream: u\n    mirror: {upstream: v, share: 5%}\n    fault: {share: 1%, delay: 200ms, header: X-Tester}\n"
        "    idempotency: {header: X-Key, keep: 10m}"
    )
    only = loaded(tmp_path, between(settings)).routes[0]
    assert only.mirror is not None
    assert only.fault is not None
    assert only.idempotency is not None
    assert only.mirror.share == 0.05
    assert (only.fault.share, only.fault.status, only.fault.delay, only.fault.header) == (0.01, None, 0.2, "X-Tester")
    assert (only.idempotency.header, only.idempotency.keep) == ("X-Key", 600.0)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("priority: low", "5:5: routes[0].upstream: is required"),
        ("split: {u: 1}\n    upstream: u", "7:12: routes[0].split: cannot stand beside upstream"),
        ("split: {}", "7:12: routes[0].split: must have at least one entry"),
        ("split: {u: 0, v: 0}", "7:12: routes[0].split: has no weight above 0: nobody would answer"),
        ("split: [u, v]", "7:12: routes[0].split: must be a mapping, not a list"),
        ("split: {u: -1, v: 1}", "7:16: routes[0].split.u: must be at least 0, not -1"),
        ("split: {u: 1001}", "7:16: routes[0].split.u: must be at most 1000, not 1001"),
        ("split: {u: 95%, v: 5}", "7:16: routes[0].split.u: must be a whole number, not '95%'"),
        ("split: {u: {weight: 5}}", "7:16: routes[0].split.u: must be a whole number, not a mapping"),
        ("split: {u: 1, w: 1}", "7:19: routes[0].split.w: there is no upstream 'w'"),
        ("splitt: {u: 1}\n    upstream: u", "7:5: routes[0].splitt: unknown key (did you mean 'split'?)"),
        ("split_by: ip\n    upstream: u", "7:15: routes[0].split_by: has no effect without split"),
        (
            "idempotency: {header: Content-Length}\n    upstream: u",
            "7:27: routes[0].idempotency.header: 'Content-Length' belongs to the connection and cannot be set",
        ),
        ("split: {u: 1}\n    split_by: route", "8:15: routes[0].split_by: 'route' is none of consumer, ip, header"),
        ("split: {u: 1}\n    split_by: consumers", "8:15: routes[0].split_by: 'consumers' is none of consumer, ip"),
        ("upstream: u\n    mirror: v", "8:13: routes[0].mirror: must be a mapping, not 'v'"),
        ("upstream: u\n    mirror: {share: 5%}", "8:13: routes[0].mirror.upstream: is required"),
        ("upstream: u\n    mirror: {upstream: v, share: 0%}", "8:34: routes[0].mirror.share: must be more than 0%"),
        ("upstream: u\n    mirror: {upstream: v, share: 101%}", "8:34: routes[0].mirror.share: '101%' is not a share"),
        ("upstream: u\n    mirror: {upstream: w}", "8:24: routes[0].mirror.upstream: there is no upstream 'w'"),
        ("upstream: u\n    fault: {}", "8:12: routes[0].fault: does nothing: give it a status or a delay"),
        ("upstream: u\n    fault: {delay: 0s}", "8:12: routes[0].fault: does nothing"),
        ("upstream: u\n    fault: {share: 5%}", "8:12: routes[0].fault: does nothing"),
        ("upstream: u\n    fault: {status: 200}", "8:21: routes[0].fault.status: must be at least 400, not 200"),
        ("upstream: u\n    fault: {status: 600}", "8:21: routes[0].fault.status: must be at most 599, not 600"),
        ("upstream: u\n    fault: {status: 503, share: 101%}", "8:33: routes[0].fault.share: '101%' is not a share"),
        ("upstream: u\n    fault: {status: 503, share: 0%}", "8:33: routes[0].fault.share: must be more than 0%"),
        ("upstream: u\n    fault: {delay: 200}", "8:20: routes[0].fault.delay: 200 is not a duration"),
        ("upstream: u\n    fault: {status: 503, header: 'X A'}", "8:34: routes[0].fault.header: 'X A' is not a header"),
        ("upstream: u\n    idempotency: true", "8:18: routes[0].idempotency: must be a mapping, not true"),
        ("upstream: u\n    idempotency: {keep: 0s}", "8:25: routes[0].idempotency.keep: must be longer than nothing"),
        ("upstream: u\n    idempotency: {header: ''}", "8:27: routes[0].idempotency.header: '' is not a header name"),
        (
            "upstream: u\n    idempotency: {keeps: 1h}",
            "8:19: routes[0].idempotency.keeps: unknown key (did you mean 'keep'",
        ),
    ],
)
def test_ways_that_cannot_be(tmp_path: Path, settings: str, expected: str) -> None:
    assert complaint(tmp_path, between(settings)).startswith(expected)


def test_a_fallback_is_another_upstream_or_an_answer(tmp_path: Path) -> None:
    (tmp_path / "sorry.html").write_text("<p>sorry")
    written = (
        "[{on: [quota, no_healthy_target, overloaded], upstream: v}, {file: sorry.html, status: 503}, "
        "{text: '{request.id} {route} {consumer} {path} {status} {reason} {{x}}', headers: {X-A: '{reason}'}}, "
        "{json: {a: ['{status}', {'{b}': '{{'}]}}]"
    )
    first, second, third, fourth = fallbacks(tmp_path, written)
    assert (first.on, first.upstream) == (("quota", "no_healthy_target", "overloaded"), "v")
    assert (first.json_, first.text, first.file) == (None, None, None)
    assert (second.on, second.file, second.status) == (ALL, tmp_path / "sorry.html", 503)
    assert (second.json_, second.text) == (None, None)
    assert third.text == "{request.id} {route} {consumer} {path} {status} {reason} {{x}}"
    assert third.headers == {"X-A": "{reason}"}
    assert fourth.json_ == {"a": ["{status}", {"{b}": "{{"}]}


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (
            "{upstream: u}",
            "27: routes[0].fallback[0].upstream: is the upstream that has failed: it would be asked once",
        ),
        ("{upstream: w}", "27: routes[0].fallback[0].upstream: there is no upstream 'w'"),
        ("{upstream: v, text: a}", "36: routes[0].fallback[0].text: has no effect: the upstream answers"),
        ("{upstream: v, json: 1}", "36: routes[0].fallback[0].json: has no effect: the upstream answers"),
        ("{upstream: v, status: 200}", "38: routes[0].fallback[0].status: has no effect: the upstream answers"),
        ("{upstream: v, headers: {}}", "39: routes[0].fallback[0].headers: has no effect: the upstream answers"),
        ("{text: a, file: f}", "32: routes[0].fallback[0].file: there is text already"),
        ("{file: f, json: 1}", "23: routes[0].fallback[0].file: there is json already"),
        ("{file: nowhere}", "23: routes[0].fallback[0].file: cannot read 'nowhere': No such file"),
        ("{file: f, status: 204}", "34: routes[0].fallback[0].status: a reply with status 204 has no body"),
        (
            "{headers: {X-A: b}}",
            "16: routes[0].fallback[0]: answers with nothing: give it an upstream, json, text, file",
        ),
        ("{on: [opened], text: a}", "22: routes[0].fallback[0].on[0]: 'opened' is none of open, timeout, connect_fail"),
        ("{on: [5XX], text: a}", "22: routes[0].fallback[0].on[0]: '5XX' is none of"),
        (
            "{text: '{request_id}'}",
            "23: routes[0].fallback[0].text: {request_id} is no field: there are {request.id}, ",
        ),
        ("{text: 'a { b'}", "23: routes[0].fallback[0].text: a { that begins or ends no field is written twice: {{"),
        ("{text: '{}'}", "23: routes[0].fallback[0].text: {} is no field"),
        ("{json: {a: [1, '{rout}']}}", "23: routes[0].fallback[0].json: {rout} is no field"),
        ("{text: a, headers: {X-A: '{who}'}}", "41: routes[0].fallback[0].headers.X-A: {who} is no field"),
        ("{text: '{${X}}'}", "23: routes[0].fallback[0].text: has braces that are no field"),
        ("{json: ['${X}}']}", "23: routes[0].fallback[0].json: has braces that are no field"),
        ("{text: a, headers: {X-A: '{${X}'}}", "41: routes[0].fallback[0].headers.X-A: has braces that are no field"),
        ("{stale: true}", "17: routes[0].fallback[0].stale: not supported yet"),
        ("{json: 1, body: 5}", "26: routes[0].fallback[0].body: unknown key"),
    ],
)
def test_fallbacks_that_cannot_be(tmp_path: Path, entry: str, expected: str) -> None:
    (tmp_path / "f").touch()
    text = between(f"upstream: u\n    fallback: [{entry}]")
    said = complaints(tmp_path, text, {"X": "secret"})
    # What answers with nothing is said as well where the only answer is an unknown one.
    assert [line for line in said if line.startswith(f"8:{expected}")]
    assert len(said) == 1 or "stale" in entry
    assert "secret" not in "".join(said)


def test_several_faults_of_one_fallback_are_all_said(tmp_path: Path) -> None:
    said = complaints(tmp_path, between("upstream: u\n    fallback: [{upstream: v, text: a, status: 200}]"))
    assert [line.split(": ")[1] for line in said] == ["routes[0].fallback[0].text", "routes[0].fallback[0].status"]


def test_a_part_of_a_split_may_stand_in_for_another_but_not_for_itself(tmp_path: Path) -> None:
    settings = "split: {u: 95, v: 5}\n    fallback: [{upstream: u}]"
    assert loaded(tmp_path, between(settings)).routes[0].fallback[0].upstream == "u"
    assert complaint(tmp_path, between(settings.replace("v: 5", "v: 0"))).startswith(
        "8:27: routes[0].fallback[0].upstream: is the upstream that has failed"
    )


def test_a_mirror_that_asks_the_same_again_is_doubtful(tmp_path: Path) -> None:
    assert doubts(tmp_path, between("upstream: u\n    mirror: {upstream: v}")) == []
    assert doubts(tmp_path, between("upstream: u\n    mirror: {upstream: u}")) == [
        "routes[r].mirror: u answers this route, and gets requests twice"
    ]
    assert len(doubts(tmp_path, between("split: {u: 1, v: 1}\n    mirror: {upstream: v}"))) == 1


@pytest.mark.parametrize(
    ("entries", "never"),
    [
        ("{text: a}, {on: [open], text: b}", [1]),
        ("{on: [5xx], text: a}, {on: [503, reset], text: b}", [1]),
        ("{on: [open], text: a}, {on: [timeout], text: b}, {on: [open, timeout], upstream: v}", [2]),
        ("{upstream: v}, {text: a}", []),
        ("{on: [open], text: a}, {text: b}", []),
        ("{on: [503], text: a}, {on: [5xx], text: b}", []),
        ("{text: a}, {on: [overloaded], text: b}", []),
    ],
)
def test_a_fallback_that_never_answers_is_doubtful(tmp_path: Path, entries: str, never: list[int]) -> None:
    assert doubts(tmp_path, between(f"upstream: u\n    fallback: [{entries}]")) == [
        f"routes[r].fallback[{index}] never answers: those before it cover all of its failures" for index in never
    ]


def test_keys_that_each_worker_remembers_for_itself_are_doubtful(tmp_path: Path) -> None:
    text = route("idempotency: {}")
    several = "workers: 2\n"
    (doubt,) = doubts(tmp_path, f"{several}store: {{url: memory}}\n{text}")
    assert doubt.startswith("store.url is memory: each of the 2 workers remembers idempotency keys for itself, so")
    assert "requests of r may be done 2 times" in doubt
    assert doubts(tmp_path, several + text) == []
    assert doubts(tmp_path, text) == []
    assert doubts(tmp_path, f"{several}store: {{url: memory}}\n{route('priority: high')}") == []


def test_of_many_routes_with_keys_a_few_are_named(tmp_path: Path) -> None:
    routes = "".join(f"  - {{name: r{n}, match: {{path: /{n}}}, upstream: u, idempotency: {{}}}}\n" for n in range(6))
    (doubt,) = doubts(tmp_path, f"workers: 2\nstore: {{url: memory}}\n{UPSTREAM}routes:\n{routes}")
    assert "requests of r0, r1, r2, r3, r4 and others may be done" in doubt


def test_requests_that_are_counted_and_keys_that_are_kept_are_different_doubts(tmp_path: Path) -> None:
    text = "workers: 2\nstore: {url: memory}\n" + route("idempotency: {}\n    rate_limit: {by: ip, limit: 1/second}")
    assert [doubt.partition(",")[0].rpartition("workers ")[2] for doubt in doubts(tmp_path, text)] == [
        "counts for itself",
        "remembers idempotency keys for itself",
    ]


def test_keys_are_kept_in_the_store_so_one_is_needed(tmp_path: Path) -> None:
    assert loaded(tmp_path, route("idempotency: {}")).limits
    assert not loaded(tmp_path, route("priority: high")).limits


def test_a_key_is_of_no_use_where_everything_may_be_repeated_anyway(tmp_path: Path) -> None:
    text = route("idempotency: {}").replace("path: /r", "path: /r, methods: [GET, PUT]")
    assert complaint(tmp_path, text).endswith("has no effect: all of match.methods may be repeated without a key")
