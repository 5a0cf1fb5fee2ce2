"""Hashes of passwords: written, read, compared."""

import pytest

from gateway.auth import passwords
from gateway.auth.passwords import Scrypt, make, read

HASH = "A" * 43 + "="
SALT = "A" * 22 + "=="


def test_a_hash_is_written_and_read_again_and_matches_its_password_alone() -> None:
    made = make("grüße:colon".encode(), b"0123456789abcdef")
    again = read(str(made))
    assert again == made
    assert again.matches("grüße:colon".encode())
    assert not again.matches(b"")
    assert not again.matches("grüße:colon ".encode())


def test_a_hash_is_what_rfc_7914_says() -> None:
    # RFC 7914 section 12, the third vector.
    expected = "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2d5432955613f0fcf62d49705242a9af9"
    vector = Scrypt(16384, 8, 1, b"SodiumChloride", bytes.fromhex(expected + "e61e85dc0d651e40dfcf017b45575887"))
    assert vector.matches(b"pleaseletmein")


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("plain", "gateway keys hash-password"),
        ("scrypt:16384:8:5", "gateway keys hash-password"),
        (f"scrypt:16384:8:5:{SALT}:{HASH}\n", "gateway keys hash-password"),
        (f"scrypt:16383:8:5:{SALT}:{HASH}", "power of two"),
        (f"scrypt:16384:8:0:{SALT}:{HASH}", "power of two"),
        (f"scrypt:1024:8:1:{SALT}:{HASH}", "too cheap"),
        (f"scrypt:1048576:8:1:{SALT}:{HASH}", "too dear"),
        (f"scrypt:16384:8:500:{SALT}:{HASH}", "too dear"),
        (f"scrypt:16384:8:5:AAAA:{HASH}", "salt of at least 16"),
        (f"scrypt:16384:8:5:{SALT}:AAAA", "hash of 32"),
        (f"scrypt:16384:8:5:AAAAA:{HASH}", "base64"),
    ],
)
def test_a_hash_that_cannot_be_is_refused_without_being_quoted(written: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        read(written)
    assert HASH not in str(caught.value)


def test_a_hash_does_not_show_itself_in_a_log() -> None:
    shown = repr(read(f"scrypt:16384:8:5:{SALT}:{HASH}"))
    assert shown == "Scrypt(16384, 8, 5)"


def test_new_hashes_are_neither_too_cheap_nor_too_dear() -> None:
    assert passwords.CHEAPEST <= passwords.N * passwords.R * passwords.P <= passwords.DEAREST
