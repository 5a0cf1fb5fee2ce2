"""What operators do to keys and revocations, what of it is written down, and what a store that is away means for it."""

import asyncio
import logging
import re
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gateway.auth import kept_records
from gateway.auth.kept_records import SharedRecordsError
from gateway.auth.ledger import Ledger, LedgerError
from gateway.auth.records import EMPTY, Contents, Record, Records, read, write
from gateway.exchange import Caller
from tests.fakes import Clock

NOW = 1_800_000_000.0
DAY = 86400.0


class Stop(Exception):
    """Ends what would follow for ever."""


async def stop(seconds: float) -> None:
    raise Stop


class Shelf:
    """A shared store in this process, which can be away, be emptied, and be changed by others in the middle."""

    def __init__(self) -> None:
        self.version = 0
        self.records: dict[str, Record] = {}
        self.away = False
        self.fetched: list[int | None] = []
        self.before_put: Callable[[], None] = lambda: None

    def empty(self) -> None:
        self.version, self.records = 0, {}

    async def fetch(self, known: int | None) -> Contents | None:
        self._there()
        self.fetched.append(known)
        return None if known == self.version else Contents.of(self.version, self.records.values())

    async def put(self, *records: Record, needed: str = "") -> int:
        self.before_put()
        self._there()
        if needed and needed not in self.records:
            return 0
        self.records |= {record.id: record for record in records}
        return self._moved()

    async def remove(self, *ids: str) -> int:
        self._there()
        for each in ids:
            self.records.pop(each, None)
        return self._moved()

    async def restore(self, lost: Contents, found: int) -> None:
        self._there()
        self.records = {record.id: record for record in lost.records} | self.records
        self.version = max(self.version, lost.version) + 1

    def _moved(self) -> int:
        self.version += 1
        return self.version

    def _there(self) -> None:
        if self.away:
            raise SharedRecordsError("gone fishing")


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return tmp_path / "records"


