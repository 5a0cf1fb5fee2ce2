"""The admin API for what went wrong last and what took longest, each with what it means and where to look."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from gateway.admin.answers import answer, invalid, parameters
from gateway.telemetry.recent import SHOWN
from gateway.telemetry.wanted import wanted

if TYPE_CHECKING:
    from gateway.admin.app import Instance


class Errors:
    """The endpoints; all of them only look."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/api/v1/errors", self._errors), web.get("/api/v1/slowest", self._slowest)]

    async def _errors(self, request: web.Request) -> web.Response:
        filters = [(name, said) for name, said in request.query.items() if name != "limit"]
        try:
            only, limit = wanted(filters), _limit(*request.query.getall("limit", [str(SHOWN)]))
        except ValueError as error:
            raise invalid(str(error)) from None
        return answer(200, {"errors": self._instance.mailbox.recent.errors(only, limit)})

    async def _slowest(self, request: web.Request) -> web.Response:
        parameters(request, {})  # those of errors mean nothing here
        mailbox = self._instance.mailbox
        return answer(200, {"slowest": mailbox.recent.slowest(mailbox.clock())})


def _limit(said: str, *more: str) -> int:
    if more:
        raise ValueError("limit: is there twice")
    if not (said.isascii() and said.isdigit() and len(said) < 5 and 1 <= int(said) <= SHOWN):
        raise ValueError(f"limit: is not a number from 1 to {SHOWN}")
    return int(said)
