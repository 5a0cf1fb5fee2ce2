"""Whom a limit counts."""

import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.exchange import ANONYMOUS, Call, Caller
from gateway.limits.keys import LONGEST, By, key, key_of, network, part_of
from tests.tokens import call_with

parts = st.lists(st.text(), min_size=1, max_size=4)


def from_address(address: str, by: By | Sequence[By] = "ip", caller: Caller = ANONYMOUS, policy: str = "p") -> bytes:
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


def counted(
    by: By | Sequence[By],
    *headers: tuple[bytes, bytes],
    query: bytes = b"",
    caller: Caller = ANONYMOUS,
    ip: str = "192.0.2.1",
    route: str = "r",
) -> bytes:
    call = call_with(*headers)
    call.query, call.client_ip, call.route = query, ip, route
    made = key_of("p", by)(call, caller)
    assert made == key_of("p", by)(call, caller)  # also when it is remembered
    return made


def tenant(value: object, tier: str = "") -> Caller:
    return Caller(consumer="alice", provider="idp", tier=tier, claims={"tenant": value, "realm": {"tenant": value}})


KINDS: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "header:X-Tenant": ({"headers": [(b"x-tenant", b"a")]}, {"headers": [(b"x-tenant", b"b")]}),
    "cookie:sid": ({"headers": [(b"cookie", b"x=1; sid=a")]}, {"headers": [(b"cookie", b"sid=b")]}),
    "query:k": ({"query": b"?x=1&k=a"}, {"query": b"?k=b"}),
    "claim:realm.tenant": ({"caller": tenant("a")}, {"caller": tenant("b")}),
}


def by_kind(by: By | Sequence[By], ip: str = "192.0.2.1", **settings: object) -> bytes:
    headers = settings.pop("headers", [])
    return counted(by, *headers, ip=ip, **settings)  # type: ignore[misc, arg-type]


@pytest.mark.parametrize("by", KINDS)
def test_whoever_brings_the_same_value_is_counted_together(by: str) -> None:
    one, other = KINDS[by]
    assert by_kind(by, **one) == by_kind(by, ip="192.0.2.2", **one)
    assert by_kind(by, **one) != by_kind(by, **other)


@pytest.mark.parametrize("by", KINDS)
def test_e2_whoever_brings_no_value_counts_by_address_not_unlimited(by: str) -> None:
    assert by_kind(by) == by_kind(by)
    assert by_kind(by) != by_kind(by, ip="192.0.2.2")
    assert by_kind(by, ip="2001:db8::1") == by_kind(by, ip="2001:db8::2")
    assert by_kind(by) != by_kind(by, **KINDS[by][0])


@pytest.mark.parametrize(
    ("by", "settings"),
    [
        ("header:X-Tenant", {"headers": [(b"x-tenant", b"")]}),
        ("cookie:sid", {"headers": [(b"cookie", b"sid=; other=1")]}),
        ("cookie:sid", {"headers": [(b"cookie", b"SID=a")]}),
        ("query:k", {"query": b"?k=&x"}),
        ("query:k", {"query": b"?K=a"}),
        ("claim:tenant", {"caller": tenant("")}),
        ("claim:tenant", {"caller": tenant(None)}),
        ("claim:realm.other", {"caller": tenant("a")}),
    ],
)
def test_e2_an_empty_value_or_another_name_is_no_value(by: str, settings: dict[str, object]) -> None:
    assert by_kind(by, **settings) == by_kind(by)


def test_nobody_of_one_kind_is_nobody_of_another_address_and_no_value_imitates_him() -> None:
    nobody = counted("header:x-tenant")
    assert nobody != counted("header:x-tenant", (b"x-tenant", b"192.0.2.1"))
    assert nobody != counted("header:x-tenant", (b"x-tenant", b"nobody"))


def test_a_header_that_is_there_several_times_is_one_value() -> None:
    both = [(b"x-tenant", b"a"), (b"other", b"1"), (b"x-tenant", b"b")]
    made = counted("header:X-Tenant", *both)
    assert made == counted("header:X-Tenant", (b"x-tenant", b"a, b"))  # RFC 9110 section 5.3
    assert len({made, *(counted("header:X-Tenant", (b"x-tenant", each)) for each in (b"a", b"b"))}) == 3
    assert counted("header:X-Tenant", (b"x-tenant", b"a"), (b"y", b"1"), (b"y", b"2")) == counted(
        "header:X-Tenant", (b"x-tenant", b"a")
    )


def test_a_header_that_ends_empty_is_still_there() -> None:
    twice = counted("header:X-Tenant", (b"x-tenant", b"a"), (b"x-tenant", b""))
    assert twice != counted("header:X-Tenant")


def test_cookies_are_read_as_everywhere_and_all_of_them_count() -> None:
    two_lines = counted("cookie:sid", (b"cookie", b"sid=a"), (b"cookie", b"x=1; sid=b"))
    assert two_lines == counted("cookie:sid", (b"cookie", b"sid=a; sid=b"))
    assert two_lines != counted("cookie:sid", (b"cookie", b"sid=a"))
    assert counted("cookie:sid", (b"cookie", b'sid="a"')) != counted("cookie:sid", (b"cookie", b"sid=a"))


