from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.exchange import Call
from gateway.pipe import Send
from gateway.upstream.split import LONGEST, split
from tests.fakes import Clock, Dice, explosive, make_call, replying

Weights = Mapping[str, int]

CLIENTS = [b"client %d" % number for number in range(20_000)]
FEW = CLIENTS[:200]

names = st.sampled_from("abcdef")
weights = st.dictionaries(names, st.integers(1, 100), min_size=1, max_size=6)


def key_of(call: Call) -> bytes:
    return call.request.target


def call_of(client: bytes) -> Call:
    call = make_call()
    call.request.target = client
    return call


def chosen(send: Send, client: bytes = b"") -> str:
    call = call_of(client)
    send(call).close()  # type: ignore[attr-defined]
    (hop,) = call.hops
    assert (hop.stage, hop.outcome, hop.waited) == ("split", "chosen", False)
    return hop.name


def sticky(shares: Weights) -> Send:
    """A split by key, in which the dice must not be thrown."""

    def no_dice() -> float:
        raise AssertionError("the key decides, not the dice")

    return split([(name, weight, replying(200)) for name, weight in shares.items()], key_of, no_dice, Clock())


def places(shares: Weights, clients: list[bytes]) -> dict[bytes, str]:
    send = sticky(shares)
    return {client: chosen(send, client) for client in clients}


def moves(before: Weights, after: Weights) -> set[tuple[str, str]]:
    """From where to where somebody moves."""
    old, new = places(before, FEW), places(after, FEW)
    return {(old[client], new[client]) for client in FEW if old[client] != new[client]}


@pytest.mark.parametrize(
    ("falls", "name"), [(0.0, "stable"), (0.9499, "stable"), (0.95, "canary"), (0.9999, "canary"), (1.0, "canary")]
)
def test_the_dice_fall_by_weight(falls: float, name: str) -> None:
    send = split([("stable", 95, replying(200)), ("canary", 5, replying(200))], None, Dice(falls), Clock())
    assert chosen(send) == name


@given(weights, st.sampled_from([0.1, 0.5, 0.9]))
def test_over_all_falls_of_the_dice_each_has_exactly_its_weight(shares: dict[str, int], within: float) -> None:
    total = sum(shares.values())
    dice = Dice()
    send = split([(name, weight, replying(200)) for name, weight in shares.items()], None, dice, Clock())
    counted: Counter[str] = Counter()
    for fall in range(total):
        dice.falls = (fall + within) / total
        counted[chosen(send)] += 1
    assert counted == shares


@pytest.mark.parametrize("shares", [{"stable": 95, "canary": 5}, {"a": 1, "b": 2, "c": 3}, {"a": 7, "b": 7}])
def test_clients_are_spread_by_weight(shares: dict[str, int]) -> None:
    counted = Counter(places(shares, CLIENTS).values())
    for name, weight in shares.items():
        # Four standard deviations of a share of 20,000 throws are at most 1.4 %.
        assert counted[name] / len(CLIENTS) == pytest.approx(weight / sum(shares.values()), abs=0.014)


def test_everyone_finds_the_same_place_today_and_tomorrow() -> None:
    # Written down: a release that places clients elsewhere would move all of them in the middle of a rollout.
    found = places({"a": 1, "b": 1, "c": 1}, CLIENTS[:12])
    assert "".join(found.values()) == "abacbabacaba"


@given(weights, weights)
def test_clients_move_only_to_where_the_weight_has_grown_in_relation(before: Weights, after: Weights) -> None:
    for left, joined in moves(before, after):
        assert after[joined] * before[left] > before.get(joined, 0) * after.get(left, 0)


@given(weights, st.integers(2, 50))
def test_nobody_moves_when_all_weights_grow_alike(shares: dict[str, int], factor: int) -> None:
    assert moves(shares, {name: weight * factor for name, weight in shares.items()}) == set()


@given(weights)
def test_the_order_in_the_file_does_not_matter(shares: dict[str, int]) -> None:
    assert moves(shares, dict(reversed(shares.items()))) == set()


@given(weights, names)
def test_who_leaves_takes_nobody_along(shares: dict[str, int], gone: str) -> None:
    rest = {name: weight for name, weight in shares.items() if name != gone}
    if rest:
        assert {left for left, _ in moves(shares, rest)} <= {gone}


def test_a_growing_canary_moves_no_more_clients_than_it_must() -> None:
    before = places({"stable": 95, "canary": 5}, CLIENTS)
    after = places({"stable": 80, "canary": 20}, CLIENTS)
    moved = sum(before[client] != after[client] for client in CLIENTS) / len(CLIENTS)
    assert moved == pytest.approx(0.15, abs=0.014)
    assert {after[client] for client in CLIENTS if before[client] == "canary"} == {"canary"}


def test_a_key_is_placed_alike_whether_it_is_remembered_or_too_long_for_that() -> None:
    send = sticky({"a": 1, "b": 1, "c": 1})
    clients = [b"%d" % number * (LONGEST + 1) for number in range(30)] + FEW[:30]
    first = [chosen(send, client) for client in clients]
    assert [chosen(send, client) for client in clients] == first
    assert set(first) == {"a", "b", "c"}


def test_who_has_no_key_falls_as_the_dice_do() -> None:
    dice = Dice(0.0)
    send = split([("a", 1, replying(200)), ("b", 1, replying(200))], key_of, dice, Clock())
    assert chosen(send) == "a"
    dice.falls = 0.9
    assert chosen(send) == "b"


def test_a_weight_of_nothing_gets_nothing() -> None:
    choices = [("off", 0, explosive()), ("on", 3, replying(200)), ("gone", 0, explosive())]
    by_key = split(choices, key_of, Dice(), Clock())
    assert {chosen(by_key, client) for client in FEW} == {"on"}
    assert {chosen(split(choices, None, Dice(falls), Clock())) for falls in (0.0, 0.5, 1.0)} == {"on"}


@pytest.mark.parametrize("shares", [{}, {"a": 0}, {"a": 0, "b": 0}, {"a": -1, "b": 2}])
def test_a_split_without_a_weight_is_none(shares: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="weight"):
        sticky(shares)
