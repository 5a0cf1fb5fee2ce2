"""Attacks by what tokens say, all of them signed well (D10-D15), at a gateway that was assembled from a file.

Every refusal is judged by `Door.refuses`: the status, a problem document, a challenge, nothing at the upstream, nothing
in a log, one more in gateway_auth_total. The same route lets a good token in before and after.
"""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.wire.actors import Upstream
from tests.wire.attempts import AUDIENCE, ISSUER, Door, Make, each, hmac_token, signed

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])
"""What becomes of a token has nothing to do with the loop."""


OURS = f'"iss":"{ISSUER}","aud":"{AUDIENCE}"'


@pytest.fixture
async def door(tmp_path: Path, upstream: Upstream, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Door]:
    async with await Door.open(tmp_path, upstream, caplog) as door:
        yield door


# -- D10, D11, D12: time


async def test_d10_a_token_without_expiry_is_refused(door: Door) -> None:
    await door.refuses(hmac_token(exp=None))
    await door.refuses(signed(f'{{{OURS},"EXP":9000000000}}'))
    await door.refuses(signed(f'{{{OURS},"exp\\u0000":9000000000}}'))


@each(
    {
        "text": '"9000000000"',
        "empty text": '""',
        "true": "true",
        "null": "null",
        "zero": "0",
        "negative": "-1",
        "negative zero": "-0",
        "the past": "1000000000",
        "milliseconds": "NOW000",
        "nanoseconds": "NOW000000000",
        "1e30": "1e30",
        "1e308": "1e308",
        "1e999": "1e999",
        "NaN": "NaN",
        "Infinity": "Infinity",
        "-Infinity": "-Infinity",
        "400 digits": "9" * 400,
        "5000 digits": "9" * 5000,
        "2 to the 63rd": str(2**63),
        "2 to the 64th and the present": f"{2**64}",
        "a list": "[9000000000]",
        "an object": '{"$numberLong":"9000000000"}',
        "hexadecimal": "0x218711A00",
        "octal": "09000000000",
        "a plus": "+9000000000",
        "an underscore": "9_000_000_000",
        "full width": "９０００００００００",
        "Arabic digits": "٩٠٠٠٠٠٠٠٠٠",
        "a date": '"2099-01-01T00:00:00Z"',
        "a fraction without digits": "9000000000.",
        "twice, the better one last": '1000000000,"exp":9000000000',
        "twice, the better one first": '9000000000,"exp":1000000000',
    }
)
async def test_d11_an_expiry_that_is_no_sensible_number_is_refused(door: Door, make: str) -> None:
    await door.refuses(signed(f'{{{OURS},"sub":"alice","exp":{make}}}'))


def at(name: str, seconds: float) -> Make:
    def make() -> bytes:
        changes: dict[str, Any] = {name: time.time() + seconds}
        return hmac_token(**changes)

    return make


@each(
    {
        "expired": at("exp", -31),
        "expired long ago": at("exp", -86400),
        "expired at the edge": at("exp", -30),
        "nbf to come": at("nbf", 33),
        "nbf tomorrow": at("nbf", 86400),
        "iat to come": at("iat", 33),
        "nbf beyond exp": at("nbf", 900),
        "nbf as text": lambda: hmac_token(nbf="0"),
        "nbf true": lambda: hmac_token(nbf=True),
        "nbf negative": lambda: hmac_token(nbf=-1),
        "nbf a list": lambda: hmac_token(nbf=[0]),
        "iat as text": lambda: hmac_token(iat="0"),
        "iat null": lambda: signed(f'{{{OURS},"exp":9000000000,"iat":null}}'),
        "iat 1e30": lambda: hmac_token(iat=1e30),
    }
)
async def test_d12_a_token_of_another_time_is_refused(door: Door, make: Make) -> None:
    await door.refuses(make())


@each({"exp": at("exp", -25), "nbf": at("nbf", 25), "iat": at("iat", 25)})
async def test_d12_within_the_leeway_a_clock_may_differ(door: Door, make: Make) -> None:
    await door.lets_in(make())


# -- D13, D14: issuer and audience


