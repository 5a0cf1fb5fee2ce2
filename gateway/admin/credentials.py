"""The admin API for what operators decide while the gateway runs: API keys, and revocations.

A key is told once, in the answer that makes it. Lists show the beginning of its hash: enough to find it, and no more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.admin.answers import Refusal, answer, concerning, invalid, members, problem
from gateway.admin.times import instant, written
from gateway.auth.ledger import LedgerError, NewKey
from gateway.auth.records import Revocation, StoredKey
from gateway.config.complaints import hint, show
from gateway.config.syntax import text
from gateway.config.units import duration, positive_duration

if TYPE_CHECKING:
    from gateway.admin.app import Instance

SHOWN = 12
"""Digits of a hash in lists: as many as tell any two keys apart."""

TOKEN_ID_KEPT = 30 * 86400.0
"""Seconds. Few tokens live longer, and a list of ids that nobody ever shortens grows for ever."""

LEDGER_SAYS = {
    404: ("not_found", "There is none with this id"),
    409: ("conflict", "Not possible"),
    503: ("store_unavailable", "The store is away"),
}
NO_STORE = {"Cache-Control": "no-store"}

T = TypeVar("T")


class Credentials:
    """The endpoints of one instance."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def routes(self) -> list[web.RouteDef]:
        """All of them."""
        return [
            web.get("/api/v1/keys", _told(self.list_keys)),
            web.post("/api/v1/keys", _told(self.make_key)),
            web.post("/api/v1/keys/{id}/rotate", _told(self.rotate_key)),
            web.delete("/api/v1/keys/{id}", _told(self.revoke_key)),
            web.get("/api/v1/revocations", _told(self.list_revocations)),
            web.post("/api/v1/revocations", _told(self.revoke)),
            web.delete("/api/v1/revocations/{id}", _told(self.lift)),
        ]

    async def list_keys(self, _: web.Request) -> web.Response:
        ledger = self._instance.ledger
        keys = [*self._configured(), *map(_stored, ledger.keys())]
        return answer(200, {"keys": keys, "durable": ledger.durable})

    async def make_key(self, request: web.Request) -> web.Response:
        sent = await members(request, {"consumer": _filled, "expires": positive_duration, "note": text}, "consumer")
        self._check_that_keys_are_used()
        consumer, known = sent["consumer"], self._instance.settings.auth.consumers
        if consumer not in known:
            raise invalid(f"consumer: there is no consumer {show(consumer)}{hint(consumer, known)}")
        concerning(request, consumer=consumer)
        made = await _kept(
            self._instance.ledger.create_key(consumer, lifetime=sent.get("expires"), note=sent.get("note", ""))
        )
        concerning(request, key=made.record.id)
        return answer(201, self._shown_once(made), NO_STORE)

    async def rotate_key(self, request: web.Request) -> web.Response:
        sent = await members(request, {"overlap": duration})
        self._check_that_keys_are_used()
        replaced = request.match_info["id"]
        old = self._found(replaced)
        if old is not None and old.consumer not in self._instance.settings.auth.consumers:
            raise _conflict(f"its consumer {show(old.consumer)} is not in the configuration any more")
        made = await _kept(self._instance.ledger.rotate_key(replaced, **sent))
        concerning(request, key=made.record.id, consumer=made.record.consumer)
        old = self._found(replaced)  # without any overlap it has ended already
        ends = _time(old.expires if old is not None else made.record.created)
        return answer(201, {**self._shown_once(made), "replaces": {"id": replaced, "expires": ends}}, NO_STORE)

    async def revoke_key(self, request: web.Request) -> web.Response:
        await members(request, {})
        return answer(200, {"revoked": _stored(await self._instance.ledger.revoke_key(request.match_info["id"]))})

    async def list_revocations(self, _: web.Request) -> web.Response:
        ledger = self._instance.ledger
        said = {
            "revocations": [_revoked(each) for each in ledger.revocations()],
            "durable": ledger.durable,
            "in_force": self._instance.settings.auth.revocation,
        }
        return answer(200, said)

    async def revoke(self, request: web.Request) -> web.Response:
        readers = {"jti": _filled, "consumer": _filled, "issued_before": instant, "provider": _filled, "for": _lifetime}
        sent = await members(request, readers)
        concerning(request, jti=sent.get("jti"), consumer=sent.get("consumer"), provider=sent.get("provider"))
        lifetime = sent.pop("for", TOKEN_ID_KEPT if "jti" in sent else None)
        known = self._instance.settings.auth.providers
        if (provider := sent.get("provider", "")) and provider not in known:
            raise invalid(f"provider: there is no provider {show(provider)}{hint(provider, known)}")
        if not self._instance.settings.auth.revocation:
            raise _conflict("auth.revocation is off in the configuration: nobody would look at the list")
        ledger = self._instance.ledger
        made = await _kept(ledger.revoke(lifetime=lifetime, **sent))
        concerning(request, revocation=made.id)
        return answer(201, {**_revoked(made), "durable": ledger.durable, **self._doubt(made.consumer)})

    async def lift(self, request: web.Request) -> web.Response:
        await members(request, {})
        return answer(200, {"lifted": _revoked(await self._instance.ledger.lift(request.match_info["id"]))})

    def _doubt(self, consumer: str) -> dict[str, str]:
        """A hint, where the name is nearly that of a configured consumer; it may be right, for tokens name others."""
        known = self._instance.settings.auth.consumers
        near = hint(consumer, known) if consumer and consumer not in known else ""
        return {"hint": f"no consumer {show(consumer)} is configured{near}"} if near else {}

    def _check_that_keys_are_used(self) -> None:
        if not any(each.type == "api_key" for each in self._instance.settings.auth.providers.values()):
            raise _conflict("the configuration has no provider of type api_key: nobody would look at a key")

    def _found(self, id: str) -> StoredKey | None:
        keys = self._instance.ledger.keys()
        return next((key for key in keys if key.id == id), None)

    def _configured(self) -> Iterator[dict[str, Any]]:
        for name, consumer in self._instance.settings.auth.consumers.items():
            for key in consumer.keys:
                yield _key(None, name, key, "config")

    def _shown_once(self, made: NewKey) -> dict[str, Any]:
        record = made.record
        return {
            "id": record.id,
            "key": made.key,
            "hash": record.digest,
            "consumer": record.consumer,
            "expires": _time(record.expires),
            "durable": self._instance.ledger.durable,
        }