def test_cookies_of_several_names_are_told_apart_on_one_connection() -> None:
    call = call_with((b"cookie", b"a=1; b=1"))
    keys = [key_of("p", by)(call, ANONYMOUS) for by in ("cookie:a", "cookie:b", "cookie:c")]
    assert len(set(keys)) == 3
    call.client_ip = "192.0.2.9"
    assert key_of("p", "cookie:a")(call, ANONYMOUS) == keys[0]
    assert key_of("p", "cookie:c")(call, ANONYMOUS) != keys[2]  # remembered is that there is none, not whose it was


def test_e10_a_parameter_is_unescaped_once_however_it_is_written() -> None:
    plain = counted("query:key", query=b"?key=a b")
    for query in (b"?key=a%20b", b"?key=a+b", b"?k%65y=%61%20b", b"?x=1&key=%61+b&y", b"?&key=a%20%62"):
        assert counted("query:key", query=query) == plain
    assert counted("query:key", query=b"?key=a%2520b") != plain
    assert counted("query:key", query=b"?key=a&key=b") not in (
        counted("query:key", query=b"?key=a"),
        counted("query:key", query=b"?key=b"),
    )


@pytest.mark.parametrize(("value", "like"), [(7, "7"), (True, "true"), ({"b": 1, "a": 2}, '{"a": 2, "b": 1}')])
def test_claims_that_are_no_text_count_as_they_are_written(value: object, like: str) -> None:
    assert counted("claim:tenant", caller=tenant(value)) == counted("claim:tenant", caller=tenant(like))


@pytest.mark.parametrize("value", ["a:b", "a b", "x" * 10_000, "ключ", "\0", "\ud800", "1" * LONGEST, "é" * LONGEST])
def test_e9_a_claim_of_any_form_has_a_short_key_of_its_own(value: str) -> None:
    made = {counted("claim:tenant", caller=tenant(each)) for each in (value, value + "x", value[:-1])}
    assert len(made) == 3
    assert all(len(each) == 32 and each.isalnum() for each in made)


@pytest.mark.parametrize("value", [b"a:b", b"a b", b"x" * 10_000, "ключ".encode(), b"\xff\xfe", b"{tag}"])
def test_e9_a_header_of_any_form_has_a_short_key_of_its_own(value: bytes) -> None:
    made = {counted("header:x", (b"x", each)) for each in (value, value + b"x", value[:-1])}
    assert len(made) == 3
    assert all(len(each) == 32 and each.isalnum() for each in made)


@pytest.mark.parametrize("by", ["header:x", ("header:x", "route")])
def test_e9_long_values_are_not_remembered(by: By | Sequence[By]) -> None:
    made = key_of("p", by)
    tracemalloc.start()
    try:
        for number in range(1000):
            made(call_with((b"x", b"%010000d" % number)), ANONYMOUS)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_000_000  # of ten


def test_each_combination_is_counted_for_itself() -> None:
    alice, bob = (Caller(consumer=name, provider="idp") for name in ("alice", "bob"))
    made = {
        counted(("consumer", "ip", "route"), caller=caller, ip=ip, route=route)
        for caller in (alice, bob, ANONYMOUS)
        for ip in ("192.0.2.1", "192.0.2.2")
        for route in ("a", "b")
    }
    assert len(made) == 12


def test_e9_the_border_between_the_parts_of_a_combination_cannot_be_moved() -> None:
    by = ("header:a", "header:b", "query:c")
    made = {
        counted(by, (b"a", b"x"), (b"b", b"yz")),
        counted(by, (b"a", b"xy"), (b"b", b"z")),
        counted(by, (b"a", b"x"), query=b"?c=yz"),
        counted(by, (b"b", b"x"), query=b"?c=yz"),
        counted(by, (b"a", b"x")),
        counted(by, (b"b", b"x")),
        counted(by, (b"a", b"header:b"), (b"b", b"x")),
    }
    assert len(made) == 7


def test_the_names_of_headers_make_no_difference_by_case_but_are_told_apart() -> None:
    headers = [(b"x-tenant", b"a"), (b"x-other", b"a")]
    assert counted("header:X-Tenant", *headers) == counted("header:x-tenant", *headers)
    assert counted("header:X-Tenant", *headers) != counted("header:X-Other", *headers)


def test_e10_by_route_the_name_counts_and_not_the_path() -> None:
    keys = set()
    for path in (b"/Orders", b"/orders/", b"//orders", b"/%6frders"):
        call: Call = call_with(target=path)
        call.path, call.route = path, "orders"
        keys |= {key_of("p", by)(call, ANONYMOUS) for by in ("route", ("route",))}
    assert len(keys) == 1


def test_what_cannot_be_counted_by_is_an_error_at_once() -> None:
    with pytest.raises(ValueError, match="nothing is counted by global"):
        part_of("global")
