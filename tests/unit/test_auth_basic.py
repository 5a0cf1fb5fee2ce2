"""HTTP Basic: strict to read, slow to check, quick when remembered, and never on the loop."""

import asyncio
import threading
from base64 import b64encode
from typing import Any

import pytest

from gateway.auth.basic import LONGEST, MOST_WAITING, REMEMBERED_FOR, BasicProvider
from gateway.auth.consumers import Consumer
from gateway.auth.passwords import Scrypt, make
from gateway.auth.providers import BadCredential
from gateway.errors import Shed
from gateway.exchange import Call, Caller, Hidden, header
from tests.fakes import Clock
from tests.tokens import call_with

CHEAP = Scrypt(16384, 8, 1, b"salt of acme....", b"a" * 32)
DEAR = Scrypt(32768, 8, 1, b"salt of dear....", b"b" * 32)
CONSUMERS = (Consumer("acme", password=CHEAP, scopes=frozenset({"s"})), Consumer("dear", password=DEAR), Consumer("no"))


class Checks:
    """Stands in for scrypt: `secret` is everybody's password. Notes what it did, where, and how many at a time."""

    def __init__(self) -> None:
        self.made: list[Scrypt] = []
        self.threads: set[int] = set()
        self.at_once = threading.Semaphore(1)
        self.crowded = False
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, expected: Scrypt, password: bytes) -> bool:
        if not self.at_once.acquire(blocking=False):
            self.crowded = True
        assert self.gate.wait(5)
        self.made.append(expected)
        self.threads.add(threading.get_ident())
        self.at_once.release()
        return password == b"secret" and expected in (CHEAP, DEAR)


def basic(text: str | bytes, scheme: bytes = b"Basic") -> Call:
    raw = text if isinstance(text, bytes) else text.encode()
    return call_with((b"authorization", scheme + b" " + b64encode(raw)))


def provider(checks: Checks, clock: Clock | None = None) -> BasicProvider:
    return BasicProvider("legacy", consumers=CONSUMERS, clock=clock or Clock(), matches=checks)


async def identified(asked: BasicProvider, call: Call) -> Caller:
    caller = await asked.identify(call)
    assert caller is not None
    return caller


async def test_a_password_is_checked_off_the_loop_and_then_remembered() -> None:
    checks, clock = Checks(), Clock()
    asked = provider(checks, clock)
    for _ in range(3):
        caller = await identified(asked, basic("acme:secret", b"bASIC"))
    assert (caller.consumer, caller.label, caller.provider, caller.scopes) == ("acme", "acme", "legacy", {"s"})
    assert len(checks.made) == 1
    assert threading.get_ident() not in checks.threads
    clock.advance(REMEMBERED_FOR - 1)
    await asked.identify(basic("acme:secret", b"bASIC"))
    assert len(checks.made) == 1
    clock.advance(1)
    await asked.identify(basic("acme:secret", b"bASIC"))
    assert len(checks.made) == 2


@pytest.mark.parametrize(
    ("settings", "hidden", "signed"),
    [
        ({}, Hidden(frozenset({b"authorization"}), frozenset()), False),
        ({"hidden": None}, None, False),
        ({"signed": True}, Hidden(frozenset({b"authorization"}), frozenset()), True),
    ],
)
async def test_the_password_stays_here_unless_it_is_said_otherwise(
    settings: dict[str, Any], hidden: Hidden | None, signed: bool
) -> None:
    asked = BasicProvider("legacy", consumers=CONSUMERS, clock=Clock(), matches=Checks(), **settings)
    for _ in range(2):
        caller = await identified(asked, basic("acme:secret"))
        assert (caller.hidden, caller.signed) == (hidden, signed)


async def test_a_real_hash_is_really_checked() -> None:
    asked = BasicProvider("legacy", consumers=[Consumer("acme", password=make("pä:ss".encode(), b"0" * 16))])
    assert (await identified(asked, basic("acme:pä:ss"))).consumer == "acme"
    with pytest.raises(BadCredential):
        await asked.identify(basic("acme:pä:sS"))


@pytest.mark.parametrize("credential", ["acme:wrong", "acme:", "nobody:secret", "no:secret", "ACME:secret", "dear:x"])
async def test_every_wrong_credential_gets_the_same_answer_and_is_never_remembered(credential: str) -> None:
    checks = Checks()
    asked = provider(checks)
    for _ in range(2):
        with pytest.raises(BadCredential) as caught:
            await asked.identify(basic(credential))
        assert caught.value.detail == "User name or password is not valid."
        assert header(caught.value.headers, b"www-authenticate") == b'Basic realm="gateway", charset="UTF-8"'
    assert len(checks.made) == 2


