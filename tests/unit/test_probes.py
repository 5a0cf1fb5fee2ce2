"""Probes: how replies are judged, and when probes run, with a clock that nobody waits for."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from gateway.config.probes import Expect, Probe
from gateway.probes.asking import Outcome, Way
from gateway.probes.expectation import LARGEST, Seen, judge, same
from gateway.probes.watching import SETTLE, Probes
from gateway.telemetry.metrics import Metrics
from tests.fakes import Clock, Dice

WAY = Way("127.0.0.1:8080", False)
WELL = Outcome("ok", 200, 0.002, "")
ILL = Outcome("status", 503, 0.002, "status 503")


def seen(body: bytes | None = b"{}", status: int = 200, took: float = 0.01, **headers: str) -> Seen:
    return Seen(status, [(name.replace("_", "-"), value) for name, value in headers.items()], body, took)


def expect(**settings: Any) -> Expect:
    return Expect.model_validate(settings)


# -- judging -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "reply", "result", "detail"),
    [
        ({}, seen(), "ok", ""),
        ({}, seen(status=503), "status", "status 503"),
        ({"status": ["204", "400-499"]}, seen(status=404), "ok", ""),
        ({"headers": {"X-A": "1"}}, seen(), "header", "header X-A is missing"),
        ({"headers": {"X-A": "1"}}, seen(x_a="2"), "header", "header X-A is '2'"),
        ({"headers": {"Content-Type": "text/html"}}, seen(content_type="text/html; charset=utf-8"), "ok", ""),
        ({"headers": {"Content-Type": "text/html; a=b"}}, seen(content_type="text/html"), "header", None),
        ({"json": {"items.0.id": 7}}, seen(b'{"items": [{"id": 7.0}]}'), "ok", ""),
        ({"json": {"items.0.id": 7}}, seen(b'{"items": [{"id": 8}]}'), "json", "items.0.id is 8"),
        ({"json": {"items.1.id": 7}}, seen(b'{"items": [{"id": 8}]}'), "json", "items.1.id is missing"),
        ({"json": {"a": None}}, seen(b'{"a": null}'), "ok", ""),
        ({"json": {"a": None}}, seen(b"{}"), "json", "a is missing"),
        ({"json": {"a.b": 1}}, seen(b'{"a": "b"}'), "json", "a.b is missing"),
        ({"json": {"a": 1}}, seen(b"<html>"), "json", "the body is not JSON"),
        ({"json": {"a": 1}}, seen(None), "json", f"the body has more than {LARGEST} bytes"),
        ({"within": "20ms"}, seen(took=0.021), "slow", "took 21 ms, more than 20 ms"),
        ({"within": "20ms"}, seen(took=0.02), "ok", ""),
        ({"within": "20ms"}, seen(status=500, took=1.0), "status", "status 500"),
    ],
)
def test_a_reply_is_judged_by_all_that_is_expected(
    settings: dict[str, Any], reply: Seen, result: str, detail: str | None
) -> None:
    found = judge(expect(**settings), reply)
    assert found.result == result
    assert detail is None or found.detail == detail


def test_equality_is_that_of_json() -> None:
    assert same({"a": [1, {"b": None}], "c": "x"}, {"c": "x", "a": [1.0, {"b": None}]})
    assert not same(True, 1)
    assert not same([1, 2], [2, 1])
    assert not same({"a": 1}, {"a": 1, "b": 2})
    assert not same({}, [])


def test_what_an_upstream_says_cannot_forge_a_line_of_the_log() -> None:
    text = "x\n2026-11-21 all is well\x1b[31m" * 10
    found = judge(expect(json={"a": 1}, headers={}), seen(orjson.dumps({"a": text})))
    assert found.detail.isprintable()
    assert len(found.detail) < 200


# -- running -----------------------------------------------------------------------------------------


class Asked:
    """Answers as told, and remembers who was asked when."""

    def __init__(self, clock: Clock, answer: Callable[[str], Outcome] = lambda _: WELL) -> None:
        self.clock = clock
        self.answer = answer
        self.runs: list[tuple[float, str]] = []

    async def __call__(self, probe: Probe, way: Way) -> Outcome:
        self.runs.append((self.clock.now, probe.name))
        return self.answer(probe.name)


class Ticks:
    """A clock for many sleepers: `pass_` wakes each at its time."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._waiting: list[tuple[float, asyncio.Future[None]]] = []

    async def __call__(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((self.clock.now + seconds, future))
        await future

    async def pass_(self, seconds: float) -> None:
        ends = self.clock.now + seconds
        await settle()
        while due := [each for each in self._waiting if each[0] <= ends]:
            first = min(due, key=lambda each: each[0])
            self._waiting.remove(first)
            self.clock.now = max(self.clock.now, first[0])
            if not first[1].done():
                first[1].set_result(None)
            await settle()
        self.clock.now = ends


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def probe(name: str = "up", **settings: Any) -> Probe:
    return Probe.model_validate({"name": name, "path": "/r", **settings})


Watched = tuple[Probes, Asked, Ticks, Metrics]


@pytest.fixture
def watched() -> Watched:
    clock, metrics = Clock(0.0), Metrics()
    asked, ticks = Asked(clock), Ticks(clock)
    probes = Probes(metrics, asking=asked, dice=Dice(0.5), sleep=ticks, clock=clock, wall=lambda: 1000.0 + clock.now)
    return probes, asked, ticks, metrics


def ups(metrics: Metrics) -> dict[str, float]:
    return {labels[0]: gauge.values[0] for labels, gauge in metrics.probe_up if gauge.values[0] == gauge.values[0]}


async def test_a_probe_begins_soon_and_goes_on_at_its_own_time(watched: Watched) -> None:
    probes, asked, ticks, _ = watched
    probes.through(WAY)
    probes.watch([probe(every="30s")])
    await ticks.pass_(SETTLE)
    assert asked.runs == []
    await ticks.pass_(65)
    assert [at for at, _ in asked.runs] == [SETTLE + 5, SETTLE + 35, SETTLE + 65]
    await probes.close()


async def test_dice_keep_probes_apart(watched: Watched) -> None:
    probes, asked, ticks, _ = watched
    falls = iter([0.0, 1.0, *[0.5] * 20])
    probes._dice = lambda: next(falls)
    probes.through(WAY)
    probes.watch([probe("a"), probe("b")])
    await ticks.pass_(SETTLE + 10)
    assert asked.runs == [(SETTLE, "a"), (SETTLE + 10, "b")]
    await probes.close()


async def test_a_probe_that_hangs_is_not_run_beside_itself(watched: Watched) -> None:
    probes, _, ticks, _ = watched
    over = asyncio.Event()
    began = 0

    async def hanging(_: Probe, __: Way) -> Outcome:
        nonlocal began
        began += 1
        await over.wait()
        return WELL

    probes._asking = hanging
    probes.through(WAY)
    probes.watch([probe(every="5s")])
    await ticks.pass_(100)
    assert began == 1
    over.set()
    await ticks.pass_(1)
    assert began == 2
    await probes.close()


async def test_runs_are_counted_and_a_change_is_told_once(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    probes, asked, ticks, metrics = watched
    probes.through(WAY)
    probes.watch([probe(every="10s")])
    with caplog.at_level(logging.WARNING, "gateway.probes"):
        await ticks.pass_(SETTLE + 5)
        assert ups(metrics) == {"up": 1.0}
        asked.answer = lambda _: ILL
        await ticks.pass_(30)
        assert ups(metrics) == {"up": 0.0}
        assert probes.records[0].failed == 3
        asked.answer = lambda _: WELL
        await ticks.pass_(20)
    assert [record.getMessage() for record in caplog.records] == ["probe up fails: status 503", "probe up is ok again"]
    runs = {labels: counter.value for labels, counter in metrics.probe_runs}
    assert runs == {("up", "ok"): 3.0, ("up", "status"): 3.0}
    assert metrics.probe_duration.child("up").counts[1] == 6.0
    assert probes.records[0].told() == {
        "name": "up",
        "path": "/r",
        "method": "GET",
        "up": True,
        "last": {"at": "1970-01-01T00:17:37Z", "result": "ok", "status": 200, "took_ms": 2.0, "detail": ""},
        "runs": 6,
        "every": 10.0,
    }
    await probes.close()


async def test_nothing_runs_while_the_gateway_drains(watched: Watched) -> None:
    probes, asked, ticks, _ = watched
    probes.watch([probe(every="5s")])
    await ticks.pass_(60)
    assert asked.runs == []
    probes.through(WAY)
    await ticks.pass_(1)
    assert len(asked.runs) == 1
    probes.through(None)
    await ticks.pass_(60)
    assert len(asked.runs) == 1
    await probes.close()


async def test_a_run_that_a_drain_has_overtaken_says_nothing(watched: Watched) -> None:
    probes, _, ticks, metrics = watched

    async def overtaken(_: Probe, __: Way) -> Outcome:
        probes.through(None)
        return ILL

    probes._asking = overtaken
    probes.through(WAY)
    probes.watch([probe()])
    await ticks.pass_(SETTLE + 5)
    assert probes.records[0].runs == 0
    assert ups(metrics) == {}
    await probes.close()


async def test_a_reload_keeps_what_has_not_changed_and_forgets_what_is_gone(watched: Watched) -> None:
    probes, asked, ticks, metrics = watched
    probes.through(WAY)
    probes.watch([probe("a"), probe("b"), probe("c")])
    await ticks.pass_(SETTLE + 5)
    kept = probes.records[0]
    probes.watch([probe("a"), probe("b", path="/other")])
    assert probes.records[0] is kept
    assert kept.runs == 1
    assert [record.up for record in probes.records] == [True, None]
    assert ups(metrics) == {"a": 1.0}
    await ticks.pass_(40)
    assert sum(name == "c" for _, name in asked.runs) == 1
    await probes.close()
