"""The head for the upstream: what of the caller's credentials goes on, and what takes their place."""

import pytest

from gateway.auth.signer import Signer
from gateway.exchange import ANONYMOUS, Call, Caller, Hidden
from gateway.http.forward import Forwarder, without_cookies
from tests.fakes import Clock, make_call
from tests.tokens import NOW, call_with, ec_key
from tests.unit.test_auth_signer import claims, pem

TOKEN = Hidden(frozenset({b"authorization", b"x-auth-token"}), frozenset({b"session"}))


def signer() -> Signer:
    return Signer(pem(ec_key()), "ES256", issuer="https://gateway.example.com", lifetime=60.0, clock=Clock(NOW))


def lines(forwarder: Forwarder, call: Call, caller: Caller = ANONYMOUS) -> list[bytes]:
    """The field lines of the head, when `caller` is who calls."""
    call.caller = caller
    head = forwarder.head(call, b"upstream")
    assert head.endswith(b"\r\n\r\n")
    return head.removesuffix(b"\r\n\r\n").split(b"\r\n")[1:]


def named(found: list[bytes], name: bytes) -> list[bytes]:
    return [line.partition(b": ")[2] for line in found if line.partition(b":")[0].lower() == name]


# -- what is hidden


def test_a_hidden_header_is_left_out_in_every_spelling_that_servers_fold() -> None:
    spellings = (b"x-auth-token", b"x_auth_token", b"x.auth.token", b"x-auth_token")
    call = call_with(*((spelling, b"secret") for spelling in spellings), (b"x-auth", b"stays"))
    found = lines(Forwarder(), call, Caller("alice", "idp", hidden=TOKEN))
    assert not any(b"secret" in line for line in found)
    assert named(found, b"x-auth") == [b"stays"]


def test_a_name_that_is_hidden_with_an_underscore_is_hidden_with_a_hyphen_too() -> None:
    hidden = Hidden(frozenset({b"x_auth_token"}), frozenset())
    found = lines(Forwarder(), call_with((b"x-auth-token", b"secret")), Caller("alice", "idp", hidden=hidden))
    assert not any(b"secret" in line for line in found)


def test_what_is_not_hidden_goes_on_as_it_came() -> None:
    call = call_with((b"authorization", b"Bearer abc"), (b"cookie", b"session=abc"))
    found = lines(Forwarder(), call, Caller("alice", "idp"))
    assert named(found, b"authorization") == [b"Bearer abc"]
    assert named(found, b"cookie") == [b"session=abc"]


def test_a_head_that_is_remembered_is_another_one_for_another_caller() -> None:
    """The same fields again on a connection: what was kept for one caller is never sent for the next."""
    call = call_with((b"authorization", b"Bearer abc"), (b"x-auth-token", b"def"))
    forwarder = Forwarder(signer=signer(), audience="orders")
    callers = [
        (Caller("open"), [b"Bearer abc"], [b"def"]),
        (Caller("hides", hidden=TOKEN), [], []),
        (Caller("other", hidden=Hidden(frozenset({b"x-auth-token"}), frozenset())), [b"Bearer abc"], []),
        (Caller("open"), [b"Bearer abc"], [b"def"]),
    ]
    for _ in range(2):
        for caller, authorization, token in callers:
            found = lines(forwarder, call, caller)
            assert (named(found, b"authorization"), named(found, b"x-auth-token")) == (authorization, token)
        for hidden in (None, TOKEN, callers[2][0].hidden):
            ours = named(lines(forwarder, call, Caller("signed", hidden=hidden, signed=True)), b"authorization")
            assert len(ours) == 1
            assert ours != [b"Bearer abc"]


def test_two_upstreams_that_share_a_head_keep_apart_what_they_make_of_it() -> None:
    call = call_with((b"x-auth-token", b"def"), (b"x-plan", b"gold"))
    caller = Caller("alice", hidden=TOKEN)
    for _ in range(2):
        assert named(lines(Forwarder(), call, caller), b"x-plan") == [b"gold"]
        assert named(lines(Forwarder(identity=[b"x-plan"]), call, caller), b"x-plan") == []


def test_what_follows_from_the_other_fields_is_the_same_with_hidden_ones() -> None:
    fields = (b"via", b"1.0 fred"), (b"max-forwards", b"5"), (b"connection", b"x-hop"), (b"x-hop", b"1")
    plain = lines(Forwarder(instance="me"), call_with(*fields))
    hidden = lines(Forwarder(instance="me"), call_with(*fields, (b"x-auth-token", b"d")), Caller("a", hidden=TOKEN))
    assert plain == hidden
    assert named(plain, b"via") == [b"1.0 fred, 1.1 gateway (me)"]


