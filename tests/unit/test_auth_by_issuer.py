"""Several issuers as one provider: only those whom a token concerns are asked, and each stands for itself."""

import gc
from typing import Any

import pytest

from gateway.auth import jws
from gateway.auth.by_issuer import Issuers
from gateway.auth.keys import KeySource, NamedKey, OneKey, VerifyKey
from gateway.auth.providers import BadCredential, Unavailable
from gateway.auth.tokens import JwtProvider
from gateway.exchange import Call, Caller
from tests.fakes import Clock
from tests.tokens import NOW, bearer, call_with, claims, refusal, sign

KEYS = {name: name.encode() * 32 for name in "abcxy"}


class Counting:
    """A source with one key; counts who asks for it. Without a key it is away."""

    def __init__(self, key: bytes | None) -> None:
        one = OneKey(VerifyKey(key or b"-" * 32, ["HS256"]))
        self.algorithms, self.names = one.algorithms, one.names
        self._one = one if key is not None else None
        self.asked = 0

    async def find(self, kid: object, algorithm: str) -> NamedKey | None:
        self.asked += 1
        if self._one is None:
            raise Unavailable("away")
        return await self._one.find(kid, algorithm)


def of(name: str, issuer: str | None = None, key: bytes | KeySource | None = None, **changes: Any) -> JwtProvider:
    """A provider; unless given its issuer is `https://NAME` and its key the one of that name."""
    usual: dict[str, Any] = {"algorithms": ["HS256"], "clock": Clock(NOW), "issuer": issuer or f"https://{name}"}
    return JwtProvider(name, key=KEYS[name] if key is None else key, **(usual | changes))


def token(name: str, issuer: object = None, **changes: Any) -> Call:
    """A token that is signed with the key of this name."""
    return bearer(sign(claims(iss=issuer or f"https://{name}", **changes), KEYS[name]))


async def vouched(issuers: Issuers, call: Call) -> Caller:
    caller = await issuers.identify(call)
    assert caller is not None
    return caller


async def refused(issuers: Issuers, call: Call) -> tuple[str, str]:
    """Reason and provider of the refusal."""
    with pytest.raises(BadCredential) as caught:
        await issuers.identify(call)
    assert caught.value.status == 401
    return caught.value.reason, caught.value.provider


async def test_each_token_is_vouched_for_by_its_own_issuer() -> None:
    issuers = Issuers([of("a"), of("b"), of("c")])
    for name in "abc":
        for _ in range(2):
            caller = await vouched(issuers, token(name))
            assert (caller.provider, caller.label, caller.claims["iss"]) == (name, name, f"https://{name}")


async def test_nobody_but_its_issuer_is_asked_about_a_token() -> None:
    keys = {name: Counting(KEYS[name]) for name in "abc"}
    issuers = Issuers([of(name, key=key) for name, key in keys.items()])
    await vouched(issuers, token("b"))
    assert await refused(issuers, bearer(sign(claims(iss="https://c"), KEYS["a"]))) == ("signature", "c")
    assert await refused(issuers, token("a", "https://other")) == ("issuer", "a")
    assert [key.asked for key in keys.values()] == [0, 1, 1]


async def test_a_token_is_read_once_however_many_issuers_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []
    parse = jws.parse

    def counted(text: bytes) -> jws.Jws:
        read.append(text)
        return parse(text)

    monkeypatch.setattr(jws, "parse", counted)
    issuers = Issuers([of("a"), of("b"), of("x", "https://c"), of("c")])
    call = token("c")
    first = await vouched(issuers, call)
    assert len(read) == 1
    assert await vouched(issuers, token("c")) is await vouched(issuers, call) is first
    assert len(read) == 1


async def test_d20_the_key_of_one_issuer_is_no_key_of_another() -> None:
    issuers = Issuers([of("a"), of("b")])
    await vouched(issuers, token("a"))
    assert await refused(issuers, token("a", "https://b")) == ("signature", "b")
    assert await refused(issuers, token("b", "https://a")) == ("signature", "a")


