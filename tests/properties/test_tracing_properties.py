"""Whatever a client writes, a trace has good ids, and spans are what the mapping allows."""

import re

from hypothesis import given
from hypothesis import strategies as st

from gateway.exchange import Call, Fields, Hop, Peer, Request
from gateway.tracing.context import STATE_LIMIT
from gateway.tracing.otlp import around, encode, request
from gateway.tracing.spans import Finished, spans_of
from gateway.tracing.tracer import Tracer
from tests.collector import spans_in

LINE = re.compile(
    rb"traceparent: 00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[01]\r\n(?:tracestate: [\x20-\x7e\t]+\r\n)?"
)
ID = st.text("0123456789abcdef", min_size=32, max_size=32)
SPAN = st.text("0123456789abcdefA", min_size=15, max_size=17)
NEARLY = st.builds("{}-{}-{}-{}{}".format, st.sampled_from(("00", "cc", "ff", "0")), ID, SPAN, st.just("01"), st.text())
ANYTHING = st.one_of(NEARLY.map(lambda text: text.encode("utf-8", "replace")), st.binary(max_size=80))


def tracer(put=lambda call: None, share: float = 1.0) -> Tracer:
    return Tracer(put, share=share, parent="always", slow=1.0, paths={"r": "/**"})


@given(st.lists(ANYTHING, max_size=3), st.lists(st.binary(max_size=STATE_LIMIT), max_size=3))
def test_upstreams_get_one_good_line_whatever_clients_write(parents: list[bytes], states: list[bytes]) -> None:
    headers = [(b"traceparent", value) for value in parents] + [(b"tracestate", value) for value in states]
    trace = tracer().begin(Request("GET", b"/", Fields(headers), Peer("192.0.2.1", 1)))
    assert LINE.fullmatch(trace.lines(1234.5))


@given(
    method=st.text("ABC!#$%&'*+.^_`|~-", min_size=1, max_size=300),
    target=st.binary(max_size=3000).map(lambda raw: b"/" + raw),
    agent=st.binary(max_size=300),
    host=st.binary(max_size=300),
    status=st.integers(100, 599),
    hops=st.lists(
        st.tuples(
            st.sampled_from(("try", "connect", "auth", "limit", "hedge", "stream")),
            st.sampled_from(("http://10.0.0.1:80", "https://[::1]", "x", "")),
            st.sampled_from(("200", "503", "ok", "timeout", "cancelled", "")),
            st.floats(0, 1e7),
            st.floats(0, 1e5),
        ),
        max_size=8,
    ),
)
def test_spans_are_what_the_mapping_allows_whatever_clients_write(
    method: str, target: bytes, agent: bytes, host: bytes, status: int, hops: list[tuple[str, str, str, float, float]]
) -> None:
    kept: list[Finished] = []
    tracing = tracer(kept.append)
    call = Call(Request(method, target, Fields([(b"user-agent", agent)], host=host), Peer("192.0.2.1", 1), 5.0), "id")
    call.trace = tracing.begin(call.request)
    call.hops = [Hop(*hop) for hop in hops]
    tracing.read(call, status, 1, 1, 0.1, 0.1)
    (only,) = kept
    body = request(around({"service.name": "s"}, "1"), [encode(spans_of(only, 10**18))])
    _, spans = spans_in(body)
    assert len(spans) == only.size == len(hops) + 1
    assert len(body) < 12_000 + 1000 * len(hops)
