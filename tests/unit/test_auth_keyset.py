"""When an issuer's keys are fetched, how long they count, and what a provider says meanwhile."""

import asyncio
import gc
import logging
import weakref
from typing import Any, Self

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.auth.jwk import JwkSet, read_set
from gateway.auth.keyset import FetchError, KeySet, Times
from gateway.auth.tokens import JwtProvider
from gateway.errors import Shed
from tests.fakes import Clock
from tests.jwks import jwk, jwks
from tests.tokens import NOW, accepted, bearer, claims, ec_key, refusal, sign

ES256 = frozenset({"ES256"})
OLD = ec_key()
NEW = ec.generate_private_key(ec.SECP256R1())
FIRST = read_set(jwks(jwk(OLD, "first")), ES256)
BOTH = read_set(jwks(jwk(OLD, "first"), jwk(NEW, "new")), ES256)
SECOND = read_set(jwks(jwk(NEW, "new")), ES256)
EMPTY = JwkSet(())


class Issuer:
    """Gives the set that it has now, or its trouble, once the gate is open."""

    def __init__(self, now: JwkSet | Exception = FIRST) -> None:
        self.now = now
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def fetch(self) -> JwkSet:
        self.asked += 1
        await self.gate.wait()
        if isinstance(self.now, Exception):
            raise self.now
        return self.now


class Timer:
    """Sleeps until the clock has been moved past the end."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.sleepers: list[tuple[float, asyncio.Event]] = []

    async def sleep(self, seconds: float) -> None:
        event = asyncio.Event()
        self.sleepers.append((self.clock.now + seconds, event))
        await event.wait()

    async def pass_by(self, seconds: float) -> None:
        self.clock.advance(seconds)
        for until, event in self.sleepers:
            if until <= self.clock.now:
                event.set()
        await settled()


async def settled() -> None:
    """Let every task go on as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


class World:
    """A provider whose keys come from `issuer`; time passes when the test says so."""

    def __init__(self, issuer: Issuer, *, start: bool = True, patience: float = 2.0) -> None:
        self.issuer = issuer
        self.timer = Timer(Clock(0.0))
        times = Times(patience=patience)
        self.keys = KeySet("idp", issuer.fetch, ES256, times=times, clock=self.timer.clock, sleep=self.timer.sleep)
        self.provider = JwtProvider("idp", key=self.keys, clock=Clock(NOW))
        self._start = start

    async def __aenter__(self) -> Self:
        if self._start:
            self.keys.start()
        await settled()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.keys.close()

    async def unavailable(self, key: ec.EllipticCurvePrivateKey = OLD, kid: str = "first") -> Shed:
        with pytest.raises(Shed) as caught:
            await self.provider.identify(bearer(token(key, kid)))
        assert (caught.value.status, caught.value.code) == (503, "identity_unavailable")
        return caught.value


def token(key: ec.EllipticCurvePrivateKey, kid: object, **changes: Any) -> bytes:
    return sign(claims(**changes), key, "ES256", {"kid": kid} if kid is not None else None)


OLD_TOKEN, NEW_TOKEN = token(OLD, "first"), token(NEW, "new")


# --- before there are keys ---


async def test_keys_are_there_before_the_first_request() -> None:
    async with World(Issuer()) as world:
        assert world.issuer.asked == 1
        assert world.keys.age == 0.0
        assert (await accepted(world.provider, OLD_TOKEN)).consumer == "alice"
        assert world.issuer.asked == 1


async def test_the_first_request_starts_what_nobody_has_started() -> None:
    async with World(Issuer(), start=False) as world:
        assert world.issuer.asked == 0
        assert await accepted(world.provider, OLD_TOKEN)
        assert world.issuer.asked == 1


async def test_all_requests_wait_for_the_one_first_fetch() -> None:
    issuer = Issuer()
    issuer.gate.clear()
    async with World(issuer) as world:
        waiting = [asyncio.ensure_future(accepted(world.provider, OLD_TOKEN)) for _ in range(500)]
        await settled()
        assert not any(each.done() for each in waiting)
        issuer.gate.set()
        assert len(await asyncio.gather(*waiting)) == 500
        assert issuer.asked == 1


async def test_a_request_does_not_wait_longer_than_its_patience() -> None:
    issuer = Issuer()
    issuer.gate.clear()
    async with World(issuer, patience=0.01) as world:
        error = await world.unavailable()
        assert error.retry_after == 5.0
        issuer.gate.set()
        await settled()
        assert await accepted(world.provider, OLD_TOKEN)
        assert issuer.asked == 1