@pytest.fixture(autouse=True)
def told(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """What was logged since it was last asked for."""
    caplog.set_level(logging.INFO, "gateway.auth")

    def lines() -> list[str]:
        messages = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return messages

    return lines


Told = Callable[[], list[str]]


def shared(copy: Path, shelf: Shelf, clock: Clock) -> Ledger:
    return Ledger(copy, shelf, clock=clock, sleep=stop)  # type: ignore[arg-type]


async def look(ledger: Ledger) -> None:
    """One turn of `follow`."""
    with pytest.raises(Stop):
        await ledger.follow()


async def refused(change: Coroutine[Any, Any, object]) -> tuple[int, str]:
    with pytest.raises(LedgerError) as caught:
        await change
    return caught.value.status, str(caught.value)


def content(copy: Path) -> bytes | None:
    return copy.read_bytes() if copy.exists() else None


def obstruct(copy: Path) -> None:
    """A folder in its place: nobody can write it."""
    copy.unlink(missing_ok=True)
    copy.mkdir()


def clear(copy: Path) -> None:
    copy.rmdir()


# -- keys ------------------------------------------------------------------------------------------


async def test_a_new_key_works_and_only_its_digest_is_kept(copy: Path, clock: Clock, told: Told) -> None:
    ledger = Ledger(copy, None, clock=clock)
    made = await ledger.create_key("acme", note="for the shop")
    assert re.fullmatch(r"gwk_[A-Za-z0-9_-]{43}", made.key)
    assert re.fullmatch(r"key_[0-9a-f]{12}", made.record.id)
    assert made.record == replace(made.record, consumer="acme", created=NOW, expires=None, note="for the shop")
    assert ledger.keys() == [made.record]
    found = Records(copy, clock=clock)
    await found.look()
    assert found.consumer_of(sha256(made.key.encode()).digest()) == "acme"
    assert made.key.encode() not in (content(copy) or b"")
    assert told() == [f"key {made.record.id} of acme made"]


async def test_a_key_with_a_lifetime_ends(copy: Path, clock: Clock) -> None:
    ledger = Ledger(copy, None, clock=clock)
    made = await ledger.create_key("acme", lifetime=DAY)
    assert made.record.expires == NOW + DAY
    clock.advance(DAY)
    assert ledger.keys() == []
    assert (await refused(ledger.revoke_key(made.record.id)))[0] == 404


async def test_no_two_keys_are_alike_and_the_oldest_is_first(copy: Path, clock: Clock) -> None:
    ledger = Ledger(copy, None, clock=clock)
    made = []
    for _ in range(20):
        made.append(await ledger.create_key("acme"))
        clock.advance(1)
    assert len({new.key for new in made}) == len({new.record.id for new in made}) == 20
    assert ledger.keys() == [new.record for new in made]


async def test_a_rotated_key_works_beside_the_new_one_until_the_overlap_is_over(
    copy: Path, clock: Clock, told: Told
) -> None:
    ledger = Ledger(copy, None, clock=clock)
    old = await ledger.create_key("acme", note="for the shop")
    clock.advance(10)
    new = await ledger.rotate_key(old.record.id, overlap=60.0)
    assert new.key != old.key
    assert (new.record.consumer, new.record.note, new.record.expires) == ("acme", "for the shop", None)
    both = ledger.keys()
    assert [key.expires for key in both] == [NOW + 70, None]
    clock.advance(60)
    assert ledger.keys() == [new.record]
    line = f"key {new.record.id} of acme made in the place of {old.record.id}, which ends in 60 s"
    assert told()[1:] == [line]


async def test_the_new_key_is_made_for_as_long_as_the_old_one_was(copy: Path, clock: Clock) -> None:
    ledger = Ledger(copy, None, clock=clock)
    old = await ledger.create_key("acme", lifetime=90 * DAY)
    clock.advance(89.5 * DAY)
    new = await ledger.rotate_key(old.record.id)
    assert new.record.expires == clock.now + 90 * DAY
    assert ledger.keys()[0] == old.record  # an overlap makes nothing longer


async def test_without_overlap_the_old_key_ends_at_once(copy: Path, clock: Clock) -> None:
    ledger = Ledger(copy, None, clock=clock)
    old = await ledger.create_key("acme")
    new = await ledger.rotate_key(old.record.id, overlap=0.0)
    assert ledger.keys() == [new.record]


async def test_a_withdrawn_key_is_gone(copy: Path, clock: Clock, told: Told) -> None:
    ledger = Ledger(copy, None, clock=clock)
    made = await ledger.create_key("acme")
    assert await ledger.revoke_key(made.record.id) == made.record
    assert ledger.keys() == []
    assert read(copy).keys == ()
    assert told()[1:] == [f"key {made.record.id} of acme withdrawn"]
    assert (await refused(ledger.revoke_key(made.record.id)))[0] == 404
    assert (await refused(ledger.rotate_key(made.record.id)))[0] == 404


@pytest.mark.parametrize(
    ("consumer", "options"),
    [
        ("", {}),
        ("a\nb", {}),
        ("a" * 257, {}),
        ("acme", {"note": "a" * 201}),
        ("acme", {"note": "line\nline"}),
        ("acme", {"lifetime": 0.0}),
        ("acme", {"lifetime": -1.0}),
        ("acme", {"lifetime": float("nan")}),
        ("acme", {"lifetime": float("inf")}),
    ],
)
async def test_what_cannot_be_a_key_is_none(copy: Path, clock: Clock, consumer: str, options: dict[str, Any]) -> None:
    ledger = Ledger(copy, None, clock=clock)
    with pytest.raises(ValueError, match=re.compile("consumer|note|lifetime|expires")):
        await ledger.create_key(consumer, **options)
    assert ledger.keys() == []


@pytest.mark.parametrize("overlap", [-1.0, float("nan"), float("inf")])
async def test_what_cannot_be_an_overlap_changes_nothing(copy: Path, clock: Clock, overlap: float) -> None:
    ledger = Ledger(copy, None, clock=clock)
    made = await ledger.create_key("acme")
    with pytest.raises(ValueError, match=re.compile("overlap|expires")):
        await ledger.rotate_key(made.record.id, overlap=overlap)
    assert ledger.keys() == [made.record]


# -- revocations -----------------------------------------------------------------------------------


async def test_a_revocation_is_in_force_until_it_is_lifted(copy: Path, clock: Clock, told: Told) -> None:
    ledger = Ledger(copy, None, clock=clock)
    found = Records(copy, clock=clock)
    caller = Caller(consumer="acme", provider="main", claims={"jti": "t1"})
    made = await ledger.revoke(jti="t1", consumer="acme", provider="main", issued_before=NOW, lifetime=DAY)
    assert re.fullmatch(r"rev_[0-9a-f]{12}", made.id)
    assert ledger.revocations() == [made]
    await found.look()
    assert found.revoked(caller)
    assert await ledger.lift(made.id) == made
    await found.look()
    assert not found.revoked(caller)
    described = f"jti t1, consumer acme, provider main, issued_before 1800000000.0 ({made.id})"
    assert told() == [f"revoked: {described}", f"no longer revoked: {described}"]
    assert (await refused(ledger.lift(made.id)))[0] == 404


async def test_a_revocation_with_a_lifetime_ends(copy: Path, clock: Clock) -> None:
    ledger = Ledger(copy, None, clock=clock)
    made = await ledger.revoke(consumer="acme", lifetime=60.0)
    clock.advance(60)
    assert ledger.revocations() == []
    assert (await refused(ledger.lift(made.id)))[0] == 404


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"provider": "main"},
        {"jti": "a" * 257},
        {"jti": "a\r\nb"},
        {"consumer": "\x00"},
        {"consumer": "acme", "provider": "\x7f"},
        {"issued_before": float("nan")},
        {"issued_before": -1.0},
        {"jti": "t1", "lifetime": 0.0},
    ],
)
async def test_what_revokes_nothing_or_cannot_be_shown_is_no_revocation(
    copy: Path, clock: Clock, given: dict[str, Any]
) -> None:
    ledger = Ledger(copy, None, clock=clock)
    with pytest.raises(ValueError, match=re.compile("jti|consumer|provider|issued_before|lifetime")):
        await ledger.revoke(**given)
    assert ledger.revocations() == []


