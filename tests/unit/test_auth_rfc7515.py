"""The examples of the JOSE standards, letter by letter: RFC 7515 appendix A, 7520 section 4, 7797, 8032 and 8037.

Keys, tokens and signatures are the RFCs' own. A token whose payload is no claims is refused as a token, however good
its signature is; there the signature is verified by the key alone.
"""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed448

from gateway.auth import jws
from gateway.auth.jwk import FixedSet, JwkSet, read_key, read_set
from gateway.auth.keys import ALGORITHMS, PublicKey, VerifyKey
from gateway.auth.tokens import JwtProvider
from tests.fakes import Clock
from tests.jwks import jwks
from tests.tokens import accepted, b64, bearer, refusal

ALL = frozenset(ALGORITHMS)
EXPIRY = 1300819380.0
"""Of the claims in RFC 7515 appendix A: {"iss":"joe", "exp":1300819380, "http://example.com/is_root":true}."""


def raw(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "==")


# -- RFC 7515 appendix A

CLAIMS = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"

A1_KEY = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
A1 = f"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{CLAIMS}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"

A2_KEY = {
    "kty": "RSA",
    "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZ"
    "S-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2Ca"
    "pHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h"
    "4FRWyuXpoQ",
    "e": "AQAB",
}
A2_SIGNATURE = (
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t"
    "1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12j"
    "zDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQ"
    "Ge77Rw"
)
A2 = f"eyJhbGciOiJSUzI1NiJ9.{CLAIMS}.{A2_SIGNATURE}"

A3_KEY = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}
A3_SIGNATURE = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
A3 = f"eyJhbGciOiJFUzI1NiJ9.{CLAIMS}.{A3_SIGNATURE}"

A4_KEY = {
    "kty": "EC",
    "crv": "P-521",
    "x": "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk",
    "y": "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2",
}
A4 = (
    "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO"
    "0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn"
)

A5 = f"eyJhbGciOiJub25lIn0.{CLAIMS}."

A6 = {
    "payload": CLAIMS,
    "signatures": [
        {"protected": "eyJhbGciOiJSUzI1NiJ9", "header": {"kid": "2010-12-29"}, "signature": A2_SIGNATURE},
        {
            "protected": "eyJhbGciOiJFUzI1NiJ9",
            "header": {"kid": "e9bc097a-ce51-4036-9562-d2ade882db0d"},
            "signature": A3_SIGNATURE,
        },
    ],
}
A7 = {
    "payload": CLAIMS,
    "protected": "eyJhbGciOiJFUzI1NiJ9",
    "header": {"kid": "e9bc097a-ce51-4036-9562-d2ade882db0d"},
    "signature": A3_SIGNATURE,
}

E = (
    "eyJhbGciOiJub25lIiwNCiAiY3JpdCI6WyJodHRwOi8vZXhhbXBsZS5jb20vVU5ERUZJTkVEIl0sDQogImh0dHA6Ly9leGFtcGxlLmNvbS9VTkRF"
    "RklORUQiOnRydWUNCn0.RkFJTA."
)


def key_of(text: dict[str, Any]) -> VerifyKey:
    """Any algorithm that fits, as for a key of an issuer."""
    return read_key(text, ALL)[1].verifier


def joe(now: float, **changes: Any) -> JwtProvider:
    usual: dict[str, Any] = {"key": raw(A1_KEY), "algorithms": ["HS256"], "issuer": "joe", "leeway": 0.0}
    return JwtProvider("joe", clock=Clock(now), **(usual | changes))


def keys(text: dict[str, Any], algorithm: str) -> FixedSet:
    return FixedSet(read_set(jwks(text), {algorithm}), {algorithm})


EXAMPLES: dict[str, tuple[str, Any, str]] = {
    "A.1 HS256": (A1, raw(A1_KEY), "HS256"),
    "A.2 RS256": (A2, keys(A2_KEY, "RS256"), "RS256"),
    "A.3 ES256": (A3, keys(A3_KEY, "ES256"), "ES256"),
}


