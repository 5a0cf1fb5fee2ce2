"""The token in the Authorization header: found, refused, and remembered with its head."""

import contextlib
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.bearer import DIGEST, LONGEST, Bearer, TokenError, token_of
from gateway.exchange import Call
from tests.tokens import call_with

TOKEN = b"abc.DEF_-~+/9=="


def found(call: Call) -> bytes | None:
    """As a provider asks that has not seen the token before."""
    bearer = Bearer()
    return None if bearer.digest(call) is None else bearer.token(call)


def reason(call: Call) -> str:
    with pytest.raises(TokenError) as caught:
        found(call)
    return caught.value.reason


@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer", b"BEARER", b"bEaReR"])
def test_a_token_is_what_stands_behind_the_scheme_in_any_case(scheme: bytes) -> None:
    assert found(call_with((b"authorization", scheme + b" " + TOKEN))) == TOKEN


@pytest.mark.parametrize("value", [b"Basic YTpi", b"Bearerx abc", b"Bearer-Token abc", b"", b"DPoP abc", b"abc"])
def test_another_scheme_holds_no_token(value: bytes) -> None:
    assert found(call_with((b"authorization", value))) is None


def test_no_header_holds_no_token_and_another_header_does_not_either() -> None:
    assert found(call_with((b"x-token", TOKEN), (b"cookie", b"token=" + TOKEN), target=b"/?access_token=abc")) is None


@pytest.mark.parametrize(
    "value",
    [b"Bearer", b"Bearer ", b"Bearer  abc", b"Bearer\tabc", b"Bearer abc ", b"Bearer a b", b"Bearer a,b", b"Bearer a=b",
     b"Bearer a, Bearer b", b'Bearer "abc"', b"Bearer =", b"Bearer: abc", b"Bearer \xc3\xa9", b"Bearer a;b=c"],
)  # fmt: skip
def test_what_stands_behind_the_scheme_and_is_no_token_is_malformed(value: bytes) -> None:
    assert reason(call_with((b"authorization", value))) == "malformed"


def test_two_headers_are_ambiguous_even_if_they_are_the_same() -> None:
    one, other = (b"authorization", b"Bearer " + TOKEN), (b"authorization", b"Basic YTpi")
    assert reason(call_with(one, one)) == reason(call_with(one, other)) == reason(call_with(other, one)) == "ambiguous"
    assert found(call_with(one, (b"x-other", b"1"), (b"x-other", b"2"))) == TOKEN


def test_a_token_of_8_kib_is_read_and_a_longer_one_is_not() -> None:
    assert found(call_with((b"authorization", b"Bearer " + b"a" * LONGEST))) == b"a" * LONGEST
    assert reason(call_with((b"authorization", b"Bearer " + b"a" * (LONGEST + 1)))) == "too_large"
    assert found(call_with((b"authorization", b"Negotiate " + b"a" * (LONGEST + 1)))) is None


def test_the_digest_is_that_of_the_whole_header_and_kept_with_its_head() -> None:
    call = call_with((b"authorization", b"Bearer " + TOKEN))
    digest = Bearer().digest(call)
    assert digest == sha256(b"Bearer " + TOKEN).digest()
    assert Bearer().digest(call) is digest is call.request.fields.derived[DIGEST]


@given(st.binary(max_size=40) | st.binary(max_size=30).map(b"Bearer ".__add__))
def test_whatever_is_found_is_a_token(value: bytes) -> None:
    with contextlib.suppress(TokenError):
        token = token_of(value)
        assert token is None or (value[6:7] == b" " and value[7:] == token and token.isascii() and b"," not in token)
