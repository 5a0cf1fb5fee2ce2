"""How a record is written down, and that nothing in a store that others can write to is believed."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.idempotency.records import FINGERPRINT, HEAD, Answer, Claim, State, answered, in_flight, read

PRINT, OTHER = b"f" * FINGERPRINT, b"0" * FINGERPRINT
CLAIM = Claim(b"key", PRINT, b"t" * 16)
ANSWER = Answer(
    201, ((b"location", b"/orders/7"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=\xff")), b"\n\x00body\n"
)


def kept(status: object = 200, fields: object = (), body: bytes = b"") -> bytes:
    """A record as somebody else might write it."""
    return b"1a" + CLAIM.token + PRINT + orjson.dumps([status, fields]) + b"\n" + body


def test_a_reply_comes_back_byte_for_byte() -> None:
    assert read(answered(CLAIM, ANSWER), PRINT) == ANSWER


@given(st.binary(), st.lists(st.binary().filter(lambda value: not set(value) & {*range(9), *range(10, 32), 127})))
def test_any_body_and_any_field_value_come_back(body: bytes, values: list[bytes]) -> None:
    answer = Answer(200, tuple((b"x", value) for value in values), body)
    assert read(answered(CLAIM, answer), PRINT) == answer


def test_each_state_is_told_apart() -> None:
    assert read(in_flight(CLAIM), PRINT) is State.IN_FLIGHT
    assert read(answered(CLAIM, None), PRINT) is State.NOT_KEPT


@pytest.mark.parametrize("record", [in_flight(CLAIM), answered(CLAIM, None), answered(CLAIM, ANSWER)])
def test_another_request_never_gets_what_is_kept(record: bytes) -> None:
    assert read(record, OTHER) is State.MISMATCH


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"1a",
        b"2a" + CLAIM.token + PRINT,
        b"1x" + CLAIM.token + PRINT,
        b"1a" + CLAIM.token + PRINT,
        b"1a" + CLAIM.token + PRINT + b"{}\n",
        b"1a" + CLAIM.token + PRINT + b"[200]\n",
        b"1a" + CLAIM.token + PRINT + b"[200, [[1, 2]]]\n",
        b"1a" + CLAIM.token + PRINT + b"[200, [null]]\n",
        b"1a" + CLAIM.token + PRINT + b"\xff\n",
        b"1a" + CLAIM.token + PRINT + b"[" * 100_000,
        kept(status=101),
        kept(status=500),
        kept(status=True),
        kept(status="200"),
        kept(status=10**6),
        kept(fields=[["x", "a\r\nset-cookie: session=stolen"]]),
        kept(fields=[["x", "a\x00"]]),
        kept(fields=[["x: y", "z"]]),
        kept(fields=[["", "z"]]),
        kept(fields=[["X", "upper case"]]),
        kept(fields=[["x", "\u20ac"]]),
        kept(fields=[["transfer-encoding", "chunked"]]),
        kept(fields=[["content-length", "3"]]),
        kept(fields=[["x", "y", "z"]]),
        kept(fields="abc"),
    ],
    ids=lambda record: repr(record[HEAD:][:40]),
)
def test_what_cannot_be_understood_counts_as_answered_and_is_not_given_out(record: bytes) -> None:
    assert read(record, PRINT) is State.NOT_KEPT


@given(st.binary(max_size=200))
def test_no_rubbish_is_taken_for_a_reply_that_breaks_the_wire(rubbish: bytes) -> None:
    found = read(b"1a" + CLAIM.token + PRINT + rubbish, PRINT)
    assert found is State.NOT_KEPT or isinstance(found, Answer)