@each(
    {
        "missing": None,
        "a list": [ISSUER],
        "a list of two": ["https://evil.example", ISSUER],
        "an object": {"iss": ISSUER},
        "a number": 7,
        "true": True,
        "empty": "",
        "capitals": ISSUER.upper(),
        "a capital in the host": ISSUER.replace("idp", "Idp"),
        "without the slash": ISSUER[:-1],
        "two slashes": ISSUER + "/",
        "longer": ISSUER + "evil",
        "a prefix": ISSUER[:12],
        "within another": "https://evil.example/?" + ISSUER,
        "a suffix": ISSUER.replace("idp", "evil-idp"),
        "a port": ISSUER.replace(".com", ".com:443"),
        "http": ISSUER.replace("https", "http"),
        "a user": ISSUER.replace("https://", "https://idp@"),
        "a query": ISSUER + "?",
        "a fragment": ISSUER + "#",
        "a path that goes nowhere": ISSUER + "a/..",
        "a space behind": ISSUER + " ",
        "a space in front": " " + ISSUER,
        "a line end": ISSUER + "\n",
        "a NUL and more": ISSUER + "\0.evil.example",
        "percent-encoded": ISSUER.replace("i", "%69"),
        "a Cyrillic letter": ISSUER.replace("i", "\u0456"),
        "full width": "ｈｔｔｐｓ://idp.example.com/",
        "a combining dot": ISSUER.replace("i", "\u0131\u0307"),
        "a zero-width joiner": ISSUER.replace("idp", "i\u200ddp"),
        "a soft hyphen": ISSUER.replace("idp", "i\u00addp"),
        "right to left": "\u202e" + ISSUER,
        "a byte order mark": "\ufeff" + ISSUER,
        "a full stop of full width": ISSUER.replace(".", "\uff0e"),
        "punycode": "https://xn--dp-6kc.example.com/",
    }
)
async def test_d13_another_issuer_is_refused(door: Door, make: object) -> None:
    await door.refuses(hmac_token(iss=make))


@each(
    {
        "missing": None,
        "empty": "",
        "an empty list": [],
        "another": "billing-api",
        "a list of others": ["billing-api", "orders"],
        "a prefix": "orders",
        "longer": "orders-api-2",
        "capitals": "ORDERS-API",
        "joined by a space": "billing-api orders-api",
        "joined by a comma": "billing-api,orders-api",
        "a nested list": [["orders-api"]],
        "an object": {"orders-api": True},
        "a number": 0,
        "true": True,
        "a list with a number": ["orders-api", 7],
        "a list with null": ["orders-api", None],
        "a space behind": "orders-api ",
        "a NUL and more": "orders-api\0x",
        "a Cyrillic letter": "\u043erders-api",
        "full width": "ｏrders-api",
        "another hyphen": "orders\u2010api",
        "a wildcard": "*",
        "a URL": "https://orders-api",
    }
)
async def test_d14_another_audience_is_refused(door: Door, make: object) -> None:
    await door.refuses(hmac_token(aud=make))


async def test_d14_a_list_that_holds_ours_is_accepted(door: Door) -> None:
    await door.lets_in(hmac_token(aud=["billing-api", AUDIENCE]))


# -- D15: scopes


@each(
    {
        "missing": {"scope": None},
        "empty": {"scope": ""},
        "another": {"scope": "orders:write"},
        "a prefix": {"scope": "orders"},
        "longer": {"scope": "orders:readonly"},
        "capitals": {"scope": "ORDERS:READ"},
        "a wildcard": {"scope": "orders:*"},
        "any": {"scope": "*"},
        "admin": {"scope": "admin root superuser"},
        "joined by a comma": {"scope": "orders:write,orders:read"},
        "joined by a tab": {"scope": "orders:write\torders:read"},
        "joined by a line end": {"scope": "orders:write\norders:read"},
        "joined by a wide space": {"scope": "orders:write\u00a0orders:read"},
        "in quotes": {"scope": '"orders:read"'},
        "a NUL behind": {"scope": "orders:read\0"},
        "a Cyrillic letter": {"scope": "orders:r\u0435ad"},
        "full width": {"scope": "orders：read"},
        "in one entry of a list": {"scope": ["orders:write orders:read"]},
        "in scp": {"scope": None, "scp": "orders:read"},
        "in scopes": {"scope": None, "scopes": ["orders:read"]},
        "in Scope": {"scope": None, "Scope": "orders:read"},
        "in permissions": {"scope": None, "permissions": ["orders:read"]},
        "in the roles": {"scope": None, "roles": ["orders:read"]},
        "in the subject": {"scope": None, "sub": "orders:read"},
    }
)
async def test_d15_without_the_scope_itself_a_caller_is_forbidden(door: Door, make: dict[str, Any]) -> None:
    answer = await door.refuses(hmac_token(**make), "/scoped", 403)
    challenge = answer.headers["www-authenticate"]
    assert 'error="insufficient_scope"' in challenge
    assert 'scope="orders:read"' in challenge


@each({"a number": 7, "true": True, "an object": {"orders:read": True}, "nested": [["orders:read"]], "null": [None]})
async def test_d15_scopes_of_another_type_are_no_scopes(door: Door, make: object) -> None:
    await door.refuses(hmac_token(scope=make), "/scoped")
