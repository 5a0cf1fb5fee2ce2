"""Tokens that their issuer is asked about: what its answers mean, how long they count, and how often it is asked."""

import asyncio
import gc
import weakref
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.auth.asking import AskError
from gateway.auth.introspection import MOST_ASKING
from gateway.auth.places import OtherPlaces
from gateway.auth.providers import BadCredential
from gateway.errors import Refused, Shed
from gateway.exchange import NEVER, Hidden
from tests.introspection import ALICE, INACTIVE, Oracle, World, settled
from tests.tokens import NOW, bearer, call_with


def held(world: World) -> int:
    """All that the provider keeps of tokens."""
    memories = [each for name, each in vars(world.provider).items() if isinstance(each, dict) and name != "_paths"]
    return sum(map(len, memories))


# --- what an answer means ---


async def test_an_active_token_names_its_caller() -> None:
    hidden = Hidden(frozenset({b"authorization"}), frozenset())
    said = ALICE | {"roles": ["editor"], "tier": "gold", "client_id": "app", "jti": "7"}
    world = World(Oracle(said), hidden=hidden, signed=True, forward=[(b"x-client", "client_id")])
    caller = await world.accepted()
    assert (caller.consumer, caller.provider, caller.label) == ("alice", "opaque", "opaque")
    assert caller.scopes == {"orders:read", "orders:write"}
    assert caller.roles == {"editor"}
    assert (caller.tier, caller.expires) == ("gold", NOW + 600)
    assert caller.forward == ((b"x-client", b"app"),)
    assert (caller.hidden, caller.signed) == (hidden, True)
    assert caller.claims == said
    assert world.server.asked == [b"opaque"]


async def test_the_credential_goes_on_unless_it_is_to_be_hidden() -> None:
    caller = await World().accepted()
    assert (caller.hidden, caller.signed) == (None, False)


async def test_an_inactive_token_is_refused_with_nothing_more_said() -> None:
    error = await World(Oracle(INACTIVE | {"sub": "alice", "reason": "revoked by admin"})).refused()
    assert (error.reason, error.detail) == ("inactive", "The token is not active.")


@pytest.mark.parametrize("active", ["true", "True", "yes", 1, 1.0, None, [True], {"active": True}, "", 0])
async def test_only_a_boolean_says_whether_a_token_is_active(active: object) -> None:
    await World(Oracle(ALICE | {"active": active})).unavailable()


async def test_an_answer_that_does_not_say_whether_a_token_is_active_is_none() -> None:
    await World(Oracle({"sub": "alice"})).unavailable()


async def test_a_provider_believes_no_answer_but_true_whoever_gives_it() -> None:
    async def ask(_: bytes) -> Mapping[str, Any]:
        return ALICE | {"active": 1}

    assert (await World(ask=ask).refused()).reason == "inactive"


@pytest.mark.parametrize(
    ("said", "consumer"),
    [
        ({"sub": "alice", "client_id": "app"}, "alice"),
        ({"client_id": "app"}, "app"),
        ({"username": "alice"}, ""),
        ({}, ""),
    ],
)
async def test_the_consumer_is_the_subject_or_else_the_client(said: dict[str, Any], consumer: str) -> None:
    assert (await World(Oracle({"active": True, **said})).accepted()).consumer == consumer


