"""The installed command in a process of its own: started, asked, told things, and ended, whatever the test did."""

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.system.proc import alive, children, descendants, holders, is_store, wait_gone

ROOT = Path(__file__).parents[2]
GATEWAY = [sys.executable, "-m", "gateway"]

Start = Callable[..., "Process"]

SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Metrics = dict[tuple[str, frozenset[tuple[str, str]]], float]


def quiet_port() -> int:
    """A free port that no client gets as its own: below where Linux takes those from."""
    while True:
        port = random.randint(12_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def sections(**parts: object) -> str:
    """Sections of a configuration: what JSON is, YAML is too."""
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in parts.items())


def proxy(port: int, **parts: object) -> str:
    """A configuration that sends everything to the upstream on `port`."""
    standard: dict[str, object] = {
        "upstreams": {"up": {"targets": [f"http://127.0.0.1:{port}"]}},
        "routes": [{"name": "all", "match": {"path": "/**"}, "upstream": "up"}],
        "logging": {"access": "off"},
        "wire": {"lame_duck": "100ms"},
    }
    return sections(**{**standard, **parts})


def command(*argv: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """A command that comes to an end."""
    return subprocess.run(
        [*GATEWAY, *argv], env={**os.environ, **changes}, capture_output=True, text=True, timeout=30, check=False
    )


class Process:
    """A running `gateway run`, ready to be asked."""

    def __init__(
        self,
        folder: Path,
        settings: str,
        *options: str,
        listen: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
        by: tuple[str, ...] = (),
        ready: bool = True,
    ) -> None:
        """`by` is a command that executes the one behind it; `ready`: wait until it is."""
        folder.mkdir(parents=True, exist_ok=True)
        self.port, self.admin = quiet_port(), quiet_port()
        self.listen: dict[str, object] = {
            "http": f"127.0.0.1:{self.port}",
            "admin": f"127.0.0.1:{self.admin}",
            **(listen or {}),
        }
        self.path = folder / "routes.yaml"
        self.configure(settings)
        self.errors, self.output = folder / "stderr", folder / "stdout"
        self.orphans: list[int] = []
        """Who may be left when the supervisor is not."""
        with self.errors.open("wb") as errors, self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*by, *GATEWAY, "run", "-c", str(self.path), *options],
                stdout=output, stderr=errors, env={**os.environ, **(environ or {})},
            )  # fmt: skip
        if ready:
            self.wait_for("listening on")

    @property
    def pid(self) -> int:
        return self.process.pid

    # -- its configuration and its words -------------------------------------------------------------

    def configure(self, settings: str, **listen: object) -> None:
        """Write the file, which is looked at with the next reload."""
        self.listen |= listen
        self.path.write_text(f"listen: {json.dumps(self.listen)}\n{settings}")

    def wait_for(self, text: str, times: int = 1) -> None:
        ends = time.monotonic() + 10
        while self.errors.read_text().count(text) < times:
            assert time.monotonic() < ends, f"{text!r} never came: {self.errors.read_text()}"
            assert self.process.poll() is None, self.errors.read_text()
            time.sleep(0.02)

    # -- questions -----------------------------------------------------------------------------------

    def ask(self, path: str = "/0") -> tuple[int, float]:
        """Status and seconds of a client's request."""
        began = time.monotonic()
        status, _ = fetch(f"http://127.0.0.1:{self.port}{path}")
        return status, time.monotonic() - began

    def operate(self, path: str, method: str = "GET") -> tuple[int, str]:
        """Status and body of an operator's request."""
        return fetch(f"http://127.0.0.1:{self.admin}{path}", method, {"X-Gateway-Client": "test"})

    def ready(self) -> int:
        return self.operate("/readyz")[0]

    def reload(self) -> tuple[int, dict[str, Any]]:
        """By the admin API: status, and what it says."""
        status, body = self.operate("/api/v1/reload", "POST")
        return status, json.loads(body)

    def metrics(self) -> Metrics:
        """One scrape."""
        status, body = self.operate("/metrics")
        assert status == 200
        found = (SAMPLE.match(line) for line in body.splitlines())
        return {(sample[1], frozenset(LABEL.findall(sample[2] or ""))): float(sample[3]) for sample in found if sample}

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples of a metric that have these labels."""
        return total(self.metrics(), name, **labels)

    def wait_metric(self, wanted: float, name: str, patience: float = 5.0, **labels: str) -> None:
        """Until the metric has this value."""
        ends = time.monotonic() + patience
        while (now := self.metric(name, **labels)) != wanted:
            assert time.monotonic() < ends, f"{name} is {now}, not {wanted}: {self.errors.read_text()[-2000:]}"
            time.sleep(0.02)

    # -- its processes -------------------------------------------------------------------------------

    def workers(self) -> list[int]:
        """The children that hold a socket for clients."""
        own = [pid for pid in children(self.pid) if not is_store(pid)]
        return holders(own, self.port)

    def wait_workers(self, count: int, but: int = 0) -> list[int]:
        """Until there are as many, `but` not among them."""
        ends = time.monotonic() + 10
        while len(found := self.workers()) != count or but in found:
            assert time.monotonic() < ends, f"workers {found}: {self.errors.read_text()[-2000:]}"
            time.sleep(0.02)
        return found

    def operator(self) -> int:
        (found,) = holders(children(self.pid), self.admin)
        return found

    def store(self) -> int:
        (found,) = [pid for pid in children(self.pid) if is_store(pid)]
        return found

    # -- its end -------------------------------------------------------------------------------------

    def stop(self, number: signal.Signals = signal.SIGTERM, patience: float = 10.0) -> int:
        """The exit status after a signal."""
        self.process.send_signal(number)
        return self.process.wait(patience)

    def kill(self) -> list[int]:
        """End the supervisor alone, as the kernel does when memory runs out; returns its children."""
        if self.process.poll() is None:
            self.orphans += descendants(self.pid)
        self.process.kill()
        self.process.wait(10)
        return self.orphans

    def end(self) -> None:
        """Nothing of it is left, however it was doing."""
        family = self.kill()
        for pid in family:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        assert wait_gone(family) == []


def fetch(url: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Status and body."""
    asked = urllib.request.Request(url, method=method, headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(asked, timeout=10) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read().decode()


def total(metrics: Metrics, name: str, **labels: str) -> float:
    """The sum of all samples of a metric that have these labels."""
    wanted = set(labels.items())
    return sum(value for (each, has), value in metrics.items() if each == name and wanted <= has)
