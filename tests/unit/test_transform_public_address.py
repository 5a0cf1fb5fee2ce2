"""What an upstream says about its own address, as clients are to read it."""

import pytest

from gateway.exchange import Call, Headers, Reply
from gateway.transform.public_address import PublicAddress, prefixes
from tests.fakes import FakeTarget, make_call

OWN = ((b"10.0.0.5", b"9001"), (b"orders.internal", b"80"), (b"orders.internal", b"443"), (b"found.internal", b""))


def call(target: bytes = b"/api/orders", path: bytes = b"/orders") -> Call:
    made = make_call()
    made.request.target, made.path = target, path
    made.target = FakeTarget("https://10.0.0.6:9443")
    return made


def location(value: bytes, of: Call | None = None, *, client_host: bool = False, name: bytes = b"location") -> bytes:
    reply = Reply(302, [(name, value)], lines=b"location: before\r\n")
    PublicAddress(OWN, location=True, client_host=client_host)(of or call(), reply)
    assert reply.lines is None
    return reply.headers[0][1]


@pytest.mark.parametrize(
    ("said", "becomes"),
    [
        (b"http://10.0.0.5:9001/orders/7?a=b#c", b"/api/orders/7?a=b#c"),
        (b"http://orders.internal/orders/7", b"/api/orders/7"),
        (b"HTTPS://Orders.Internal:443/orders/7", b"/api/orders/7"),
        (b"http://found.internal:8080/x", b"/api/x"),
        (b"https://10.0.0.6:9443/x", b"/api/x"),  # the target that has answered
        (b"//10.0.0.6:9443/x", b"/api/x"),
        (b"http://10.0.0.5:9001", b"/api/"),
        (b"http://10.0.0.5:9001?a", b"/api/?a"),
        (b"/orders/7", b"/api/orders/7"),
        (b"/", b"/api/"),
        # Not ours to touch:
        (b"https://elsewhere.example/orders", b"https://elsewhere.example/orders"),
        (b"http://10.0.0.5:9002/orders", b"http://10.0.0.5:9002/orders"),
        (b"http://10.0.0.5:9001@evil.example/", b"http://10.0.0.5:9001@evil.example/"),
        (b"https://example.com/orders/7", b"https://example.com/orders/7"),
        (b"ftp://10.0.0.5:9001/orders", b"ftp://10.0.0.5:9001/orders"),
        (b"7/items", b"7/items"),
        (b"?page=2", b"?page=2"),
        (b"", b""),
    ],
)
def test_an_address_of_the_upstreams_leads_back_to_the_public_path(said: bytes, becomes: bytes) -> None:
    assert location(said) == becomes
    assert location(said, name=b"content-location") == becomes


@pytest.mark.parametrize(
    "path", [b"//evil.example/x", b"/\\evil.example/x", b"/\t/evil.example/x", b"\\evil.example/x"]
)
def test_no_address_of_another_host_comes_of_a_path(path: bytes) -> None:
    of = call(b"/orders", b"/orders")  # nothing stands before it
    assert location(b"http://10.0.0.5:9001" + path, of) in (b"/evil.example/x", b"http://10.0.0.5:9001\\evil.example/x")


def test_an_upstream_that_is_told_the_public_host_means_itself_by_it() -> None:
    assert location(b"http://example.com/orders/7", client_host=True) == b"/api/orders/7"
    assert location(b"http://other.example/orders/7", client_host=True) == b"http://other.example/orders/7"


@pytest.mark.parametrize(
    ("target", "forwarded", "theirs", "ours"),
    [
        (b"/api/orders/7", b"/orders/7", b"", b"/api"),
        (b"/orders", b"/v1/orders", b"/v1", b""),
        (b"/api/orders?a=b", b"/v1/orders", b"/v1", b"/api"),
        (b"/a/v2/orders", b"/a/orders", b"/a", b"/a/v2"),
        (b"/orders/7", b"/o/7", b"/o", b"/orders"),
        (b"/api", b"/", b"", b"/api"),
        (b"/api/", b"/", b"", b"/api"),
        (b"/a/a", b"/a", b"", b"/a"),
        (b"/x", b"/y/z", b"/y/z", b"/x"),
        (b"/x/../api/%7Eorders", b"/~orders", b"", b"/api"),
        (b"/orders", b"/orders", b"", b""),
    ],
)
def test_where_the_public_and_the_forwarded_path_differ(
    target: bytes, forwarded: bytes, theirs: bytes, ours: bytes
) -> None:
    assert prefixes(call(target, forwarded)) == (theirs, ours)


def test_a_path_outside_of_what_is_forwarded_stays() -> None:
    of = call(b"/orders", b"/v1/orders")
    assert [location(path, of) for path in (b"/v1/x", b"/v1", b"/login", b"/v1x")] == [b"/x", b"/", b"/login", b"/v1x"]


def test_a_reply_without_an_address_is_left_alone() -> None:
    headers: Headers = [(b"content-type", b"text/plain"), (b"set-cookie", b"a=1; Path=/")]
    reply = Reply(200, headers, lines=b"x: y\r\n")
    PublicAddress(OWN, location=True)(call(), reply)
    assert (reply.headers, reply.lines) == (headers, b"x: y\r\n")
    assert reply.headers is headers


# -- cookies


def cookie(value: bytes, domain: str | None = "shop.example.com", path: bool = True) -> bytes:
    reply = Reply(200, [(b"set-cookie", value), (b"location", b"/x")])
    PublicAddress(OWN, cookie_domain=domain, cookie_path=path)(call(), reply)
    assert reply.headers[1] == (b"location", b"/x")
    return reply.headers[0][1]


@pytest.mark.parametrize(
    ("said", "becomes"),
    [
        (b"a=1", b"a=1"),
        (b"a=1; Path=/", b"a=1; Path=/api/"),
        (b"a=1;path = /x ;HttpOnly", b"a=1; Path=/api/x;HttpOnly"),
        (b"a=1; Path=x; Secure", b"a=1; Path=x; Secure"),
        (b"a=1; DOMAIN=.orders.internal; Path=/x", b"a=1; Domain=shop.example.com; Path=/api/x"),
        (b"a=Domain=x; Max-Age=5", b"a=Domain=x; Max-Age=5"),
        (b"__Host-a=1; Path=/; Secure", b"__Host-a=1; Path=/; Secure"),
    ],
)
def test_domain_and_path_of_a_cookie_are_the_public_ones(said: bytes, becomes: bytes) -> None:
    assert cookie(said) == becomes


def test_a_domain_can_be_taken_away() -> None:
    assert cookie(b"a=1; Domain=orders.internal; Path=/x; Secure", domain="", path=False) == b"a=1; Path=/x; Secure"


def test_only_what_is_asked_for_is_changed() -> None:
    assert cookie(b"a=1; Domain=d.internal; Path=/x", domain=None) == b"a=1; Domain=d.internal; Path=/api/x"
    assert cookie(b"a=1; Domain=d; Path=/x", path=False) == b"a=1; Domain=shop.example.com; Path=/x"


def test_every_cookie_is_looked_at() -> None:
    reply = Reply(200, [(b"set-cookie", b"a=1; Path=/"), (b"x-a", b"1"), (b"set-cookie", b"b=2; Path=/b")])
    PublicAddress(OWN, cookie_path=True)(call(), reply)
    assert [value for _, value in reply.headers] == [b"a=1; Path=/api/", b"1", b"b=2; Path=/api/b"]
