"""A route with versions, CORS, compression and changed paths in the installed command, errors included."""

import gzip
import http.client
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from tests.system.gateways import Process, Start, command, sections
from tests.system.upstream import Upstream

PAGE = "https://app.example.com"
LONG = "/api/" + "x" * 2000
SOON = 4.0
"""Seconds to the sunset of v1: enough for a gateway to start and to be asked once."""

Answer = tuple[int, dict[str, str], bytes]
Ask = Callable[..., Answer]


def settings(one: Upstream, two: Upstream, sunset: float = 3600.0, shares: tuple[int, int] = (50, 50)) -> str:
    """v1 goes away in `sunset` seconds, v2 is shared by both upstreams."""
    end = datetime.fromtimestamp(int(time.time() + sunset), UTC).isoformat()
    old = {"upstream": "one", "deprecated": "2026-01-01", "sunset": end, "successor": "v2"}
    new = {"split": dict(zip(("one", "two"), shares, strict=True)), "split_by": "cookie:session"}
    route = {
        "name": "api",
        "match": {"path": "/api/**"},
        "versions": {
            "from": ["path", "header"],
            "header": "X-Version",
            "default": "v2",
            "aliases": {"latest": "v2"},
            "available": {"v1": old, "v2": new},
        },
        "cors": {"origins": [PAGE], "credentials": True, "expose": ["X-API-Version"]},
        "compress": {"min_size": "100B"},
        "body_limit": "100B",
        "transform": {
            "strip_prefix": "/api",
            # What this upstream says has no type, and would not be compressed.
            "response_headers": {"set": {"Content-Type": "text/plain", "X-Path": "{path}"}},
        },
    }
    targets = {
        name: {"targets": [f"http://127.0.0.1:{up.port}"], "retry": "off", "breaker": "off"}
        for name, up in (("one", one), ("two", two))
    }
    return sections(
        upstreams=targets,
        routes=[route],
        security_headers=True,
        logging={"access": "json"},
        wire={"lame_duck": "100ms"},
    )