@pytest.mark.parametrize("example", EXAMPLES)
async def test_an_example_of_rfc_7515_is_accepted_until_it_expires(example: str) -> None:
    token, key, algorithm = EXAMPLES[example]
    caller = await accepted(joe(EXPIRY - 0.001, key=key, algorithms=[algorithm]), token.encode())
    assert caller.claims == {"iss": "joe", "exp": 1300819380, "http://example.com/is_root": True}
    assert caller.expires == EXPIRY
    error = await refusal(joe(EXPIRY, key=key, algorithms=[algorithm]), bearer(token.encode()))
    assert "expired" in error.detail


@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.parametrize("part", [0, 1, 2])
async def test_no_character_of_an_example_of_rfc_7515_may_be_another(example: str, part: int) -> None:
    token, key, algorithm = EXAMPLES[example]
    provider = joe(EXPIRY - 1, key=key, algorithms=[algorithm])
    segments = token.split(".")
    for position, char in list(enumerate(segments[part]))[::7]:
        other = "A" if char != "A" else "B"
        changed = segments[part][:position] + other + segments[part][position + 1 :]
        await refusal(provider, bearer(".".join([*segments[:part], changed, *segments[part + 1 :]]).encode()))


async def test_each_example_is_refused_by_the_keys_of_the_others() -> None:
    for token, _, algorithm in EXAMPLES.values():
        for _, key, other in EXAMPLES.values():
            if other != algorithm:
                await refusal(joe(EXPIRY - 1, key=key, algorithms=[other]), bearer(token.encode()))


def test_the_example_a4_verifies_though_its_payload_is_no_claims() -> None:
    signed, _, signature = A4.rpartition(".")
    assert key_of(A4_KEY).verify("ES512", signed.encode(), raw(signature))
    assert not key_of(A4_KEY).verify("ES512", signed.encode() + b"A", raw(signature))
    assert not key_of(A4_KEY).verify("ES256", signed.encode(), raw(signature))


async def test_the_example_a4_is_no_token() -> None:
    await refusal(joe(EXPIRY - 1, key=keys(A4_KEY, "ES512"), issuer=None), bearer(A4.encode()))


@pytest.mark.parametrize("key", [raw(A1_KEY), keys(A2_KEY, "RS256"), keys(A3_KEY, "ES256")])
async def test_the_example_a5_without_a_signature_is_refused(key: Any) -> None:
    provider = joe(EXPIRY - 1, key=key, algorithms=["HS256"] if isinstance(key, bytes) else [])
    await refusal(provider, bearer(A5.encode()))
    await refusal(provider, bearer((A5 + A3_SIGNATURE).encode()))


@pytest.mark.parametrize("example", [A6, A7], ids=["A.6 general", "A.7 flattened"])
async def test_the_json_serialisations_are_refused(example: dict[str, Any]) -> None:
    for text in (json.dumps(example).encode(), b64(json.dumps(example).encode())):
        for key in (keys(A2_KEY, "RS256"), keys(A3_KEY, "ES256")):
            await refusal(joe(EXPIRY - 1, key=key), bearer(text))


async def test_the_example_e_of_what_must_be_refused_is_refused() -> None:
    header = json.loads(raw(E.partition(".")[0]))
    assert header["crit"] == ["http://example.com/UNDEFINED"]
    await refusal(joe(EXPIRY - 1), bearer(E.encode()))
    with pytest.raises(jws.MalformedError):
        jws.parse(E.encode())


# -- RFC 7520 section 4: the same text, signed by four algorithms

TEXT = (
    "SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUgcm9hZCwgYW5k"
    "IGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0IGJlIHN3ZXB0IG9mZiB0by4"
)
BILBO = "bilbo.baggins@hobbiton.example"
EC_KEY = {
    "kty": "EC",
    "kid": BILBO,
    "use": "sig",
    "crv": "P-521",
    "x": "AHKZLLOsCOzz5cY97ewNUajB957y-C-U88c3v13nmGZx6sYl_oJXu9A5RkTKqjqvjyekWF-7ytDyRXYgCF5cj0Kt",
    "y": "AdymlHvOiLxXkEhayXQnNCvDX4h9htZaCJN34kfmC6pV5OhQHiraVySsUdaQkAgDPrwQrJmbnX9cwlGfP-HqHZR1",
}
RSA_KEY = {
    "kty": "RSA",
    "kid": BILBO,
    "use": "sig",
    "n": "n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRBSFKrKb2w"
    "qVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD1NNLYD5lFHpPI9bTwJls"
    "de3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqKnS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc"
    "5gHdrNP5zw",
    "e": "AQAB",
}
SECRET = raw("hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg")

