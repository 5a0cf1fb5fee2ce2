"""What the DNS says, as targets; when it is asked again; and that what was found last stays when it says nothing."""

import asyncio
from collections.abc import Mapping

import pytest

from gateway.process.resolver import Resolver
from gateway.upstream.discovery import (
    MOST,
    Answer,
    Discovery,
    LookupFailed,
    Record,
    addresses_in,
    certified_name,
    pause,
    pause_after,
    targets,
)
from gateway.upstream.notices import Found
from tests.fakes import Dice


def urls(*records: Record, scheme: str = "http") -> list[str]:
    return [found.url for found in targets(records, scheme)]


def test_targets_have_an_order_that_does_not_depend_on_the_answers() -> None:
    one, two, three = (Record(f"192.0.2.{number}", 80) for number in (1, 2, 3))
    assert urls(three, one, two) == urls(two, three, one)
    assert urls(one, two) == ["http://192.0.2.1:80", "http://192.0.2.2:80"]


def test_ipv6_addresses_stand_in_brackets() -> None:
    assert urls(Record("2001:db8::7", 8443), scheme="https") == ["https://[2001:db8::7]:8443"]


def test_each_target_is_there_once_with_its_best_priority() -> None:
    records = Record("192.0.2.1", 80, 5, priority=20), Record("192.0.2.1", 80, 3, priority=10)
    assert targets(records, "http") == (Found("http://192.0.2.1:80", 3, 10),)


def test_services_bring_ports_weights_and_priorities() -> None:
    records = Record("192.0.2.2", 81, 10, 1), Record("192.0.2.1", 80, 30, 2)
    assert targets(records, "http") == (
        Found("http://192.0.2.2:81", 10, 1),
        Found("http://192.0.2.1:80", 30, 2),
    )


def test_large_weights_are_made_smaller_in_proportion_and_none_becomes_nothing() -> None:
    records = Record("192.0.2.1", 80, 60000), Record("192.0.2.2", 80, 30000), Record("192.0.2.3", 80, 0)
    assert [found.weight for found in targets(records, "http")] == [1000, 500, 1]
    assert [found.weight for found in targets((Record("192.0.2.3", 80, 0),), "http")] == [1]


def test_what_cannot_be_connected_to_is_no_target() -> None:
    assert urls(Record("192.0.2.1", 0)) == []


def test_there_are_at_most_so_many_targets_and_the_best_priorities_are_among_them() -> None:
    many = [Record(f"192.0.{number // 250}.{number % 250}", 80, 1, priority=number % 2) for number in range(2 * MOST)]
    found = targets(tuple(many), "http")
    assert len(found) == MOST
    assert {each.priority for each in found} == {0}


def test_an_answer_is_asked_for_again_when_it_ends_or_after_refresh() -> None:
    assert pause(10.0, 300.0, 0.0) == 10.0
    assert pause(10.0, 5.0, 0.0) == 5.0
    assert pause(10.0, 5.0, 1.0) == pytest.approx(4.5)


@pytest.mark.parametrize("ttl", [0.0, 0.5, 1.0])
def test_nobody_is_asked_more_than_once_a_second(ttl: float) -> None:
    assert pause(10.0, ttl, 1.0) == 1.0


def test_pauses_after_failures_grow_up_to_half_a_minute() -> None:
    assert [pause_after(failures, 0.0) for failures in (1, 2, 3, 4, 5, 6, 1000)] == [1, 2, 4, 8, 16, 30, 30]
    assert pause_after(1, 1.0) == 1.0


@pytest.mark.parametrize(
    ("dns", "name"),
    [
        ("orders.internal", "orders.internal"),
        ("orders.internal.", "orders.internal"),
        ("_http._tcp.orders.internal", "orders.internal"),
        ("_orders._tcp.service.consul.", "service.consul"),
    ],
)
def test_certificates_are_for_the_name_that_was_asked_for(dns: str, name: str) -> None:
    assert certified_name(dns) == name


HOSTS = """
127.0.0.1 localhost
::1       localhost ip6-localhost  # both
192.0.2.9\torders.internal Orders # 192.0.2.1 not-this
# 192.0.2.8 orders
fe80::1
"""


@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        ("localhost", ("127.0.0.1",)),
        ("ip6-localhost", ("::1",)),
        ("orders.internal.", ("192.0.2.9",)),
        ("ORDERS", ("192.0.2.9",)),
        ("not-this", ()),
        ("internal", ()),
        ("", ()),
    ],
)
def test_the_hosts_file_is_read_as_the_system_reads_it(name: str, addresses: tuple[str, ...]) -> None:
    assert addresses_in(HOSTS, name) == addresses


