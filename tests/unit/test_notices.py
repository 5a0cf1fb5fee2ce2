"""What all workers are told: how it is written down, who reads it when, and what happens when that goes wrong."""

import logging
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.process.instance import beside
from gateway.process.notices import NoticeBoard, NoticesReader
from gateway.upstream.notices import NOTHING, Found, Notices, Rehearsal, decode, encode
from tests.configs import ROUTE, loaded
from tests.fakes import Clock

NOW = 1_795_251_600.0  # 2026-11-21T09:00:00Z
A, B = "http://127.0.0.1:9001", "http://127.0.0.1:9002"
FAULT = Rehearsal("flt_0123456789ab", "r", 0.1, 503, 0.2, NOW + 300)
ALL = Notices(
    ill=frozenset({("u", A), ("v", B)}),
    found={"u": (Found(A, 1, 0), Found("http://[::1]:9002", 5, 10)), "v": ()},
    held_open=frozenset({("u", ""), ("v", B)}),
    closed={("u", ""): 3, ("u", A): 1},
    faults=(FAULT, replace(FAULT, id="flt_1", status=0)),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "notices"


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
def board(path: Path, clock: Clock) -> NoticeBoard:
    return NoticeBoard(path, clock=clock)


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be written from now on."""

    def no_room(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gateway.files.os.open", no_room)


# -- how they are written down -------------------------------------------------------------------------


@pytest.mark.parametrize("notices", [NOTHING, ALL])
def test_notices_survive_their_json(notices: Notices) -> None:
    assert decode(encode(notices)) == notices


def test_equal_notices_are_written_alike() -> None:
    backwards = Notices(ALL.ill, dict(reversed(ALL.found.items())), ALL.held_open, dict(ALL.closed), ALL.faults)
    assert encode(backwards) == encode(ALL)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"7",
        b"[]",
        b"{}",
        b"[" * 10_000,
        encode(ALL)[:-1],
        encode(ALL)[:-1] + b',"more":1}',
        encode(ALL).replace(b'"held_open"', b'"held"'),
    ],
)
def test_what_is_no_notices_is_not_read_as_such(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"not JSON|not the members"):
        decode(raw)


def fault(**changed: object) -> list[dict[str, object]]:
    return [{**asdict(FAULT), **changed}]


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("ill", 7),
        ("ill", {}),
        ("ill", "ab"),
        ("ill", [["u"]]),
        ("ill", [["u", A, 1]]),
        ("ill", [["", A]]),
        ("ill", [[1, A]]),
        ("ill", [["u", "a\nb"]]),
        ("ill", [["u", "a" * 3000]]),
        ("ill", [["u", A]] * 100_001),
        ("held_open", [None]),
        ("held_open", [["u", None]]),
        ("closed", [["u", A]]),
        ("closed", [["u", A, 0]]),
        ("closed", [["u", A, True]]),
        ("closed", [["u", A, 1.5]]),
        ("found", []),
        ("found", {"u": A}),
        ("found", {"u": [A]}),
        ("found", {"": []}),
        ("found", {"u": [{"url": A, "weight": 1}]}),
        ("found", {"u": [{"url": A, "weight": 0, "priority": 0}]}),
        ("found", {"u": [{"url": A, "weight": 1, "priority": -1}]}),
        ("found", {"u": [{"url": A, "weight": 1, "priority": 0, "zone": "a"}]}),
        ("faults", [7]),
        ("faults", [{}]),
        ("faults", fault(id="")),
        ("faults", fault(route=None)),
        ("faults", fault(share=0)),
        ("faults", fault(share=1.1)),
        ("faults", fault(share="10%")),
        ("faults", fault(share=True)),
        ("faults", fault(status=200)),
        ("faults", fault(status=600)),
        ("faults", fault(status="503")),
        ("faults", fault(delay=-1)),
        ("faults", fault(delay=None)),
        ("faults", fault(status=0, delay=0)),
        ("faults", fault(until=None)),
        ("faults", fault(header="x")),
    ],
)
def test_every_member_has_to_be_what_it_is(member: str, value: object) -> None:
    said = orjson.loads(encode(ALL))
    with pytest.raises(ValueError, match=f"^{member}: "):
        decode(orjson.dumps({**said, member: value}))


def test_a_number_that_json_does_not_have_is_not_read() -> None:
    with pytest.raises(ValueError, match=r"not JSON|not a number"):
        decode(encode(ALL).replace(b"0.2", b"1e999"))


def test_a_circuit_is_held_alone_or_with_all_of_its_upstream() -> None:
    assert ALL.holds("u", A)
    assert ALL.holds("u", "")
    assert ALL.holds("v", B)
    assert not ALL.holds("v", A)
    assert not ALL.holds("v", "")


# -- the board -----------------------------------------------------------------------------------------


def test_what_is_posted_is_in_the_file_and_the_rest_stays(board: NoticeBoard, path: Path) -> None:
    assert board.post(ill=ALL.ill)
    assert board.post(found=ALL.found)
    assert decode(path.read_bytes()) == board.current == Notices(ill=ALL.ill, found=ALL.found)
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["notices"]


def test_what_does_not_exist_cannot_be_posted(board: NoticeBoard) -> None:
    with pytest.raises(TypeError):
        board.post(well=frozenset())


def test_nothing_is_written_when_nothing_has_changed(board: NoticeBoard, path: Path) -> None:
    board.post(ill=frozenset())
    assert not path.exists()
    board.post(ill=ALL.ill)
    before = path.stat().st_ino
    assert board.post(ill=frozenset(ALL.ill))
    board.tick()
    assert path.stat().st_ino == before


def test_another_operator_process_goes_on_with_what_the_last_one_posted(board: NoticeBoard, path: Path) -> None:
    board.post(held_open=ALL.held_open, closed=ALL.closed, faults=ALL.faults)
    assert NoticeBoard(path).current == board.current


def test_one_that_cannot_read_them_begins_anew_and_says_so(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_bytes(b"{")
    board = NoticeBoard(path)
    assert board.current == NOTHING
    assert "notices cannot be read" in caplog.text
    assert board.post(ill=ALL.ill)
    assert decode(path.read_bytes()).ill == ALL.ill


@pytest.mark.usefixtures("full")
def test_what_cannot_be_written_is_told_once(board: NoticeBoard, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not board.post(ill=ALL.ill)
    board.tick()
    assert not board.post(ill=ALL.ill)
    assert not path.exists()
    assert caplog.text.count("No space left on device") == 1


def test_what_could_not_be_written_is_as_soon_as_it_can(board: NoticeBoard, path: Path) -> None:
    path.with_name("notices.new").mkdir()
    assert not board.post(ill=ALL.ill)
    assert board.current.ill == ALL.ill
    path.with_name("notices.new").rmdir()
    board.tick()
    assert decode(path.read_bytes()).ill == ALL.ill


def test_a_rehearsal_that_is_over_is_taken_down(
    board: NoticeBoard, path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    later = replace(FAULT, id="flt_later", until=NOW + 600)
    board.post(faults=(FAULT, later))
    clock.now = NOW + 299.9
    board.tick()
    assert board.current.faults == (FAULT, later)
    clock.now = NOW + 300
    board.tick()
    assert decode(path.read_bytes()).faults == (later,)
    assert "rehearsal flt_0123456789ab on route r is over" in caplog.text


TWO = "upstreams:\n  u: {{targets: ['{}', '{}'], breaker: {}}}\n" + ROUTE.replace("{", "{{").replace("}", "}}")


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        (TWO.format(A, B, "{per: target}"), {("u", ""), ("u", A)}),
        (TWO.format("http://127.0.0.1:1", B, "{per: target}"), {("u", "")}),
        (TWO.format(A, B, "{per: upstream}"), {("u", "")}),
        (TWO.format(A, B, "off"), set()),
        ("routes: []", set()),
        (
            "upstreams: {u: {discover: {dns: orders.internal, port: 80}}}\n" + ROUTE,
            {("u", ""), ("u", A)},
        ),  # it may return
    ],
)
def test_what_a_reload_has_taken_away_is_not_held_any_more(
    board: NoticeBoard, tmp_path: Path, settings: str, left: set[Any], caplog: pytest.LogCaptureFixture
) -> None:
    held = frozenset({("u", ""), ("u", A)})
    board.post(held_open=held, faults=(FAULT,))
    board.keep_to(loaded(tmp_path, settings))
    assert board.current.held_open == left
    assert board.current.faults == ((FAULT,) if "name: r" in settings else ())
    assert caplog.text.count("no longer held open") == len(held - left)
    assert caplog.text.count("is over: route r is not configured") == (0 if "name: r" in settings else 1)


# -- the reader ----------------------------------------------------------------------------------------


async def test_a_worker_sees_what_has_changed_and_only_then(board: NoticeBoard, path: Path) -> None:
    reader = NoticesReader(path)
    assert not await reader.look()
    assert reader.notices == NOTHING
    board.post(ill=ALL.ill)
    assert await reader.look()
    assert reader.notices == board.current
    assert not await reader.look()
    board.post(held_open=ALL.held_open)
    assert await reader.look()
    assert reader.notices == board.current


async def test_a_file_that_says_the_same_is_no_news(board, path):
    board.post(ill=ALL.ill)
    reader = NoticesReader(path)
    assert await reader.look()
    path.write_bytes(encode(board.current) + b"\n")
    assert not await reader.look()


async def test_what_cannot_be_read_changes_nothing(board, path, caplog):
    board.post(ill=ALL.ill)
    reader = NoticesReader(path)
    await reader.look()
    path.write_bytes(b"{")
    assert not await reader.look()
    assert not await reader.look()
    assert reader.notices.ill == ALL.ill
    assert [each.levelno for each in caplog.records] == [logging.ERROR]
    path.unlink()
    assert not await reader.look()
    assert reader.notices.ill == ALL.ill
    board.post(ill=frozenset())
    assert await reader.look()
    assert reader.notices.ill == frozenset()


async def test_what_cannot_be_opened_is_tried_again(path, caplog):
    path.mkdir()
    reader = NoticesReader(path)
    assert not await reader.look()
    assert not await reader.look()
    assert caplog.text.count("Is a directory") == 1
    path.rmdir()
    NoticeBoard(path).post(ill=ALL.ill)
    assert await reader.look()


def test_they_are_in_the_folder_of_the_instance(tmp_path: Path) -> None:
    assert beside(tmp_path / "records") == tmp_path / "notices"


def test_workers_need_no_heavy_libraries_for_it() -> None:
    heavy = ("redis", "aiohttp", "pydantic", "cryptography")
    script = f"import sys, gateway.process.notices; print(*set(sys.modules) & set({heavy}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == (b"\n", b"")