@pytest.mark.parametrize("iss", [["https://a"], {"https://a": 1}, 7, True, "https://A", "https://a/", "", " https://a"])
async def test_what_is_not_exactly_an_issuer_is_another_one(iss: object) -> None:
    call = bearer(sign(claims() | {"iss": iss}, KEYS["a"]))
    assert await refused(Issuers([of("a"), of("b")]), call) == ("issuer", "a")


async def test_a_token_without_issuer_is_from_another() -> None:
    error_call = bearer(sign(claims(), KEYS["a"]))
    with pytest.raises(BadCredential) as caught:
        await Issuers([of("a"), of("b")]).identify(error_call)
    assert caught.value.detail == "The token is from another issuer."


# --- several that may be meant ---


async def test_providers_of_the_same_issuer_are_asked_in_their_order() -> None:
    issuers = Issuers([of("a"), of("x", "https://b", audience=["x"]), of("b"), of("y", "https://b", audience=["y"])])
    assert (await vouched(issuers, bearer(sign(claims(iss="https://b", aud="x"), KEYS["x"])))).provider == "x"
    assert (await vouched(issuers, bearer(sign(claims(iss="https://b"), KEYS["b"])))).provider == "b"
    assert (await vouched(issuers, bearer(sign(claims(iss="https://b", aud="y"), KEYS["y"])))).provider == "y"


async def test_of_several_refusals_the_first_is_told() -> None:
    issuers = Issuers([of("a", audience=["x"]), of("y", "https://a")])
    assert await refused(issuers, token("a", aud="z")) == ("audience", "a")
    assert await refused(issuers, bearer(sign(claims(iss="https://a"), KEYS["c"]))) == ("signature", "a")


async def test_providers_that_take_any_issuer_come_last() -> None:
    anyone = JwtProvider("anyone", key=KEYS["a"], algorithms=["HS256"], clock=Clock(NOW))
    issuers = Issuers([anyone, of("b"), of("a")])
    assert (await vouched(issuers, token("a"))).provider == "a"
    assert (await vouched(issuers, token("b"))).provider == "b"
    assert (await vouched(issuers, token("a", "https://other"))).provider == "anyone"
    assert (await vouched(issuers, token("a", "https://b"))).provider == "anyone"  # after b has refused
    assert await refused(issuers, token("c", "https://other")) == ("signature", "anyone")
    assert await refused(issuers, token("c", "https://b")) == ("signature", "b")


# --- outages ---


async def test_that_one_issuer_is_away_does_not_touch_the_tokens_of_another() -> None:
    issuers = Issuers([of("a", key=Counting(None)), of("b")])
    for _ in range(2):
        assert (await vouched(issuers, token("b"))).provider == "b"
        with pytest.raises(Unavailable):
            await issuers.identify(token("a"))
    assert await refused(issuers, token("a", "https://other")) == ("issuer", "a")


async def test_when_one_of_the_same_issuer_cannot_tell_the_other_may() -> None:
    issuers = Issuers([of("a", key=Counting(None)), of("x", "https://a")])
    assert (await vouched(issuers, token("x", "https://a"))).provider == "x"
    with pytest.raises(Unavailable):  # it may have been a good one
        await issuers.identify(token("a"))


# --- the memory ---


async def test_d22_a_remembered_token_ends_with_its_expiry() -> None:
    clock = Clock(NOW)
    issuers = Issuers([of("a", clock=clock), of("b", clock=clock)])
    call = token("b", exp=NOW + 10)
    assert await vouched(issuers, call) is await vouched(issuers, call)
    clock.now = NOW + 39.9
    await vouched(issuers, call)
    clock.now = NOW + 40
    assert await refused(issuers, call) == await refused(issuers, call) == ("expired", "b")