class Play:
    """The answers of a DNS in turn, and pauses that take no time; after the last answer nothing ever comes."""

    def __init__(self, *answers: Answer | LookupFailed) -> None:
        self.answers = list(answers)
        self.asked: list[Discovery] = []
        self.told: list[Mapping[str, tuple[Found, ...]]] = []
        self.waits: list[float] = []

    def resolver(self, known: Mapping[str, tuple[Found, ...]] | None = None) -> Resolver:
        return Resolver(self.told.append, known or {}, look_up=self.look_up, dice=Dice(0.0), sleep=self.sleep)

    async def look_up(self, asked: Discovery) -> Answer:
        self.asked.append(asked)
        if not self.answers:
            await asyncio.get_running_loop().create_future()
        answer = self.answers.pop(0)
        if isinstance(answer, LookupFailed):
            raise answer
        return answer

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0)

    async def run(self, wanted: Mapping[str, Discovery], known: Mapping[str, tuple[Found, ...]] | None = None) -> None:
        """Follow until all answers were given."""
        resolver = self.resolver(known)
        try:
            resolver.follow(wanted)
            await turns()
        finally:
            await resolver.close()
        assert not self.answers


async def turns(count: int = 30) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def answer(*numbers: int, ttl: float = 300.0) -> Answer:
    return Answer(tuple(Record(f"192.0.2.{number}", 8080) for number in numbers), ttl)


def found(*numbers: int) -> tuple[Found, ...]:
    return tuple(Found(f"http://192.0.2.{number}:8080", 1, 0) for number in numbers)


ORDERS = Discovery("orders.internal", 8080)


async def test_what_is_found_is_told_when_it_changes() -> None:
    play = Play(answer(1, 2), answer(2, 1), answer(2, 3))
    await play.run({"orders": ORDERS})
    assert play.told == [{"orders": found(1, 2)}, {"orders": found(2, 3)}]
    assert play.waits == [10.0, 10.0, 10.0]


async def test_a_flapping_name_keeps_its_last_good_targets(caplog: pytest.LogCaptureFixture) -> None:
    failure = LookupFailed("there is no such name")
    play = Play(answer(1, 2), failure, failure, answer(ttl=5.0), answer(1, 2), failure, answer(1, 2))
    await play.run({"orders": ORDERS})
    assert play.told == [{"orders": found(1, 2)}]
    assert play.waits == [10.0, 1.0, 2.0, 4.0, 10.0, 1.0, 10.0]
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "upstream orders: orders.internal leads nowhere: there is no such name; the 2 targets it has stay",
        "upstream orders: orders.internal leads somewhere again",
    ] * 2


async def test_a_name_that_never_led_anywhere_is_missing_until_it_does(caplog: pytest.LogCaptureFixture) -> None:
    play = Play(LookupFailed("no answer"), answer(1))
    resolver = play.resolver()
    try:
        resolver.follow({"orders": ORDERS})
        assert resolver.missing() == ["orders"]
        await turns()
        assert resolver.missing() == []
    finally:
        await resolver.close()
    assert caplog.messages[0] == "upstream orders: orders.internal leads nowhere: no answer; it has no targets"


async def test_a_restarted_process_begins_with_what_was_known() -> None:
    play = Play(LookupFailed("no answer"), answer(1), answer(2))
    await play.run({"orders": ORDERS}, {"orders": found(1)})
    assert play.told == [{"orders": found(2)}]


async def test_what_is_asked_for_as_before_does_not_notice_a_new_configuration() -> None:
    play = Play(answer(1), answer(2))
    resolver = play.resolver()
    try:
        resolver.follow({"orders": ORDERS})
        await turns()
        other = Discovery("users.internal", 80)
        resolver.follow({"orders": ORDERS, "users": other})
        await turns()
        assert play.asked == [ORDERS] * 3 + [other]
    finally:
        await resolver.close()


async def test_other_settings_are_asked_for_at_once_and_the_last_targets_stay_until_the_answer() -> None:
    play = Play(answer(1))
    resolver = play.resolver()
    try:
        resolver.follow({"orders": ORDERS})
        await turns()
        moved = Discovery("new.internal", 8080)
        play.answers = [answer(7)]
        resolver.follow({"orders": moved})
        assert resolver.found == {"orders": found(1)}
        await turns()
    finally:
        await resolver.close()
    assert moved in play.asked
    assert play.told == [{"orders": found(1)}, {"orders": found(7)}]


async def test_an_upstream_that_is_no_longer_discovered_has_no_found_targets() -> None:
    play = Play()
    resolver = play.resolver({"orders": found(1), "users": found(2)})
    try:
        resolver.follow({"orders": ORDERS})
    finally:
        await resolver.close()
    assert play.told == [{"orders": found(1)}]
