"""From the configuration: where tokens stand, what of them goes no further, and which issuers are asked as one."""

from pathlib import Path

import pytest

from gateway.auth.bearer import Bearer
from gateway.auth.configured import hidden_of, places
from gateway.auth.identity import Identity
from gateway.auth.places import OtherPlaces
from gateway.auth.providers import BadCredential
from gateway.auth.records import Contents, Records, Revocation, write
from gateway.config import Config
from gateway.config.providers import BasicProvider, BearerProvider
from gateway.exchange import Call, Caller, Hidden, Hop
from tests.configs import SECRET, UPSTREAM, loaded
from tests.tokens import bearer, call_with, claims, sign

ID = "rev_0123456789ab"
ALL = "auth: {providers: [one, keys, two, cookie, three, also]}"


def config(folder: Path, auth: str = ALL) -> Config:
    return loaded(
        folder,
        f"""
auth:
  providers:
    one: {{type: jwt, issuer: one, secret: {"a" * 32}, algorithms: [HS256]}}
    two: {{type: jwt, issuer: two, secret: {"b" * 32}, algorithms: [HS256], query: access_token}}
    three: {{type: jwt, issuer: three, secret: {"c" * 32}, algorithms: [HS256], typ: at+jwt, expiry: optional}}
    also: {{type: jwt, issuer: also, secret: {"d" * 32}, algorithms: [HS256], credential: drop}}
    cookie: {{type: jwt, issuer: cookie, secret: {SECRET}, algorithms: [HS256], cookie: session}}
    keys: {{type: api_key, header: X-API-Key}}
  consumers:
    acme: {{keys: ["sha256:{"0" * 64}"]}}
{UPSTREAM}routes:
  - {{name: r, match: {{path: /r}}, upstream: u, {auth}}}
""",
    )


async def asked(config: Config, call: Call) -> Caller:
    """Who calls the route."""
    auth = config.routes[0].auth
    return await Identity(config).identify(auth)(call)


def token(name: str, key: str, **changes: object) -> bytes:
    return sign(claims(iss=name, exp=4e9, iat=None) | changes, key.encode() * 32)


async def test_each_issuer_vouches_for_its_own_tokens_whatever_its_place_in_the_list(tmp_path: Path) -> None:
    given = config(tmp_path)
    for name, key in (("one", "a"), ("two", "b"), ("also", "d"), ("cookie", "s")):
        call = bearer(token(name, key))
        caller = await asked(given, call)
        assert caller.provider == name
        assert [(hop.name, hop.outcome) for hop in call.hops] == [(name, "ok")]


async def test_what_is_no_issuers_token_is_counted_with_the_first(tmp_path: Path) -> None:
    call = bearer(token("other", "a"))
    with pytest.raises(BadCredential) as caught:
        await asked(config(tmp_path), call)
    assert caught.value.reason == "issuer"
    assert [hop[:3] for hop in call.hops] == [Hop("auth", "one", "issuer", 0, 0)[:3]]


async def test_a_place_of_one_provider_is_none_of_another(tmp_path: Path) -> None:
    given = config(tmp_path)
    assert (await asked(given, call_with((b"cookie", b"session=" + token("cookie", "s"))))).provider == "cookie"
    with pytest.raises(BadCredential):  # only `cookie` has looked there
        await asked(given, call_with((b"cookie", b"session=" + token("one", "a"))))


async def test_type_and_expiry_come_from_the_configuration(tmp_path: Path) -> None:
    given = config(tmp_path)
    endless = claims(iss="three", exp=None, iat=None)
    assert (await asked(given, bearer(sign(endless, b"c" * 32, header={"typ": "at+jwt"})))).provider == "three"
    with pytest.raises(BadCredential) as caught:
        await asked(given, bearer(sign(endless, b"c" * 32)))
    assert (caught.value.reason, caught.value.provider) == ("type", "three")


async def test_a_token_is_cut_out_of_the_query_whoever_vouches(tmp_path: Path) -> None:
    given = config(tmp_path)
    two = token("two", "b")
    in_query = call_with()
    in_query.query = b"?a=1&access_token=%b&b=2" % two
    assert (await asked(given, in_query)).provider == "two"
    assert in_query.query == b"?a=1&b=2"
    optional = config(tmp_path, "auth: {providers: [one, two], optional: true}")
    beside = bearer(token("one", "a"))
    beside.query = b"?access%5Ftoken=" + two
    with pytest.raises(BadCredential):  # `one` vouches, but it is `two` that finds both
        await asked(config(tmp_path, "auth: {providers: [two]}"), beside)
    assert (await asked(optional, beside)).provider == "one"
    assert beside.query == b""


@pytest.mark.parametrize("consulted", [True, False])
async def test_a_caller_who_is_revoked_is_refused_where_revocations_count(tmp_path: Path, consulted: bool) -> None:
    given = config(tmp_path)
    given = given.model_copy(update={"auth": given.auth.model_copy(update={"revocation": consulted})})
    mallory = Revocation(ID, "", "mallory", "", None, 1.0, None)
    write(tmp_path / "records", Contents(1, (), (mallory,)))
    records = Records(tmp_path / "records")
    await records.look()
    identified = Identity(given, records=records).identify(given.routes[0].auth)
    assert (await identified(bearer(token("also", "d")))).consumer == "alice"
    call = bearer(token("also", "d", sub="mallory"))
    if not consulted:
        assert (await identified(call)).consumer == "mallory"
        return
    with pytest.raises(BadCredential) as caught:
        await identified(call)
    assert caught.value.reason == "revoked"


@pytest.mark.parametrize(
    ("given", "hidden", "signed"),
    [
        (BearerProvider(), None, False),
        (BearerProvider(credential="forward", cookie="session"), None, False),
        (BearerProvider(credential="drop"), Hidden(frozenset({b"authorization"}), frozenset()), False),
        (
            BearerProvider(credential="drop", header="X-Token", cookie="Session"),
            Hidden(frozenset({b"authorization", b"x-token"}), frozenset({b"Session"})),
            False,
        ),
        (
            BearerProvider(credential="sign", cookie="session"),
            Hidden(frozenset({b"authorization"}), frozenset({b"session"})),
            True,
        ),
        (BasicProvider(type="basic"), Hidden(frozenset({b"authorization"}), frozenset()), False),
        (BasicProvider(type="basic", credential="forward"), None, False),
    ],
)
def test_what_goes_no_further_is_every_place_in_which_a_credential_may_stand(
    given: BearerProvider | BasicProvider, hidden: Hidden | None, signed: bool
) -> None:
    assert hidden_of(given) == (hidden, signed)


async def test_callers_know_what_of_them_goes_no_further(tmp_path: Path) -> None:
    given = config(tmp_path)
    assert (await asked(given, bearer(token("one", "a")))).hidden is None
    assert (await asked(given, bearer(token("also", "d")))).hidden == Hidden(frozenset({b"authorization"}), frozenset())


def test_only_who_needs_other_places_looks_there() -> None:
    assert isinstance(places(BearerProvider()), Bearer)
    somewhere = places(BearerProvider(header="X-Token", cookie="S", query="t", origins=("https://a.example:443",)))
    assert isinstance(somewhere, OtherPlaces)
    call = call_with((b"x-token", b"abc"))
    assert somewhere.digest(call)
    assert somewhere.token(call) == b"abc"
