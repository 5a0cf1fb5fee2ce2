"""A line of the access log in the Elastic Common Schema: the facts of `access_log.py` under Elastic's names.

Objects are nested, as ECS asks for where nobody expands dots on the way. What it has no name for is below `gateway`.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from operator import itemgetter
from typing import Any

import orjson

from gateway.exchange import Call
from gateway.logs.access_log import Line

VERSION = "8.17.0"
"""Of the schema."""

OWN = (
    *("route", "version", "provider", "reason", "own_ms", "upstream", "target", "tries", "upstream_ms"),
    *("auth", "limit", "fallback", "hops", "headers", "sampled"),
)
"""What stands below `gateway` under the same name."""

own_of = itemgetter(*OWN)


class Ecs:
    """Renders lines of one service. Makes its objects once and fills them for each line."""

    def __init__(self, service: str) -> None:
        self._event: dict[str, Any] = {
            "kind": "event",
            "category": ["web"],
            "type": ["access"],
            "module": "gateway",
            "dataset": "gateway.access",
        }
        self._request: dict[str, Any] = {"body": {}}
        self._response: dict[str, Any] = {"body": {}}
        self._http: dict[str, Any] = {"version": None, "request": self._request, "response": self._response}
        self._own: dict[str, Any] = {}
        self._line: dict[str, Any] = {
            "@timestamp": "",
            "ecs": {"version": VERSION},
            "service": {"name": service, "type": "gateway"},
            "event": self._event,
            "http": self._http,
            "url": {},
            "client": {},
            "source": {},
            "user": {},
            "user_agent": {},
            "trace": {},
            "error": {},
            "gateway": self._own,
        }

    def __call__(self, line: Line, call: Call) -> bytes:
        """One JSON object."""
        out, event, request, response = self._line, self._event, self._request, self._response
        out["@timestamp"] = line["time"]
        event["outcome"] = "success" if call.error is None and line["status"] < 400 else "failure"
        event["duration"] = int(line["duration_ms"] * 1e6)  # nanoseconds
        event["reason"] = line["reason"]
        self._http["version"] = call.request.fields.version
        request["id"] = line["id"]
        request["method"] = line["method"]
        request["body"]["bytes"] = line["bytes_in"]
        response["status_code"] = line["status"]
        response["body"]["bytes"] = line["bytes_out"]
        out["url"]["path"] = line["path"]
        out["client"] = _party(call.client_ip)
        out["source"] = _party(call.request.peer.address)
        out["user"]["name"] = line["consumer"]
        out["user_agent"]["original"] = line["user_agent"]
        out["trace"]["id"] = line["trace_id"]
        out["error"]["code"] = line["code"]
        self._own.update(zip(OWN, own_of(line), strict=True))
        return orjson.dumps(out, option=orjson.OPT_APPEND_NEWLINE)


@lru_cache(maxsize=1024)
def _party(address: str) -> dict[str, str | None]:
    """`ip` must be one for Elasticsearch; `unix` is not, nor is a zone (`fe80::1%eth0`) part of one."""
    try:
        ip: str | None = str(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        ip = None
    return {"address": address, "ip": ip}
