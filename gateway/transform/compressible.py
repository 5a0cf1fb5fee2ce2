"""Which media types are worth compressing. Pure.

Event streams never are, whatever is configured: a proxy or browser that buffers a compressed one holds events back.
What is compressed inside would only cost time.
"""

import re
from collections.abc import Callable, Sequence

PATTERN = re.compile(r"(?:\*|[a-z0-9!#$&^_.+-]+)/(?:\*|(?:\*\+)?[a-z0-9!#$&^_.+-]+)")
"""A media type, or all of a kind: `text/*`, `application/*+json`, `*/*`. In lower case."""

NEVER = re.compile(
    r"text/event-stream|multipart/x-mixed-replace"
    r"|(?:audio|video)/.+|image/(?:avif|gif|heic|heif|jp2|jpe?g|jxl|png|webp)|font/woff2?|application/font-woff2?"
    r"|application/(?:gzip|x-gzip|zstd|zip|x-bzip2?|x-xz|x-7z-compressed|vnd\.rar|x-rar-compressed|java-archive"
    r"|vnd\.openxmlformats-officedocument\..+|vnd\.oasis\.opendocument\..+|[^/]+\+(?:zip|gzip|zstd))"
)

LONGEST_TYPE = 128
"""Bytes of a Content-Type that are looked at; a media type has less (RFC 6838 section 4.2)."""


def compressible(patterns: Sequence[str]) -> Callable[[bytes], bool]:
    """Judges the value of a Content-Type by the configured `patterns`."""
    wanted = re.compile("|".join(re.escape(pattern).replace(r"\*", "[^/]*") for pattern in patterns))

    def judge(content_type: bytes) -> bool:
        media_type = content_type.partition(b";")[0].strip(b" \t").decode("latin-1").lower()
        return wanted.fullmatch(media_type) is not None and NEVER.fullmatch(media_type) is None

    return judge