BY_BILBO = {
    "RS256": (  # 4.1
        "MRjdkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp83xuglII7PNDi84wnB-BDkoBwA"
        "78185hX-Es4JIwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCTJDt5aAE6x8wW1Kt9eRo4QPocSadnHXFxnt8Is9UzpERV0ePPQ"
        "dLuW3IS_de3xyIrDaLGdjluPxUAhb6L2aXic1U12podGU0KLUQSE_oI-ZnmKJ3F4uOZDnd6QZWJushZ41Axf_fcIe8u9ipH84ogoree7vjbU5y18"
        "kDquDg"
    ),
    "PS384": (  # 4.2
        "cu22eBqkYDKgIlTpzDXGvaFfz6WGoz7fUDcfT0kkOy42miAh2qyBzk1xEsnk2IpN6-tPid6VrklHkqsGqDqHCdP6O8TTB5dDDItllVo6_1OLPpcb"
        "UrhiUSMxbbXUvdvWXzg-UD8biiReQFlfz28zGWVsdiNAUf8ZnyPEgVFn442ZdNqiVJRmBqrYRXe8P_ijQ7p8Vdz0TTrxUeT3lm8d9shnr2lfJT8I"
        "mUjvAA2Xez2Mlp8cBE5awDzT0qI0n6uiP1aCN_2_jLAeQTlqRHtfa64QQSUmFAAjVKPbByi7xho0uTOcbH510a6GYmJUAfmWjwZ6oD4ifKo8DYM-"
        "X72Eaw"
    ),
    "ES512": (  # 4.3
        "AE_R_YZCChjn4791jSQCrdPZCNYqHXCTZH0-JZGYNlaAjP2kqaluUIIUnC9qvbu9Plon7KRTzoNEuT4Va2cmL1eJAQy3mtPBu_u_sDDyYjnAMDxX"
        "Pn7XrT0lw-kvAD890jl8e2puQens_IEKBpHABlsbEPX6sFY8OcGDqoRuBomu9xQ2"
    ),
}
HMAC_HEADER = "eyJhbGciOiJIUzI1NiIsImtpZCI6IjAxOGMwYWU1LTRkOWItNDcxYi1iZmQ2LWVlZjMxNGJjNzAzNyJ9"
HMAC_SIGNATURE = "s0h6KThzkfBBBkLspW1h84VsJZFTsPPqMDA7g1Md7p0"


def bilbos() -> JwkSet:
    """Both of his keys, which have the same name."""
    return read_set(jwks(RSA_KEY, EC_KEY), ALL)


@pytest.mark.parametrize("algorithm", BY_BILBO)
def test_an_example_of_rfc_7520_verifies_by_the_key_its_header_names(algorithm: str) -> None:
    header = b64(b'{"alg":"%b","kid":"%b"}' % (algorithm.encode(), BILBO.encode())).decode()
    signed, signature = f"{header}.{TEXT}".encode(), raw(BY_BILBO[algorithm])
    found = bilbos().find(BILBO, algorithm)
    assert found is not None
    assert found.verifier.verify(algorithm, signed, signature)
    for other in ALL - {algorithm}:
        assert not found.verifier.verify(other, signed, signature)
    assert not found.verifier.verify(algorithm, signed[:-1] + b"A", signature)


def test_the_example_4_4_of_rfc_7520_verifies_by_its_secret() -> None:
    key = VerifyKey(SECRET, ["HS256"])
    assert key.verify("HS256", f"{HMAC_HEADER}.{TEXT}".encode(), raw(HMAC_SIGNATURE))
    assert not key.verify("HS256", f"{HMAC_HEADER}.{TEXT}".encode(), raw(HMAC_SIGNATURE)[:-1])


