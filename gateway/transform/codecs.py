"""The content codings that replies can be compressed with: gzip always, zstd and br where their libraries are there.

Nothing here awaits. All settings are such that 64 KiB cost about a millisecond at most, and a stream under way holds
less than 1 MiB (measured: gzip 0.3, br 0.8, zstd 0.7): the libraries' own defaults take up to 10.
"""

import zlib
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, Protocol

LEVELS = ("fast", "balanced", "small")
"""For 64 KiB of JSON, in ms and share of the size: gzip 0.4 25 %, 0.8 20 %, 1.2 19 %; br 0.3 20 %, 0.5 19 %, 0.8 19 %;
zstd 0.1 20 %, 0.1 20 %, 0.5 19 %."""

GZIP_LEVEL = dict(zip(LEVELS, (1, 5, 7), strict=True))
BR_QUALITY = dict(zip(LEVELS, (2, 4, 5), strict=True))
BR_WINDOW = 16
ZSTD_LEVEL = dict(zip(LEVELS, (1, 3, 6), strict=True))
ZSTD_WINDOW = 17
ZSTD_TABLES = dict(zip(LEVELS, (15, 15, 16), strict=True))


class Encoder(Protocol):
    """Compresses one body. Each method returns what is ready to be sent, perhaps nothing."""

    def add(self, data: bytes) -> bytes:
        """The next part of the body."""

    def flush(self) -> bytes:
        """Whatever was added can be read by the receiver with this."""

    def finish(self) -> bytes:
        """The body is complete."""


class Gzip:
    """RFC 1952, by zlib."""

    __slots__ = ("_deflate", "add")

    def __init__(self, level: str) -> None:
        self._deflate = zlib.compressobj(GZIP_LEVEL[level], zlib.DEFLATED, 16 + zlib.MAX_WBITS)
        self.add: Callable[[bytes], bytes] = self._deflate.compress

    def flush(self) -> bytes:
        return self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        return self._deflate.flush()


class Brotli:
    """RFC 7932, by the package `brotli`."""

    __slots__ = ("add", "finish", "flush")

    def __init__(self, library: Any, level: str) -> None:
        compressor = library.Compressor(quality=BR_QUALITY[level], lgwin=BR_WINDOW)
        self.add: Callable[[bytes], bytes] = compressor.process
        self.flush: Callable[[], bytes] = compressor.flush
        self.finish: Callable[[], bytes] = compressor.finish


class Zstd:
    """RFC 8878, by Python 3.14 or the package `backports.zstd`; the window is far below the 8 MiB of RFC 9659."""

    __slots__ = ("_compressor", "add")

    def __init__(self, library: Any, level: str) -> None:
        setting = library.CompressionParameter
        self._compressor = library.ZstdCompressor(
            options={
                setting.compression_level: ZSTD_LEVEL[level],
                setting.window_log: ZSTD_WINDOW,
                setting.hash_log: ZSTD_TABLES[level],
                setting.chain_log: ZSTD_TABLES[level],
                setting.checksum_flag: 0,  # the wire has its own
            }
        )
        self.add: Callable[[bytes], bytes] = self._compressor.compress

    def flush(self) -> bytes:
        flushed: bytes = self._compressor.flush(self._compressor.FLUSH_BLOCK)
        return flushed

    def finish(self) -> bytes:
        rest: bytes = self._compressor.flush()
        return rest


def _library(*names: str) -> ModuleType | None:
    """The first of these modules that is there."""
    for name in names:
        try:
            return import_module(name)
        except ImportError:
            continue
    return None


_brotli = _library("brotli")
_zstd = _library("compression.zstd", "backports.zstd")

ERRORS: tuple[type[Exception], ...] = (
    zlib.error,
    MemoryError,
    *(() if _brotli is None else (_brotli.error,)),
    *(() if _zstd is None else (_zstd.ZstdError,)),
)
"""By which an encoder fails."""

KNOWN = ("zstd", "br", "gzip")
"""The names of all codings, the one that is preferred first: smaller, or as small in less time."""

ENCODERS: Mapping[str, Callable[[str], Encoder]] = {
    **({} if _zstd is None else {"zstd": lambda level: Zstd(_zstd, level)}),
    **({} if _brotli is None else {"br": lambda level: Brotli(_brotli, level)}),
    "gzip": Gzip,
}
"""Begins a body at one of LEVELS: by the names of the codings that this installation has, in the order of KNOWN."""
