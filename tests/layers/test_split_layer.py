import pytest

from gateway.errors import UpstreamFailed
from gateway.pipe import pipe
from gateway.resilience.fallback import Static, fallback
from gateway.upstream.split import split
from tests.fakes import Clock, Dice, explosive, failing, make_call, replying, stages


async def test_the_chosen_upstream_answers_and_is_told() -> None:
    call = make_call()
    send = split([("stable", 95, explosive()), ("canary", 5, replying(202))], None, Dice(0.97), Clock(7.0))
    assert (await send(call)).status == 202
    assert call.hops == [("split", "canary", "chosen", 7.0, 0.0, False)]


async def test_a_client_with_a_key_is_answered_by_its_upstream_whatever_the_dice_say() -> None:
    dice = Dice(0.0)
    send = split([("a", 1, replying(200)), ("b", 1, replying(201))], lambda call: b"client", dice, Clock())
    statuses = set()
    for falls in (0.0, 0.3, 0.7, 1.0):
        dice.falls = falls
        statuses.add((await send(make_call())).status)
    assert len(statuses) == 1


async def test_what_fails_there_is_not_hidden_by_the_split() -> None:
    send = split([("a", 1, failing(UpstreamFailed("upstream_failed", sent=True)))], None, Dice(), Clock())
    with pytest.raises(UpstreamFailed):
        await send(make_call())


async def test_a_fallback_outside_covers_whichever_was_chosen() -> None:
    call, clock = make_call(), Clock()
    entries = [Static(frozenset({"5xx"}), 200)]
    send = pipe(fallback(entries, clock), to=split([("a", 1, replying(503))], None, Dice(), clock))
    assert (await send(call)).fallback == "static"
    assert stages(call) == [("split", "a"), ("fallback", "static")]
