"""A real Prometheus looks at two workers under load, while processes are killed: it sees what clients have sent.

Its first look comes five seconds after its start, whatever its settings.
"""

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.system.gateways import Process, Start, fetch, proxy, quiet_port
from tests.system.load import Load, figure
from tests.system.proc import needs_proc
from tests.system.upstream import Upstream

PROGRAM = shutil.which("prometheus")

pytestmark = [
    needs_proc,
    pytest.mark.skipif(PROGRAM is None, reason="no `prometheus` on PATH (Debian has a package of this name)"),
]

KILLS = 2
EVERY = 0.4
"""Seconds between two scrapes."""
PATIENCE = 8.0

ROUTES = [
    {"name": "items", "match": {"path": "/items/**"}, "upstream": "up"},
    {"name": "missing", "match": {"path": "/status/404/**"}, "upstream": "up"},
    {"name": "closed", "match": {"path": "/closed/**"}, "respond": {"status": 410}},
]
LOADS = {
    ("items", "200"): "/items",
    ("missing", "404"): "/status/404",
    ("closed", "410"): "/closed",
    ("none", "404"): "/no",
}
"""What is asked for, by route and status."""


class Prometheus:
    """Running, and looking at one gateway."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def ask(self, path: str, **parameters: object) -> Any:
        status, body = fetch(f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        assert status == 200, body
        return json.loads(body)["data"]

    def query(self, text: str) -> dict[tuple[str, ...], float]:
        """The values now, by those of their labels."""
        found = self.ask("query", query=text)["result"]
        return {tuple(value for _, value in sorted(each["metric"].items())): float(each["value"][1]) for each in found}

    def over_time(self, text: str, seconds: float) -> list[float]:
        """All values of all series in that many last seconds."""
        now = float(self.ask("query", query="time()")["result"][1])  # by its own clock
        found = self.ask("query_range", query=text, start=now - seconds, end=now, step=EVERY)["result"]
        return [float(value) for each in found for _, value in each["values"]]

    def wait_for(self, wanted: dict[tuple[str, ...], float], text: str) -> None:
        ends = time.monotonic() + PATIENCE
        while (found := self.query(text)) != wanted:
            assert time.monotonic() < ends, f"{text} is {found}, not {wanted}"
            time.sleep(0.1)

    def ready(self) -> bool:
        try:
            return fetch(f"{self._url}/-/ready")[0] == 200
        except OSError:
            return False


@contextmanager
def looking_at(gateway: Process, folder: Path) -> Iterator[Prometheus]:
    assert PROGRAM is not None
    config, said, port = folder / "prometheus.yml", folder / "prometheus.log", quiet_port()
    job = {"job_name": "gateway", "static_configs": [{"targets": [f"127.0.0.1:{gateway.admin}"]}]}
    times = {"scrape_interval": f"{int(EVERY * 1000)}ms", "scrape_timeout": f"{int(EVERY * 1000)}ms"}
    config.write_text(json.dumps({"global": times, "scrape_configs": [job]}))
    options = [f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}", "--log.level=warn"]
    options.append("--enable-feature=exemplar-storage")
    with said.open("wb") as log:
        process = subprocess.Popen(
            [PROGRAM, *options, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log
        )
    try:
        prometheus, ends = Prometheus(port), time.monotonic() + 10
        while not prometheus.ready():
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < ends, said.read_text()
            time.sleep(0.05)
        yield prometheus
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def load(gateway: Process, sent: Counter[tuple[str, ...]]) -> None:
    """Requests of all kinds; adds to `sent` how many of each there were."""
    for kind, path in LOADS.items():
        with Load(gateway.port, path=path, fine=int(kind[1]), kept=4, fresh=4, pause=0.01) as clients:
            clients.go_on(150)
        if kind != ("closed", "410"):
            clients.check()
        sent[kind] += clients.answers[int(kind[1])]
        assert clients.asked == clients.answers[int(kind[1])]


def counters(prometheus: Prometheus) -> list[str]:
    """The names of all series that never go back."""
    metadata = prometheus.ask("targets/metadata", match_target='{job="gateway"}')
    known = {each["metric"]: each["type"] for each in metadata}
    names = []
    for name in prometheus.ask("label/__name__/values"):
        family, _, part = name.rpartition("_")
        if (part == "total" and known.get(family) == "counter") or known.get(family) == "histogram":
            names.append(name)
    return names


def test_what_prometheus_sums_up_is_what_was_sent_although_processes_are_killed(
    start: Start, upstream: Upstream, tmp_path: Path
) -> None:
    began = time.monotonic()
    gateway = start(proxy(upstream.port, workers=2, routes=ROUTES))
    sent: Counter[tuple[str, ...]] = Counter()
    with looking_at(gateway, tmp_path) as prometheus:
        load(gateway, sent)
        prometheus.wait_for({(): 1.0}, "sum(up)")
        load(gateway, sent)
        for _ in range(KILLS):
            gateway.wait_metric(sent.total(), "gateway_requests_total")  # no request is under way any more
            (victim, *_) = gateway.wait_workers(2)
            os.kill(victim, signal.SIGKILL)
            gateway.wait_workers(2, but=victim)
            load(gateway, sent)
        assert gateway.reload()[0] == 200
        load(gateway, sent)
        wanted = {kind: float(count) for kind, count in sent.items()}
        prometheus.wait_for(wanted, "sum by (route, status) (gateway_requests_total)")

        by_route = Counter[tuple[str, ...]]()
        for (route, _), count in sent.items():
            by_route[(route,)] += count
        durations = prometheus.query("sum by (route) (gateway_request_duration_seconds_count)")
        assert durations == {kind: float(count) for kind, count in by_route.items()}
        assert list(prometheus.query("sum(gateway_worker_restarts_total)").values()) == [KILLS]

        assert min(prometheus.over_time("up", time.monotonic() - began)) == 1.0
        os.kill(gateway.operator(), signal.SIGKILL)  # who answers the scrapes: one of them may come to nothing
        gateway.wait_for("the operator process (pid")
        load(gateway, sent)
        wanted = {kind: float(count) for kind, count in sent.items()}
        prometheus.wait_for(wanted, "sum by (route, status) (gateway_requests_total)")

        took, names = time.monotonic() - began, counters(prometheus)
        assert {"gateway_requests_total", "gateway_request_duration_seconds_bucket", "process_cpu_seconds_total"} <= {
            *names
        }
        for name in names:
            assert set(prometheus.over_time(f"resets({name}[{int(took) + 5}s])", took)) == {0.0}, name
        (target,) = prometheus.ask("targets")["activeTargets"]
        assert target["lastError"] == ""
        (scrapes,) = prometheus.query(f"count_over_time(up[{int(took) + 5}s])").values()
        figure(f"{sent.total()} requests, {KILLS} kills, {scrapes} scrapes, {len(names)} counters without a reset")
        assert scrapes > 5


def test_prometheus_leads_from_a_latency_to_its_trace(start: Start, upstream: Upstream, tmp_path: Path) -> None:
    tracing = {"otlp": f"http://127.0.0.1:{upstream.port}", "sample": "0%", "slow": "off"}  # it takes whatever it gets
    gateway = start(proxy(upstream.port, workers=2, tracing=tracing))
    recorded, other = "0af7651916cd43dd8448eb211c80319c", "00000000000000000000000000000bad"
    for trace, flag in ((other, "00"), (recorded, "01")):
        parent = {"traceparent": f"00-{trace}-b7ad6b7169203331-{flag}"}
        assert fetch(f"http://127.0.0.1:{gateway.port}/orders", headers=parent)[0] == 200
    with looking_at(gateway, tmp_path) as prometheus:
        text, ends = "gateway_request_duration_seconds_bucket", time.monotonic() + PATIENCE
        while not (
            found := prometheus.ask("query_exemplars", query=text, start=time.time() - 60, end=time.time() + 60)
        ):
            assert time.monotonic() < ends, text
            time.sleep(0.1)
    ((exemplar,),) = [each["exemplars"] for each in found]
    assert exemplar["labels"] == {"trace_id": recorded}
    assert abs(exemplar["timestamp"] - time.time()) < 60
    (series,) = [each["seriesLabels"] for each in found]
    assert (series["route"], series["method"], series["status_class"]) == ("all", "GET", "2xx")
    assert 0 < float(exemplar["value"]) <= float(series["le"])
