"""What Project Wycheproof tries on verifiers of JSON Web Signatures and Keys, class by class, on ours.

Beside each forgery stands the untouched token, which verifies: so a case that fails does so for its own reason. A
forgery has to be answered with a refusal; any other error would be a 500.
"""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from gateway.auth import jws
from gateway.auth.jwk import FixedSet, JwkSet, read_set
from gateway.auth.keys import VerifyKey
from gateway.auth.tokens import JwtProvider
from tests.fakes import Clock
from tests.forgeries import ALGORITHMS, Case, case, private_key, public_key
from tests.jwks import Private, jwk, jwks
from tests.tokens import NOW, accepted, b64, bearer, claims, ec_key, ed_key, provider, refusal, rsa_key, sign, signature
from tests.wycheproof import CLASSES, SMALL_ORDER, anybodys

TRIED = [(algorithm, name) for algorithm, classes in CLASSES.items() for name in classes]


def name_of(algorithm: str) -> str:
    """As a header says it."""
    return algorithm.partition(" ")[0]


def message(algorithm: str) -> bytes:
    """A signing input with good claims."""
    return sign(claims(), b"", "HS256", {"alg": name_of(algorithm)}).rpartition(b".")[0]


def verifier(algorithm: str) -> JwtProvider:
    return provider(key=public_key(algorithm), algorithms=[name_of(algorithm)])


def token(of: Case, signature: bytes) -> bytes:
    return of.signed + b"." + b64(signature)


# -- signatures


@pytest.mark.parametrize(("algorithm", "forgery"), TRIED, ids=[f"{algorithm}: {name}" for algorithm, name in TRIED])
async def test_a_forged_signature_does_not_verify(algorithm: str, forgery: str) -> None:
    good = case(algorithm, message(algorithm))
    forged = CLASSES[algorithm][forgery](good)
    assert forged != good.good
    assert await accepted(verifier(algorithm), token(good, good.good))
    await refusal(verifier(algorithm), bearer(token(good, forged)))
    key = VerifyKey(public_key(algorithm), [name_of(algorithm)])  # without what the reader of tokens may catch before
    assert key.verify(name_of(algorithm), good.signed, good.good)
    assert not key.verify(name_of(algorithm), good.signed, forged)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_bit_of_a_signature_may_be_another(algorithm: str) -> None:
    good = case(algorithm, message(algorithm))
    key = VerifyKey(public_key(algorithm), [name_of(algorithm)])
    for position in range(len(good.good)):
        forged = bytearray(good.good)
        forged[position] ^= 1 << position % 8
        assert not key.verify(name_of(algorithm), good.signed, bytes(forged))
    assert key.verify(name_of(algorithm), good.signed, good.good)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_bit_of_a_message_may_be_another(algorithm: str) -> None:
    good = case(algorithm, message(algorithm))
    key = VerifyKey(public_key(algorithm), [name_of(algorithm)])
    for position in range(len(good.signed)):
        changed = bytearray(good.signed)
        changed[position] ^= 1 << position % 8
        assert not key.verify(name_of(algorithm), bytes(changed), good.good)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_signature_verifies_by_no_other_algorithm(algorithm: str) -> None:
    good = case(algorithm, message(algorithm))
    for other in ALGORITHMS:
        key = VerifyKey(public_key(other), [name_of(other)])
        for name in map(name_of, ALGORITHMS):
            alike = other == algorithm and name == name_of(algorithm)
            assert key.verify(name, good.signed, good.good) is alike


def test_the_other_s_of_ecdsa_is_a_signature_too() -> None:
    # Of every ECDSA signature (r, s) anybody can make (r, n - s), and both are valid. So two tokens may
    # differ and say the same. What is remembered is remembered per text, and a revocation goes by `jti`, not by text.
    good = case("ES256", message("ES256"))
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    other = good.good[:32] + (order - int.from_bytes(good.good[32:])).to_bytes(32)
    assert VerifyKey(public_key("ES256"), ["ES256"]).verify("ES256", good.signed, other)