async def test_a_consumer_claim_that_is_configured_has_no_stand_in() -> None:
    world = World(Oracle({"active": True, "client_id": "app"}), claims={"consumer": "username"})
    assert (await world.accepted()).consumer == ""
    world.server.of[b"other"] = {"active": True, "client_id": "app", "username": "alice"}
    assert (await world.accepted(b"other")).consumer == "alice"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": NOW - 31}, "expired"),
        ({"exp": 0}, "expired"),
        ({"nbf": NOW + 31}, "not_yet_valid"),
        ({"iat": NOW + 31}, "not_yet_valid"),
        ({"iss": "https://other.example"}, "issuer"),
        ({"iss": None}, "issuer"),
        ({"aud": "other"}, "audience"),
        ({"aud": ["other", "orders-"]}, "audience"),
        ({"aud": None}, "audience"),
        ({"exp": "soon"}, "claims"),
        ({"exp": True}, "claims"),
        ({"exp": 1e300}, "claims"),
        ({"exp": float("inf")}, "claims"),
        ({"nbf": "now"}, "claims"),
        ({"aud": 7}, "claims"),
        ({"aud": ["orders", 7]}, "claims"),
        ({"sub": ""}, "claims"),
        ({"sub": 7}, "claims"),
        ({"sub": None, "client_id": 7}, "claims"),
        ({"scope": 7}, "claims"),
        ({"scope": ["a", 7]}, "claims"),
        ({"tier": ["gold"]}, "claims"),
        ({"token_use": "refresh_token"}, "type"),
        ({"token_usage": "id_token"}, "type"),
        ({"token_type": "Refresh"}, "type"),
        ({"typ": "Offline"}, "type"),
        ({"typ": "ID"}, "type"),
    ],
)
async def test_what_is_said_of_an_active_token_is_judged_like_a_jwt(changes: dict[str, Any], reason: str) -> None:
    good = ALICE | {
        "iss": "https://idp.example",
        "aud": ["orders", "mail"],
        "nbf": NOW + 30,
        "iat": NOW,
        "typ": "Bearer",
    }
    said = {name: value for name, value in (good | changes).items() if value is not None}
    world = World(Oracle(good), issuer="https://idp.example", audience=["orders"])
    assert await world.accepted(b"good")
    world.server.now = said
    assert (await world.refused()).reason == reason
    assert (await world.refused()).reason == reason
    assert world.asked == 2  # refusals of ours are remembered like those of the issuer


async def test_without_an_issuer_or_audience_in_the_configuration_any_will_do() -> None:
    assert await World(Oracle(ALICE | {"iss": "https://x", "aud": "y", "token_type": "Bearer"})).accepted()


# --- which requests it is about ---


@pytest.mark.parametrize("credential", [b"Basic dTpw", b"Bearers opaque", b"Digest x", b"opaque"])
async def test_other_credentials_are_none_of_its_business(credential: bytes) -> None:
    world = World()
    assert await world.provider.identify(call_with((b"authorization", credential))) is None
    assert await world.provider.identify(call_with()) is None
    assert world.asked == 0


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ([b"Bearer"], "malformed"),
        ([b"Bearer "], "malformed"),
        ([b"Bearer a b"], "malformed"),
        ([b"Bearer  a"], "malformed"),
        ([b"Bearer a,b"], "malformed"),
        ([b"Bearer a&token_type_hint=refresh_token"], "malformed"),
        ([b"Bearer a%00"], "malformed"),
        ([b"Bearer " + b"a" * 8193], "too_large"),
        ([b"Bearer a", b"Bearer b"], "ambiguous"),
    ],
)
async def test_nobody_is_asked_about_what_is_no_token(headers: list[bytes], reason: str) -> None:
    world = World()
    with pytest.raises(BadCredential) as caught:
        await world.provider.identify(call_with(*((b"authorization", each) for each in headers)))
    assert (caught.value.reason, world.asked) == (reason, 0)


async def test_a_cookie_counts_for_the_pages_that_may_use_it_and_is_remembered_apart() -> None:
    world = World(places=OtherPlaces(cookie=b"session", origins=[b"https://app.example"]))
    ours, theirs = (
        call_with((b"cookie", b"session=opaque"), (b"origin", origin))
        for origin in (b"https://app.example", b"https://evil.example")
    )
    ours.request.method = theirs.request.method = "POST"
    for _ in range(2):
        assert await world.provider.identify(ours)
        with pytest.raises(Refused) as caught:
            await world.provider.identify(theirs)
        assert caught.value.status == 403
    assert world.asked == 1
    await world.accepted()
    assert world.server.asked == [b"opaque", b"opaque"]


# --- how long an answer counts ---


async def test_an_answer_counts_for_the_time_that_is_configured() -> None:
    world = World(cache=30.0)
    caller = await world.accepted()
    world.pass_by(29.9)
    assert await world.accepted() is caller
    assert world.asked == 1
    world.pass_by(0.1)
    assert await world.accepted() is not caller
    assert world.asked == 2


async def test_it_counts_from_the_question_on() -> None:
    world = World(cache=30.0)
    world.server.gate.clear()
    waiting = asyncio.ensure_future(world.accepted())
    await settled()
    world.pass_by(1.5)
    world.server.gate.set()
    await waiting
    world.pass_by(28.5)
    await world.accepted()
    assert world.asked == 2


