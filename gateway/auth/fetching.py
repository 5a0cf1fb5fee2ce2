"""How the servers of others are asked: without trust. Whoever asks sets a time limit for all of it.

No redirects, no decompression, no cookies, no proxies from the environment, no more bytes than allowed.
"""

from collections.abc import Mapping

from aiohttp import ClientResponse, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector


def open_session(headers: Mapping[str, str], connections: int = 4) -> ClientSession:
    """For requests with these headers, of which the last of a name counts, over so many connections at most.

    In the loop. The time limit is the asker's.
    """
    # By lowercase names: a header that is there twice, in another case, makes servers refuse the request.
    sent = {name.lower(): value for name, value in [("accept-encoding", "identity"), *headers.items()]}
    return ClientSession(
        connector=TCPConnector(limit=connections),
        cookie_jar=DummyCookieJar(),
        headers=sent,
        timeout=ClientTimeout(),
        auto_decompress=False,
    )


async def read(reply: ClientResponse, limit: int) -> bytes:
    """The body of a reply. Raises ValueError when it is longer than `limit` bytes."""
    text = bytearray()
    async for piece in reply.content.iter_any():
        text += piece
        if len(text) > limit:
            raise ValueError(f"{printable(str(reply.url))} replied with more than {limit} bytes")
    return bytes(text)


def printable(text: str) -> str:
    """What the other end may have written, fit for a line of a log."""
    return "".join(char if char.isprintable() else " " for char in text[:200])