async def test_a_key_is_not_lifted_and_a_revocation_not_withdrawn(copy: Path, clock: Clock) -> None:
    ledger = Ledger(copy, None, clock=clock)
    key, revocation = await ledger.create_key("acme"), await ledger.revoke(jti="t1")
    assert (await refused(ledger.lift(key.record.id)))[0] == 404
    assert (await refused(ledger.revoke_key(revocation.id)))[0] == 404


async def test_the_list_has_an_end(copy: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_records, "MOST", 3)
    ledger = Ledger(copy, None, clock=clock)
    made = await ledger.create_key("acme")
    await ledger.revoke(jti="t1")
    await ledger.revoke(jti="t2")
    for change in (ledger.revoke(jti="t3"), ledger.create_key("acme"), ledger.rotate_key(made.record.id)):
        status, text = await refused(change)
        assert status == 409
        assert "the list is full" in text
    assert ledger.keys() == [made.record]
    await ledger.revoke_key(made.record.id)
    await ledger.revoke(jti="t3")


# -- without a shared store --------------------------------------------------------------------------


async def test_a_restarted_operator_goes_on_with_what_is_there(copy: Path, clock: Clock) -> None:
    ledger = Ledger(copy, None, clock=clock)
    made, revocation = await ledger.create_key("acme"), await ledger.revoke(jti="t1")
    assert not ledger.durable
    later = Ledger(copy, None, clock=clock)
    assert (later.keys(), later.revocations()) == ([made.record], [revocation])
    await later.revoke_key(made.record.id)
    assert read(copy) == Contents(3, (), (revocation,))


