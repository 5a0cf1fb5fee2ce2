"""Forged RSA signatures: encoded messages that only almost are those of RFC 8017, signed by the real key."""

from collections.abc import Callable

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from tests.forgeries import HASHES, Case, Forge, another_hash

# -- RSASSA-PKCS1-v1_5 (RFC 8017 section 8.2)

OIDS = {
    "1": bytes.fromhex("06052b0e03021a"),
    "256": bytes.fromhex("0609608648016503040201"),
    "384": bytes.fromhex("0609608648016503040202"),
    "512": bytes.fromhex("0609608648016503040203"),
}
NULL = b"\x05\x00"


def _der(tag: int, content: bytes, length: bytes = b"") -> bytes:
    """`length` overrules the usual short form."""
    return bytes([tag]) + (length or bytes([len(content)])) + content


def _info(case: Case, *, bits: str = "", parameters: bytes = NULL, digest: bytes | None = None) -> bytes:
    """DigestInfo."""
    digest = case.digest(bits) if digest is None else digest
    return _der(0x30, _der(0x30, OIDS[bits or case.bits] + parameters) + _der(0x04, digest))


def _raw(case: Case, encoded: bytes) -> bytes:
    """RSASP1 of any encoded message, by way of the primes: four times as fast."""
    key, message = case.key.private_numbers(), int.from_bytes(encoded)
    by_p, by_q = pow(message % key.p, key.dmp1, key.p), pow(message % key.q, key.dmq1, key.q)
    signed: int = by_q + key.q * ((by_p - by_q) * key.iqmp % key.p)
    return signed.to_bytes(256)


def _pkcs1(case: Case, info: bytes, *, head: bytes = b"\0\1", fill: bytes = b"\xff", end: bytes = b"\0") -> bytes:
    """EMSA-PKCS1-v1_5 as it should be, unless something of it is given; signed."""
    room = 256 - len(head) - len(end) - len(info)
    return _raw(case, head + (fill * room)[:room] + end + info)


def _with_garbage(case: Case, padding: int) -> bytes:
    start = b"\0\1" + b"\xff" * padding + b"\0" + _info(case)
    return _raw(case, start + b"\x5a" * (256 - len(start)))


