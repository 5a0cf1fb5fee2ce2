"""Who guesses has to wait, and nobody else."""

import asyncio

import pytest

from gateway.auth import throttle
from gateway.auth.providers import BadCredential
from gateway.auth.throttle import FailureLimit, throttled
from gateway.errors import Refused, Shed
from gateway.exchange import Call, Caller, Fields, Peer, Request
from gateway.limits.gcra import rate
from gateway.limits.memory import MemoryStore
from gateway.limits.store import Answer, Take
from tests.fakes import Clock

RATE = rate("failures", 3, 60)
ALICE = Caller(consumer="alice", provider="p")


class Door:
    """Lets in whoever knows the word, and counts how often it looked."""

    def __init__(self, store: MemoryStore | None = None, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.looked = 0
        counted = store if store is not None else MemoryStore(clock=self.clock)
        self.limit = FailureLimit(RATE, counted, self.clock)
        self.identify = throttled(self._identify, self.limit)

    async def _identify(self, call: Call) -> Caller:
        self.looked += 1
        match call.request.fields.index.get(b"word"):
            case b"right":
                return ALICE
            case None:
                raise Refused("unauthenticated", 401)
        raise BadCredential("It is wrong.", b"Basic", "unknown", "p")

    async def ask(self, word: bytes | None, address: str = "192.0.2.1") -> int:
        """The status; 200 when let in."""
        try:
            await self.identify(call(word, address))
        except Refused as error:
            return error.status
        return 200


def call(word: bytes | None, address: str = "192.0.2.1") -> Call:
    headers = [(b"word", word)] if word is not None else []
    return Call(Request("GET", b"/", Fields(headers), Peer(address, 1)), "id")


async def test_so_many_guesses_are_answered_and_the_next_is_not_looked_at() -> None:
    door = Door()
    assert [await door.ask(b"wrong") for _ in range(5)] == [401, 401, 401, 429, 429]
    assert door.looked == 3


async def test_who_waits_is_told_how_long_and_counted() -> None:
    door = Door()
    for _ in range(3):
        await door.ask(b"wrong")
    late = call(b"wrong")
    with pytest.raises(Refused) as caught:
        await door.identify(late)
    assert (caught.value.code, round(caught.value.retry_after, 6)) == ("rate_limited", 20.0)
    assert [(hop.stage, hop.name, hop.outcome) for hop in late.hops] == [("auth", "", "throttled")]


async def test_even_the_right_word_waits() -> None:
    door = Door()
    for _ in range(3):
        await door.ask(b"wrong")
    assert await door.ask(b"right") == 429


async def test_after_the_wait_there_is_one_more_guess() -> None:
    door = Door()
    for _ in range(3):
        await door.ask(b"wrong")
    door.clock.now += 20.001
    assert [await door.ask(b"wrong"), await door.ask(b"wrong")] == [401, 429]
    door.clock.now += 20.001
    assert await door.ask(b"right") == 200
    assert not door.limit.until


async def test_right_and_missing_credentials_are_not_counted() -> None:
    door = Door()
    assert {await door.ask(b"right") for _ in range(10)} == {200}
    assert {await door.ask(None) for _ in range(10)} == {401}
    assert [await door.ask(b"wrong") for _ in range(4)] == [401, 401, 401, 429]


async def test_addresses_wait_for_themselves_and_a_subscriber_of_ipv6_has_one() -> None:
    door = Door()
    for _ in range(3):
        await door.ask(b"wrong", "2001:db8::1")
    assert await door.ask(b"wrong", "2001:db8::2") == 429
    assert await door.ask(b"wrong", "2001:db8:0:1::2") == 401


async def test_two_workers_on_one_store_do_not_add_up() -> None:
    store_clock = Clock()
    store = MemoryStore(clock=store_clock)
    one, other = Door(store, store_clock), Door(store, store_clock)
    assert [await one.ask(b"wrong") for _ in range(3)] == [401, 401, 401]
    assert await other.ask(b"wrong") == 429, "it was looked at, but the answer tells nothing"
    assert await other.ask(b"right") == 429
    assert other.looked == 1


async def test_a_closed_store_leaves_the_answer_as_it_is() -> None:
    class Away:
        async def take(self, takes: list[Take]) -> Answer:
            raise Shed("overloaded")

        async def close(self) -> None: ...

    door = Door()
    door.identify = throttled(door._identify, FailureLimit(RATE, Away(), door.clock))  # type: ignore[arg-type]
    assert {await door.ask(b"wrong") for _ in range(5)} == {401}


async def test_the_memory_of_who_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "MOST_WAITING", 10)
    door = Door()
    await asyncio.gather(*(door.ask(b"wrong", f"192.0.2.{number}") for number in range(50) for _ in range(3)))
    assert len(door.limit.until) == 10