def test_a_copy_that_cannot_be_read_is_told_and_not_fatal(copy: Path, clock: Clock, told: Told) -> None:
    copy.write_bytes(b"nonsense\n")
    assert Ledger(copy, None, clock=clock).keys() == []
    (line,) = told()
    assert "cannot be read" in line


async def test_what_has_expired_is_dropped_once_a_minute(copy: Path, clock: Clock) -> None:
    ledger = Ledger(copy, None, clock=clock, sleep=stop)
    await ledger.revoke(jti="t1", lifetime=1.0)
    later = await ledger.revoke(jti="t2", lifetime=61.0)
    kept = await ledger.revoke(jti="t3")
    for seconds, left in ((59, 3), (1, 2), (1, 2), (58, 2), (1, 1)):
        clock.advance(seconds)
        await look(ledger)
        assert len(read(copy).revocations) == left
        assert (later in read(copy).revocations) is (left > 1)
    assert read(copy).revocations == (kept,)


async def test_without_changes_nothing_is_written(copy: Path, clock: Clock) -> None:
    ledger = Ledger(copy, None, clock=clock, sleep=stop)
    clock.advance(60)
    await look(ledger)
    assert content(copy) is None


async def test_where_the_copy_cannot_be_written_nothing_is_changed(copy: Path, clock: Clock) -> None:
    obstruct(copy)
    ledger = Ledger(copy, None, clock=clock)
    status, text = await refused(ledger.create_key("acme"))
    assert status == 503
    assert text.startswith("nothing was changed")
    assert ledger.keys() == []
    clear(copy)
    await ledger.create_key("acme")


# -- with one ----------------------------------------------------------------------------------------


async def test_changes_go_to_the_store_and_into_force_here_at_once(copy: Path, clock: Clock) -> None:
    shelf = Shelf()
    ledger = shared(copy, shelf, clock)
    made, revocation = await ledger.create_key("acme"), await ledger.revoke(jti="t1")
    assert ledger.durable
    assert shelf.records == {made.record.id: made.record, revocation.id: revocation}
    assert read(copy) == Contents(2, (made.record,), (revocation,))
    shelf.fetched.clear()
    await look(ledger)
    assert shelf.fetched == [2]  # and so it knows all that is there


async def test_what_others_change_comes_with_the_next_look(tmp_path: Path, clock: Clock) -> None:
    shelf = Shelf()
    ours, theirs = shared(tmp_path / "ours", shelf, clock), shared(tmp_path / "theirs", shelf, clock)
    made = await theirs.create_key("acme")
    await look(ours)
    assert ours.keys() == [made.record]
    assert read(tmp_path / "ours") == read(tmp_path / "theirs")
    await ours.revoke_key(made.record.id)  # and what one has made another may withdraw
    await look(theirs)
    assert theirs.keys() == []


async def test_a_change_sees_what_others_changed_a_moment_ago(tmp_path: Path, clock: Clock) -> None:
    shelf = Shelf()
    ours, theirs = shared(tmp_path / "ours", shelf, clock), shared(tmp_path / "theirs", shelf, clock)
    made = await theirs.create_key("acme")
    await ours.revoke_key(made.record.id)
    assert (await refused(theirs.rotate_key(made.record.id)))[0] == 404


async def test_a_key_that_another_withdraws_in_this_moment_is_not_brought_back_by_a_rotation(
    copy: Path, clock: Clock
) -> None:
    shelf = Shelf()
    ledger = shared(copy, shelf, clock)
    made = await ledger.create_key("acme")
    shelf.before_put = shelf.records.clear
    assert (await refused(ledger.rotate_key(made.record.id)))[0] == 404
    assert shelf.records == {}


