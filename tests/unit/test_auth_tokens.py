"""JwtProvider: what it accepts, who the caller is then, and its memory of verified tokens."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.auth.places import OtherPlaces
from gateway.errors import Refused
from gateway.exchange import NEVER, Hidden
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


@pytest.mark.parametrize("signed", [False, True])
async def test_what_is_hidden_and_signed_is_said_of_every_caller(signed: bool) -> None:
    hidden = Hidden(frozenset((b"authorization",)), frozenset((b"session",)))
    jwt = provider(hidden=hidden, signed=signed)
    for sub in ("alice", "bob", "alice"):
        caller = await accepted(jwt, sign(claims(sub=sub)))
        assert (caller.hidden, caller.signed) == (hidden, signed)
    plain = await accepted(provider(), sign(claims()))
    assert (plain.hidden, plain.signed) == (None, False)


# --- type and expiry, where they are asked for ---


@pytest.mark.parametrize("configured", ["at+jwt", "application/at+jwt", "AT+JWT"])
@pytest.mark.parametrize("typ", ["at+jwt", "At+Jwt", "application/at+jwt", "APPLICATION/AT+JWT"])
async def test_a_token_of_the_configured_type_is_accepted(configured: str, typ: str) -> None:
    assert await accepted(provider(typ=configured), sign(claims(), header={"typ": typ}))


@pytest.mark.parametrize("typ", ["JWT", "", "at+jwt ", "id+jwt", "text/at+jwt", None, 7, ["at+jwt"], {"at+jwt": 1}])
async def test_a_token_of_another_type_is_refused(typ: object) -> None:
    error = await refusal(provider(typ="at+jwt"), bearer(sign(claims(), header={"typ": typ})))
    assert (error.reason, error.detail) == ("type", "The token is of another type.")


async def test_a_token_without_a_type_is_refused_where_one_is_asked_for() -> None:
    token = sign(claims(), header=b'{"alg":"HS256"}')
    assert (await refusal(provider(typ="JWT"), bearer(token))).reason == "type"
    assert await accepted(provider(), token)


async def test_a_token_without_expiry_is_accepted_only_where_that_is_configured() -> None:
    token, clock = sign(claims(exp=None)), Clock(NOW)
    assert (await refusal(provider(), bearer(token))).reason == "claims"
    jwt = provider(endless=True, clock=clock)
    first = await accepted(jwt, token)
    assert first.expires == NEVER
    clock.now = NOW + 1e9
    assert await accepted(jwt, token) is first


async def test_where_no_expiry_is_needed_one_that_is_there_counts() -> None:
    jwt = provider(endless=True)
    assert (await refusal(jwt, bearer(sign(claims(exp=NOW - 31))))).reason == "expired"
    for exp in ("null", '"never"', "1e400", "true"):
        await refusal(jwt, bearer(sign(b'{"sub":"alice","exp":%s}' % exp.encode())))


# --- other places ---


async def test_tokens_are_looked_for_in_the_places_that_are_given() -> None:
    jwt, token = provider(places=OtherPlaces(header=b"x-token", cookie=b"session")), sign(claims())
    for headers in ((b"authorization", b"Bearer " + token), (b"x-token", token), (b"cookie", b"session=" + token)):
        caller = await jwt.identify(call_with(headers))
        assert caller is not None
        assert caller.consumer == "alice"
        assert await jwt.identify(call_with(headers)) is caller
    assert await jwt.identify(call_with((b"x-other", token))) is None


async def test_two_tokens_are_refused_even_if_both_are_good() -> None:
    jwt, token = provider(places=OtherPlaces(cookie=b"session")), sign(claims())
    error = await refusal(jwt, call_with((b"authorization", b"Bearer " + token), (b"cookie", b"session=" + token)))
    assert (error.reason, error.provider) == ("ambiguous", "idp")


async def test_the_origin_counts_for_remembered_tokens_too_and_for_bad_ones_first() -> None:
    jwt = provider(places=OtherPlaces(cookie=b"session"))
    for token in (sign(claims()), b"nonsense"):
        for method in ("GET", "POST", "POST"):
            call = call_with((b"cookie", b"session=" + token), (b"origin", b"https://evil.example"))
            call.request.method = method
            if method == "POST":
                with pytest.raises(Refused) as caught:
                    await jwt.identify(call)
                assert (caught.value.status, caught.value.code) == (403, "forbidden")
            elif token != b"nonsense":
                assert await jwt.identify(call)


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
    assert (await refusal(jwt, call)).reason == "expired"
    assert (await refusal(jwt, call)).reason == "expired"


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
