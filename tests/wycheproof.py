"""Forged signatures, by the classes of case that Project Wycheproof collects: made anew here, with keys of our own.

Each class is a function from what an attacker has (and more: the private key, to make what only almost is a signature)
to the bytes of a signature that must not verify.
"""

import hashlib
import hmac
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from tests.forgeries import ALGORITHMS, GENERAL, HASHES, Case, Forge, another_hash, private_key
from tests.forgeries_rsa import PKCS1, PSS, RSA
from tests.tokens import signature

# -- HMAC


def _hmac(case: Case, hash: str, key: bytes | None = None) -> bytes:
    return hmac.new(case.key if key is None else key, case.signed, hash).digest()


HMAC: dict[str, Forge] = {
    "truncated to 128 bits": lambda case: case.good[:16],
    "truncated to one byte": lambda case: case.good[:1],
    "of another hash": lambda case: _hmac(case, "sha1"),
    "of SHA-3": lambda case: _hmac(case, "sha3_" + case.bits),
    "of a longer hash, truncated": lambda case: _hmac(case, "blake2b")[: len(case.good)],
    "with an empty key": lambda case: _hmac(case, "sha" + case.bits, b""),
    "with a key of one zero": lambda case: _hmac(case, "sha" + case.bits, b"\0"),
    "with half of the key": lambda case: _hmac(case, "sha" + case.bits, case.key[:32]),
    "a hash of key and message": lambda case: hashlib.new("sha" + case.bits, case.key + case.signed).digest(),
    "a hash of message and key": lambda case: hashlib.new("sha" + case.bits, case.signed + case.key).digest(),
}

# -- ECDSA (RFC 7518 section 3.4: r and s, each as long as the order, one behind the other)

ORDERS = {
    "ES256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "ES384": int("F" * 48 + "C7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973", 16),
    "ES512": int("1" + "F" * 65 + "A51868783BF2F966B7FCC0148F709A5D03BB5C9B8899C47AEBB6FB71E91386409", 16),
}
FIELDS = {
    "ES256": 2**256 - 2**224 + 2**192 + 2**96 - 1,
    "ES384": 2**384 - 2**128 - 2**96 + 2**32 - 1,
    "ES512": 2**521 - 1,
}
SIZES = {"ES256": 32, "ES384": 48, "ES512": 66}

NUMBERS: dict[str, Callable[[str], int]] = {
    "0": lambda algorithm: 0,
    "1": lambda algorithm: 1,
    "n-1": lambda algorithm: ORDERS[algorithm] - 1,
    "n": lambda algorithm: ORDERS[algorithm],
    "n+1": lambda algorithm: ORDERS[algorithm] + 1,
    "p": lambda algorithm: FIELDS[algorithm],
    "p+1": lambda algorithm: FIELDS[algorithm] + 1,
    "the largest": lambda algorithm: 256 ** SIZES[algorithm] - 1,
}


def _pair(case: Case) -> tuple[int, int]:
    size = SIZES[case.algorithm]
    return int.from_bytes(case.good[:size]), int.from_bytes(case.good[size:])


def _joined(case: Case, r: int, s: int, size: int = 0) -> bytes:
    size = size or SIZES[case.algorithm]
    room = 1 << 8 * size  # a negative number is taken in two's complement
    return (r % room).to_bytes(size) + (s % room).to_bytes(size)


def _with_numbers(r: str, s: str) -> Forge:
    def forge(case: Case) -> bytes:
        given = _pair(case)
        return _joined(
            case,
            given[0] if r == "r" else NUMBERS[r](case.algorithm),
            given[1] if s == "s" else NUMBERS[s](case.algorithm),
        )

    return forge


def _on_another_curve(case: Case) -> bytes:
    other = {"ES256": "ES384", "ES384": "ES512", "ES512": "ES256"}[case.algorithm]
    return signature(case.signed, private_key(other), other)


def _with_another_hash(case: Case) -> bytes:
    der = case.key.sign(case.signed, ec.ECDSA(HASHES[another_hash(case)]()))
    return _joined(case, *decode_dss_signature(der))


ECDSA: dict[str, Forge] = {
    **{f"r={r} s={s}": _with_numbers(r, s) for r in NUMBERS for s in NUMBERS},
    **{f"the good r, s={s}": _with_numbers("r", s) for s in NUMBERS},
    **{f"r={r}, the good s": _with_numbers(r, "s") for r in NUMBERS},
    "r plus the order": lambda case: _joined(case, _pair(case)[0] + ORDERS[case.algorithm], _pair(case)[1]),
    "s plus the order": lambda case: _joined(case, _pair(case)[0], _pair(case)[1] + ORDERS[case.algorithm]),
    "r negative": lambda case: _joined(case, -_pair(case)[0], _pair(case)[1]),
    "s negative, in two's complement": lambda case: _joined(case, _pair(case)[0], -_pair(case)[1]),
    "r and s exchanged": lambda case: _joined(case, *reversed(_pair(case))),
    "DER": lambda case: encode_dss_signature(*_pair(case)),
    "DER, filled up with zeros": lambda case: encode_dss_signature(*_pair(case)).ljust(len(case.good), b"\0"),
    "each with a zero in front": lambda case: _joined(case, *_pair(case), SIZES[case.algorithm] + 1),
    "each in 256 bytes": lambda case: _joined(case, *_pair(case), 256),
    "only r": lambda case: case.good[: SIZES[case.algorithm]],
    "by a key on another curve": _on_another_curve,
    "with another hash": _with_another_hash,
}

