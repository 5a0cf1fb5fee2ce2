"""What systemd is told (sd_notify(3)), and the sockets it passes on (sd_listen_fds(3)). Without systemd: nothing."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

FIRST_DESCRIPTOR = 3
SUCCESSION = "GATEWAY_SOCKETS"
"""The same from a predecessor of ours: descriptors, separated by commas."""


def notify(message: str, environ: MutableMapping[str, str]) -> None:
    """Tell the service manager, if there is one: READY=1, RELOADING=1, STOPPING=1, …"""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # Linux's abstract namespace
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaker:
        try:
            speaker.sendto(message.encode(), address)
        except OSError:  # a manager that does not listen is no reason to fail
            return


def inherited_sockets(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """Listening sockets that this process was started with. Takes the variables away: children are not meant."""
    numbers: list[int] = []
    count, pid = environ.pop("LISTEN_FDS", ""), environ.pop("LISTEN_PID", "")
    environ.pop("LISTEN_FDNAMES", None)
    if count.isdecimal() and pid == str(os.getpid()):
        numbers += range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count))
    numbers += [int(number) for number in environ.pop(SUCCESSION, "").split(",") if number]
    sockets = []
    for number in numbers:
        os.set_inheritable(number, False)
        sock = socket.socket(fileno=number)
        sock.setblocking(False)
        sockets.append(sock)
    return sockets
