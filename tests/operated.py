"""A gateway as its operators see it: the real admin application around a real ledger, and around nothing else."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from aiohttp import web

from gateway.admin.app import admin_app
from gateway.admin.transitions import Transitions
from gateway.auth.ledger import Ledger
from gateway.config import Config
from gateway.process.mailbox import Mailbox
from gateway.process.notices import NoticeBoard
from gateway.telemetry.exposition import Scrape
from gateway.telemetry.tally import Readings
from gateway.telemetry.usage_store import UsageStore
from tests.configs import ROUTE, SECRET, UPSTREAM, loaded

CONFIGURED = "sha256:" + sha256(b"a key of globex").hexdigest()

AUTH = f"""\
auth:
  providers:
    idp: {{type: jwt, secret: {SECRET}, algorithms: [HS256]}}
    keys: {{type: api_key, header: X-API-Key}}
  consumers:
    acme: {{scopes: [orders:read]}}
    globex: {{keys: ['{CONFIGURED}']}}
  revocation: true
"""
NO_KEYS = AUTH.replace("    keys: {type: api_key, header: X-API-Key}\n", "    basic: {type: basic}\n")
NO_REVOCATION = AUTH.replace("revocation: true", "revocation: false")


def settings(folder: Path, auth: str = AUTH) -> Config:
    return loaded(folder, auth + UPSTREAM + ROUTE)


class Operated:
    """Implements gateway.admin.app.Instance; what its workers say is what the test puts into `said`."""

    def __init__(self, settings: Config, ledger: Ledger, notices: Path = Path("/nowhere/notices")) -> None:
        self.settings = settings
        self.ledger = ledger
        self.scrape = Scrape(list)
        self.token = ""
        self.jwks: bytes | None = None
        self.usage: UsageStore | None = None
        self.notices = notices
        self.board = NoticeBoard(notices)
        self.mailbox = Mailbox(notices.with_name("reports.sock"), self.board.post, tuple)
        self.transitions = Transitions()
        self.said: dict[str, Readings] = {}
        self.level = ""
        self.trusted: Callable[[object], bool] = lambda _: False

    def reasons(self) -> list[str]:
        return []

    def readings(self, *names: str) -> Mapping[str, Readings]:
        return {name: self.said.get(name, {}) for name in names}

    def probes(self) -> list[dict[str, Any]]:
        return []

    def alerts(self) -> list[dict[str, Any]]:
        return []

    def config(self) -> dict[str, Any]:
        return {}

    async def reload(self) -> dict[str, Any]:
        return {}

    async def drain(self) -> None:
        pass

    def trusts(self, context: object) -> bool:
        return self.trusted(context)

    async def set_log_level(self, level: str) -> None:
        self.level = level


@contextmanager
def operating(instance: Operated) -> Iterator[str]:
    """The URL at which it answers commands, which wait for it: so it runs in a thread of its own."""
    ready, address, over = threading.Event(), [""], asyncio.Event()

    async def serve() -> None:
        runner = web.AppRunner(admin_app(instance), shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0][:2]
            address[0] = f"http://{host}:{port}"
            ready.set()
            await over.wait()
        finally:
            await runner.cleanup()

    loop = asyncio.new_event_loop()

    def live() -> None:
        try:
            loop.run_until_complete(serve())
        finally:
            ready.set()  # if it failed nobody shall wait for it
            loop.close()

    thread = threading.Thread(target=live)
    thread.start()
    try:
        assert ready.wait(10)
        assert address[0]
        yield address[0]
    finally:
        if not loop.is_closed():
            loop.call_soon_threadsafe(over.set)
        thread.join(10)