@pytest.mark.parametrize("algorithm", ["RS256", "PS256"])
def test_an_rsa_signature_whose_leading_zero_is_cut_off_is_too_short(algorithm: str) -> None:
    # RFC 8017 sections 8.1.2 and 8.2.2, step 1: it is as long as the modulus. As a number it is the same either way.
    signatures = (case(algorithm, message(algorithm).replace(b".", b"%d." % number)) for number in range(10_000))
    good = next(each for each in signatures if each.good.startswith(b"\0"))
    key = VerifyKey(public_key(algorithm), [algorithm])
    assert key.verify(algorithm, good.signed, good.good)
    assert not key.verify(algorithm, good.signed, good.good[1:])


# -- the form of a token


def spellings(token: bytes) -> dict[str, bytes]:
    """Of one token, wrongly."""
    head, body, tail = token.split(b".")
    found = {
        "a separator less": head + body + b"." + tail,
        "a separator more": head + b".." + body + b"." + tail,
        "a separator at the end": token + b".",
        "a separator in front": b"." + token,
        "without separators": head + body + tail,
        "only the header": head,
        "header and payload": head + b"." + body,
        "header and payload, and no signature": head + b"." + body + b".",
        "header and signature": head + b"." + tail,
        "no payload": head + b".." + tail,
        "no header": b"." + body + b"." + tail,
        "another segment": token + b".Zm9v",
        "five segments": head + b"." + b".".join([body] * 3) + b"." + tail,
        "the order changed": body + b"." + head + b"." + tail,
        "JSON": json.dumps({"payload": body.decode(), "protected": head.decode(), "signature": tail.decode()}).encode(),
    }
    for number, part in enumerate(("header", "payload", "signature")):
        for what, change in CHANGES.items():
            segments = [head, body, tail]
            segments[number] = change(segments[number])
            found[f"{what} in the {part}"] = b".".join(segments)
    return found


def spare_bits(segment: bytes) -> bytes:
    """The same bytes to a lenient decoder; one more character where no bits are spare."""
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    if len(segment) % 4 in (0, 1):
        return segment + b"A"
    return segment[:-1] + bytes([alphabet[alphabet.index(segment[-1]) + 1]])


CHANGES = {
    "padding": lambda segment: segment + b"=",
    "right padding": lambda segment: segment + b"=" * (-len(segment) % 4 or 4),
    "spaces in front": lambda segment: b"    " + segment,
    "spaces behind": lambda segment: segment + b"    ",
    "a space": lambda segment: segment[:4] + b" " + segment[4:],
    "a tab": lambda segment: segment[:4] + b"\t" + segment[4:],
    "a line end": lambda segment: segment[:4] + b"\r\n" + segment[4:],
    "a NUL": lambda segment: segment[:4] + b"\0" + segment[4:],
    "a question mark in front": lambda segment: b"?" + segment,
    "a question mark inside": lambda segment: segment[:-1] + b"?" + segment[-1:],
    "a question mark behind": lambda segment: segment + b"?",
    "hash signs": lambda segment: segment + b"####",
    "another alphabet": lambda segment: segment.replace(b"_", b"/").replace(b"-", b"+") + b"++++",
    "percent signs": lambda segment: b"%%%02x" % segment[0] + segment[1:],
    "spare bits": spare_bits,
    "one character more": lambda segment: segment + b"A",
    "a byte over ASCII": lambda segment: segment + b"\xc3\xa9",
    "letters of full width": lambda segment: "Ａ".encode() + segment,
    "base64 of base64": b64,
}


@pytest.mark.parametrize("how", list(spellings(b"AAAA.BBBB.CCCC")))
@pytest.mark.parametrize("algorithm", ["HS256", "ES256"])
async def test_a_token_spelled_otherwise_is_refused(algorithm: str, how: str) -> None:
    good = case(algorithm, message(algorithm))
    whole = token(good, good.good)
    assert await accepted(verifier(algorithm), whole)
    await refusal(verifier(algorithm), bearer(spellings(whole)[how]))


