"""API keys: who is known by them, where they may stand, and that they go no further."""

from hashlib import sha256

import pytest

from gateway.auth.api_keys import ApiKeyProvider, values, without
from gateway.auth.consumers import Consumer
from gateway.auth.door import everyone
from gateway.auth.providers import BadCredential
from gateway.exchange import Call, header
from tests.tokens import call_with

ACME = Consumer(
    "acme",
    keys=(sha256(b"k1").digest(), sha256(b"k2").digest()),
    scopes=frozenset({"orders:read"}),
    roles=frozenset({"viewer"}),
    tier="gold",
)
OTHER = Consumer("other", keys=(sha256(b"k3").digest(),))


def provider(header: bytes | None = b"x-api-key", query: bytes | None = b"api_key") -> ApiKeyProvider:
    return ApiKeyProvider("partners", consumers=(ACME, OTHER), header=header, query=query)


def asking(query: bytes = b"", *headers: tuple[bytes, bytes]) -> Call:
    call = call_with(*headers)
    call.query = query
    return call


@pytest.mark.parametrize("key", [b"k1", b"k2"])
async def test_each_key_of_a_consumer_is_the_consumer(key: bytes) -> None:
    caller = await provider().identify(call_with((b"x-api-key", key)))
    assert caller is not None
    assert (caller.consumer, caller.label, caller.provider, caller.tier) == ("acme", "acme", "partners", "gold")
    assert (caller.scopes, caller.roles) == ({"orders:read"}, {"viewer"})


@pytest.mark.parametrize("query", [b"?api_key=k3", b"?a=1&api_key=k3&b=2", b"?api%5fkey=%6B3", b"?ap%69_key=k3"])
async def test_a_key_in_the_query_in_every_spelling(query: bytes) -> None:
    caller = await provider().identify(asking(query))
    assert caller is not None
    assert caller.consumer == "other"


@pytest.mark.parametrize("query", [b"", b"?a=1", b"?API_KEY=k3", b"?a=api_key", b"?xapi_key=k3", b"?a=1;api_key=k3"])
async def test_without_a_key_nobody_is_refused(query: bytes) -> None:
    assert await provider().identify(asking(query)) is None


@pytest.mark.parametrize("key", [b"", b"K1", b"k1 ", b"k1,k2", sha256(b"k1").hexdigest().encode(), b"\xff" * 5000])
async def test_every_wrong_key_gets_the_same_answer(key: bytes) -> None:
    with pytest.raises(BadCredential) as caught:
        await provider().identify(call_with((b"x-api-key", key)))
    error = caught.value
    assert (error.status, error.code, error.detail) == (401, "unauthenticated", "The API key is not valid.")
    assert header(error.headers, b"www-authenticate") == b'ApiKey realm="gateway"'


@pytest.mark.parametrize(
    "call",
    [
        asking(b"", (b"x-api-key", b"k1"), (b"x-api-key", b"k1")),
        asking(b"", (b"x-api-key", b"bad"), (b"x-api-key", b"k1")),
        asking(b"?api_key=k1&api_key=k1"),
        asking(b"?api_key=k1&api%5Fkey=bad"),
        asking(b"?api_key=k1", (b"x-api-key", b"k1")),
        asking(b"?api_key=", (b"x-api-key", b"k1")),
    ],
)
async def test_more_than_one_key_is_refused(call: Call) -> None:
    with pytest.raises(BadCredential, match="more than one API key"):
        await provider().identify(call)


async def test_a_place_that_is_not_configured_is_not_looked_at() -> None:
    assert await provider(header=None).identify(call_with((b"x-api-key", b"k1"))) is None
    assert await provider(query=None).identify(asking(b"?api_key=k1")) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b""),
        (b"?", b"?"),
        (b"?a=1", b"?a=1"),
        (b"?api_key=s", b""),
        (b"?api_key", b""),
        (b"?api_key=s&a=1", b"?a=1"),
        (b"?a=%20+&api%5fkey=s&b=api_key", b"?a=%20+&b=api_key"),
        (b"?api_key=s&%61pi_key=t&a", b"?a"),
        (b"?a=1&&b=2&api_key=s", b"?a=1&&b=2"),
        (b"?xapi_key=1&api_keys=2", b"?xapi_key=1&api_keys=2"),
    ],
)
async def test_the_key_is_cut_out_of_the_query_and_nothing_else(before: bytes, after: bytes) -> None:
    call = asking(before)
    await without(everyone, [b"api_key"])(call)
    assert call.query == after


def test_a_name_with_spaces_is_found_in_both_spellings() -> None:
    assert values(b"?api+key=1&api%20key=2", b"api key") == [b"1", b"2"]