async def test_a_request_that_gives_up_does_not_take_the_fetch_from_the_others() -> None:
    issuer = Issuer()
    issuer.gate.clear()
    async with World(issuer) as world:
        one, other = (asyncio.ensure_future(accepted(world.provider, OLD_TOKEN)) for _ in range(2))
        await settled()
        one.cancel()
        await settled()
        issuer.gate.set()
        assert await other
        assert one.cancelled()
        assert issuer.asked == 1


@pytest.mark.parametrize("trouble", [FetchError("down"), EMPTY])
async def test_without_any_keys_the_answer_is_503_and_the_issuer_is_asked_every_five_seconds(
    trouble: JwkSet | Exception,
) -> None:
    issuer = Issuer(trouble)
    async with World(issuer) as world:
        for _ in range(100):
            assert (await world.unavailable()).retry_after == 5.0
        assert issuer.asked == 1
        assert world.keys.age is None
        await world.timer.pass_by(4.9)
        await world.unavailable()
        assert issuer.asked == 1
        issuer.now = FIRST
        await world.timer.pass_by(0.1)
        assert issuer.asked == 2
        assert await accepted(world.provider, OLD_TOKEN)


async def test_a_token_that_cannot_be_ours_waits_for_nobody() -> None:
    async with World(Issuer(FetchError("down"))) as world:
        world.provider = JwtProvider("idp", key=world.keys, issuer="https://idp", clock=Clock(NOW))
        await refusal(world.provider, bearer(token(OLD, "first", iss="https://other")))
        await refusal(world.provider, bearer(sign(claims(iss="https://idp"))))  # HS256
        await refusal(world.provider, bearer(b"nonsense"))


# --- refreshing ---


async def test_keys_are_fetched_every_ten_minutes_without_being_asked_for() -> None:
    async with World(Issuer()) as world:
        for times in (2, 3):
            await world.timer.pass_by(599)
            assert world.issuer.asked == times - 1
            await world.timer.pass_by(1)
            assert world.issuer.asked == times
        assert world.keys.age == 0.0


async def test_after_a_failure_they_are_asked_for_every_half_minute() -> None:
    async with World(Issuer()) as world:
        world.issuer.now = FetchError("down")
        await world.timer.pass_by(600)
        assert world.issuer.asked == 2
        for times in range(3, 8):
            await world.timer.pass_by(30)
            assert world.issuer.asked == times
        assert world.keys.age == 750.0


@pytest.mark.parametrize("trouble", [FetchError("down"), EMPTY])
async def test_a_new_set_that_is_no_good_leaves_the_old_one(trouble: JwkSet | Exception) -> None:
    async with World(Issuer()) as world:
        world.issuer.now = trouble
        await world.timer.pass_by(600)
        assert await accepted(world.provider, OLD_TOKEN)
        assert await accepted(world.provider, token(OLD, "first", sub="bob"))


async def test_old_keys_count_for_a_day_and_then_nobody_is_let_in_nor_turned_away() -> None:
    async with World(Issuer()) as world:
        assert await accepted(world.provider, OLD_TOKEN)
        world.issuer.now = FetchError("down")
        while world.timer.clock.now < 86370:
            await world.timer.pass_by(30)
        assert await accepted(world.provider, OLD_TOKEN)
        assert await accepted(world.provider, token(OLD, "first", sub="bob"))
        await world.timer.pass_by(30)
        await world.unavailable()  # remembered tokens do not count any more, either
        world.issuer.now = FIRST
        await world.timer.pass_by(30)
        assert await accepted(world.provider, OLD_TOKEN)


async def test_a_trouble_is_told_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway.auth")
    async with World(Issuer()) as world:
        world.issuer.now = FetchError("refused")
        await world.timer.pass_by(600)
        for _ in range(5):
            await world.timer.pass_by(30)
        world.issuer.now = FIRST
        await world.timer.pass_by(30)
        await world.timer.pass_by(600)
    assert [record.getMessage() for record in caplog.records] == [
        "provider idp: keys fetched: 1",
        "provider idp: its keys could not be fetched: refused",
        "provider idp: keys fetched: 1",
    ]


async def test_after_the_end_nothing_is_fetched() -> None:
    async with World(Issuer()) as world:
        await world.keys.close()
        await world.timer.pass_by(3600)
        world.keys.start()
        await settled()
        await refusal(world.provider, bearer(NEW_TOKEN))
        assert world.issuer.asked == 1
        assert await accepted(world.provider, OLD_TOKEN)  # of a request that began before


