"""The worker's side of usage: what counts as what, what waits, what is bounded, and what is sent again."""

import logging
from dataclasses import replace
from types import SimpleNamespace

import pytest

from gateway.errors import ClientGone, DeadlinePassed, GatewayError, Refused, Shed
from gateway.exchange import ANONYMOUS, Caller
from gateway.telemetry.usage import HOURS_KEPT, SLICE, TEXT_CAP, UsageCounter, UsageReporter, UsageStoreError, text
from tests.fakes import Clock, make_call

NOON = 1_795_262_400.0  # 2026-11-21T12:00:00Z
HOUR = 3600.0
OTHER = ("", "other", "orders", "")


class Store:
    """Keeps what it gets; while it is `away` it takes nothing, and says so."""

    def __init__(self):
        self.batches = []
        self.away = False
        self.tried = []

    async def add(self, batch):
        self.tried.append(batch)
        if self.away:
            raise UsageStoreError("away")
        self.batches.append(batch)

    @property
    def counts(self):
        """Calls by hour and key."""
        found = {}
        for batch in self.batches:
            for key, tally in batch.items:
                found[batch.hour, key] = found.get((batch.hour, key), 0) + tally[0]
        return found


@pytest.fixture
def clock():
    return Clock(NOON)


@pytest.fixture
def counter(clock):
    return UsageCounter(100, clock)


@pytest.fixture
def store():
    return Store()


def a_call(consumer="user-17", label="idp", route="orders", error=None):
    call = make_call()
    call.caller = Caller(consumer, label, label)
    call.route = route
    call.error = error
    return call


async def tallies(counter, store):
    """All that was counted."""
    await counter.flush(store)
    return {key: tally for batch in store.batches for key, tally in batch.items}


# -- what is counted -----------------------------------------------------------------------------------


async def test_calls_are_counted_by_caller_and_route_with_the_time_they_took(counter, store):
    for took in (0.25, 0.5):
        counter.count(a_call(), 200, took)
    counter.count(a_call(route="invoices"), 200, 1.0)
    counter.count(a_call(label="partner"), 200, 2.0)  # somebody else with the same subject
    assert await tallies(counter, store) == {
        ("idp", "user-17", "orders", ""): [2, 0, 0, 0.75],
        ("idp", "user-17", "invoices", ""): [1, 0, 0, 1.0],
        ("partner", "user-17", "orders", ""): [1, 0, 0, 2.0],
    }


@pytest.mark.parametrize(
    ("status", "error", "counted"),
    [
        (200, None, (0, 0)),
        (404, None, (0, 0)),
        (500, None, (1, 0)),
        (503, None, (1, 0)),  # the upstream's
        (403, None, (0, 0)),
        (429, None, (0, 0)),
        (401, Refused("unauthenticated", 401), (0, 1)),
        (403, Refused("forbidden", 403), (0, 1)),
        (429, Refused("rate_limited", 429), (0, 1)),
        (503, Shed("circuit_open"), (0, 1)),
        (404, Refused("no_route", 404), (0, 0)),
        (413, Refused("body_too_large", 413), (0, 0)),
        (499, ClientGone(), (0, 0)),
        (500, GatewayError(), (1, 0)),
        (504, DeadlinePassed(), (1, 0)),
    ],
)
async def test_errors_are_5xx_and_refused_is_what_the_gateway_turned_away(counter, store, status, error, counted):
    counter.count(a_call(error=error), status, 0.0)
    (tally,) = (await tallies(counter, store)).values()
    assert tuple(tally[1:3]) == counted


async def test_versions_are_counted_each_for_itself(counter, store):
    for version in ("v1", "v2", "v1"):
        call = a_call()
        call.version = version
        counter.count(call, 200, 0.0)
    assert {key[3]: tally[0] for key, tally in (await tallies(counter, store)).items()} == {"v1": 2, "v2": 1}


async def test_anonymous_callers_and_requests_without_a_route_are_counted_too(counter, store):
    call = a_call(route="")
    call.caller = ANONYMOUS
    counter.count(call, 404, 0.0)
    assert list(await tallies(counter, store)) == [("", "", "", "")]


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("user-17", "user-17"),
        ("", ""),
        ("CORP\\jürgen 🙂", "CORP\\jürgen 🙂"),
        ("a\tb\nc\x1b[2J\x00", "a\\tb\\nc\\x1b[2J\\x00"),
        ("\x9b\x7f\u202e\u2028", "\\x9b\\x7f\\u202e\\u2028"),
        ("\ud800", "\\ud800"),
        ("x" * 5000, "x" * TEXT_CAP),
        ("\x00" * 5000, ("\\x00" * 5000)[:TEXT_CAP]),
    ],
)
async def test_names_are_stored_as_they_are_but_for_what_cannot_be_printed_and_for_their_length(
    counter, store, name, stored
):
    assert text(name) == stored
    for _ in range(2):
        counter.count(a_call(consumer=name), 200, 0.0)
    assert await tallies(counter, store) == {("idp", stored, "orders", ""): [2, 0, 0, 0.0]}


