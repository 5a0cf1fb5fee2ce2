"""Tokens that are no compact JWS, or that two could read in two ways, or too large (D16, D17), by real requests.

Every refusal is judged by `Door.refuses`: the status, a problem document, a challenge, nothing at the upstream, nothing
in a log, one more in gateway_auth_total. The same route lets a good token in before and after.
"""

import json
import time
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.tokens import SECRET, b64, sign
from tests.wire.actors import Upstream
from tests.wire.attempts import AUDIENCE, ISSUER, Door, Make, each, hmac_token, said, signed

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])
"""What becomes of a token has nothing to do with the loop."""


REST = f'"iss":"{ISSUER}","aud":"{AUDIENCE}","exp":9000000000'


@pytest.fixture
async def door(tmp_path: Path, upstream: Upstream, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Door]:
    async with await Door.open(tmp_path, upstream, caplog) as door:
        yield door


# -- D16: the form


def spoilt(change: str) -> Make:
    def make() -> bytes:
        head, body, tail = hmac_token().split(b".")
        forms = {
            "padding": head + b"." + body + b"." + tail + b"=",
            "padding inside": head + b"=." + body + b"." + tail,
            "a space inside": head + b" ." + body + b"." + tail,
            "a tab inside": head + b".\t" + body + b"." + tail,
            "the other alphabet": head + b"." + body + b"." + tail[:-4] + b"+/+/",
            "percent-encoded": b"%" + head[:1].hex().encode() + head[1:] + b"." + body + b"." + tail,
            "spare bits": head + b"." + body + b"." + tail[:-1] + bytes([tail[-1] + 1]),
            "one character more": head + b"." + body + b"." + tail + b"A",
            "two segments": head + b"." + body,
            "one segment": head + body + tail,
            "four segments": b".".join([head, body, tail, tail]),
            "five segments": b".".join([head, body, tail, body, tail]),
            "a point at the end": b".".join([head, body, tail, b""]),
            "a point in front": b".".join([b"", head, body, tail]),
            "points only": b"..",
            "no payload": head + b".." + tail,
            "no header": b"." + body + b"." + tail,
            "quoted": b'"' + b".".join([head, body, tail]) + b'"',
            "in brackets": b"<" + b".".join([head, body, tail]) + b">",
            "a semicolon": b".".join([head, body, tail]) + b";",
            "another token behind a tilde": b"~".join([b".".join([head, body, tail])] * 2),
            "base64 of the whole": b64(b".".join([head, body, tail])),
            "letters of full width": "ｅ".encode() + head[1:] + b"." + body + b"." + tail,
            "a byte order mark": b"\xef\xbb\xbf" + head + b"." + body + b"." + tail,
            "an overlong point": head + b"\xc0\xae" + body + b"\xc0\xae" + tail,
            "flattened JSON": b'{"payload":"%b","protected":"%b","signature":"%b"}' % (body, head, tail),
        }
        return forms[change]

    return make


FORMS = [
    *("padding", "padding inside", "a space inside", "a tab inside", "the other alphabet", "percent-encoded"),
    *("spare bits", "one character more", "two segments", "one segment", "four segments", "five segments"),
    *("a point at the end", "a point in front", "points only", "no payload", "no header", "quoted", "in brackets"),
    *("a semicolon", "another token behind a tilde", "base64 of the whole", "letters of full width"),
    *("a byte order mark", "an overlong point", "flattened JSON"),
]


@each({form: spoilt(form) for form in FORMS})
async def test_d16_a_token_of_another_form_is_refused(door: Door, make: Make) -> None:
    await door.refuses(make())


def jwe() -> bytes:
    """Encrypted directly with the secret, as far as its form goes."""
    return b".".join([b64(b'{"alg":"dir","enc":"A128CBC-HS256"}'), b"", b64(b"v" * 16), b64(b"c" * 32), b64(b"t" * 16)])


@each(
    {
        "a JWE": jwe,
        "a JWE of a token": lambda: sign(jwe(), SECRET, header={"cty": "JWT"}),
        "a nested token": lambda: sign(hmac_token(), SECRET, header={"cty": "JWT"}),
        "a nested token in quotes": lambda: sign(b'"' + hmac_token() + b'"', SECRET, header={"cty": "JWT"}),
        "a compressed payload": lambda: sign(zlib.compress(json.dumps(said()).encode()), SECRET, header={"zip": "DEF"}),
        "a raw compressed payload": lambda: sign(
            zlib.compress(json.dumps(said()).encode(), wbits=-15), SECRET, header={"zip": "DEF"}
        ),
    }
)
async def test_d16_what_is_encrypted_nested_or_compressed_is_refused(door: Door, make: Make) -> None:
    await door.refuses(make())


