"""Several hundred odd byte streams: the classics of request smuggling, and random damage done to sound requests."""

import random
from collections.abc import Iterator

from tests.wire.payloads import CHUNKED, HELLO, NEXT, chunks, get, message, post

CLASSICS = [
    # CL.TE, TE.CL, TE.TE and their kin (Watchfire 2005, Kettle 2019-2025)
    post(b"Content-Length: 13", CHUNKED, body=b"0\r\n\r\nSMUGGLED"),
    post(b"Content-Length: 3", CHUNKED, body=b"8\r\nSMUGGLED\r\n0\r\n\r\n"),
    post(CHUNKED, b"Transfer-encoding: x", body=b"5c\r\n" + NEXT + b"0\r\n\r\n"),
    post(b"Content-Length: 45", body=NEXT),  # 0.CL: announced, but short
    get(b"Content-Length: 45") + NEXT,  # CL.0
    chunks(b"") + NEXT,  # TE.0
    get(CHUNKED) + b"2d\r\n" + NEXT,
    message(b"OPTIONS / HTTP/1.1", b"Content-Length: 45", body=NEXT),
    message(b"OPTIONS / HTTP/1.1", CHUNKED, body=b"2d\r\n" + NEXT + b"\r\n0\r\n\r\n"),
    post(b"Expect: 100-continue", b"Content-Length: 45", body=NEXT),
    get(b"Expect: 100-continue", b"Content-Length: 45") + NEXT,
    post(b"Content-Length: 0", b"Connection: Content-Length", body=NEXT),
    post(b"Connection: Transfer-Encoding", CHUNKED, body=HELLO + NEXT),
    get(b"Upgrade: websocket", b"Connection: upgrade") + NEXT,
    get(b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAMAAABk") + NEXT,
    post(b"Content-Length: 5\r\n\r\nhello" + NEXT[:-4]),
    post(b"Foo: bar\rContent-Length: 45", body=NEXT),
    post(b"Foo: bar\nContent-Length: 45", body=NEXT),
    post(b"Content-Length:45", body=NEXT.ljust(45)),
    post(b"Content_Length: 45", body=NEXT),
    post(b"Transfer_Encoding: chunked", body=HELLO + NEXT),
    post(b"Transfer.Encoding: chunked", body=HELLO + NEXT),
    chunks(b'5;a="\r\n0\r\n\r\n"\r\nhello\r\n0\r\n\r\n') + NEXT,
    chunks(b"5\r\nhello\r\n0\r\nContent-Length: 45\r\n\r\n") + NEXT,
    chunks(b"5\r\nhello\r\n0\r\nX: y\r\n") + NEXT,
    chunks(b"0\r\n\r\n\r\n") + NEXT,
    chunks(b"0\r\n\r\n\r") + NEXT,
    b"\r\n\r\n" + get() + b"\r\n" + NEXT,
    get(target=b"http://a/x HTTP/1.1\r\nHost: b\r\n\r\n"),
    get(target=b"/ HTTP/1.1\r\nHost: evil\r\nX:"),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
    b"GET\r\n\r\n",
    b"GET /\r\n",
    b"\r\n" * 1000,
    b"\x00" * 1000,
    b"A" * 50_000,
    (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 5000) + b"\r\n",
    get() * 50,
    get() * 10 + b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + NEXT,
    *(message(b"CONNECT " + target + b" HTTP/1.1") + NEXT for target in (b"a:443", b"a", b"/", b"http://a/")),
]

SOUND = [
    get(),
    get(b"X-Own: 1", b"Accept: */*", b"Cookie: a=b", target=b"/a/b?c=d&e=%20"),
    get(b"Connection: keep-alive, x-own", b"X-Own: 1"),
    post(b"Content-Length: 5", body=b"hello"),
    chunks(b"5;a=b\r\nhello\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n"),
    get(target=b"http://a/x"),
    message(b"OPTIONS * HTTP/1.1"),
    message(b"GET / HTTP/1.0", b"Connection: keep-alive"),
    message(b"DELETE /x HTTP/1.1", b"Content-Length: 0"),
]

PIECES = [
    *(bytes((code,)) for code in (*range(33), 127, 128, 160, 255)),
    *(
        b"\r\n",
        b"\n\r",
        b"\r\n\r\n",
        b"\r\n ",
        b"\r\n\t",
        b": ",
        b" :",
        b",",
        b";",
        b'"',
        b"#",
        b"?",
        b"%",
        b"%0d%0a",
        b"%2f",
        b"/../",
        b"\\",
    ),
    *(
        b"Content-Length: 5\r\n",
        b"Content-Length: 0\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Host: b\r\n",
        b"Connection: close\r\n",
    ),
    *(
        b"Expect: 100-continue\r\n",
        b"Upgrade: websocket\r\n",
        b"Connection: upgrade\r\n",
        b"0\r\n\r\n",
        b"HTTP/1.1",
        b"HTTP/1.0",
        b"0x",
        b"+",
        b"-",
    ),
    *(b"GET ", b"POST ", b"HEAD ", b"CONNECT ", b"5\r\n", b"ffffffffffffffff", NEXT),
]


def damaged(count: int, seed: int) -> Iterator[bytes]:
    """Sound requests, one to three in a row, with one to three places inserted, replaced, removed or doubled."""
    dice = random.Random(seed)
    for _ in range(count):
        data = bytearray(b"".join(dice.choices(SOUND, k=dice.randint(1, 3))))
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(data) + 1)
            end = min(len(data), at + dice.choice([0, 0, 1, 1, 2, 5]))
            piece = dice.choice([b"", bytes(data[at:end]) * 2, *[dice.choice(PIECES)] * 3])
            data[at:end] = piece
        yield bytes(data)
