"""What a client does with a compressed body: by each coding's own decoder, also while it is still coming."""

import zlib
from typing import Any

from gateway.transform import codecs

CODINGS = list(codecs.ENCODERS)
"""All that are installed here."""


def decoder(coding: str) -> Any:
    """Its `decompress` takes a body in pieces and gives what can be read so far; `eof` once it was complete."""
    match coding:
        case "br":
            assert codecs._brotli is not None
            return _Brotli(codecs._brotli.Decompressor())
        case "zstd":
            assert codecs._zstd is not None
            return codecs._zstd.ZstdDecompressor()
    return zlib.decompressobj(16 + zlib.MAX_WBITS)


def decoded(coding: str, body: bytes) -> bytes:
    """The whole of a body, which must be complete."""
    reading = decoder(coding)
    data: bytes = reading.decompress(body)
    assert reading.eof, f"the {coding} body is cut off"
    return data


class _Brotli:
    """Speaks as the others do."""

    def __init__(self, decompressor: Any) -> None:
        self._decompressor = decompressor

    @property
    def eof(self) -> bool:
        return bool(self._decompressor.is_finished())

    def decompress(self, data: bytes) -> bytes:
        read: bytes = self._decompressor.process(data)
        return read
