"""What a try is told of the time that it has."""

import pytest

from gateway.exchange import ANONYMOUS, NEVER, Caller, Hidden
from gateway.http.forward import Forwarder, TimedForwarder
from tests.fakes import Clock, make_call

NAME = b"x-request-timeout-ms"


def told(head: bytes) -> list[bytes]:
    lines = head.split(b"\r\n")
    return [value for name, _, value in (line.partition(b": ") for line in lines) if name.lower() == NAME]


def timed(clock: Clock, try_timeout: float = 3.0) -> TimedForwarder:
    return TimedForwarder(Forwarder(identity=[NAME]), NAME, try_timeout, clock)


@pytest.mark.parametrize(
    ("left", "told_of"),
    [(NEVER, b"3000"), (10.0, b"3000"), (3.0, b"3000"), (1.2345, b"1234"), (0.0004, b"1"), (0.0, b"1"), (-1.0, b"1")],
)
def test_a_try_is_told_the_time_that_it_really_has_and_never_zero(left: float, told_of: bytes) -> None:
    clock, call = Clock(), make_call()
    call.deadline = clock() + left
    assert told(timed(clock).head(call, b"a")) == [told_of]


@pytest.mark.parametrize("name", [NAME, b"x_request_timeout_ms", b"x.request.timeout-ms"])
@pytest.mark.parametrize("trusted", [False, True])
def test_what_the_client_said_is_never_forwarded(name: bytes, trusted: bool) -> None:
    clock, call = Clock(), make_call(headers=[(name, b"987654")])
    call.request.peer.trusted = trusted
    head = timed(clock).head(call, b"a")
    assert b"987654" not in head
    assert told(head) == [b"3000"]


def test_a_remembered_head_is_told_anew_for_each_try() -> None:
    clock, call = Clock(), make_call(headers=[(b"accept", b"*/*")])
    forwarder = timed(clock)
    call.deadline = clock() + 2.0
    first = forwarder.head(call, b"a")
    (kept,) = call.request.fields.derived.values()
    clock.advance(0.5)
    second = forwarder.head(call, b"a")
    assert (told(first), told(second)) == ([b"2000"], [b"1500"])
    assert list(call.request.fields.derived.values()) == [kept]
    assert NAME not in kept


@pytest.mark.parametrize(
    "caller",
    [
        ANONYMOUS,
        Caller("alice", forward=((b"x-user", b"alice"),)),
        Caller("alice", hidden=Hidden(frozenset({b"authorization"}), frozenset())),
    ],
    ids=["anonymous", "with identity", "with hidden credentials"],
)
def test_the_head_is_otherwise_the_same(caller: Caller) -> None:
    call = make_call(headers=[(b"accept", b"*/*"), (b"authorization", b"Bearer a")])
    call.caller = caller
    with_time = timed(Clock()).head(call, b"a")
    assert with_time.replace(NAME + b": 3000\r\n", b"") == Forwarder(identity=[NAME]).head(call, b"a")


def test_a_percent_sign_in_the_name_is_only_a_character() -> None:
    assert b"\r\nx-100%d: 3000\r\n" in TimedForwarder(Forwarder(), b"x-100%d", 3.0, Clock()).head(make_call(), b"a")