async def test_text_that_is_signed_well_is_still_no_token() -> None:
    token = f"{HMAC_HEADER}.{TEXT}.{HMAC_SIGNATURE}".encode()
    await refusal(joe(EXPIRY - 1, key=SECRET, issuer=None), bearer(token))


async def test_detached_content_is_refused() -> None:
    # RFC 7520 section 4.5: the payload is left out and found elsewhere. Nothing else of a request is a payload to us.
    await refusal(joe(EXPIRY - 1, key=SECRET, issuer=None), bearer(f"{HMAC_HEADER}..{HMAC_SIGNATURE}".encode()))


async def test_content_whose_header_is_not_protected_is_refused() -> None:
    # Section 4.7: nothing but the payload is signed, so the segment of the header is empty.
    signature = "xuLifqLGiblpv9zBpuZczWhNj1gARaLV3UxvxhJxZuk"
    assert VerifyKey(SECRET, ["HS256"]).verify("HS256", f".{TEXT}".encode(), raw(signature))
    await refusal(joe(EXPIRY - 1, key=SECRET, issuer=None), bearer(f".{TEXT}.{signature}".encode()))


# -- RFC 7797 section 4.2: an unencoded payload

B64_FALSE = "eyJhbGciOiJIUzI1NiIsImI2NCI6ZmFsc2UsImNyaXQiOlsiYjY0Il19"
B64_SIGNATURE = "A5dxf2s96_n5FLueVuW1Z_vh161FwXZC4YLPff6dmDY"


async def test_an_unencoded_payload_is_refused_though_it_is_signed_well() -> None:
    key = VerifyKey(raw(A1_KEY), ["HS256"])
    assert key.verify("HS256", f"{B64_FALSE}.$.02".encode(), raw(B64_SIGNATURE))
    for payload in ("", "$.02", "JC4wMg", CLAIMS):
        await refusal(joe(EXPIRY - 1, issuer=None), bearer(f"{B64_FALSE}.{payload}.{B64_SIGNATURE}".encode()))


# -- RFC 8037 appendix A.4 and RFC 8032 section 7.4: Edwards curves

ED25519_KEY = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
ED25519 = (
    "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4"
    "iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
)
ED448_KEY = (
    "5fd7449b59b461fd2ce787ec616ad46a1da1342485a70e1f8a0ea75d80e96778edf124769b46c7061bd6783df1e50f6cd1fa1abeafe8256180"
)
ED448_OF_NOTHING = (
    "533a37f6bbe457251f023c0d88f976ae2dfb504a843e34d2074fd823d41a591f2b233f034f628281f2fd7a22ddd47d7828c59bd0a21bfd3980"
    "ff0d2028d4b18a9df63e006c5d1c2d345b925d8dc00b4104852db99ac5c7cdda8530a113a0f4dbb61149f05a7363268c71d95808ff2e652600"
)


async def test_the_example_of_rfc_8037_verifies_though_its_payload_is_no_claims() -> None:
    signed, _, signature = ED25519.rpartition(".")
    key = key_of(ED25519_KEY)
    assert key.algorithms == {"EdDSA"}
    assert key.verify("EdDSA", signed.encode(), raw(signature))
    assert not key.verify("EdDSA", signed.encode()[:-1], raw(signature))
    await refusal(joe(EXPIRY - 1, key=keys(ED25519_KEY, "EdDSA"), issuer=None), bearer(ED25519.encode()))


def test_the_example_of_rfc_8032_verifies_with_ed448() -> None:
    public: PublicKey = ed448.Ed448PublicKey.from_public_bytes(bytes.fromhex(ED448_KEY))
    of_set = key_of({"kty": "OKP", "crv": "Ed448", "x": b64(bytes.fromhex(ED448_KEY)).decode()})
    for key in (VerifyKey(public, ["EdDSA"]), of_set):
        assert key.verify("EdDSA", b"", bytes.fromhex(ED448_OF_NOTHING))
        assert not key.verify("EdDSA", b"\0", bytes.fromhex(ED448_OF_NOTHING))
