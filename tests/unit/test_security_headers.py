import pytest

from gateway.errors import Refused
from gateway.exchange import Headers, Reply
from gateway.http.reply import field_lines
from gateway.transform.security import OWN, SILENT, security_headers
from tests.fakes import Script, failing, make_call, replying


async def added(headers: Headers) -> bytes:
    """What is added to a reply with these fields."""
    call = make_call()
    reply = await security_headers()(replying(200, headers))(call)
    assert reply.headers == headers, "what the upstream said stands"
    return call.added


async def test_a_silent_upstream_gets_all_of_them() -> None:
    assert await added([(b"content-type", b"text/html")]) == (
        b"x-content-type-options: nosniff\r\n"
        b"x-frame-options: SAMEORIGIN\r\n"
        b"referrer-policy: strict-origin-when-cross-origin\r\n"
    )


async def test_what_the_upstream_says_itself_is_not_added() -> None:
    said = await added([(b"x-frame-options", b"DENY"), (b"referrer-policy", b"origin")])
    assert said == b"x-content-type-options: nosniff\r\n"
    assert (
        await added([(name, b"") for name in (b"x-frame-options", b"referrer-policy", b"x-content-type-options")])
        == b""
    )


async def test_no_policy_is_imposed_on_the_pages_of_others() -> None:
    assert b"content-security-policy" not in await added([])


async def test_what_was_added_before_stays() -> None:
    call = make_call()
    call.added = b"x-a: b\r\n"
    await security_headers()(replying(200))(call)
    assert call.added == b"x-a: b\r\n" + SILENT


async def test_an_error_gets_none_here_as_the_gateway_answers_it() -> None:
    call = make_call()
    with pytest.raises(Refused):
        await security_headers()(failing(Refused("forbidden", 403)))(call)
    assert call.added == b""
    assert b"content-security-policy: default-src 'none'; frame-ancestors 'none'\r\n" in OWN
    assert OWN.endswith(b"\r\n")


async def test_a_head_that_is_remembered_gets_what_it_lacks_and_another_one_is_looked_at() -> None:
    framed: Headers = [(b"x-frame-options", b"DENY")]
    plain: Headers = [(b"etag", b'"1"')]
    order = [framed, framed, plain, plain, framed]
    send = security_headers()(Script(*(Reply(200, each, lines=field_lines(each)) for each in order)))
    seen = []
    for _ in order:
        call = make_call()
        await send(call)
        seen.append(b"x-frame-options" in call.added)
    assert seen == [False, False, True, True, False]
