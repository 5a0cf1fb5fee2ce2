"""The demo's upstreams as processes of their own, which end with the demo however it ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

from gateway.cli.output import Failure

PATIENCE = 3.0
"""Seconds that an upstream gets to end by itself."""


class DemoUpstream:
    """One running upstream."""

    def __init__(self, name: str, host: str, port: int) -> None:
        self.name = name
        self.address = f"{host}:{port}"
        command = [
            sys.executable,
            "-m",
            "gateway.cli.demo_upstreams",
            "--host",
            host,
            "--with-parent",
            f"{name}={port}",
        ]
        # A pipe as its standard input: when this process dies, even by SIGKILL, the pipe closes and so it ends.
        # A session of its own: Ctrl-C reaches the gateway alone, which lets requests finish first.
        self._process = subprocess.Popen(  # noqa: S603 - our own module, with words that the configuration has checked
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self.pid = self._process.pid

    def wait_ready(self) -> None:
        """Raises Failure when it cannot listen."""
        assert self._process.stdout is not None
        state, _, said = self._process.stdout.readline().strip().partition(" ")
        if state != "ready":
            raise Failure(f"gateway demo: {said or f'{self.name} ended before it was ready'}")

    def stop(self) -> None:
        """Returns when it has ended."""
        process = self._process
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def stop_all(upstreams: Sequence[DemoUpstream]) -> None:
    """End them all; the last ones too when one makes trouble."""
    for upstream in upstreams:
        with suppress(OSError):
            upstream.stop()