async def test_what_another_changes_in_the_middle_of_a_change_is_not_missed(copy: Path, clock: Clock) -> None:
    shelf = Shelf()
    ledger = shared(copy, shelf, clock)
    other = await shared(copy.with_name("other"), Shelf(), clock).revoke(jti="theirs")

    def meanwhile() -> None:
        shelf.records[other.id] = other
        shelf.version += 1

    shelf.before_put = meanwhile
    ours = await ledger.revoke(jti="ours")
    assert ledger.revocations() == [ours]
    await look(ledger)
    assert {each.jti for each in ledger.revocations()} == {"ours", "theirs"}


async def test_while_the_store_is_away_nothing_changes_and_the_last_list_stays(
    copy: Path, clock: Clock, told: Told
) -> None:
    shelf = Shelf()
    ledger = shared(copy, shelf, clock)
    made, revocation = await ledger.create_key("acme"), await ledger.revoke(jti="t1")
    shelf.away = True
    told()
    for _ in range(3):
        await look(ledger)
    assert told() == ["the store is away, the last keys and revocations stay in force: gone fishing"]
    for change in (ledger.create_key("acme"), ledger.revoke(jti="t2"), ledger.lift(revocation.id)):
        assert await refused(change) == (503, "the store is away: nothing was changed")
    assert (ledger.keys(), ledger.revocations()) == ([made.record], [revocation])
    assert told() == []
    shelf.away = False
    for _ in range(3):
        await look(ledger)
    assert told() == ["keys and revocations are up to date again"]


async def test_a_store_that_goes_away_in_the_middle_leaves_it_open_what_was_done(copy: Path, clock: Clock) -> None:
    shelf = Shelf()
    ledger = shared(copy, shelf, clock)
    await look(ledger)
    shelf.before_put = lambda: setattr(shelf, "away", True)
    status, text = await refused(ledger.create_key("acme"))
    assert status == 503
    assert "look at the list" in text


async def test_an_instance_that_starts_without_the_store_has_no_list_until_it_is_there(
    copy: Path, clock: Clock
) -> None:
    shelf = Shelf()
    shelf.away = True
    found = Records(copy, clock=clock)
    found.expected = True
    ledger = shared(copy, shelf, clock)
    await look(ledger)
    await found.look()
    assert content(copy) is None
    assert not found.loaded
    shelf.away = False
    await look(ledger)
    await found.look()
    assert found.loaded
    assert read(copy) == EMPTY


async def test_an_operator_that_restarts_without_the_store_knows_what_the_copy_says(copy: Path, clock: Clock) -> None:
    shelf = Shelf()
    made = await shared(copy, shelf, clock).create_key("acme")
    shelf.away = True
    later = shared(copy, shelf, clock)
    await look(later)
    assert later.keys() == [made.record]
    shelf.away = False
    shelf.empty()  # and it has not forgotten when the store has
    await look(later)
    assert later.keys() == [made.record]
    assert shelf.records == {made.record.id: made.record}


async def test_a_store_that_was_emptied_gets_everything_back(tmp_path: Path, clock: Clock, told: Told) -> None:
    shelf = Shelf()
    one, two = shared(tmp_path / "1", shelf, clock), shared(tmp_path / "2", shelf, clock)
    made, revocation = await one.create_key("acme"), await one.revoke(jti="t1")
    await one.revoke(jti="t2", lifetime=5.0)
    await look(two)
    clock.advance(5)
    shelf.empty()
    told()
    await look(one)
    assert told() == ["the store had lost 2 keys and revocations; they were written back"]
    await look(two)
    assert told() == []
    assert set(shelf.records) == {made.record.id, revocation.id}  # what has expired is not worth it
    assert read(tmp_path / "1") == read(tmp_path / "2")


