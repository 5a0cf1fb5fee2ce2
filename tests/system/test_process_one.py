"""The gateway as process 1 of a container: the kernel hands it orphans, and no signal has a default there."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.system.gateways import Start, proxy
from tests.system.proc import children
from tests.system.upstream import Upstream

ORPHANS = 3
BECOME_ONE = ("unshare", "--pid", "--fork", "--kill-child=KILL", "--")


def can_unshare() -> bool:
    return shutil.which("unshare") is not None and not subprocess.call([*BECOME_ONE, "true"], stderr=subprocess.DEVNULL)


@pytest.mark.skipif(not can_unshare(), reason="needs unshare(1) and the right to make a PID namespace")
def test_as_process_one_it_collects_orphans_and_ends_in_order(start: Start, upstream: Upstream, tmp_path: Path) -> None:
    # A shell that leaves orphans behind and then becomes the gateway.
    leaving = tmp_path / "leaving"
    leaving.write_text("#!/bin/sh\n" + "(sleep 3 &)\n" * ORPHANS + 'exec "$@"\n')
    leaving.chmod(0o755)
    gateway = start(proxy(upstream.port, workers=2), by=(*BECOME_ONE, str(leaving)))
    (one,) = children(gateway.pid)
    assert len(children(one)) >= 3 + ORPHANS, "two workers, the operator, and the orphans"
    ends = time.monotonic() + 5
    while len(children(one)) != 3:
        assert time.monotonic() < ends, f"not collected: {children(one)}"
        time.sleep(0.05)
    assert gateway.ask()[0] == 200
    os.kill(one, signal.SIGTERM)
    assert gateway.process.wait(10) == 0