async def test_a_token_is_remembered_as_long_as_any_of_its_providers_has_patience() -> None:
    clock = Clock(NOW)
    issuers = Issuers([of("a", clock=clock, leeway=0), of("x", "https://a", KEYS["a"], clock=clock, leeway=60)])
    call = token("a", exp=NOW + 10)
    assert (await vouched(issuers, call)).provider == "a"
    clock.now = NOW + 20
    assert (await vouched(issuers, call)).provider == "x"
    assert (await vouched(issuers, call)).provider == "x"
    clock.now = NOW + 70
    assert await refused(issuers, call) == ("expired", "a")


async def test_d22_a_token_of_a_key_that_left_is_forgotten() -> None:
    keys = Counting(KEYS["b"])
    issuers = Issuers([of("a"), of("b", key=keys)])
    first = await vouched(issuers, token("b"))
    assert await vouched(issuers, token("b")) is first
    keys.names = frozenset((b"another",))
    assert await vouched(issuers, token("b")) is not first


async def test_what_is_remembered_is_bounded_and_bad_tokens_push_nothing_out() -> None:
    inner = of("b", cache_size=2)
    issuers = Issuers([of("a"), inner])
    calls = [token("b", sub=name) for name in ("one", "two", "three")]
    callers = [await vouched(issuers, call) for call in calls]
    for n in range(5):
        await refused(issuers, bearer(sign(claims(iss="https://b", sub=str(n)), KEYS["c"])))
    assert await vouched(issuers, calls[1]) is callers[1]
    assert await vouched(issuers, calls[2]) is callers[2]
    assert await vouched(issuers, calls[0]) is not callers[0]


async def test_what_is_verified_alone_is_remembered_together_and_the_other_way_round() -> None:
    alone = of("b")
    issuers = Issuers([of("a"), alone])
    assert await vouched(issuers, token("b")) is await alone.identify(token("b"))
    other = token("b", sub="bob")
    assert await alone.identify(other) is await vouched(issuers, other)


# --- like one provider ---


@pytest.mark.parametrize("headers", [(), ((b"authorization", b"Basic YTpi"),)])
async def test_no_token_is_no_credential(headers: tuple[tuple[bytes, bytes], ...]) -> None:
    assert await Issuers([of("a"), of("b")]).identify(call_with(*headers)) is None


@pytest.mark.parametrize("value", [b"Bearer nonsense", b"Bearer a.b.c", b"Bearer two words"])
async def test_what_is_no_token_is_refused_by_the_first(value: bytes) -> None:
    call = call_with((b"authorization", value))
    assert await refused(Issuers([of("a"), of("b")]), call) == ("malformed", "a")


async def test_two_tokens_are_refused_by_the_first() -> None:
    good = (b"authorization", b"Bearer " + sign(claims(iss="https://b"), KEYS["b"]))
    assert await refused(Issuers([of("a"), of("b")]), call_with(good, good)) == ("ambiguous", "a")


async def test_its_refusals_are_those_of_any_provider() -> None:
    issuers = Issuers([of("a"), of("b")])
    assert (issuers.name, issuers.challenge) == ("a", b'Bearer realm="gateway"')
    await refusal(issuers, token("a", "https://other"))
    assert issuers.refusal("The credential has been revoked.", "revoked").reason == "revoked"


@pytest.mark.parametrize("signed_by", ["b", "x"])
async def test_neither_an_outage_nor_another_refusal_leaves_anything_for_the_collector(signed_by: str) -> None:
    issuers = Issuers([of("a"), of("x", "https://a"), of("y", "https://a", key=Counting(None))])
    call = token(signed_by, "https://a")
    gc.collect()
    gc.disable()
    try:
        try:
            await issuers.identify(call)
        except Unavailable as error:
            error.__traceback__ = error.__context__ = None  # as the handler does
        assert gc.collect() == 0
    finally:
        gc.enable()