async def test_a_token_that_was_withdrawn_is_good_for_so_long_and_no_longer() -> None:
    world = World(cache=30.0)
    await world.accepted()
    world.server.now = INACTIVE
    world.pass_by(29.0)
    await world.accepted()
    world.pass_by(1.0)
    assert (await world.refused()).reason == "inactive"
    assert (await world.refused()).reason == "inactive"
    assert world.asked == 2


async def test_an_answer_counts_no_longer_than_the_token_lasts() -> None:
    world = World(Oracle(ALICE | {"exp": NOW + 10}), cache=30.0)
    await world.accepted()
    world.pass_by(9.9)
    await world.accepted()
    assert world.asked == 1
    world.pass_by(0.1)
    world.server.now = INACTIVE
    await world.refused()
    assert world.asked == 2


async def test_past_its_end_a_token_counts_within_the_leeway_if_the_issuer_says_so_each_time() -> None:
    world = World(Oracle(ALICE | {"exp": NOW + 10}), cache=300.0)
    world.pass_by(20)
    await world.accepted()
    await world.accepted()
    assert world.asked == 2
    world.pass_by(20)
    assert (await world.refused()).reason == "expired"


async def test_an_answer_without_an_end_counts_for_the_time_that_is_configured() -> None:
    world = World(Oracle({"active": True, "sub": "alice"}), cache=30.0)
    assert (await world.accepted()).expires == NEVER
    world.pass_by(29.9)
    await world.accepted()
    assert world.asked == 1
    world.pass_by(0.1)
    await world.accepted()
    assert world.asked == 2


async def test_a_wall_clock_that_is_set_back_lengthens_nothing() -> None:
    world = World(cache=30.0)
    await world.accepted()
    world.wall.advance(-86400)
    world.timer.advance(30.0)
    world.server.now = INACTIVE
    await world.refused()


async def test_without_a_cache_each_request_asks() -> None:
    world = World(cache=0.0)
    for times in range(1, 4):
        await world.accepted()
        assert world.asked == times
    world.server.now = INACTIVE
    await world.refused()
    await world.refused()
    assert world.asked == 5


@pytest.mark.parametrize(("cache", "counts"), [(30.0, 5.0), (5.0, 5.0), (2.0, 2.0)])
async def test_a_refusal_counts_for_five_seconds_at_most(cache: float, counts: float) -> None:
    world = World(Oracle(INACTIVE), cache=cache)
    await world.refused()
    world.pass_by(counts - 0.1)
    await world.refused()
    assert world.asked == 1
    world.pass_by(0.1)
    world.server.now = ALICE
    await world.accepted()
    await world.accepted()
    assert (world.asked, held(world)) == (2, 1)


async def test_what_is_said_of_one_token_says_nothing_about_another() -> None:
    world = World()
    world.server.of = {b"bad": INACTIVE, b"bob": ALICE | {"sub": "bob"}}
    for _ in range(2):
        assert (await world.accepted(b"opaque")).consumer == "alice"
        assert (await world.accepted(b"bob")).consumer == "bob"
        await world.refused(b"bad")
    assert world.asked == 3


# --- how often it is asked ---


async def test_all_requests_with_a_token_share_one_question() -> None:
    world = World()
    world.server.gate.clear()
    waiting = [asyncio.ensure_future(world.accepted()) for _ in range(500)]
    await settled()
    assert not any(each.done() for each in waiting)
    world.server.gate.set()
    callers = await asyncio.gather(*waiting)
    assert world.asked == 1
    assert all(caller is callers[0] for caller in callers)


@pytest.mark.parametrize("cache", [0.0, 30.0])
async def test_a_refusal_and_a_failure_are_shared_too(cache: float) -> None:
    for now, outcome in ((INACTIVE, World.refused), (AskError("down"), World.unavailable)):
        world = World(Oracle(now), cache=cache)
        world.server.gate.clear()
        waiting = [asyncio.ensure_future(outcome(world)) for _ in range(50)]
        await settled()
        world.server.gate.set()
        await asyncio.gather(*waiting)
        assert world.asked == 1