def asking(gateway: Process) -> Ask:
    """Asks with these headers: status, header fields (lowercase, repeated ones joined) and body."""

    def ask(path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            reply = connection.getresponse()
            fields: dict[str, str] = {}
            for name, value in reply.getheaders():
                fields[name.lower()] = f"{fields[name.lower()]}, {value}" if name.lower() in fields else value
            return reply.status, fields, reply.read()
        finally:
            connection.close()

    return ask


def readable(fields: dict[str, str]) -> bool:
    """Whether the page may read this reply, and with it the version."""
    return (
        fields.get("access-control-allow-origin") == PAGE
        and fields["access-control-allow-credentials"] == "true"
        and fields["access-control-expose-headers"] == "X-API-Version"
        and "origin" in fields["vary"].lower()
    )


def logged(gateway: Process, status: int) -> dict[str, Any]:
    """The first line of the access log with this status; lines are written a moment later."""
    ends = time.monotonic() + 5
    while True:
        *lines, _ = gateway.output.read_text().split("\n")
        found = [line for line in map(json.loads, lines) if line["status"] == status]
        if found:
            line: dict[str, Any] = found[0]
            return line
        assert time.monotonic() < ends, lines
        time.sleep(0.02)


def test_a_page_reads_a_versioned_compressed_reply_and_every_error(start: Start, upstream: Upstream) -> None:
    with Upstream() as other:
        gateway = start(settings(upstream, other))
        ask = asking(gateway)
        status, fields, body = ask(f"/v1{LONG}", Origin=PAGE, Accept_Encoding="gzip")
        assert (status, fields["x-api-version"], fields["content-encoding"]) == (200, "v1", "gzip")
        assert gzip.decompress(body).decode() == LONG.removeprefix("/api")
        assert fields["x-path"] == LONG
        assert readable(fields)
        assert "accept-encoding" in fields["vary"]
        assert fields["deprecation"] == "@1767225600"
        assert parsedate_to_datetime(fields["sunset"]).timestamp() > time.time()
        assert fields["link"] == f'</v2{LONG}>; rel="successor-version"'
        assert fields["x-frame-options"] == "SAMEORIGIN"

        for path, more, wanted, code in (
            ("/v9/api/a", {}, 404, "unknown_version"),
            ("/api/a", {"X_Version": "v9"}, 400, "unknown_version"),
            ("/v1/api/a", {"X_Version": "v2"}, 400, "bad_request"),
            ("/v1/api/a", {"method": "POST", "body": b"x" * 101}, 413, "body_too_large"),
        ):
            status, fields, body = ask(path, Origin=PAGE, **more)
            assert (status, json.loads(body)["code"]) == (wanted, code)
            assert readable(fields), path
            assert fields["x-frame-options"] == "DENY"
            assert fields["x-content-type-options"] == "nosniff"
            assert ("deprecation" in fields) == (wanted == 413), "only what is asked of v1 is told of its end"

        status, fields, body = ask(
            "/v1/api/a", "OPTIONS", Origin=PAGE, Access_Control_Request_Method="PUT", Accept_Encoding="gzip"
        )
        assert (status, body, fields["access-control-allow-origin"]) == (204, b"", PAGE)
        assert "PUT" in fields["access-control-allow-methods"]
        status, fields, _ = ask("/v1/api/a", Origin="https://evil.example")
        assert status == 200
        assert "access-control-allow-origin" not in fields

        assert logged(gateway, status=404)["path"] == "/v9/api/a", "as it was asked for: there is no such version"
        counted = [dict(labels) for name, labels in gateway.metrics() if name == "gateway_requests_total"]
        assert {labels["version"] for labels in counted} == {"", "v1"}, "whatever was asked for"

    answers = [ask("/api/a", Origin=PAGE, Cookie=f"session={number}") for number in range(20)]
    assert {status for status, _, _ in answers} == {200, 502}, "the second upstream is gone"
    assert all(readable(fields) and fields["x-api-version"] == "v2" for _, fields, _ in answers)


def test_a_version_ends_while_the_gateway_runs(start: Start, upstream: Upstream) -> None:
    began = time.time()
    gateway = start(settings(upstream, upstream, sunset=SOON))
    ask = asking(gateway)
    status, fields, _ = ask("/v1/api/a", Origin=PAGE)
    if time.time() >= began + SOON - 1:
        pytest.skip("this machine is too slow to see it alive")
    assert status == 200
    while (answer := ask("/v1/api/a", Origin=PAGE))[0] == 200:
        assert time.time() < began + SOON + 2, "it never ended"
        time.sleep(0.1)
    assert time.time() >= began + SOON - 1, "an hour too early is too early, and so is a second"
    status, gone, body = answer
    problem = json.loads(body)
    assert (status, problem["code"], problem["version"], problem["successor"]) == (410, "version_gone", "v1", "v2")
    assert (gone["sunset"], gone["link"]) == (fields["sunset"], fields["link"])
    assert readable(gone)
    assert ask("/latest/api/a")[0] == 200
    refusals = json.loads(ask("/v9/api/a")[2])
    assert refusals["versions"] == ["v2"], "nobody is sent to what has ended"


def test_callers_of_a_split_version_stay_where_they_are_when_weights_change(start: Start, upstream: Upstream) -> None:
    with Upstream() as other:
        gateway = start(settings(upstream, other))
        ask = asking(gateway)

        def went() -> dict[int, bool]:
            """Which sessions are answered by the second."""
            found = {}
            for number in range(40):
                before = other.requests
                assert ask("/api/a", Cookie=f"session={number}")[0] == 200
                found[number] = other.requests > before
            return found

        first = went()
        assert first == went()
        gateway.configure(settings(upstream, other, shares=(50, 150)))
        assert gateway.reload()[0] == 200
        then = went()
        assert sum(then.values()) > sum(first.values())
        assert all(then[number] for number, second in first.items() if second), "nobody moves back"


def test_what_cannot_be_meant_stops_the_start_with_its_place(start: Start, upstream: Upstream) -> None:
    gateway = start(settings(upstream, upstream))
    good = gateway.path.read_text()
    gateway.path.write_text(good.replace('"successor": "v2"', '"successor": "v7"'))
    said = command("check", "-c", str(gateway.path))
    assert said.returncode != 0
    place = f"{gateway.path}:{2 + good.splitlines()[1:].index(next(x for x in good.splitlines() if 'successor' in x))}:"
    assert place in said.stdout + said.stderr
    assert "successor: there is no version 'v7'" in said.stdout + said.stderr
    assert gateway.reload()[0] != 200
    assert asking(gateway)("/v2/api/a")[0] == 200, "and what runs goes on"
