"""Under a service manager: it may bring the sockets, and it is told what the gateway does."""

import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.gateways import GATEWAY, Start, proxy, quiet_port, sections
from tests.system.load import Load
from tests.system.upstream import Upstream

LAUNCHER = """
import os, socket, sys
held = []
for address in sys.argv[1].split(","):
    if address.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(address[5:])
    else:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", int(address)))
    sock.listen(128)
    held.append(sock)
kept = [os.dup(sock.fileno()) for sock in held]  # above all numbers that are about to be taken
high = [os.dup2(number, 50 + place, inheritable=False) for place, number in enumerate(kept)]
for place, number in enumerate(high):
    os.dup2(number, 3 + place)
os.environ |= {"LISTEN_FDS": str(len(held)), "LISTEN_PID": str(os.getpid())}
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Binds, and executes the command with descriptors from 3 on, as systemd does."""


def launcher(*addresses: object) -> tuple[str, ...]:
    return sys.executable, "-c", LAUNCHER, ",".join(map(str, addresses))


class Manager:
    """A service manager that listens to what it is told."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(10)

    def told(self) -> dict[str, str]:
        """The next message."""
        return dict(line.split("=", 1) for line in self._socket.recv(4096).decode().splitlines())

    def close(self) -> None:
        self._socket.close()


@contextmanager
def manager(address: str) -> Iterator[Manager]:
    made = Manager(address)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told_what_happens(start: Start, upstream: Upstream, tmp_path: Path, abstract: bool):
    if abstract and sys.platform != "linux":
        pytest.skip("only Linux has sockets without files")
    with tempfile.TemporaryDirectory() as folder:
        address = f"@{Path(folder).name}-gateway" if abstract else f"{folder}/notify"
        with manager(address) as systemd:
            gateway = start(proxy(upstream.port, workers=2), environ={"NOTIFY_SOCKET": address}, ready=False)
            assert systemd.told() == {"READY": "1"}
            assert gateway.ready() == 200, "not before it was"
            gateway.process.send_signal(signal.SIGHUP)
            told = systemd.told()
            assert told["RELOADING"] == "1"
            assert int(told["MONOTONIC_USEC"]) > 0
            assert systemd.told() == {"READY": "1"}
            gateway.configure("routes: nonsense\n")
            gateway.process.send_signal(signal.SIGHUP)
            assert systemd.told()["RELOADING"] == "1"
            assert systemd.told() == {"READY": "1"}
            gateway.process.send_signal(signal.SIGTERM)
            assert systemd.told() == {"STOPPING": "1"}
            assert gateway.process.wait(10) == 0


def test_sockets_of_the_service_manager_are_served(start: Start, upstream: Upstream):
    port, admin = quiet_port(), quiet_port()
    listen = {"http": f"127.0.0.1:{port}", "admin": f"127.0.0.1:{admin}"}
    gateway = start(proxy(upstream.port, workers=2), listen=listen, by=launcher(port, admin))
    gateway.port, gateway.admin = port, admin
    with Load(port) as load:
        assert gateway.ready() == 200
        gateway.configure(proxy(upstream.port, workers=3))
        assert gateway.reload()[0] == 200
        assert gateway.ready() == 200
        load.go_on(20)
    load.check(20)
    assert gateway.metric("gateway_workers", state="ready") == 3
    assert gateway.stop() == 0


def test_a_unix_socket_of_the_service_manager_is_served(start: Start, upstream: Upstream):
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/http.sock"
        gateway = start(proxy(upstream.port, workers=2), listen={"http": f"unix:{path}"}, by=launcher(f"unix:{path}"))
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(path)
            client.sendall(b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200 ")
        assert gateway.ready() == 200


def test_a_socket_that_the_configuration_does_not_name_is_refused(tmp_path: Path):
    given, path = quiet_port(), tmp_path / "routes.yaml"
    path.write_text(sections(listen={"http": f"127.0.0.1:{quiet_port()}", "admin": "off"}) + proxy(9))
    words = [*launcher(given), *GATEWAY, "run", "-c", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"was started with a socket for 127.0.0.1:{given}, which `listen` does not name" in done.stderr
