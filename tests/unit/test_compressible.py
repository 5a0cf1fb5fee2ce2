import pytest

from gateway.transform.compressible import compressible

PATTERNS = ("text/*", "application/json", "application/*+json", "image/*", "application/*")


@pytest.mark.parametrize(
    ("value", "worthwhile"),
    [
        (b"text/html", True),
        (b"Text/HTML; charset=utf-8", True),
        (b"text/plain ;charset=utf-8", True),
        (b"application/json", True),
        (b"application/problem+json", True),
        (b"application/jsonx", False),
        (b"image/svg+xml", False),
        (b"", False),
        (b"text", False),
        (b"text/", True),
        (b"\xff\xfe/\x00", False),
    ],
)
def test_types_are_taken_by_name_or_kind(value: bytes, worthwhile: bool) -> None:
    assert compressible(PATTERNS[:3])(value) is worthwhile


@pytest.mark.parametrize(
    "value",
    [
        b"text/event-stream",
        b"TEXT/event-stream;charset=utf-8",
        b"image/png",
        b"image/jpeg",
        b"image/webp",
        b"application/zip",
        b"application/gzip",
        b"application/epub+zip",
        b"application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        b"multipart/x-mixed-replace; boundary=x",
        b"video/mp4",
        b"font/woff2",
    ],
)
def test_event_streams_and_what_is_compressed_inside_are_never_taken(value: bytes) -> None:
    assert not compressible(("*/*",))(value)


def test_a_star_does_not_reach_beyond_its_half() -> None:
    assert compressible(("*/*",))(b"image/svg+xml")
    assert not compressible(("application/*",))(b"application/a/b")