def _shifted(case: Case, times: int) -> bytes:
    """The same number modulo n, in more bytes if need be."""
    number: int = int.from_bytes(case.good) + times * case.key.public_key().public_numbers().n
    return number.to_bytes(max(256, (number.bit_length() + 7) // 8))


def _number(case: Case, of: Callable[[int], int]) -> bytes:
    modulus: int = case.key.public_key().public_numbers().n
    return of(modulus).to_bytes(256)


RSA: dict[str, Forge] = {
    "plus the modulus": lambda case: _shifted(case, 1),
    "plus twice the modulus": lambda case: _shifted(case, 2),
    "zero": lambda case: bytes(256),
    "one": lambda case: _number(case, lambda n: 1),
    "the modulus less one": lambda case: _number(case, lambda n: n - 1),
    "the modulus": lambda case: _number(case, lambda n: n),
    "the modulus less the signature": lambda case: _number(case, lambda n: n - int.from_bytes(case.good)),
    "of SHA-1": lambda case: case.key.sign(case.signed, padding.PKCS1v15(), hashes.SHA1()),
    "of SHA-224": lambda case: case.key.sign(case.signed, padding.PKCS1v15(), hashes.SHA224()),
}

PKCS1: dict[str, Forge] = {
    "short padding and trailing bytes": lambda case: _with_garbage(case, 8),
    "no padding and trailing bytes": lambda case: _with_garbage(case, 0),
    "one trailing byte": lambda case: _with_garbage(case, 256 - 3 - len(_info(case)) - 1),
    "short padding, zeros in front": lambda case: _raw(
        case, (b"\0\1" + b"\xff" * 8 + b"\0" + _info(case)).rjust(256, b"\0")
    ),
    "block type 0": lambda case: _pkcs1(case, _info(case), head=b"\0\0"),
    "block type 2": lambda case: _pkcs1(case, _info(case), head=b"\0\2"),
    "a first byte that is not zero": lambda case: _pkcs1(case, _info(case), head=b"\1\1"),
    "padding of other bytes": lambda case: _pkcs1(case, _info(case), fill=b"\xfe"),
    "padding of zeros": lambda case: _pkcs1(case, _info(case), fill=b"\0"),
    "padding with one wrong byte": lambda case: _pkcs1(case, _info(case), head=b"\0\1\xff\xfe"),
    "no separator": lambda case: _pkcs1(case, _info(case), end=b""),
    "a separator of one": lambda case: _pkcs1(case, _info(case), end=b"\1"),
    "two separators": lambda case: _pkcs1(case, _info(case), end=b"\0\0"),
    "the digest without its DigestInfo": lambda case: _pkcs1(case, case.digest()),
    "a DigestInfo without parameters": lambda case: _pkcs1(case, _info(case, parameters=b"")),
    "a DigestInfo with other parameters": lambda case: _pkcs1(case, _info(case, parameters=b"\x04\x02ab")),
    "a DigestInfo with garbage in its parameters": lambda case: _pkcs1(
        case, _info(case, parameters=NULL + b"\x04\x02ab")
    ),
    "a DigestInfo with long lengths": lambda case: _pkcs1(case, _long(_info(case))),
    "a DigestInfo of indefinite length": lambda case: _pkcs1(case, b"\x30\x80" + _info(case)[2:] + b"\0\0"),
    "a DigestInfo that names SHA-1": lambda case: _pkcs1(case, _info(case, bits="1", digest=case.digest())),
    "a DigestInfo of SHA-1": lambda case: _pkcs1(case, _info(case, bits="1")),
    "a digest that is cut": lambda case: _pkcs1(case, _info(case, digest=case.digest()[:-1])),
    "a digest that is empty": lambda case: _pkcs1(case, _info(case, digest=b"")),
    "a digest with a zero more": lambda case: _pkcs1(case, _info(case, digest=case.digest() + b"\0")),
    "PSS": lambda case: _pss(case, HASHES[case.bits]().digest_size),
}


def _long(info: bytes) -> bytes:
    """The length of the outer SEQUENCE in two bytes: BER, not DER."""
    return b"\x30\x81" + info[1:]


# -- RSASSA-PSS (RFC 8017 section 8.1; RFC 7518 section 3.5: MGF1 with the same hash, a salt as long as the hash)


def _pss(case: Case, salt: int, *, bits: str = "", mgf: str = "") -> bytes:
    mask = padding.MGF1(HASHES[mgf or bits or case.bits]())
    signed: bytes = case.key.sign(case.signed, padding.PSS(mask, salt), HASHES[bits or case.bits]())
    return signed


def _size(case: Case) -> int:
    return HASHES[case.bits]().digest_size


def _encoded(case: Case, change: Callable[[bytearray], None]) -> bytes:
    """A good signature whose encoded message was changed and signed again."""
    public = case.key.public_key().public_numbers()
    encoded = bytearray(pow(int.from_bytes(case.good), public.e, public.n).to_bytes(256))
    change(encoded)
    return _raw(case, bytes(encoded))


def _set(position: int, mask: int) -> Callable[[bytearray], None]:
    def change(encoded: bytearray) -> None:
        encoded[position] ^= mask

    return change


PSS: dict[str, Forge] = {
    "no salt": lambda case: _pss(case, 0),
    "a salt of one byte": lambda case: _pss(case, 1),
    "a salt of 20 bytes": lambda case: _pss(case, 20),
    "a salt one byte too short": lambda case: _pss(case, _size(case) - 1),
    "a salt one byte too long": lambda case: _pss(case, _size(case) + 1),
    "the longest salt": lambda case: _pss(case, 256 - 2 - _size(case)),
    "another hash": lambda case: _pss(case, _size(case), bits=another_hash(case), mgf=case.bits),
    "another hash for the mask": lambda case: _pss(case, _size(case), mgf=another_hash(case)),
    "SHA-1 for the mask": lambda case: _pss(case, _size(case), mgf="1"),
    "SHA-1 for everything": lambda case: _pss(case, 20, bits="1"),
    "another hash for both": lambda case: _pss(case, _size(case), bits=another_hash(case)),
    "a trailer of another scheme": lambda case: _encoded(case, _set(-1, 0xBC ^ 0xCC)),
    "a trailer of zero": lambda case: _encoded(case, _set(-1, 0xBC)),
    "a bit of the hash": lambda case: _encoded(case, _set(-2, 1)),
    "a bit of the salt": lambda case: _encoded(case, _set(-2 - _size(case), 1)),
    "a bit of the padding": lambda case: _encoded(case, _set(20, 1)),
    "a bit of the separator": lambda case: _encoded(case, _set(256 - 2 - 2 * _size(case), 2)),
    "PKCS #1 v1.5": lambda case: case.key.sign(case.signed, padding.PKCS1v15(), HASHES[case.bits]()),
}