async def test_a_change_just_after_the_store_was_emptied_writes_the_rest_back_first(
    tmp_path: Path, clock: Clock
) -> None:
    shelf = Shelf()
    one, two = shared(tmp_path / "1", shelf, clock), shared(tmp_path / "2", shelf, clock)
    await one.revoke(jti="t1")
    await look(two)
    shelf.empty()
    await two.revoke(jti="t2")
    await look(one)
    assert {each.jti for each in one.revocations()} == {"t1", "t2"} == {each.jti for each in two.revocations()}


async def test_what_a_new_instance_writes_into_an_emptied_store_joins_what_the_others_know(
    tmp_path: Path, clock: Clock
) -> None:
    shelf = Shelf()
    old, new = shared(tmp_path / "1", shelf, clock), shared(tmp_path / "2", shelf, clock)
    for jti in ("t1", "t2", "t3"):
        await old.revoke(jti=jti)
    shelf.empty()
    await new.revoke(jti="t4")  # version 1, which is not what `old` knows, and not newer
    await look(old)
    await look(new)
    assert {each.jti for each in old.revocations()} == {"t1", "t2", "t3", "t4"}
    assert new.revocations() == old.revocations()


async def test_another_store_with_the_same_version_is_recognised_after_an_absence(tmp_path: Path, clock: Clock) -> None:
    shelf = Shelf()
    old, new = shared(tmp_path / "1", shelf, clock), shared(tmp_path / "2", shelf, clock)
    await old.revoke(jti="t1")
    shelf.away = True
    await look(old)
    shelf.away = False
    shelf.empty()
    await new.revoke(jti="t2")
    assert shelf.version == 1  # as before
    await look(old)
    await look(new)
    assert {each.jti for each in new.revocations()} == {"t1", "t2"} == {each.jti for each in old.revocations()}


async def test_what_has_expired_leaves_the_store_too(tmp_path: Path, clock: Clock) -> None:
    shelf = Shelf()
    ledger = shared(tmp_path / "1", shelf, clock)
    await ledger.revoke(jti="t1", lifetime=1.0)
    clock.advance(30)
    await look(ledger)
    assert len(shelf.records) == 1
    clock.advance(30)
    await look(ledger)
    assert shelf.records == {}
    version = shelf.version
    clock.advance(60)
    await look(ledger)
    assert shelf.version == version


async def test_a_copy_that_cannot_be_written_is_tried_again(copy: Path, clock: Clock, told: Told) -> None:
    shelf = Shelf()
    ledger = shared(copy, shelf, clock)
    await look(ledger)
    obstruct(copy)
    status, text = await refused(ledger.revoke(jti="t1"))
    assert status == 503
    assert text.startswith("this is in the store, but not in force here yet")
    for _ in range(3):
        await look(ledger)
    (line,) = told()
    assert line.startswith("the copy of keys and revocations cannot be written: ")
    clear(copy)
    await look(ledger)
    assert [each.jti for each in read(copy).revocations] == ["t1"]


async def test_changes_at_the_same_time_are_made_one_after_another(copy: Path, clock: Clock) -> None:
    shelf = Shelf()
    ledger = shared(copy, shelf, clock)
    await asyncio.gather(*(ledger.revoke(jti=f"t{i}") for i in range(20)))
    assert len(ledger.revocations()) == 20
    assert read(copy) == Contents.of(20, shelf.records.values())


async def test_following_pauses_between_two_looks(copy: Path, clock: Clock) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise Stop

    ledger = Ledger(copy, Shelf(), clock=clock, sleep=sleep)  # type: ignore[arg-type]
    await look(ledger)
    assert waits == [kept_records.POLL] * 3


async def test_a_copy_left_by_another_list_of_the_same_version_is_not_taken_for_the_stores(
    copy: Path, clock: Clock
) -> None:
    shelf = Shelf()
    other = shared(copy.with_name("other"), shelf, clock)
    theirs = await other.revoke(jti="t1")
    write(copy, Contents(1, (), ()))
    ledger = shared(copy, shelf, clock)
    await look(ledger)
    assert ledger.revocations() == [theirs]