async def test_the_end_does_not_wait_for_an_issuer_that_does_not_answer() -> None:
    issuer = Issuer()
    issuer.gate.clear()
    async with World(issuer) as world:
        waiting = asyncio.ensure_future(world.unavailable())
        await settled()
        await asyncio.wait_for(world.keys.close(), 1)
        await waiting
    assert len(asyncio.all_tasks()) == 1


# --- rotation and unknown keys ---


async def test_a_token_of_a_new_key_is_accepted_at_once() -> None:
    async with World(Issuer()) as world:
        await world.timer.pass_by(30)
        world.issuer.now = BOTH
        assert await accepted(world.provider, NEW_TOKEN)
        assert await accepted(world.provider, OLD_TOKEN)
        assert world.issuer.asked == 2


async def test_a_rotation_under_load_refuses_nobody() -> None:
    async with World(Issuer()) as world:
        await world.timer.pass_by(30)
        world.issuer.now = BOTH
        world.issuer.gate.clear()
        mixed = [token(*(NEW, "new") if n % 2 else (OLD, "first"), sub=f"s{n}") for n in range(100)]
        waiting = [asyncio.ensure_future(accepted(world.provider, each)) for each in mixed]
        await settled()
        assert sum(each.done() for each in waiting) == 50  # those of known keys wait for nobody
        world.issuer.gate.set()
        assert len(await asyncio.gather(*waiting)) == 100
        assert world.issuer.asked == 2


async def test_a_flood_of_invented_kids_is_one_fetch_in_half_a_minute() -> None:
    async with World(Issuer()) as world:
        await refusal(world.provider, bearer(token(NEW, "x")))
        assert world.issuer.asked == 1  # the first fetch was just now
        for minute in range(4):
            await world.timer.pass_by(30)
            for n in range(200):
                await refusal(world.provider, bearer(token(NEW, f"{minute}-{n}")))
            assert world.issuer.asked == 2 + minute


@pytest.mark.parametrize("trouble", [FetchError("down"), EMPTY])
async def test_neither_a_failure_nor_an_empty_set_shortens_the_pause(trouble: JwkSet | Exception) -> None:
    async with World(Issuer()) as world:
        world.issuer.now = trouble
        await world.timer.pass_by(30)
        for n in range(100):
            await refusal(world.provider, bearer(token(NEW, f"{n}")))
        assert world.issuer.asked == 2
        await world.timer.pass_by(29)
        await refusal(world.provider, bearer(NEW_TOKEN))
        assert world.issuer.asked == 2


@pytest.mark.parametrize("kid", [7, ["first"], {"a": 1}, True])
async def test_a_kid_that_is_not_text_is_not_worth_a_fetch(kid: object) -> None:
    async with World(Issuer()) as world:
        await world.timer.pass_by(30)
        await refusal(world.provider, bearer(token(OLD, kid)))
        assert world.issuer.asked == 1


async def test_the_key_of_another_kid_verifies_nothing() -> None:
    async with World(Issuer(BOTH)) as world:
        await refusal(world.provider, bearer(token(OLD, "new")))


async def test_a_token_without_kid_is_accepted_while_one_key_fits() -> None:
    async with World(Issuer()) as world:
        nameless = token(OLD, None)
        assert await accepted(world.provider, nameless)
        world.issuer.now = BOTH
        await world.timer.pass_by(600)
        await refusal(world.provider, bearer(token(OLD, None, sub="bob")))
        assert await accepted(world.provider, nameless)  # verified, and its key is still in force


async def test_tokens_of_a_key_that_left_the_set_are_forgotten_and_others_are_not() -> None:
    async with World(Issuer(BOTH)) as world:
        old, new = await accepted(world.provider, OLD_TOKEN), await accepted(world.provider, NEW_TOKEN)
        await world.timer.pass_by(600)  # the same set again
        assert await accepted(world.provider, OLD_TOKEN) is old
        world.issuer.now = SECOND
        await world.timer.pass_by(600)
        await refusal(world.provider, bearer(OLD_TOKEN))
        assert await accepted(world.provider, NEW_TOKEN) is new


async def test_a_provider_and_its_keys_are_no_cycle() -> None:
    """A runtime that a reload has left behind has to go without the help of the collector."""
    world = World(Issuer(), start=False)
    gone = weakref.ref(world.provider), weakref.ref(world.keys)
    gc.disable()
    try:
        async with world:
            assert await accepted(world.provider, OLD_TOKEN)
        del world
        await settled()
        assert [each() for each in gone] == [None, None]
    finally:
        gc.enable()
