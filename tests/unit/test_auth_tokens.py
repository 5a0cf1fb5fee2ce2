"""JwtProvider: what it accepts, who the caller is then, and its memory of verified tokens."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.fakes import Clock
from tests.tokens import (
    NOW,
    SECRET,
    accepted,
    bearer,
    call_with,
    claims,
    ec_key,
    ed_key,
    provider,
    refusal,
    rsa_key,
    sign,
)

# --- what is accepted, so that the refusals below mean something ---


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
async def test_a_token_signed_with_the_secret_is_accepted(alg: str) -> None:
    caller = await accepted(provider(algorithms=[alg]), sign(claims(), alg=alg))
    assert (caller.consumer, caller.provider, caller.label) == ("alice", "idp", "idp")
    assert caller.scopes == {"orders:read"}
    assert caller.expires == NOW + 600


@pytest.mark.parametrize("alg", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])
async def test_a_token_signed_with_an_rsa_key_is_accepted(alg: str) -> None:
    assert await accepted(provider(key=rsa_key().public_key(), algorithms=[alg]), sign(claims(), rsa_key(), alg))


@pytest.mark.parametrize(
    ("alg", "curve"), [("ES256", ec.SECP256R1()), ("ES384", ec.SECP384R1()), ("ES512", ec.SECP521R1())]
)
async def test_a_token_signed_with_an_elliptic_curve_key_is_accepted(alg: str, curve: ec.EllipticCurve) -> None:
    key = ec.generate_private_key(curve)
    assert await accepted(provider(key=key.public_key(), algorithms=[alg]), sign(claims(), key, alg))


async def test_a_token_signed_with_an_edwards_curve_key_is_accepted() -> None:
    assert await accepted(provider(key=ed_key().public_key(), algorithms=["EdDSA"]), sign(claims(), ed_key(), "EdDSA"))


@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer", b"BEARER"])
async def test_the_scheme_is_read_in_any_case(scheme: bytes) -> None:
    assert await provider().identify(call_with((b"authorization", scheme + b" " + sign(claims()))))


@pytest.mark.parametrize("typ", ["JWT", "at+jwt", 7, None])
async def test_the_type_in_the_header_is_tolerated(typ: object) -> None:
    assert await accepted(provider(), sign(claims(), header={"typ": typ}))


@pytest.mark.parametrize("value", [b"Basic YTpi", b"Bearerx abc", b"Digest username=x", b""])
async def test_another_scheme_is_not_ours_to_judge(value: bytes) -> None:
    assert await provider().identify(call_with((b"authorization", value))) is None


async def test_another_scheme_is_not_ours_whatever_its_size() -> None:
    assert await provider().identify(call_with((b"authorization", b"Negotiate " + b"A" * 20_000))) is None


async def test_no_header_is_no_credential() -> None:
    assert await provider().identify(call_with((b"x-other", b"1"))) is None


# --- who the caller is ---


async def test_claims_are_found_by_dotted_paths_and_whole_names() -> None:
    paths = {"consumer": "user.id", "scopes": "access.scopes", "roles": "https://example.com/roles", "tier": "plan"}
    payload = claims(
        user={"id": "u-1"}, access={"scopes": ["a", "b"]}, plan="gold", **{"https://example.com/roles": ["admin"]}
    )
    caller = await accepted(provider(claims=paths), sign(payload))
    assert (caller.consumer, caller.tier) == ("u-1", "gold")
    assert (caller.scopes, caller.roles) == ({"a", "b"}, {"admin"})


async def test_a_token_without_the_consumer_claim_is_vouched_for_without_a_name() -> None:
    caller = await accepted(provider(), sign(claims(sub=None)))
    assert (caller.consumer, caller.provider) == ("", "idp")


@pytest.mark.parametrize("sub", ['""', "null", "7", '["alice"]', "true"])
async def test_a_consumer_that_is_no_name_is_refused(sub: str) -> None:
    await refusal(provider(), bearer(sign(b'{"sub":%s,"exp":1750000600}' % sub.encode())))


@pytest.mark.parametrize("change", [{"scope": 7}, {"scope": ["a", 7]}, {"roles": {"a": 1}}, {"tier": ["gold"]}])
async def test_a_claim_of_the_wrong_type_is_refused(change: dict[str, Any]) -> None:
    await refusal(provider(), bearer(sign(claims(**change))))


async def test_identity_headers_are_ready_to_write_and_unsafe_ones_are_left_out() -> None:
    names = ("sub", "n", "flag", "list", "crlf", "comma", "accent", "space", "empty", "object", "missing")
    forward = [(b"x-" + name.encode(), name) for name in names]
    payload = claims(
        n=7, flag=True, list=["a", "b", 3], crlf="a\r\nx-admin: 1", comma=["a,b", "c"], accent="José", space=" a",
        empty="", object={"a": 1},
    )  # fmt: skip
    caller = await accepted(provider(forward=forward), sign(payload))
    assert caller.forward == ((b"x-sub", b"alice"), (b"x-n", b"7"), (b"x-flag", b"true"), (b"x-list", b"a,b,3"))


# --- the memory ---


async def test_d22_a_remembered_token_ends_with_its_expiry() -> None:
    clock = Clock(NOW)
    jwt = provider(clock=clock, leeway=30)
    call = bearer(sign(claims(exp=NOW + 10)))
    first = await jwt.identify(call)
    assert await jwt.identify(call) is first
    clock.now = NOW + 39.9
    assert await jwt.identify(call) is first
    clock.now = NOW + 40
    assert (await refusal(jwt, call)).outcome == "expired"
    assert (await refusal(jwt, call)).outcome == "expired"


async def test_d22_only_the_whole_token_is_remembered() -> None:
    jwt = provider()
    token = sign(claims())
    await accepted(jwt, token)
    for position in range(len(token)):
        other = b"A" if token[position : position + 1] != b"A" else b"B"
        await refusal(jwt, bearer(token[:position] + other + token[position + 1 :]))
    await refusal(jwt, bearer(token[:-1]))
    await refusal(jwt, bearer(token + b"A"))


async def test_d22_providers_do_not_share_what_they_remember() -> None:
    token = sign(claims())
    await accepted(provider(), token)
    await refusal(provider(key=b"z" * 32), bearer(token))


async def test_the_memory_is_bounded_and_forgets_the_oldest() -> None:
    jwt = provider(cache_size=2)
    calls = [bearer(sign(claims(sub=name))) for name in ("a", "b", "c")]
    callers = [await jwt.identify(call) for call in calls]
    assert await jwt.identify(calls[1]) is callers[1]
    assert await jwt.identify(calls[2]) is callers[2]
    assert await jwt.identify(calls[0]) is not callers[0]


async def test_bad_tokens_push_nothing_out_of_the_memory() -> None:
    jwt = provider(cache_size=1)
    good = bearer(sign(claims()))
    caller = await jwt.identify(good)
    for n in range(10):
        await refusal(jwt, bearer(sign(claims(sub=str(n)), b"wrong" * 8)))
    assert await jwt.identify(good) is caller


# --- mistakes in the configuration ---


def test_a_key_that_fits_no_allowed_algorithm_is_an_error_at_once() -> None:
    with pytest.raises(ValueError, match="can verify ES256"):
        provider(key=ec_key().public_key(), algorithms=["RS256", "ES384"])
    with pytest.raises(ValueError, match="can verify HS256"):
        provider(algorithms=["RS256"])
    with pytest.raises(ValueError, match="can verify"):
        provider(algorithms=["none"])


def test_a_use_of_a_claim_we_do_not_know_is_an_error_at_once() -> None:
    with pytest.raises(ValueError, match="scope"):
        provider(claims={"scope": "scp"})


async def test_the_detail_never_repeats_the_token_or_the_secret() -> None:
    for token in (sign(claims(sub=7)), sign(claims(), b"w" * 32), b"a.b.c", b"garbage"):
        error = await refusal(provider(), bearer(token))
        said = json.dumps([error.detail, [value.decode() for _, value in error.headers]])
        assert token.decode() not in said
        assert SECRET.decode() not in said