@pytest.mark.parametrize("user", ["nobody", "no"])
async def test_an_unknown_user_takes_as_long_as_the_dearest_password(user: str) -> None:
    checks = Checks()
    with pytest.raises(BadCredential):
        await provider(checks).identify(basic(f"{user}:secret"))
    assert [each.cost for each in checks.made] == [DEAR.cost]


async def test_an_unknown_user_cannot_get_in_with_any_password() -> None:
    asked = BasicProvider("legacy", consumers=())
    with pytest.raises(BadCredential):
        await asked.identify(basic("nobody:" + "\0".replace("\0", "x")))


@pytest.mark.parametrize(
    "value",
    [
        b"Basic",
        b"Basic ",
        b"Basic  YWNtZTpzZWNyZXQ=",
        b"Basic\tYWNtZTpzZWNyZXQ=",
        b"Basic YWNtZTpzZWNyZXQ",
        b"Basic YWNtZTpzZWNyZXR=",
        b"Basic YWNtZTpzZWNyZXQ==",
        b"Basic YWNtZTpzZWNyZXQ=,Basic YWNtZTpzZWNyZXQ=",
        b"Basic YWNt ZTpzZWNyZXQ=",
        b"Basic YWNtZTpzZWNyZXQ=\xff",
        b"Basic acme:secret",
        b"Basic " + b64encode(b"acme"),
        b"Basic " + b64encode(b":secret"),
        b"Basic " + b64encode(b"acme:\xff"),
        b"Basic " + b64encode(b"acme:sec\nret"),
        b"Basic " + b64encode(b"ac\0me:secret"),
    ],
)
async def test_what_is_not_exactly_basic_is_refused_without_a_check(value: bytes) -> None:
    checks = Checks()
    with pytest.raises(BadCredential, match="malformed"):
        await provider(checks).identify(call_with((b"authorization", value)))
    assert checks.made == []


async def test_too_large_and_repeated_headers_are_refused() -> None:
    asked = provider(Checks())
    with pytest.raises(BadCredential, match="too large"):
        await asked.identify(basic("acme:" + "x" * LONGEST))
    good = (b"authorization", b"Basic " + b64encode(b"acme:secret"))
    with pytest.raises(BadCredential, match="more than one"):
        await asked.identify(call_with(good, good))


@pytest.mark.parametrize("value", [b"Bearer abc", b"Basically abc", b"Digest x", b""])
async def test_another_scheme_is_left_to_others(value: bytes) -> None:
    assert await provider(Checks()).identify(call_with((b"authorization", value))) is None
    assert await provider(Checks()).identify(call_with()) is None


async def test_a_flood_of_wrong_passwords_is_turned_away_while_the_remembered_pass() -> None:
    checks = Checks()
    asked = provider(checks)
    await asked.identify(basic("acme:secret"))
    checks.gate.clear()
    flood = [asyncio.create_task(asked.identify(basic(f"acme:{number}"))) for number in range(MOST_WAITING + 3)]
    try:
        while not all(task.done() for task in flood[MOST_WAITING:]):
            await asyncio.sleep(0)
        for _ in range(5):  # what has been given to threads before this has begun when this is done
            await asyncio.to_thread(int)
        assert (await identified(asked, basic("acme:secret"))).consumer == "acme"
    finally:
        checks.gate.set()
    outcomes = await asyncio.gather(*flood, return_exceptions=True)
    assert [type(each) for each in outcomes] == [BadCredential] * MOST_WAITING + [Shed] * 3
    shed = outcomes[-1]
    assert isinstance(shed, Shed)
    assert (shed.status, shed.code, shed.retry_after) == (503, "overloaded", 1)
    assert not checks.crowded  # one at a time


async def test_one_check_serves_all_who_bring_the_same_and_outlives_whoever_leaves() -> None:
    checks = Checks()
    asked = provider(checks)
    checks.gate.clear()
    try:
        waiting = [asyncio.create_task(asked.identify(basic("acme:secret"))) for _ in range(3 * MOST_WAITING)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
    finally:
        checks.gate.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert [each.consumer for each in outcomes[1:] if isinstance(each, Caller)] == ["acme"] * (3 * MOST_WAITING - 1)
    assert len(checks.made) == 1
