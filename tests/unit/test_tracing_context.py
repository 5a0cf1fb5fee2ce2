"""What a client may say of its trace, and what it may not."""

import pytest

from gateway.exchange import Fields, Headers
from gateway.tracing.context import (
    FIRST_TRY,
    MOST_MEMBERS,
    SPANS,
    STATE_LIMIT,
    Context,
    Parent,
    hop_span,
    parent_of,
    try_span,
)

ID, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{ID}-{SPAN}-01"


def heard(*values: str, state: tuple[str, ...] = ()) -> Parent | None:
    headers: Headers = [(b"traceparent", value.encode("latin-1")) for value in values]
    headers += [(b"tracestate", value.encode("latin-1")) for value in state]
    return parent_of(Fields(headers))


def kept(*state: str) -> bytes:
    parent = heard(GOOD, state=state)
    assert parent is not None
    return parent.state


def test_a_parent_is_taken_as_it_is_said() -> None:
    assert heard(GOOD) == Parent(ID, SPAN, True, b"")


@pytest.mark.parametrize(
    ("flags", "sampled"), [("00", False), ("01", True), ("02", False), ("03", True), ("ff", True), ("fe", False)]
)
def test_of_the_flags_the_lowest_bit_counts(flags: str, sampled: bool) -> None:
    parent = heard(f"00-{ID}-{SPAN}-{flags}")
    assert parent is not None
    assert parent.sampled is sampled


@pytest.mark.parametrize("more", ["", "-", "-what-the-future-brings"])
def test_a_later_version_is_read_as_far_as_it_is_known(more: str) -> None:
    assert heard(f"cc-{ID}-{SPAN}-01{more}") == Parent(ID, SPAN, True, b"")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        f"ff-{ID}-{SPAN}-01",
        f"00-{ID}-{SPAN}-01-",
        f"00-{ID}-{SPAN}-01-more",
        f"cc-{ID}-{SPAN}-01x",
        f"cc-{ID}-{SPAN}-01.more",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{ID}-{'0' * 16}-01",
        f"00-{ID.upper()}-{SPAN}-01",
        f"00-{ID}-{SPAN.upper()}-01",
        f"0A-{ID}-{SPAN}-01",
        f"00-{ID}-{SPAN}-0A",
        f"00-{ID[1:]}-{SPAN}-01",
        f"00-{ID}0-{SPAN}-01",
        f"00-{ID}-{SPAN[1:]}-01",
        f"00-{ID}-{SPAN}-1",
        f"00-{ID}-{SPAN}-001",
        f"00-{ID}-{SPAN}",
        f" 00-{ID}-{SPAN}-01",
        f"00-{ID}-{SPAN}-01 ",
        f"00-{ID}-{SPAN}-01\t",
        f"00_{ID}_{SPAN}_01",
        f"00-{ID[:-1]}\xb2-{SPAN}-01",
        f"00-{ID}-{SPAN}-01,00-{ID}-{SPAN}-01",
    ],
)
def test_what_is_not_in_the_form_is_not_said(value: str) -> None:
    assert heard(value) is None


def test_two_parents_are_none() -> None:
    assert heard(GOOD, GOOD) is None
    assert parent_of(Fields([(b"accept", b"a"), (b"accept", b"b"), (b"traceparent", GOOD.encode())])) is not None


def test_a_state_goes_on_as_it_came_and_lines_are_joined_in_their_order() -> None:
    assert kept("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE") == b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"
    assert kept("a=1", "b=2", "tenant@sys=3") == b"a=1,b=2,tenant@sys=3"
    assert kept("a=1 , b=2") == b"a=1 , b=2"


@pytest.mark.parametrize(
    "state",
    [
        "",
        ",",
        "a",
        "=1",
        "a=",
        "A=1",
        "a=1,a=2",
        "a=b=c",
        "a=\xe4",
        "a=\t1",
        "a@=1",
        "a=1;b",
        "a b=1",
        f"{'a' * 257}=1",
    ],
)
def test_a_state_that_is_not_in_the_form_is_left_out_and_the_parent_stays(state: str) -> None:
    assert kept(state) == (state.encode() if state == "a=1;b" else b"")  # a semicolon is a character like others


def test_a_state_may_be_as_long_as_everybody_must_bear_and_no_longer() -> None:
    most = ",".join(f"k{number}={'v' * 8}" for number in range(MOST_MEMBERS))
    assert kept(most) == most.encode()
    assert kept(most + ",one=more") == b""
    long = "a=" + "v" * 250 + ",b=" + "v" * 256
    assert len(long) == STATE_LIMIT - 1
    assert kept(long) == long.encode()
    assert kept(long, "cc=1") == b""


def test_a_state_without_a_parent_says_nothing() -> None:
    assert parent_of(Fields([(b"tracestate", b"a=1")])) is None


def test_a_try_tells_its_own_span_and_the_flag() -> None:
    trace = Context(ID, 7, True, SPAN, b"a=1")
    started = 12345.678901234
    span = f"{try_span(7, started):016x}"
    assert trace.lines(started) == f"traceparent: 00-{ID}-{span}-01\r\ntracestate: a=1\r\n".encode()
    trace.sampled, trace.state = False, b""
    assert trace.lines(started) == f"traceparent: 00-{ID}-{span}-00\r\n".encode()


def test_spans_of_a_call_have_ids_of_their_own_whatever_their_first_one_is() -> None:
    for span in (1, FIRST_TRY, SPANS // 2, SPANS - 1):
        ids = [span, *(hop_span(span, number) for number in range(100))]
        ids += [try_span(span, 1e6 + number * 1e-6) for number in range(100)]
        assert len(set(ids)) == len(ids)
        assert all(0 < each < 2**64 for each in ids)
        assert Context(ID, span, True).lines(1e6).split(b"-")[2] == b"%016x" % try_span(span, 1e6)
