"""Attacks on host, target and version (A28-A31): whatever two servers could read differently is refused."""

import pytest

from tests.wire.actors import Client, Upstream
from tests.wire.conftest import Start
from tests.wire.payloads import get, message, refused
from tests.wire.strict import read_requests

HOSTS = [
    *(b"", b" ", b"a b", b"a,b", b"a, b", b"u@a", b"u:p@a", b"a/", b"a/b", b"/", b"a:b", b"a:80:80", b"a:-1", b":80"),
    *(
        b"http://a",
        b"a?b",
        b"a#b",
        b"a\\b",
        b"a;b",
        b"\xe4",
        b"a\xa0",
        b"[::1",
        b"::1",
        b"[::1]x",
        b"[g]",
        b"[]",
        b'"a"',
    ),
    *(b"<a>", b"{a}", b"a|b", b"a^b", b"a`b", b"a" * 256, b"a\tb", b"a%", b"a%zz", b"a%0", b"a:80 ,b"),
]


@pytest.mark.parametrize("host", HOSTS)
async def test_a28_a_host_that_is_no_host_and_port_is_refused(client: Client, upstream: Upstream, host: bytes) -> None:
    await refused(client, upstream, get(host=b"Host: " + host))


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: y\r\n\r\n",
        get(b"Host: a"),
        get(b"Host: b"),
        get(b"hOST: b"),
        get(b"Host:"),
        b"GET http://a/ HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost:\r\n\r\n",
        get(host=b"Host : a"),
        get(host=b"\tHost: a"),
        get(host=b"H\xf6st: a"),
    ],
)
async def test_a28_a_missing_or_repeated_host_is_refused(client: Client, upstream: Upstream, data: bytes) -> None:
    await refused(client, upstream, data)


@pytest.mark.parametrize(
    "host", [b"a", b"A.example", b"a:80", b"a:", b"127.0.0.1:1", b"[::1]", b"[2001:db8::1]:8080", b"a_b-c~d"]
)
async def test_a28_a_sound_host_is_served(start: Start, upstream: Upstream, host: bytes) -> None:
    client = await (await start(up="host: client, retry: off, breaker: off")).client()
    assert (await client.ask(get(host=b"Host: " + host))).status == 200
    ((request,), _) = read_requests(upstream.received)
    assert request.headers[b"host"] == host


@pytest.mark.parametrize(
    "target",
    [
        b"http://b/x",
        b"http://b:80/",
        b"http://a:81/",
        b"https://a.b/",
        b"HTTP://b/",
        b"http://b?a",
        b"http://a.b",
        b"http://a.a/x",
    ],
)
async def test_a29_an_absolute_target_for_another_host_is_refused(
    client: Client, upstream: Upstream, target: bytes
) -> None:
    answer = await client.ask(get(target=target))
    assert answer.status == 400
    assert upstream.received == b""


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        (b"http://a/x?y", b"/x?y"),
        (b"HTTP://A/x", b"/x"),
        (b"http://a:80/x", b"/x"),
        (b"http://a", b"/"),
        (b"http://a?y", b"/?y"),
    ],
)
async def test_a29_an_absolute_target_for_this_host_goes_on_in_origin_form(
    client: Client, upstream: Upstream, target: bytes, sent: bytes
) -> None:
    assert (await client.ask(get(target=target))).status == 200
    ((request,), _) = read_requests(upstream.received)
    assert request.target == sent


@pytest.mark.parametrize(
    "target",
    [
        *(
            b"http://evil@a/",
            b"http://u:p@a/",
            b"http://a@evil/",
            b"http://a:80@evil/",
            b"http:///x",
            b"http://",
            b"http:/a/x",
        ),
        *(
            b"http:x",
            b"ftp://a/",
            b"ws://a/",
            b"file:///etc/passwd",
            b"javascript:alert(1)",
            b"http://a:x/",
            b"http://a,b/",
        ),
        *(
            b"http://[::1/",
            b"http://a\\b/",
            b"a:443",
            b"a",
            b"a/b",
            b"?x",
            b"#",
            b"x*",
            b"*",
            b"**",
            b"*x",
            b"/#a",
            b"/\\",
            b"//a@b\\",
        ),
        *(
            b"/\x01",
            b"/\x7f",
            b"/\x80",
            b"/\xff",
            b"/\xc3\xa4",
            b"/a%",
            b"/a%0",
            b"/a%zz",
            b"/%00",
            b"/a\tb",
            b"/<",
            b'/"',
            b"/^",
        ),
    ],
)
async def test_a30_a_malformed_target_is_refused(client: Client, upstream: Upstream, target: bytes) -> None:
    answer = await client.ask(get(target=target))
    assert answer.status == 400
    assert upstream.received == b""