# -- cookies


@pytest.mark.parametrize(
    ("sent", "left"),
    [
        (b"session=abc", b""),
        (b"session=abc; a=1", b"a=1"),
        (b"a=1; session=abc", b"a=1"),
        (b"a=1; session=abc; b=2", b"a=1; b=2"),
        (b"session=abc; a=1; session=def", b"a=1"),
        (b"session=a=b; a=1", b"a=1"),
        (b"session=; a=1", b"a=1"),
        (b"session; a=1", b"a=1"),
        (b"session =abc; a=1", b"a=1"),
        (b"a=1;session=abc;b=2", b"a=1;b=2"),
        (b"a=1;\tsession\t=abc ;  b=2", b"a=1;  b=2"),
        (b'session="abc"; a="x y"', b'a="x y"'),
        (b"session=abc;", b""),
        (b" ; session=abc; ;", b""),
        (b"a=\xe4\xff, x=%20; session=abc; =nameless; b", b"a=\xe4\xff, x=%20; =nameless; b"),
    ],
)
def test_the_cookie_with_the_credential_is_cut_out_and_the_others_stay_byte_for_byte(sent: bytes, left: bytes) -> None:
    assert without_cookies(sent, frozenset({b"session"})) == left
    found = lines(Forwarder(), call_with((b"cookie", sent)), Caller("alice", hidden=TOKEN))
    assert named(found, b"cookie") == ([left] if left else [])


@pytest.mark.parametrize(
    "sent",
    [b"a=1; b=2", b"a=1 ;b=2;", b"sessions=1; xsession=2; Session=3", b"a=session; b=x session=y", b" a=1;; b ", b"a"],
)
def test_a_field_without_that_cookie_is_not_touched(sent: bytes) -> None:
    assert without_cookies(sent, frozenset({b"session"})) is sent


def test_every_cookie_field_is_looked_at() -> None:
    call = call_with((b"cookie", b"session=abc"), (b"cookie", b"a=1; session=def"), (b"cookie", b"b=2"))
    found = lines(Forwarder(), call, Caller("alice", hidden=TOKEN))
    assert named(found, b"cookie") == [b"a=1", b"b=2"]


# -- the gateway's own token


def test_a_signed_caller_is_told_by_the_gateways_own_token() -> None:
    call = call_with((b"accept", b"*/*"))
    (sent,) = named(
        lines(Forwarder(signer=signer(), audience="orders"), call, Caller("alice", "idp", signed=True)),
        b"authorization",
    )
    told = claims(b"authorization: %b\r\n" % sent)
    assert (told["sub"], told["aud"], told["iss"]) == ("alice", "orders", "https://gateway.example.com")


@pytest.mark.parametrize("hidden", [None, Hidden(frozenset({b"x-api-key"}), frozenset())])
@pytest.mark.parametrize("signing", [True, False])
def test_no_authorization_of_a_client_stands_where_the_gateways_own_belongs(
    hidden: Hidden | None, signing: bool
) -> None:
    """Whichever provider has vouched, and even if there is nothing to sign with."""
    call = call_with((b"authorization", b"Basic Zm9yZ2VkOng="), (b"Authorization".lower(), b"Bearer forged"))
    forwarder = Forwarder(signer=signer() if signing else None, audience="orders")
    found = named(lines(forwarder, call, Caller("acme", "mtls", hidden=hidden, signed=True)), b"authorization")
    assert len(found) == signing
    assert not any(b"orged" in value or b"Zm9" in value for value in found)


def test_who_is_not_signed_gets_no_token_of_the_gateways() -> None:
    forwarder = Forwarder(signer=signer(), audience="orders")
    assert named(lines(forwarder, make_call()), b"authorization") == []
    assert named(lines(forwarder, make_call(), Caller("alice", hidden=TOKEN)), b"authorization") == []


def test_a_token_and_forwarded_claims_go_together() -> None:
    caller = Caller("alice", "idp", forward=((b"x-user-id", b"alice"),), hidden=TOKEN, signed=True)
    found = lines(Forwarder(signer=signer(), audience="orders"), call_with((b"x-user-id", b"root")), caller)
    assert named(found, b"x-user-id") == [b"alice"]
    assert len(named(found, b"authorization")) == 1
