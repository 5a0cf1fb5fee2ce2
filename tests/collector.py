"""An OTLP receiver on this machine: keeps the spans that come, and takes none that breaks the rules of the mapping."""

import asyncio
import json
import re
from typing import Any

from aiohttp import web

from tests.jwks import LocalServer

Span = dict[str, Any]

TRACE_ID, SPAN_ID = re.compile("(?!0{32})[0-9a-f]{32}"), re.compile("(?!0{16})[0-9a-f]{16}")
NUMBER = re.compile("-?[0-9]{1,19}")
KNOWN = {
    "traceId", "spanId", "parentSpanId", "traceState", "flags", "name", "kind", "startTimeUnixNano",
    "endTimeUnixNano", "attributes", "status",
}  # fmt: skip


def attributes(span: Span) -> dict[str, str | int]:
    """By name; checks that each has one value of a known type, and that none is there twice."""
    found: dict[str, str | int] = {}
    for each in span.get("attributes", []):
        assert each.keys() == {"key", "value"}
        ((kind, value),) = each["value"].items()
        assert kind in ("stringValue", "intValue"), kind
        assert isinstance(value, str), "64-bit numbers are texts in the mapping"
        assert kind == "stringValue" or NUMBER.fullmatch(value)
        assert each["key"] not in found
        found[each["key"]] = int(value) if kind == "intValue" else value
    return found


def check(span: Span) -> None:
    """The rules of the JSON mapping: ids in hexadecimal, enums as numbers, 64-bit numbers as texts, known names."""
    assert span.keys() <= KNOWN, span.keys() - KNOWN
    assert TRACE_ID.fullmatch(span["traceId"])
    assert SPAN_ID.fullmatch(span["spanId"])
    assert "parentSpanId" not in span or SPAN_ID.fullmatch(span["parentSpanId"])
    assert span["name"]
    assert span["kind"] in (1, 2, 3)
    assert span.get("status", {"code": 2}) == {"code": 2}
    start, end = span["startTimeUnixNano"], span["endTimeUnixNano"]
    assert NUMBER.fullmatch(start)
    assert NUMBER.fullmatch(end)
    assert int(start) <= int(end)
    attributes(span)


def spans_in(body: bytes) -> tuple[dict[str, str | int], list[Span]]:
    """The resource and the spans of a request."""
    whole = json.loads(body)
    assert whole.keys() == {"resourceSpans"}
    (of_resource,) = whole["resourceSpans"]
    (of_scope,) = of_resource["scopeSpans"]
    for span in of_scope["spans"]:
        check(span)
    return attributes(of_resource["resource"]), of_scope["spans"]


class Receiver(LocalServer):
    """Takes spans, unless `answer` takes over."""

    def __init__(self) -> None:
        super().__init__()
        self.spans: list[Span] = []
        self.resources: list[dict[str, str | int]] = []
        self.requests: list[web.Request] = []
        self.broken: list[str] = []

    async def spans_come(self, count: int) -> list[Span]:
        """Wait until so many are there."""
        async with asyncio.timeout(5):
            while len(self.spans) < count:
                await asyncio.sleep(0.01)
        assert self.broken == []
        return self.spans

    def of(self, trace_id: str) -> list[Span]:
        return [span for span in self.spans if span["traceId"] == trace_id]

    async def _reply(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        self.requests.append(request)
        body = await request.read()
        if self.answer is not None:
            return await self.answer(request)
        try:
            assert request.content_type == "application/json"
            resource, spans = spans_in(body)
        except (AssertionError, KeyError, ValueError) as error:
            self.broken.append(repr(error))
            return web.Response(status=400)
        self.resources.append(resource)
        self.spans += spans
        return web.json_response({})