@pytest.mark.parametrize(
    ("version", "status"),
    [
        *(
            (b"HTTP/0.9", 505),
            (b"HTTP/2.0", 505),
            (b"HTTP/1.32", 400),
            (b"HTTP/1. 1", 400),
            (b"HTTP/1.10", 400),
            (b"HTTP/1", 400),
        ),
        *(
            (b"HTTP/1.2", 400),
            (b"HTTP/3.0", 400),
            (b"HTTP/0.0", 400),
            (b"HTTP/01.1", 400),
            (b"HTTP/1.01", 400),
            (b"HTTP/11.1", 400),
        ),
        *(
            (b"http/1.1", 400),
            (b"Http/1.1", 400),
            (b"HTTP /1.1", 400),
            (b"HTTP/ 1.1", 400),
            (b"HTTP/1,1", 400),
            (b"HTTP/1.1 x", 400),
        ),
        *(
            (b"HTTP/1.1 ", 400),
            (b" HTTP/1.1", 400),
            (b"\tHTTP/1.1", 400),
            (b"HTTP/1.1\t", 400),
            (b"HTTP/+1.1", 400),
            (b"HTTP/", 400),
        ),
        *(
            (b"HTTP", 400),
            (b"H", 400),
            (b"", 400),
            (b"RTSP/1.0", 400),
            (b"ICE/1.0", 400),
            (b"HTTP/1.1HTTP/1.1", 400),
            (b"XTTP/1.1", 400),
        ),
        *(
            (b"HTTPS/1.1", 400),
            (b"x HTTP/1.1", 400),
            (b"HTTP\\1.1", 400),
            (b"HTTP/\xb9.1", 400),
            (b"HTTP/1.1\x00", 400),
        ),
    ],
)
async def test_a31_another_version_is_refused(client: Client, upstream: Upstream, version: bytes, status: int) -> None:
    await refused(client, upstream, message(b"GET / " + version), status)


@pytest.mark.parametrize(
    "line", [b"GET /", b"GET / ", b"GET", b"GET ", b"GET HTTP/1.1", b"/ HTTP/1.1", b" HTTP/1.1", b" GET / HTTP/1.1"]
)
async def test_a31_a_request_line_of_http_0_9_or_less_is_refused(
    client: Client, upstream: Upstream, line: bytes
) -> None:
    await refused(client, upstream, line + b"\r\n\r\n")


@pytest.mark.parametrize(
    "line",
    [
        b"GET  / HTTP/1.1",
        b"GET /  HTTP/1.1",
        b"GET\t/ HTTP/1.1",
        b"GET /\tHTTP/1.1",
        b"GET \t/ HTTP/1.1",
        b"GET\x0b/ HTTP/1.1",
        b"GET\x00/ HTTP/1.1",
    ],
)
@pytest.mark.parametrize("decoy", [b"X: GET / HTTP/1.1", b"X: y"])
async def test_a31_other_white_space_in_the_request_line_is_refused(
    client: Client, upstream: Upstream, line: bytes, decoy: bytes
) -> None:
    await refused(client, upstream, message(line, decoy))


async def test_a31_two_spaces_are_refused_behind_the_same_line_with_one(client: Client, upstream: Upstream) -> None:
    await client.send(get(target=b"/x") + message(b"GET  /x HTTP/1.1"))
    assert [(await client.answer()).status for _ in range(2)] == [200, 400]
    assert await client.ends()
    assert upstream.requests == [b"GET /x"]