def _told(act: Callable[[web.Request], Awaitable[web.Response]]) -> Handler:
    """`act`, with what it refuses, and what the ledger does, as problem details."""

    async def handle(request: web.Request) -> web.Response:
        try:
            return await act(request)
        except Refusal as refusal:
            status, code, title, detail = refusal.status, refusal.code, refusal.title, str(refusal)
        except LedgerError as error:
            status, detail = error.status, str(error)
            code, title = LEDGER_SAYS[status]
        return problem(status, code, title, detail=detail)

    return handle


async def _kept(change: Awaitable[T]) -> T:
    """What the ledger makes of a change. Raises Refusal for its own limits: how long a note may be, for example."""
    try:
        return await change
    except ValueError as error:
        raise invalid(str(error)) from None


def _conflict(detail: str) -> Refusal:
    return Refusal(409, *LEDGER_SAYS[409], detail)


def _filled(value: object) -> str:
    if not text(value):
        raise ValueError("is empty")
    return str(value)


def _lifetime(value: object) -> float | None:
    """None: until it is lifted."""
    if value == "none":
        return None
    try:
        return positive_duration(value)
    except ValueError as error:
        raise ValueError(f"{error}, or none") from None


def _stored(key: StoredKey) -> dict[str, Any]:
    times = {"created": _time(key.created), "expires": _time(key.expires)}
    return {**_key(key.id, key.consumer, key.digest, "store"), **times, "note": key.note}


def _key(id: str | None, consumer: str, digest: str, source: str) -> dict[str, Any]:
    beginning = digest[: len("sha256:") + SHOWN] + "…"
    return {
        "id": id,
        "consumer": consumer,
        "hash": beginning,
        "source": source,
        "created": None,
        "expires": None,
        "note": "",
    }


def _revoked(each: Revocation) -> dict[str, Any]:
    """Null is any."""
    return {
        "id": each.id,
        "jti": each.jti or None,
        "consumer": each.consumer or None,
        "provider": each.provider or None,
        "issued_before": _time(each.issued_before),
        "created": _time(each.created),
        "expires": _time(each.expires),
    }


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else written(seconds)
