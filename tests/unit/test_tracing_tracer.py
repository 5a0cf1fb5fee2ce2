"""Which trace a request belongs to, and which of them are recorded."""

import math
from typing import Any, Literal

import pytest

from gateway.errors import ClientGone, Refused, UpstreamFailed
from gateway.exchange import Call, Fields, Headers, Hop, Peer, Request
from gateway.tracing.context import RANDOMNESS, Context
from gateway.tracing.spans import Finished
from gateway.tracing.tracer import Tracer

ID, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
NOTHING_RANDOM, ALL_RANDOM = "1" * 18 + "0" * 14, "0" * 18 + "f" * 14


class Stage:
    def __init__(self, **settings: Any) -> None:
        self.kept: list[Finished] = []
        self.tracer = Tracer(
            self.kept.append, **{"share": 0.0, "parent": "always", "slow": 1.0, "paths": {}, **settings}
        )

    def begin(self, parent: str = "", trusted: bool = False) -> Context:
        headers: Headers = [(b"traceparent", parent.encode())] if parent else []
        peer = Peer("192.0.2.7", 50000)
        peer.trusted = trusted
        return self.tracer.begin(Request("GET", b"/", Fields(headers), peer))

    def recorded(self, status: int = 200, took: float = 0.1, error: Any = None, sampled: bool = False) -> bool:
        call = Call(Request("GET", b"/", Fields([]), Peer("192.0.2.7", 50000)), "test")
        call.trace, call.error = self.begin(), error
        call.trace.sampled = sampled
        before = len(self.kept)
        self.tracer.read(call, status, 0, 0, took, took)
        return len(self.kept) > before


def test_a_trace_that_begins_here_has_ids_of_its_own() -> None:
    stage = Stage()
    traces = [stage.begin() for _ in range(1000)]
    assert len({trace.id for trace in traces}) == len({trace.span for trace in traces}) == 1000
    assert all(len(trace.id) == 32 and int(trace.id, 16) for trace in traces)
    assert all((trace.parent, trace.state) == ("", b"") for trace in traces)


def test_two_workers_do_not_make_the_same_ids() -> None:
    assert Stage().begin().id != Stage().begin().id


def test_a_clients_trace_goes_on_with_another_span() -> None:
    trace = Stage().begin(f"00-{ID}-{SPAN}-01")
    assert (trace.id, trace.parent) == (ID, SPAN)
    assert trace.span not in (0, int(SPAN, 16))


@pytest.mark.parametrize(
    ("parent", "trusted", "flag", "share", "sampled"),
    [
        ("always", False, "01", 0.0, True),
        ("always", False, "00", 1.0, False),
        ("trusted", True, "01", 0.0, True),
        ("trusted", True, "00", 1.0, False),
        ("trusted", False, "01", 0.0, False),
        ("trusted", False, "00", 1.0, True),
        ("never", True, "01", 0.0, False),
        ("never", True, "00", 1.0, True),
    ],
)
def test_a_parents_word_counts_when_it_is_believed_and_else_the_share(
    parent: Literal["always", "trusted", "never"], trusted: bool, flag: str, share: float, sampled: bool
) -> None:
    trace = Stage(parent=parent, share=share).begin(f"00-{ID}-{SPAN}-{flag}", trusted)
    assert trace.sampled is sampled
    assert trace.id == ID


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 1.0])
def test_the_share_is_that_of_the_traces(share: float) -> None:
    stage = Stage(share=share)
    count = sum(stage.begin().sampled for _ in range(20_000))
    assert abs(count - 20_000 * share) <= 5 * math.sqrt(20_000 * share * (1 - share))


def test_all_with_the_same_share_choose_the_same_traces_and_with_a_larger_one_these_too() -> None:
    few, again, many = (Stage(parent="never", share=share) for share in (0.1, 0.1, 0.3))
    for number in range(200):
        parent = f"00-{ID[:16]}{number * RANDOMNESS // 200:016x}-{SPAN}-00"
        assert few.begin(parent).sampled == again.begin(parent).sampled
        assert many.begin(parent).sampled or not few.begin(parent).sampled


def test_the_lowest_56_bits_decide_and_the_highest_numbers_are_chosen() -> None:
    # OpenTelemetry, TraceState: Probability Sampling: sampled when the randomness is not below the threshold.
    stage = Stage(parent="never", share=0.001)
    assert stage.begin(f"00-{ALL_RANDOM}-{SPAN}-00").sampled
    assert not stage.begin(f"00-{NOTHING_RANDOM}-{SPAN}-01").sampled


def test_what_is_sampled_is_recorded_and_the_rest_is_not() -> None:
    stage = Stage()
    assert stage.recorded(sampled=True)
    assert not stage.recorded()


@pytest.mark.parametrize("status", [500, 502, 503, 504, 599])
def test_failures_are_recorded_in_any_case(status: int) -> None:
    assert Stage().recorded(status)


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, Refused("unauthenticated", 401)), (429, Refused("rate_limited", 429)), (404, None), (499, ClientGone())],
)
def test_what_is_the_callers_fault_is_not(status: int, error: Exception | None) -> None:
    assert not Stage().recorded(status, error=error)


def test_a_reply_that_broke_off_is_recorded_although_its_status_was_good() -> None:
    assert Stage().recorded(200, error=UpstreamFailed("upstream_failed", sent=True))


def test_what_is_slow_is_recorded_unless_that_is_off_and_never_a_tunnel() -> None:
    assert Stage(slow=0.5).recorded(took=0.6)
    assert not Stage(slow=0.5).recorded(took=0.4)
    assert not Stage(slow=math.inf).recorded(took=1e6)
    assert not Stage().recorded(101, took=3600.0)


def test_what_was_no_request_or_began_without_traces_is_nobodys() -> None:
    stage = Stage()
    for method, trace in (("", stage.begin()), ("GET", None)):
        call = Call(Request(method, b"", Fields([]), Peer("192.0.2.7", 50000)), "test")
        call.trace = trace
        stage.tracer.read(call, 503, 0, 0, 9.0, 9.0)
    assert stage.kept == []


@pytest.mark.parametrize("sampled", [True, False])
def test_a_copy_is_recorded_with_its_original(sampled: bool) -> None:
    stage = Stage()
    copy = Call(Request("GET", b"/", Fields([]), Peer("192.0.2.7", 50000)), "test")
    copy.trace = stage.begin(f"00-{ID}-{SPAN}-0{int(sampled)}")
    stage.tracer.copied(copy, Hop("mirror", "shadow", "2xx", 5.0, 0.1, False))
    assert [call.name for call in stage.kept] == ["mirror shadow"] * sampled


def test_what_waits_for_its_export_holds_no_bodies_and_no_connections() -> None:
    stage = Stage()
    call = Call(Request("GET", b"/" + b"x" * 10_000, Fields([]), Peer("192.0.2.7", 50000), body=b"b" * 10_000), "test")
    call.trace = stage.begin(f"00-{ID}-{SPAN}-01")
    stage.tracer.read(call, 200, 0, 0, 0.1, 0.1)
    (kept,) = stage.kept
    assert len(repr(kept)) < 4000
    assert all(isinstance(value, str | int | None) for _, value in kept.told)
