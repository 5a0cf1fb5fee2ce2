import pytest

from gateway.errors import DeadlinePassed
from gateway.exchange import NEVER, Call
from gateway.resilience.deadline import deadline
from tests.fakes import Clock, explosive, make_call, replying

NAME = b"x-request-timeout-ms"


@pytest.mark.parametrize(("before", "after"), [(NEVER, 1010.0), (1003.0, 1003.0), (2000.0, 1010.0)])
@pytest.mark.parametrize("heard", [None, NAME])
async def test_a_call_gets_so_much_time_and_never_more_than_it_had(
    before: float, after: float, heard: bytes | None
) -> None:
    call = make_call()
    call.deadline = before
    await deadline(10.0, Clock(1000.0), heard)(replying(200))(call)
    assert call.deadline == after


def saying(value: bytes, *, trusted: bool = True) -> Call:
    call = make_call(headers=[(NAME, value)])
    call.request.peer.trusted = trusted
    call.request.received = 1000.0
    return call


@pytest.mark.parametrize(
    ("value", "after"),
    [(b"1", 1000.001), (b"2500", 1002.5), (b"09999", 1009.999), (b"10000", 1010.0), (b"999999999", 1010.0)],
)
async def test_a_trusted_caller_may_ask_for_less_time_and_never_for_more(value: bytes, after: float) -> None:
    call = saying(value)
    await deadline(10.0, Clock(1000.0), NAME)(replying(200))(call)
    assert call.deadline == pytest.approx(after, abs=1e-9)


async def test_a_deadline_that_was_set_already_stays_when_it_is_sooner() -> None:
    call = saying(b"5000")
    call.deadline = 1003.0
    await deadline(10.0, Clock(1000.0), NAME)(replying(200))(call)
    assert call.deadline == 1003.0


@pytest.mark.parametrize(
    "value", [b"", b"1s", b"1.5", b"+5", b"0x10", b"1e3", b" 5", b"5 ", b"5,5", b"1000000000", b"\xb2", b"--5", b"-"]
)
async def test_nonsense_is_ignored(value: bytes) -> None:
    call = saying(value)
    await deadline(10.0, Clock(1000.0), NAME)(replying(200))(call)
    assert call.deadline == 1010.0


async def test_the_time_counts_from_when_the_request_came_also_on_another_road() -> None:
    call = saying(b"5000")
    await deadline(10.0, Clock(1003.0), NAME)(replying(200))(call)
    assert call.deadline == 1005.0


@pytest.mark.parametrize(("value", "hurried"), [(b"5000", True), (b"20000", False), (b"nonsense", False)])
async def test_a_call_with_a_deadline_of_its_own_is_marked(value: bytes, hurried: bool) -> None:
    call = saying(value)
    call.deadline = 1010.0
    await deadline(10.0, Clock(1000.0), NAME)(replying(200))(call)
    assert call.hurried is hurried


@pytest.mark.parametrize(("value", "hurried"), [(b"9999", True), (b"10000", False), (b"60000", False)])
async def test_a_caller_that_asks_for_more_than_there_is_has_set_no_deadline(value: bytes, hurried: bool) -> None:
    """Else who always says a minute would keep circuits closed whatever happens."""
    call = saying(value)
    await deadline(10.0, Clock(1000.0), NAME)(replying(200))(call)
    assert call.hurried is hurried


@pytest.mark.parametrize("value", [b"0", b"000", b"-1", b"-0", b"-999999999"])
async def test_a_caller_that_has_no_time_left_hears_so_at_once(value: bytes) -> None:
    with pytest.raises(DeadlinePassed):
        await deadline(10.0, Clock(), NAME)(explosive())(saying(value))


@pytest.mark.parametrize("value", [b"0", b"5", b"-5"])
async def test_what_others_say_is_ignored(value: bytes) -> None:
    call = saying(value, trusted=False)
    await deadline(10.0, Clock(1000.0), NAME)(replying(200))(call)
    assert call.deadline == 1010.0


async def test_without_the_option_a_trusted_caller_is_not_heard_either() -> None:
    call = saying(b"5")
    await deadline(10.0, Clock(1000.0))(replying(200))(call)
    assert call.deadline == 1010.0