async def test_d16_members_of_a_header_that_mean_nothing_here_change_nothing(door: Door) -> None:
    # RFC 7515 section 4: what is not understood is ignored, `crit` apart. `zip` is JWE's, `cty` the application's.
    headers: list[dict[str, Any]] = [{"zip": "DEF"}, {"cty": "JWT"}, {"epk": {}}, {"__proto__": {"alg": "none"}}]
    for header in headers:
        assert b"x-user-id: alice" in await door.lets_in(hmac_token(header))


# -- D17: JSON that two would read in two ways, and too much of it


@each(
    {
        "a name twice": f'{{"sub":"alice","sub":"root",{REST}}}',
        "a name twice, once escaped": f'{{"sub":"alice","\\u0073ub":"root",{REST}}}',
        "a name twice, deep within": f'{{"sub":"alice","a":[{{"b":{{"c":1,"c":2}}}}],{REST}}}',
        "the issuer twice": f'{{"iss":"https://evil.example",{REST}}}',
        "3,000 lists": '{"a":' + "[" * 2500 + "]" * 2500 + f",{REST}}}",
        "3,000 objects": '{"a":' * 900 + "1" + "}" * 899 + f",{REST}}}",
        "lists without an end": "[" * 5000,
        "a comma too many": f'{{"sub":"alice",{REST},}}',
        "a comment": f'{{"sub":"alice"/* root */,{REST}}}',
        "quotes of the other kind": "{'sub':'alice','exp':9000000000}",
        "two objects": f'{{"sub":"alice",{REST}}}{{"sub":"root"}}',
        "a list around": f'[{{"sub":"alice",{REST}}}]',
        "a tab within text": f'{{"sub":"al\tice",{REST}}}',
        "a NUL at the end": f'{{"sub":"alice",{REST}}}\0',
        "a byte order mark": b"\xef\xbb\xbf" + (f'{{"sub":"alice",{REST}}}').encode(),
        "UTF-16": (f'{{"sub":"alice",{REST}}}').encode("utf-16"),
        "UTF-16 without a mark": (f'{{"sub":"alice",{REST}}}').encode("utf-16-le"),
        "UTF-32": (f'{{"sub":"alice",{REST}}}').encode("utf-32"),
        "UTF-7": b"+AHs-" + (f'"sub":"alice",{REST}}}').encode(),
        "Latin-1": (f'{{"sub":"\xe4lice",{REST}}}').encode("latin-1"),
        "overlong UTF-8": b'{"sub":"\xc1\xa1lice",' + REST.encode() + b"}",
        "a surrogate in UTF-8": b'{"sub":"\xed\xa0\x80",' + REST.encode() + b"}",
        "half a pair": f'{{"sub":"\\ud800",{REST}}}',
        "half a pair in a name": f'{{"\\udfff":1,"sub":"alice",{REST}}}',
        "empty": "",
        "a form": "sub=alice&exp=9000000000",
        "YAML": "sub: alice\nexp: 9000000000\n",
    }
)
async def test_d17_a_payload_with_two_readings_or_none_is_refused(door: Door, make: str | bytes) -> None:
    assert b"x-user-id: alice" in await door.lets_in(signed(f'{{"sub":"alice",{REST}}}'))
    started = time.process_time()
    await door.refuses(signed(make) if make else sign(b"", SECRET))
    assert time.process_time() - started < 0.5


async def test_d17_a_token_over_8_kib_is_refused_and_one_of_64_does_not_even_arrive(door: Door) -> None:
    for size in (7_000, 16_000):
        await door.refuses(hmac_token(junk="x" * size))
    started = time.process_time()
    answer = await door.ask(b"Authorization: Bearer " + hmac_token(junk="x" * 48_000))
    assert answer.status == 431
    assert json.loads(answer.body)["code"] == "headers_too_large"
    assert time.process_time() - started < 0.5
    await door.lets_in(hmac_token())
