import random
import time

import pytest

from gateway.transform.codecs import ENCODERS, KNOWN, LEVELS
from tests.decoding import CODINGS, decoded, decoder

TEXT = b"".join(b'{"id": %d, "name": "item %d", "price": %d},\n' % (n, n % 7, n * n % 997) for n in range(6000))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("coding", CODINGS)
def test_what_was_added_comes_back(coding: str, level: str) -> None:
    encoder = ENCODERS[coding](level)
    body = b"".join([encoder.add(TEXT[:1000]), encoder.add(TEXT[1000:]), encoder.finish()])
    assert decoded(coding, body) == TEXT
    assert len(body) < len(TEXT) / 4


@pytest.mark.parametrize("coding", CODINGS)
def test_what_was_flushed_can_be_read_without_the_rest(coding: str) -> None:
    encoder, reading = ENCODERS[coding]("balanced"), decoder(coding)
    for word in (b"one", b"two", b"three"):
        assert reading.decompress(encoder.add(word) + encoder.flush()) == word
    assert reading.decompress(encoder.finish()) == b""
    assert reading.eof


@pytest.mark.parametrize("coding", CODINGS)
def test_an_empty_body_is_a_complete_one(coding: str) -> None:
    assert decoded(coding, ENCODERS[coding]("fast").finish()) == b""


@pytest.mark.parametrize("coding", CODINGS)
def test_what_cannot_be_compressed_grows_hardly(coding: str) -> None:
    noise = random.Random(1).randbytes(100_000)
    encoder = ENCODERS[coding]("balanced")
    body = encoder.add(noise) + encoder.finish()
    assert decoded(coding, body) == noise
    assert len(body) < len(noise) * 1.001 + 30


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("coding", CODINGS)
def test_no_level_holds_the_loop_up_for_long(coding: str, level: str) -> None:
    times = []
    for _ in range(3):
        encoder = ENCODERS[coding](level)
        started = time.perf_counter()
        encoder.add(TEXT[:65536])
        encoder.finish()
        times.append(time.perf_counter() - started)
    assert min(times) < 0.02, f"{min(times) * 1000:.2f} ms for 64 KiB; on an idle machine it is a tenth of the limit"


def test_gzip_is_always_there_and_the_names_are_in_order_of_preference() -> None:
    assert "gzip" in ENCODERS
    assert list(ENCODERS) == [name for name in KNOWN if name in ENCODERS]
