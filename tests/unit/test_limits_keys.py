"""Whom a limit counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.exchange import ANONYMOUS, Caller
from gateway.limits.keys import By, key, key_of, network
from tests.tokens import call_with

parts = st.lists(st.text(), min_size=1, max_size=4)


def from_address(address: str, by: By = "ip", caller: Caller = ANONYMOUS, policy: str = "p") -> bytes:
    call = call_with()
    call.client_ip = address
    return key_of(policy, by)(call, caller)


@given(parts, parts)
def test_e9_different_values_have_different_keys(one: list[str], other: list[str]) -> None:
    assert (key(*one) == key(*other)) == (one == other)


@pytest.mark.parametrize("value", ["", "a:b", "a b", "x" * 10_000, "ключ", "\r\n", "\0", "{tag}", "\ud800"])
def test_e9_every_key_is_short_and_plain(value: str) -> None:
    made = key("policy", "consumer", value)
    assert len(made) == 32
    assert made.isalnum()


def test_e9_the_border_between_parts_cannot_be_moved() -> None:
    assert len({key("a", "bc"), key("ab", "c"), key("a:b", "c"), key("abc"), key("a", "b", "c"), key("1:a", "bc")}) == 6


def test_an_ipv6_caller_is_a_64_bit_network_and_an_ipv4_caller_an_address() -> None:
    assert from_address("2001:db8::1") == from_address("2001:db8:0:0:ffff::2")
    assert from_address("2001:db8::1") != from_address("2001:db8:0:1::1")
    assert from_address("192.0.2.1") != from_address("192.0.2.2")


def test_spellings_of_one_address_are_one_caller() -> None:
    assert from_address("::ffff:192.0.2.1") == from_address("192.0.2.1")
    assert from_address("2001:DB8::1") == from_address("2001:db8::1")
    assert from_address("fe80::1%eth0") == from_address("fe80::2")
    assert network("unix") == "unix"


def test_e2_a_caller_without_a_name_counts_by_address_not_unlimited() -> None:
    nameless = Caller(provider="idp")
    assert from_address("192.0.2.1", "consumer") == from_address("192.0.2.1", "consumer", nameless)
    assert from_address("192.0.2.1", "consumer") != from_address("192.0.2.2", "consumer")


def test_a_consumer_is_the_same_from_every_address() -> None:
    alice = Caller(consumer="alice", provider="idp")
    assert from_address("192.0.2.1", "consumer", alice) == from_address("192.0.2.2", "consumer", alice)


def test_a_consumer_cannot_be_named_like_an_address_or_like_anothers_consumer() -> None:
    made = {
        from_address("192.0.2.1", "consumer"),
        from_address("192.0.2.1", "consumer", Caller(consumer="192.0.2.1", provider="idp")),
        from_address("192.0.2.1", "consumer", Caller(consumer="192.0.2.1", provider="other")),
    }
    assert len(made) == 3


def test_policies_do_not_share_keys() -> None:
    for by in ("consumer", "ip", "route", "global"):
        assert from_address("192.0.2.1", by, policy="p") != from_address("192.0.2.1", by, policy="q")


def test_by_route_and_global_do_not_ask_who_is_calling() -> None:
    call = call_with()
    call.route = "orders"
    other = call_with()
    other.route = "docs"
    alice = Caller(consumer="alice", provider="idp")
    assert key_of("p", "route")(call, ANONYMOUS) == key_of("p", "route")(call, alice)
    assert key_of("p", "route")(call, alice) != key_of("p", "route")(other, alice)
    assert key_of("p", "global")(call, ANONYMOUS) == key_of("p", "global")(other, alice)


def test_a_known_consumer_counts_once_whichever_provider_vouched() -> None:
    by_key = Caller(consumer="acme", provider="partners", label="acme")
    by_certificate = Caller(consumer="acme", provider="mtls", label="acme")
    of_a_token = Caller(consumer="acme", provider="idp", label="idp")
    counted = from_address("192.0.2.1", "consumer", by_key)
    assert counted == from_address("192.0.2.2", "consumer", by_certificate)
    assert counted != from_address("192.0.2.1", "consumer", of_a_token)
    assert counted != from_address(
        "192.0.2.1", "consumer", Caller(consumer="other", provider="partners", label="other")
    )
