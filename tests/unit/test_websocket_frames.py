"""Frames are found wherever their bytes are cut; and what we say in one of our own is well formed."""

import struct
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.websocket import CLOSE, GOING_AWAY, Frames, close_frame

WIDTHS = {0: "", 126: ">H", 127: ">Q"}
"""How the length is written behind the second byte, by what is said there."""


@st.composite
def frames(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A frame's header and what is behind it: any opcode and flags, lengths also longer than they need to be."""
    size = draw(st.one_of(st.integers(0, 125), st.sampled_from([126, 127, 128, 255, 256, 65535, 65536])))
    width = draw(st.sampled_from([at for at, most in ((0, 125), (126, 65535), (127, 2**63)) if size <= most]))
    masked = draw(st.booleans())
    head = bytes((draw(st.integers(0, 255)), (width or size) | (0x80 if masked else 0)))
    if width:
        head += struct.pack(WIDTHS[width], size)
    return head, draw(st.sampled_from([b"\x00", b"\x88", b"\xff"])) * (size + 4 * masked)


streams = st.lists(frames(), min_size=1, max_size=6)
cuts = st.lists(st.integers(0, 2**20), max_size=12)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` in pieces, some of which may be empty."""
    at = sorted(cut % (len(data) + 1) for cut in cuts)
    return [data[begin:end] for begin, end in pairwise([0, *at, len(data)])]


@given(streams, cuts)
def test_boundaries_are_where_the_frames_were_put_together(stream: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    ends = {0, *accumulate(len(head) + len(rest) for head, rest in stream)}
    follower, at = Frames(), 0
    for piece in pieces(b"".join(head + rest for head, rest in stream), cuts):
        follower.feed(piece)
        at += len(piece)
        assert follower.between == (at in ends)


@given(streams, cuts)
def test_the_next_boundary_is_told_before_its_bytes_have_passed(
    stream: list[tuple[bytes, bytes]], cuts: list[int]
) -> None:
    ends = [0, *accumulate(len(head) + len(rest) for head, rest in stream)]
    follower, at = Frames(), 0
    for piece in pieces(b"".join(head + rest for head, rest in stream), cuts):
        following = next(end for end in ends if end >= at) - at
        told = follower.boundary(piece)
        assert told == following or (told == -1 and following > len(piece))
        follower.feed(piece)
        at += len(piece)


@given(streams, cuts)
def test_a_close_frame_is_noticed_when_its_header_has_passed(
    stream: list[tuple[bytes, bytes]], cuts: list[int]
) -> None:
    noticed, at = [], 0
    for head, rest in stream:
        if head[0] & 0x0F == CLOSE:
            noticed.append(at + len(head))
        at += len(head) + len(rest)
    follower, at = Frames(), 0
    for piece in pieces(b"".join(head + rest for head, rest in stream), cuts):
        follower.feed(piece)
        at += len(piece)
        assert follower.closed == any(end <= at for end in noticed)


@pytest.mark.parametrize("size", [2**40, 2**63 - 1, 2**64 - 1])
def test_a_frame_longer_than_any_memory_is_followed_without_holding_it(size: int) -> None:
    follower = Frames()
    for byte in b"\x82\xff" + struct.pack(">Q", size) + b"mask":
        follower.feed(bytes((byte,)))
    follower.feed(bytes(2**16))
    assert not follower.between
    assert follower.boundary(b"more") == size - 2**16


def test_control_frames_between_the_fragments_of_a_message_are_frames_like_others() -> None:
    follower = Frames()
    for frame in (b"\x01\x03one", b"\x89\x00", b"\x00\x03two", b"\x8a\x01!", b"\x80\x05three"):
        follower.feed(frame)
        assert follower.between
    assert not follower.closed


def test_a_close_frame_says_why() -> None:
    assert close_frame(GOING_AWAY, "bye") == b"\x88\x05\x03\xe9bye"
    assert close_frame(1000) == b"\x88\x02\x03\xe8"


def test_a_close_frame_towards_a_server_is_masked() -> None:
    mask = b"\x37\xfa\x21\x3d"  # the key of the examples in RFC 6455 section 5.7
    frame = close_frame(GOING_AWAY, "Hello", mask)
    assert frame[:6] == b"\x88\x87" + mask
    assert frame[6:] == b"\x34\x13\x69\x58\x5b\x96\x4e"


def test_a_reason_too_long_for_a_control_frame_is_refused() -> None:
    assert len(close_frame(GOING_AWAY, "x" * 123)) == 127
    with pytest.raises(ValueError, match="124 bytes"):
        close_frame(GOING_AWAY, "x" * 124)
