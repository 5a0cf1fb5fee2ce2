import pytest

from gateway.errors import Refused
from gateway.exchange import Call, Fields, Peer, Reply, Request, header
from gateway.handler import Handler, Route
from gateway.http.redirect import to_https
from gateway.http.syntax import HOST
from gateway.routing.router import Router


def call_for(
    host: bytes = b"example.com", target: bytes = b"/a?b=c", method: str = "GET", scheme: str = "http"
) -> Call:
    return Call(Request(method, target, Fields([], host=host), Peer("192.0.2.1", 40000, scheme)), "id")


def location(host: bytes, port: int, target: bytes = b"/a?b=c") -> bytes | None:
    reply = to_https(call_for(host, target), port)
    assert reply.status == 308
    return header(reply.headers, b"location")


@pytest.mark.parametrize(
    ("host", "port", "expected"),
    [
        (b"example.com", 443, b"https://example.com/a?b=c"),
        (b"example.com:8080", 443, b"https://example.com/a?b=c"),
        (b"example.com:8080", 8443, b"https://example.com:8443/a?b=c"),
        (b"example.com:", 443, b"https://example.com/a?b=c"),
        (b"Example.COM", 443, b"https://Example.COM/a?b=c"),
        (b"192.0.2.7:80", 8443, b"https://192.0.2.7:8443/a?b=c"),
        (b"[2001:db8::1]", 443, b"https://[2001:db8::1]/a?b=c"),
        (b"[2001:db8::1]:80", 8443, b"https://[2001:db8::1]:8443/a?b=c"),
    ],
)
def test_the_same_host_on_another_port(host: bytes, port: int, expected: bytes) -> None:
    assert HOST.fullmatch(host), "what the wire lets through"
    assert location(host, port) == expected


@pytest.mark.parametrize(
    "target", [b"/", b"/%0d%0aSet-Cookie:a=b", b"/a%2F..%2Fb", b"/?to=https://evil.example", b"//e"]
)
def test_the_target_goes_along_byte_by_byte_behind_the_host(target: bytes) -> None:
    assert location(b"example.com", 443, target) == b"https://example.com" + target


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
def test_the_method_and_the_body_go_along(method: str) -> None:
    assert to_https(call_for(method=method), 443).status == 308, "301 and 302 would turn a POST into a GET"


@pytest.mark.parametrize(
    ("host", "target", "method"),
    [
        (b"", b"/", "GET"),
        (b"example.com", b"*", "OPTIONS"),
        (b"example.com", b"http://example.com/", "GET"),
        (b"example.com", b"example.com:443", "CONNECT"),
        (b"example.com", b"", "GET"),
    ],
)
def test_what_has_no_url_over_https_is_refused(host: bytes, target: bytes, method: str) -> None:
    with pytest.raises(Refused) as caught:
        to_https(call_for(host, target, method), 443)
    assert (caught.value.status, caught.value.code) == (400, "bad_request")


# -- in the handler ------------------------------------------------------------------------------------


def handler(*, hsts: int = 0, to_port: int | None = None) -> Handler:
    """A gateway without routes."""
    router: Router[Route] = Router([])
    return Handler(router, lambda *_: None, instance="i", hsts=hsts, to_https=to_port)


async def ask(handler: Handler, scheme: str, **request: bytes | str) -> Reply:
    return await handler.handle(call_for(scheme=scheme, **request))  # type: ignore[arg-type]


async def test_plain_requests_are_sent_away_before_anything_is_looked_at() -> None:
    redirecting = handler(to_port=8443)
    reply = await ask(redirecting, "http")
    assert (reply.status, header(reply.headers, b"location")) == (308, b"https://example.com:8443/a?b=c")
    assert (await ask(redirecting, "https")).status == 404
    assert (await ask(handler(), "http")).status == 404


async def test_a_request_that_came_to_a_trusted_proxy_over_tls_is_not_sent_in_circles() -> None:
    redirecting = handler(to_port=443)
    call = call_for()
    call.scheme = "https"  # as the proxy says it in X-Forwarded-Proto
    assert (await redirecting.handle(call)).status == 404


async def test_what_cannot_be_redirected_is_a_problem_like_all_others() -> None:
    reply = await ask(handler(to_port=443), "http", host=b"")
    assert reply.status == 400
    assert header(reply.headers, b"content-type") == b"application/problem+json"
    assert b"x-request-id: id\r\n" in reply.added


async def test_a_question_about_the_gateway_itself_is_answered_in_place() -> None:
    reply = await ask(handler(to_port=443), "http", method="OPTIONS", target=b"*")
    assert reply.status == 204


async def test_strict_transport_security_is_said_over_tls_and_never_without() -> None:
    strict = handler(hsts=15_552_000, to_port=443)
    said = b"strict-transport-security: max-age=15552000\r\n"
    assert said in (await ask(strict, "https")).added
    assert said not in (await ask(strict, "http")).added, "RFC 6797 7.2"
    refused = strict.refuse(call_for(scheme="https"), Refused("bad_request", 400))
    assert said in refused.added
    assert b"strict-transport" not in (await ask(handler(), "https")).added
