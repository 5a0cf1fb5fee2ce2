"""The proxy one would write first: an aiohttp server with an aiohttp client. `PORT UPSTREAM_PORT`."""

import asyncio
import sys

import aiohttp
from aiohttp import web

HOP_BY_HOP = frozenset({"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "content-length"})


async def main(port: int, upstream: int) -> None:
    async with aiohttp.ClientSession(
        f"http://127.0.0.1:{upstream}",
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
        auto_decompress=False,
    ) as session:

        async def forward(request: web.BaseRequest) -> web.Response:
            headers = [(name, value) for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP]
            body = await request.read() if request.body_exists else None
            async with session.request(
                request.method, request.raw_path, headers=headers, data=body, allow_redirects=False
            ) as reply:
                kept = [(name, value) for name, value in reply.headers.items() if name.lower() not in HOP_BY_HOP]
                return web.Response(status=reply.status, headers=dict(kept), body=await reply.read())

        runner = web.ServerRunner(web.Server(forward, access_log=None))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        import uvloop

        uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
    except ImportError:
        asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