async def test_who_leaves_does_not_take_the_answer_from_the_others() -> None:
    world = World()
    world.server.gate.clear()
    leaving, staying = (asyncio.ensure_future(world.accepted()) for _ in range(2))
    await settled()
    leaving.cancel()
    await settled()
    assert leaving.cancelled()
    world.server.gate.set()
    assert (await staying).consumer == "alice"
    assert world.asked == 1


async def test_an_answer_that_nobody_waits_for_any_more_is_remembered() -> None:
    world = World()
    world.server.gate.clear()
    leaving = asyncio.ensure_future(world.accepted())
    await settled()
    leaving.cancel()
    world.server.gate.set()
    await settled()
    await world.accepted()
    assert world.asked == 1
    assert len(asyncio.all_tasks()) == 1


async def test_a_failure_that_nobody_waits_for_any_more_is_no_complaint_of_the_loop() -> None:
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    world = World(Oracle(AskError("down")))
    world.server.gate.clear()
    leaving = asyncio.ensure_future(world.accepted())
    await settled()
    leaving.cancel()
    world.server.gate.set()
    await settled()
    del world, leaving
    gc.collect()
    assert complaints == []


async def test_a_question_that_is_ended_leaves_the_request_without_an_answer() -> None:
    world = World()
    world.server.gate.clear()
    waiting = asyncio.ensure_future(world.unavailable())
    await settled()
    (question,) = asyncio.all_tasks() - {waiting, asyncio.current_task()}
    question.cancel()
    await waiting


async def test_so_many_questions_at_once_and_no_more() -> None:
    world = World()
    await world.accepted(b"known")
    world.server.gate.clear()
    waiting = [asyncio.ensure_future(world.accepted(b"t%d" % n)) for n in range(MOST_ASKING)]
    await settled()
    for n in range(1000):
        with pytest.raises(Shed) as caught:
            await world.provider.identify(bearer(b"flood%d" % n))
        assert (caught.value.status, caught.value.code, caught.value.retry_after) == (503, "overloaded", 1)
    assert world.asked == 1 + MOST_ASKING
    assert await world.accepted(b"known")  # who is known waits for nobody
    joined = asyncio.ensure_future(world.accepted(b"t0"))  # and this question is under way already
    await settled()
    world.server.gate.set()
    assert len(await asyncio.gather(joined, *waiting)) == MOST_ASKING + 1
    assert await world.accepted(b"flood0")


async def test_a_flood_of_invented_tokens_pushes_out_no_good_one_and_takes_bounded_memory() -> None:
    world = World(Oracle(INACTIVE), cache_size=100)
    good = [b"good%d" % n for n in range(100)]
    world.server.of = dict.fromkeys(good, ALICE)
    for token in good:
        await world.accepted(token)
    for n in range(1000):
        await world.refused(b"flood%d" % n)
    assert world.asked == 1100
    for token in good:
        await world.accepted(token)
    assert world.asked == 1100
    assert held(world) == 200
    await world.refused(b"flood999")
    assert world.asked == 1100


async def test_good_tokens_push_out_the_one_that_was_asked_about_longest_ago() -> None:
    world = World(cache_size=3)
    for token in (b"a", b"b"):
        await world.accepted(token)
    world.pass_by(30)
    for token in (b"a", b"c", b"d"):
        await world.accepted(token)
    assert world.asked == 5
    for token in (b"a", b"c", b"d"):
        await world.accepted(token)
    assert world.asked == 5


# --- its life ---


async def test_a_provider_is_no_cycle() -> None:
    """A runtime that a reload has left behind has to go without the help of the collector."""
    world = World()
    gone = weakref.ref(world.provider), weakref.ref(world.issuer)
    gc.disable()
    try:
        await world.accepted()
        await settled()
        del world
        assert [each() for each in gone] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("leave", [True, False])
async def test_nothing_of_a_question_stays(leave: bool) -> None:
    world = World(cache=0.0)
    world.server.gate.clear()
    waiting = [asyncio.ensure_future(world.accepted(b"t%d" % n)) for n in range(10)]
    await settled()
    if leave:
        for each in waiting:
            each.cancel()
    world.server.gate.set()
    await asyncio.gather(*waiting, return_exceptions=True)
    await settled()
    assert held(world) == 0
    assert len(asyncio.all_tasks()) == 1
