from collections.abc import Callable
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Refused
from gateway.exchange import Call
from gateway.http.trust import Network
from gateway.transform import addresses as module
from gateway.transform.addresses import LONGEST, Ranges, addresses
from tests.fakes import make_call


def networks(*written: str) -> list[Network]:
    return [ip_network(each) for each in written]


def welcome(check: Callable[[Call], None], address: str) -> bool:
    call = make_call()
    call.client_ip = address
    try:
        check(call)
    except Refused:
        return False
    return True


def test_who_is_not_allowed_is_refused() -> None:
    check = addresses(networks("10.0.0.0/8", "2001:db8::/32"), [])
    assert welcome(check, "10.0.0.0")
    assert welcome(check, "10.255.255.255")
    assert welcome(check, "2001:db8:ffff::1")
    assert not welcome(check, "11.0.0.0")
    assert not welcome(check, "9.255.255.255")
    assert not welcome(check, "2001:db9::")


def test_nothing_allowed_is_everything_allowed() -> None:
    check = addresses([], networks("10.0.0.0/8"))
    assert welcome(check, "192.0.2.7")
    assert welcome(check, "2001:db8::1")
    assert not welcome(check, "10.1.2.3")


def test_what_is_denied_stays_denied() -> None:
    check = addresses(networks("10.0.0.0/8"), networks("10.9.0.0/16"))
    assert welcome(check, "10.8.255.255")
    assert not welcome(check, "10.9.0.1")
    assert not welcome(check, "192.0.2.7")


def test_a_mapped_address_is_the_ipv4_address_that_it_shows() -> None:
    check = addresses(networks("10.0.0.0/8"), networks("::ffff:10.9.0.0/112"))
    assert welcome(check, "::ffff:10.1.2.3")
    assert welcome(check, "::ffff:a01:203")
    assert not welcome(check, "::ffff:10.9.0.1")
    assert not welcome(check, "10.9.0.1")
    assert not welcome(addresses(networks("::/0"), []), "::ffff:10.1.2.3"), "::/0 is all of IPv6, and nothing of IPv4"


def test_the_numbers_of_one_family_mean_nothing_in_the_other() -> None:
    check = addresses(networks("::a00:0/104"), [])  # the numbers of 10.0.0.0/8
    assert welcome(check, "::a00:1")
    assert not welcome(check, "10.0.0.1")


@pytest.mark.parametrize("address", ["unix", "unknown", "", "10.0.0.1.2"])
def test_what_is_no_address_is_let_in_only_where_none_is_asked_for(address: str) -> None:
    assert welcome(addresses([], networks("0.0.0.0/0", "::/0")), address)
    assert not welcome(addresses(networks("0.0.0.0/0", "::/0"), []), address)


def test_a_link_local_address_may_name_its_interface() -> None:
    assert welcome(addresses(networks("fe80::/10"), []), "fe80::1%eth0")


def test_the_answer_does_not_say_which_address_it_was() -> None:
    call = make_call()
    with pytest.raises(Refused) as caught:
        addresses(networks("10.0.0.0/8"), [])(call)
    assert (caught.value.status, caught.value.code) == (403, "forbidden")
    assert call.client_ip not in str(caught.value.detail)


def test_answers_are_remembered_and_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    number = module._number

    def counted(address: str) -> tuple[int, int]:
        parsed.append(address)
        return number(address)

    monkeypatch.setattr(module, "_number", counted)
    monkeypatch.setattr(module, "REMEMBERED", 3)
    check = addresses(networks("10.0.0.0/8"), [])
    for _ in range(3):
        assert welcome(check, "10.0.0.1")
        assert not welcome(check, "192.0.2.7")
    assert parsed == ["10.0.0.1", "192.0.2.7"]
    for last in range(2, 5):
        assert welcome(check, f"10.0.0.{last}")
    assert welcome(check, "10.0.0.1"), "forgotten, and judged anew"
    assert parsed.count("10.0.0.1") == 2
    long = "fe80::1%" + "x" * LONGEST
    assert not welcome(check, long)
    assert not welcome(check, long)
    assert parsed.count(long) == 2, "too long to be kept"


@given(
    st.lists(st.ip_addresses(v=4).flatmap(lambda a: st.integers(8, 32).map(lambda n: ip_network((int(a), n), False)))),
    st.ip_addresses(v=4),
)
def test_ranges_hold_what_their_networks_hold(found: list[Network], other: object) -> None:
    ranges = Ranges(found)
    edges = [edge for net in found for edge in (int(net[0]) - 1, int(net[0]), int(net[-1]), int(net[-1]) + 1)]
    for number in [int(other), *edges]:  # type: ignore[call-overload]
        if 0 <= number < 2**32:
            assert ranges.hold(4, number) == any(ip_address(number) in net for net in found)
    assert not ranges.hold(6, 1)