# -- what is sent --------------------------------------------------------------------------------------


async def test_nothing_is_sent_when_nothing_was_counted(counter, store):
    await counter.flush(store)
    counter.count(a_call(), 200, 0.0)
    await counter.flush(store)
    await counter.flush(store)
    assert len(store.tried) == 1
    assert counter.unsent == 0


async def test_each_hour_gets_its_own(counter, store, clock):
    counter.count(a_call(), 200, 0.0)
    clock.advance(HOUR - 0.5)
    await counter.flush(store)
    counter.count(a_call(), 200, 0.0)
    clock.advance(1.0)
    await counter.flush(store)
    counter.count(a_call(), 200, 0.0)
    await counter.flush(store)
    key = ("idp", "user-17", "orders", "")
    assert store.counts == {(NOON // HOUR, key): 2, (NOON // HOUR + 1, key): 1}


async def test_many_callers_travel_in_batches_with_rising_numbers(counter, store, clock):
    counter = UsageCounter(10_000, clock)
    for i in range(2 * SLICE + 1):
        counter.count(a_call(f"u{i}"), 200, 0.0)
    await counter.flush(store)
    assert [(batch.number, len(batch.items)) for batch in store.batches] == [(1, SLICE), (2, SLICE), (3, 1)]
    assert len(store.counts) == 2 * SLICE + 1


async def test_two_workers_are_told_apart(clock, store):
    for _ in range(2):
        counter = UsageCounter(100, clock)
        counter.count(a_call(), 200, 0.0)
        await counter.flush(store)
    assert len({batch.worker for batch in store.batches}) == 2


async def test_a_batch_in_doubt_goes_again_as_it_was_and_first(counter, store):
    counter.count(a_call(), 200, 0.0)
    store.away = True
    with pytest.raises(UsageStoreError):
        await counter.flush(store)
    for _ in range(3):
        counter.count(a_call(), 200, 0.0)
        with pytest.raises(UsageStoreError):
            await counter.flush(store)
    assert counter.unsent == 4
    store.away = False
    await counter.flush(store)
    assert [replace(batch, items=()) for batch in store.tried[:4]] == [replace(store.tried[0], items=())] * 4
    assert [[tally[0] for _, tally in batch.items] for batch in store.batches] == [[1], [3]]
    assert [batch.number for batch in store.batches] == [1, 2]
    assert counter.unsent == 0


async def test_after_an_outage_every_hour_gets_what_belongs_to_it(counter, store, clock):
    store.away = True
    for _ in range(3):
        for _ in range(5):
            counter.count(a_call(), 200, 0.0)
            with pytest.raises(UsageStoreError):
                await counter.flush(store)
        clock.advance(HOUR)
        with pytest.raises(UsageStoreError):
            await counter.flush(store)
    store.away = False
    await counter.flush(store)
    key = ("idp", "user-17", "orders", "")
    assert store.counts == {(NOON // HOUR + hour, key): 5 for hour in range(3)}


# -- what is bounded -----------------------------------------------------------------------------------


async def test_beyond_the_bound_callers_are_counted_together_by_route(counter, store):
    for i in range(150):
        for route in ("orders", "invoices"):
            counter.count(a_call(f"u{i}", route=route), 500, 0.5)
    found = await tallies(counter, store)
    assert len(found) == 102
    assert found[OTHER] == [100, 100, 0, 50.0]
    assert found["", "other", "invoices", ""] == [100, 100, 0, 50.0]
    counter.count(a_call("late"), 200, 0.0)  # what was sent is no longer held
    await counter.flush(store)
    assert store.counts[NOON // HOUR, ("idp", "late", "orders", "")] == 1


async def test_a_caller_who_is_called_other_is_not_the_others(counter, store):
    for i in range(100):
        counter.count(a_call("other" if i == 0 else f"u{i}"), 200, 0.0)
    counter.count(a_call("one too many"), 200, 0.0)
    found = await tallies(counter, store)
    assert found["idp", "other", "orders", ""][0] == 1
    assert found[OTHER][0] == 1


async def test_what_waits_for_a_store_is_bounded_and_no_call_is_lost(counter, store, clock):
    store.away = True
    for hour in range(10):
        for i in range(50):
            counter.count(a_call(f"u{hour}-{i}"), 200, 0.0)
            with pytest.raises(UsageStoreError):
                await counter.flush(store)
        clock.advance(HOUR)
    assert counter.unsent == 500
    store.away = False
    await counter.flush(store)
    assert sum(store.counts.values()) == 500
    others = {hour: calls for (hour, key), calls in store.counts.items() if key == OTHER}
    assert len(store.counts) == 100 + len(others)
    assert sum(others.values()) == 400
    assert counter.unsent == 0


async def test_what_has_waited_for_longer_than_hours_are_kept_is_dropped_and_said(counter, store, clock, caplog):
    store.away = True
    for wait in (HOUR, HOURS_KEPT):
        counter.count(a_call(), 200, 0.0)
        with pytest.raises(UsageStoreError):
            await counter.flush(store)
        clock.advance(wait)
        with pytest.raises(UsageStoreError):
            await counter.flush(store)
    store.away = False
    counter.count(a_call(), 200, 0.0)
    await counter.flush(store)
    assert sum(store.counts.values()) == 2
    assert counter.unsent == 0
    assert "usage of 1 calls is lost" in caplog.text


# -- reports -------------------------------------------------------------------------------------------


def a_config(usage=True, url="redis://a", callers=100):
    return SimpleNamespace(
        usage=SimpleNamespace(callers=callers, keep=86400.0) if usage else None,
        store_url=url,
        store=SimpleNamespace(prefix="gw:"),
    )


class Opened(Store):
    """Also remembers where it is, and whether it was closed."""

    def __init__(self, *where):
        super().__init__()
        self.where = where
        self.closed = False

    async def close(self):
        self.closed = True


@pytest.fixture
def opened(monkeypatch):
    stores = []

    def open_store(*where):
        stores.append(Opened(*where))
        return stores[-1]

    monkeypatch.setattr("gateway.telemetry.usage_store.open_store", open_store)
    return stores


async def test_a_report_goes_where_the_configuration_says(counter, opened):
    reporter = UsageReporter(counter)
    await reporter.report(a_config(url="embedded", callers=7), "unix:///store.sock")
    assert opened[0].where == ("unix:///store.sock", "gw:", 7, 86400.0)
    assert counter.most == 7
    counter.count(a_call(), 200, 0.0)
    await reporter.report(a_config(url="embedded", callers=7), "unix:///store.sock")
    assert len(opened) == 1
    assert sum(opened[0].counts.values()) == 1
    await reporter.finish(a_config(url="embedded", callers=7), "unix:///store.sock")
    assert opened[0].closed


async def test_what_was_counted_before_a_reload_goes_to_the_store_of_that_time(counter, opened):
    reporter = UsageReporter(counter)
    await reporter.report(a_config(), "")
    counter.count(a_call(), 200, 0.0)
    await reporter.report(a_config(url="redis://b"), "")
    counter.count(a_call(), 200, 0.0)
    await reporter.report(a_config(usage=False), "")
    assert [sum(store.counts.values()) for store in opened] == [1, 1]
    assert [store.closed for store in opened] == [True, True]
    await reporter.finish(a_config(usage=False), "")


async def test_what_an_old_store_did_not_take_goes_to_the_new_one(counter, opened):
    reporter = UsageReporter(counter)
    await reporter.report(a_config(), "")
    opened[0].away = True
    counter.count(a_call(), 200, 0.0)
    await reporter.report(a_config(url="redis://b"), "")
    await reporter.finish(a_config(url="redis://b"), "")
    assert sum(opened[1].counts.values()) == 1


async def test_the_last_report_takes_all_that_is_left(counter, opened):
    reporter = UsageReporter(counter)
    counter.count(a_call(), 200, 0.0)  # before the first report
    await reporter.finish(a_config(), "")
    assert sum(opened[0].counts.values()) == 1
    assert opened[0].closed


async def test_a_store_that_is_away_is_said_once_and_that_it_is_back_too(counter, opened, caplog):
    caplog.set_level(logging.INFO, "gateway.usage")
    reporter = UsageReporter(counter)
    await reporter.report(a_config(), "")
    opened[0].away = True
    for _ in range(3):
        counter.count(a_call(), 200, 0.0)
        await reporter.report(a_config(), "")
    opened[0].away = False
    await reporter.report(a_config(), "")
    assert [record.getMessage() for record in caplog.records] == [
        "usage cannot be stored at the moment, it is kept here: away",
        "usage is stored again",
    ]
    assert sum(opened[0].counts.values()) == 3
    await reporter.finish(a_config(), "")


async def test_what_is_lost_at_the_end_is_said(counter, opened, caplog):
    reporter = UsageReporter(counter)
    await reporter.report(a_config(), "")
    opened[0].away = True
    for _ in range(3):
        counter.count(a_call(), 200, 0.0)
    await reporter.finish(a_config(), "")
    assert "usage of 3 calls is lost: the store is away at the end" in caplog.text
    assert opened[0].closed


async def test_without_usage_nothing_is_opened(counter, opened):
    reporter = UsageReporter(counter)
    await reporter.report(a_config(usage=False), "")
    await reporter.finish(a_config(usage=False), "")
    assert opened == []