# -- EdDSA (RFC 8032)

EDWARDS_ORDERS = {
    "EdDSA": 2**252 + 27742317777372353535851937790883648493,
    "EdDSA on Ed448": 2**446 - 13818066809895115352007386748515426880336692474882178609894547503885,
}


def _halves(case: Case) -> tuple[bytes, int]:
    half = len(case.good) // 2
    return case.good[:half], int.from_bytes(case.good[half:], "little")


def _edwards(case: Case, *, r: bytes | None = None, s: Callable[[int, int], int] = lambda s, order: s) -> bytes:
    given = _halves(case)
    size = len(case.good) // 2
    number = s(given[1], EDWARDS_ORDERS[case.algorithm]) % (1 << 8 * size)
    return (given[0] if r is None else r) + number.to_bytes(size, "little")


def _neutral(case: Case) -> bytes:
    return b"\1" + bytes(len(case.good) // 2 - 1)


EDDSA: dict[str, Forge] = {
    "S plus the order": lambda case: _edwards(case, s=lambda s, order: s + order),
    "S plus twice the order": lambda case: _edwards(case, s=lambda s, order: s + 2 * order),
    "S plus eight times the order": lambda case: _edwards(case, s=lambda s, order: s + 8 * order),
    "S is the order": lambda case: _edwards(case, s=lambda s, order: order),
    "S negative": lambda case: _edwards(case, s=lambda s, order: order - s),
    "S zero": lambda case: _edwards(case, s=lambda s, order: 0),
    "S is the largest": lambda case: _edwards(case, s=lambda s, order: -1),
    "the highest bit of S": lambda case: _edwards(case, s=lambda s, order: s | 256 ** (len(case.good) // 2) // 2),
    "R is the neutral point": lambda case: _edwards(case, r=_neutral(case)),
    "R is the neutral point, S zero": lambda case: _edwards(case, r=_neutral(case), s=lambda s, order: 0),
    "R all zeros": lambda case: _edwards(case, r=bytes(len(case.good) // 2)),
    "R all ones": lambda case: _edwards(case, r=b"\xff" * (len(case.good) // 2)),
    "R with another sign": lambda case: (
        case.good[: len(case.good) // 2 - 1]
        + bytes([case.good[len(case.good) // 2 - 1] ^ 0x80])
        + case.good[len(case.good) // 2 :]
    ),
    "R and S exchanged": lambda case: case.good[len(case.good) // 2 :] + case.good[: len(case.good) // 2],
    "only R": lambda case: case.good[: len(case.good) // 2],
}

SMALL_ORDER = {
    "Ed25519": (
        *("01" + "00" * 31, "00" * 32, "00" * 31 + "80", "ec" + "ff" * 30 + "7f", "01" + "00" * 30 + "80"),
        *("ee" + "ff" * 30 + "7f", "ee" + "ff" * 31, "ed" + "ff" * 30 + "7f", "ed" + "ff" * 31, "ec" + "ff" * 31),
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    ),
    "Ed448": ("01" + "00" * 56, "00" * 57, "00" * 56 + "80", "fe" + "ff" * 27 + "fe" + "ff" * 27 + "00"),
}
"""The points whose order divides the cofactor, 8 or 4, and other ways to write them: anybody signs for such a key."""


def anybodys(curve: str) -> bytes:
    """(a·B, a) for some number a: as good a signature as any where h·A vanishes. It is made of a key pair."""
    if curve == "Ed25519":
        seed = hashlib.sha512(b"s" * 32).digest()[:32]
        scalar = int.from_bytes(seed, "little") & (1 << 254) - 8 | 1 << 254
        public = ed25519.Ed25519PrivateKey.from_private_bytes(b"s" * 32).public_key().public_bytes_raw()
        return public + (scalar % EDWARDS_ORDERS["EdDSA"]).to_bytes(32, "little")
    seed = hashlib.shake_256(b"s" * 57).digest(57)[:56]
    scalar = int.from_bytes(seed, "little") & (1 << 447) - 4 | 1 << 447
    public = ed448.Ed448PrivateKey.from_private_bytes(b"s" * 57).public_key().public_bytes_raw()
    return public + (scalar % EDWARDS_ORDERS["EdDSA on Ed448"]).to_bytes(57, "little")


CLASSES: dict[str, dict[str, Forge]] = {
    algorithm: GENERAL
    | {
        "HS": HMAC,
        "RS": RSA | PKCS1,
        "PS": RSA | PSS,
        "ES": ECDSA,
        "Ed": EDDSA,
    }[algorithm[:2]]
    for algorithm in ALGORITHMS
}
"""By algorithm: all that is tried."""
