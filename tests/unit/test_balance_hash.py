"""Balancing by key: stickiness, bounded load, and slow start."""

from collections import Counter

from gateway.exchange import Call
from gateway.upstream.balance import Picker, picker
from gateway.upstream.members import Member
from gateway.upstream.standing import Standing
from tests.fakes import Clock, Dice, FakeTarget, make_call


def by_path(members: list[Member], clock: Clock | None = None, slow_start: float = 0.0) -> Picker:
    return picker(
        "hash", members, clock=clock or Clock(), dice=Dice(), key_of=lambda call: call.path, slow_start=slow_start
    )


def asking(key: int | bytes) -> Call:
    call = make_call()
    call.path = key if isinstance(key, bytes) else b"key %d" % key
    return call


def owners(picker: Picker, keys: int = 1000) -> list[str]:
    return [picker.pick(asking(key)).name for key in range(keys)]


def test_a_key_stays_with_its_target_and_targets_own_keys_by_weight() -> None:
    picker = by_path([Member(FakeTarget("a"), 3), Member(FakeTarget("b")), Member(FakeTarget("c"))])
    first = owners(picker, 2000)
    assert owners(picker, 2000) == first
    shares = {name: count / 2000 for name, count in Counter(first).items()}
    assert abs(shares["a"] - 0.6) < 0.05
    assert abs(shares["b"] - 0.2) < 0.05


def test_every_process_finds_the_same_owner() -> None:
    picker = by_path([Member(FakeTarget(f"http://10.0.0.{n}:80")) for n in range(4)])
    assert "".join(owner[-4] for owner in owners(picker, 12)) == "100023233232"


def test_long_keys_are_told_apart() -> None:
    picker = by_path([Member(FakeTarget(name)) for name in "abcd"])
    assert len({picker.pick(asking(b"x" * 10_000 + b"%d" % n)).name for n in range(40)}) == 4


def test_one_hot_key_overflows_at_one_and_a_quarter_times_the_mean() -> None:
    targets = {name: FakeTarget(name) for name in "abcd"}
    picker = by_path([Member(target) for target in targets.values()])
    for _ in range(400):
        targets[picker.pick(asking(b"hot")).name].busy += 1
    busy = sorted((target.busy for target in targets.values()), reverse=True)
    assert busy == [125, 125, 125, 25]


def test_the_bound_follows_weights() -> None:
    targets = {name: FakeTarget(name) for name in "ab"}
    picker = by_path([Member(targets["a"], 4), Member(targets["b"])])
    for _ in range(100):
        targets[picker.pick(asking(b"hot")).name].busy += 1
    assert targets["a"].busy <= 101
    assert targets["b"].busy <= 26


def test_a_target_that_warms_up_gets_its_keys_back_bit_by_bit() -> None:
    clock = Clock()
    members = [Member(FakeTarget(name), 1, 0, Standing()) for name in "ab"]
    picker = by_path(members, clock, slow_start=10.0)
    full = {key for key, owner in enumerate(owners(picker)) if owner == "b"}
    members[1].standing = Standing(since=clock.now)
    before: set[int] = set()
    for _ in range(3):
        clock.advance(3.0)
        now = {key for key, owner in enumerate(owners(picker)) if owner == "b"}
        assert before < now < full
        before = now
    clock.advance(1.0)
    assert {key for key, owner in enumerate(owners(picker)) if owner == "b"} == full
