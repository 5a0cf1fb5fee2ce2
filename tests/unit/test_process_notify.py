"""Towards systemd, played by sockets; what is inherited under fixed numbers is tried in a process of its own."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.process.notify import SUCCESSION, inherited_sockets, notify


def manager(address: str) -> socket.socket:
    """A service manager that listens at `address`."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.settimeout(2)
    listener.bind(address)
    return listener


def test_a_service_manager_is_told_at_its_path(tmp_path: Path) -> None:
    with manager(str(tmp_path / "notify")) as listener:
        notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "notify")})
        notify("RELOADING=1\nMONOTONIC_USEC=5", {"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert [listener.recv(100), listener.recv(100)] == [b"READY=1", b"RELOADING=1\nMONOTONIC_USEC=5"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names without files")
def test_a_service_manager_is_told_in_the_abstract_namespace() -> None:
    name = f"gateway-test-{os.getpid()}"
    with manager("\0" + name) as listener:
        notify("STOPPING=1", {"NOTIFY_SOCKET": "@" + name})
        assert listener.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("address", ["", "/nowhere/at/all", "@nobody-listens-here", "/" + "x" * 300])
def test_without_a_manager_that_listens_nothing_happens(address: str) -> None:
    notify("READY=1", {"NOTIFY_SOCKET": address})
    notify("READY=1", {})


def test_the_manager_stays_known_for_the_next_message(tmp_path: Path) -> None:
    environ = {"NOTIFY_SOCKET": str(tmp_path / "nobody")}
    notify("READY=1", environ)
    assert environ == {"NOTIFY_SOCKET": str(tmp_path / "nobody")}


ACTIVATED = """
import os, socket, sys
from gateway.process.notify import inherited_sockets
made = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
ports = [sock.getsockname()[1] for sock in made]
copies = [os.dup(sock.fileno()) for sock in made]
high = [os.dup2(copy, 100 + number) for number, copy in enumerate(copies)]
for sock in made: sock.close()
for copy in copies: os.close(copy)
for number, descriptor in enumerate(high): os.dup2(descriptor, 3 + number, inheritable=True)
environ = {"LISTEN_FDS": "2", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "a:b", "OTHER": "1"}
found = inherited_sockets(environ)
assert [sock.fileno() for sock in found] == [3, 4], found
assert [sock.getsockname()[1] for sock in found] == ports
assert [sock.get_inheritable() for sock in found] == [False, False]
assert [sock.getblocking() for sock in found] == [False, False]
assert environ == {"OTHER": "1"}, environ
assert inherited_sockets(environ) == []
print("fine")
"""


def test_sockets_that_systemd_passes_on_are_taken_over() -> None:
    ran = subprocess.run([sys.executable, "-c", ACTIVATED], capture_output=True, text=True, timeout=20, check=False)
    assert ran.stdout == "fine\n", ran.stderr


@pytest.mark.parametrize(
    "environ",
    [
        {"LISTEN_FDS": "2", "LISTEN_PID": "1", "LISTEN_FDNAMES": "a:b"},
        {"LISTEN_FDS": "2"},
        {"LISTEN_FDS": "-1", "LISTEN_PID": str(os.getpid())},
        {"LISTEN_FDS": "two", "LISTEN_PID": str(os.getpid())},
        {"LISTEN_FDS": "0", "LISTEN_PID": str(os.getpid())},
        {SUCCESSION: ""},
        {},
    ],
)
def test_what_is_meant_for_another_process_or_says_nothing_is_left_alone(environ: dict[str, str]) -> None:
    assert inherited_sockets(environ) == []
    assert environ == {}, "children must not take it for theirs"


def test_a_predecessors_sockets_are_taken_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        numbers = [os.dup(one.fileno()), os.dup(other.fileno())]
        environ = {SUCCESSION: ",".join(map(str, numbers))}
        for number in numbers:
            os.set_inheritable(number, True)
        found = inherited_sockets(environ)
        try:
            assert [sock.fileno() for sock in found] == numbers
            assert [sock.getsockname() for sock in found] == [one.getsockname(), other.getsockname()]
            assert not any(sock.get_inheritable() or sock.getblocking() for sock in found)
            assert environ == {}
        finally:
            for sock in found:
                sock.close()