@pytest.mark.parametrize("how", [name for name in CHANGES if name != "base64 of base64"])
@pytest.mark.parametrize("part", [0, 1])
async def test_a_message_spelled_otherwise_is_refused_even_if_its_signature_is_right(part: int, how: str) -> None:
    # The issuer itself signed the odd text: then only the form is wrong.
    segments = message("HS256").split(b".")
    segments[part] = CHANGES[how](segments[part])
    odd = case("HS256", b".".join(segments))
    assert VerifyKey(public_key("HS256"), ["HS256"]).verify("HS256", odd.signed, odd.good)
    await refusal(verifier("HS256"), bearer(token(odd, odd.good)))


@pytest.mark.parametrize("header", [b'{ "typ" : "JWT" , "alg" : "HS256" }', b'{"typ":"JWT",\n\t"alg":"HS256"}\n'])
async def test_white_space_within_the_json_of_a_header_is_fine(header: bytes) -> None:
    assert await accepted(provider(), sign(claims(), header=header))


# -- keys


def key_set(*keys: object, algorithms: set[str]) -> JwkSet:
    return read_set(jwks(*keys), algorithms)


def told(key: Private, **more: Any) -> dict[str, Any]:
    return jwk(key, "key", **more)


def written(number: int, size: int = 0) -> str:
    return b64(number.to_bytes(size or max(1, (number.bit_length() + 7) // 8))).decode()


N = rsa_key().public_key().public_numbers().n
POINT = ec_key().public_key().public_numbers()
P = 2**256 - 2**224 + 2**192 + 2**96 - 1

KEYS: dict[str, tuple[str, dict[str, Any]]] = {
    "use for encryption": ("RS256", {"use": "enc"}),
    "use in capitals": ("RS256", {"use": "SIG"}),
    "use empty": ("RS256", {"use": ""}),
    "use a list": ("RS256", {"use": ["sig"]}),
    "EC use for encryption": ("ES256", {"use": "enc"}),
    "key_ops encrypt": ("RS256", {"key_ops": ["encrypt", "decrypt"]}),
    "key_ops sign only": ("RS256", {"key_ops": ["sign"]}),
    "key_ops empty": ("RS256", {"key_ops": []}),
    "key_ops text": ("RS256", {"key_ops": "verify"}),
    "key_ops in one piece": ("RS256", {"key_ops": ["sign, verify"]}),
    "key_ops in capitals": ("RS256", {"key_ops": ["VERIFY"]}),
    "use sig, key_ops encrypt": ("RS256", {"use": "sig", "key_ops": ["encrypt"]}),
    "use enc, key_ops verify": ("RS256", {"use": "enc", "key_ops": ["verify"]}),
    "EC key_ops deriveKey": ("ES256", {"key_ops": ["deriveKey"]}),
    "alg of another hash": ("RS256", {"alg": "RS512"}),
    "alg of another padding": ("RS256", {"alg": "PS256"}),
    "alg of another family": ("RS256", {"alg": "ES256"}),
    "alg HS256": ("RS256", {"alg": "HS256"}),
    "alg none": ("RS256", {"alg": "none"}),
    "alg for encryption": ("RS256", {"alg": "RSA-OAEP"}),
    "alg in small letters": ("RS256", {"alg": "rs256"}),
    "alg a list": ("RS256", {"alg": ["RS256"]}),
    "alg a number": ("RS256", {"alg": 256}),
    "alg of another curve": ("ES256", {"alg": "ES384"}),
    "alg that does not exist": ("ES256", {"alg": "ES521"}),
    "kty in small letters": ("RS256", {"kty": "rsa"}),
    "kty of another family": ("RS256", {"kty": "EC"}),
    "kty missing": ("RS256", {"kty": None}),
    "kty a list": ("RS256", {"kty": ["RSA"]}),
    "e missing": ("RS256", {"e": None}),
    "e zero": ("RS256", {"e": "AA"}),
    "e one": ("RS256", {"e": "AQ"}),
    "e two": ("RS256", {"e": "Ag"}),
    "e even": ("RS256", {"e": written(65536)}),
    "e huge": ("RS256", {"e": written(2**64 + 13)}),
    "e as long as the modulus": ("RS256", {"e": written(N - 2)}),
    "e a number": ("RS256", {"e": 65537}),
    "e padded": ("RS256", {"e": "AQAB=="}),
    "n missing": ("RS256", {"n": None}),
    "n zero": ("RS256", {"n": "AA"}),
    "n one": ("RS256", {"n": "AQ"}),
    "n even": ("RS256", {"n": written(N - 1)}),
    "n cut": ("RS256", {"n": written(N >> 8)}),
    "n of 16384 bits": ("RS256", {"n": written(2**16384 - 1)}),
    "n in hexadecimal": ("RS256", {"n": f"{N:x}"}),
    "n in another alphabet": ("RS256", {"n": base64.b64encode(N.to_bytes(256)).decode()}),
    "n with a line end": ("RS256", {"n": written(N)[:64] + "\n" + written(N)[64:]}),
    "n of full width": ("RS256", {"n": "Ａ" + written(N)}),
    "d published": ("RS256", {"d": "AQAB"}),
    "EC d published": ("ES256", {"d": written(7, 32)}),
    "x missing": ("ES256", {"x": None}),
    "y missing": ("ES256", {"y": None}),
    "off the curve": ("ES256", {"y": written(POINT.y ^ 1, 32)}),
    "x and y exchanged": ("ES256", {"x": written(POINT.y, 32), "y": written(POINT.x, 32)}),
    "the origin": ("ES256", {"x": written(0, 32), "y": written(0, 32)}),
    "x beyond the field": ("ES256", {"x": written(P + 5, 32)}),
    "x the largest": ("ES256", {"x": written(2**256 - 1, 32)}),
    "x a byte too long": ("ES256", {"x": written(POINT.x, 33)}),
    "x a byte too short": ("ES256", {"x": written(POINT.x >> 8, 31)}),
    "a compressed point": ("ES256", {"x": written(2 << 256 | POINT.x, 33), "y": ""}),
    "crv of another size": ("ES256", {"crv": "P-384"}),
    "crv of the same size": ("ES256", {"crv": "secp256k1"}),
    "crv under another name": ("ES256", {"crv": "prime256v1"}),
    "crv in small letters": ("ES256", {"crv": "p-256"}),
    "crv missing": ("ES256", {"crv": None}),
    "crv a list": ("ES256", {"crv": ["P-256"]}),
    "an Edwards key for agreement": ("EdDSA", {"crv": "X25519"}),
    "an Edwards key of the other curve": ("EdDSA", {"crv": "Ed448"}),
    "an Edwards key in small letters": ("EdDSA", {"crv": "ed25519"}),
    "an Edwards key too short": ("EdDSA", {"x": "AAAA"}),
    "an Edwards key too long": ("EdDSA", {"x": b64(bytes(33)).decode()}),
    "an Edwards key that is no point": ("EdDSA", {"x": b64(b"\2" + bytes(31)).decode()}),
    "an Edwards key for encryption": ("EdDSA", {"use": "enc"}),
    "an Edwards key as EC": ("EdDSA", {"kty": "EC"}),
}


@pytest.mark.parametrize("fault", KEYS)
async def test_a_key_that_is_not_for_verifying_verifies_nothing(fault: str) -> None:
    algorithm, changes = KEYS[fault]
    key = private_key(algorithm)
    good = sign(claims(), key, algorithm, {"kid": "key"})
    sound = FixedSet(key_set(told(key), algorithms={algorithm}), {algorithm})
    assert await accepted(JwtProvider("idp", key=sound, clock=Clock(NOW)), good)
    # Beside a sound key of another name, so that the set is one that counts.
    beside = jwk(ec.generate_private_key(ec.SECP256R1()), "beside")
    for keys in ([told(key) | changes], [told(key) | changes, beside]):
        text = jwks(*({name: value for name, value in each.items() if value is not None} for each in keys))
        spoilt = FixedSet(read_set(text, {algorithm, "ES256"}), {algorithm, "ES256"})
        await refusal(JwtProvider("idp", key=spoilt, clock=Clock(NOW)), bearer(good))


@pytest.mark.parametrize("bits", [1024, 1536])
def test_an_rsa_key_that_is_too_short_is_left_out(bits: int) -> None:
    assert not key_set(told(rsa.generate_private_key(65537, bits)), algorithms={"RS256"})


@pytest.mark.parametrize("exponent", [3, 65537])
def test_other_usual_exponents_are_fine(exponent: int) -> None:
    assert key_set(told(rsa.generate_private_key(exponent, 2048)), algorithms={"RS256"})


SMALL = [(curve, point) for curve, points in SMALL_ORDER.items() for point in points]


@pytest.mark.parametrize(("curve", "point"), SMALL)
def test_an_edwards_key_of_small_order_for_which_anybody_can_sign_is_left_out(curve: str, point: str) -> None:
    # With such a key A the product h·A takes eight values at most, so a signature that was made without any key is one
    # of every eighth message, or of all. RFC 8032 does not ask for the check; libsodium makes it, OpenSSL does not.
    key = {"kty": "OKP", "crv": curve, "kid": "key", "x": b64(bytes.fromhex(point)).decode()}
    found = key_set(key, jwk(ed_key(), "sound"), algorithms={"EdDSA"})
    assert found.find("sound", "EdDSA")
    assert found.find("key", "EdDSA") is None


@pytest.mark.parametrize(("curve", "point"), SMALL)
def test_nobody_signs_for_an_edwards_key_of_small_order(curve: str, point: str) -> None:
    load = ed25519.Ed25519PublicKey if curve == "Ed25519" else ed448.Ed448PublicKey
    try:
        key = VerifyKey(load.from_public_bytes(bytes.fromhex(point)), ["EdDSA"])
    except ValueError:
        return  # refused when it was read, as it should be
    forged = sum(key.verify("EdDSA", b"message %d" % number, anybodys(curve)) for number in range(64))
    assert forged == 0, f"{forged} of 64 messages"


def test_a_secret_and_a_public_key_in_one_set_do_not_mix() -> None:
    secret = {"kty": "oct", "alg": "HS256", "use": "sig", "kid": "key", "k": b64(b"k" * 32).decode()}
    found = key_set(secret, told(ec_key()), algorithms={"HS256", "ES256"})
    assert found.find("key", "HS256") is None
    assert found.find("key", "ES256")


def test_two_keys_of_one_name_are_no_key() -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    assert key_set(told(ec_key()), told(other), algorithms={"ES256"}).find("key", "ES256") is None
    assert key_set(told(ec_key()), told(ec_key()), algorithms={"ES256"}).find("key", "ES256")


@pytest.mark.parametrize("text", [b"", b"{", b"null", b'{"keys": null}', b'{"keys": {}}', b'{"keys":[{}],"keys":[]}'])
def test_a_set_that_is_none_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"JSON|JWK set"):
        read_set(text, {"ES256"})


def test_a_name_twice_within_a_key_is_refused() -> None:
    text = jwks(told(ec_key())).replace(b'"kty"', b'"use": "enc", "use": "sig", "kty"')
    with pytest.raises(ValueError, match="JSON"):
        read_set(text, {"ES256"})


def test_the_signature_covers_the_text_and_not_what_it_decodes_to() -> None:
    whole = sign(claims(), ec_key(), "ES256")
    parsed = jws.parse(whole)
    assert parsed.signed == whole.rpartition(b".")[0]
    assert VerifyKey(ec_key().public_key(), ["ES256"]).verify("ES256", parsed.signed, parsed.signature)
    rewritten = b64(b'{"typ":"JWT","alg":"ES256"}') + b"." + whole.split(b".")[1]
    assert not VerifyKey(ec_key().public_key(), ["ES256"]).verify("ES256", rewritten, parsed.signature)
    assert signature(rewritten, ec_key(), "ES256")
