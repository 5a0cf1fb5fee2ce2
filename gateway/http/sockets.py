"""Listening sockets: how an address becomes some, and why it cannot.

On Linux each worker gets a socket of its own on the same port (SO_REUSEPORT), and the kernel spreads the
connections; elsewhere, and on a unix socket, all workers share one.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import stat
import sys
from dataclasses import dataclass
from typing import Any

from gateway.http.address import join_address, split_address

log = logging.getLogger("gateway.http")

BACKLOG = 4096
"""Connections the kernel may hold before they are accepted; it caps this at net.core.somaxconn."""

UNSENT = 128 * 1024
"""Bytes the kernel takes ahead of what the client has been sent. Its own buffer grows to 4 MiB, of which a third
must be free before it takes more: to a steady reader of 40 KB/s that looks like half a minute of nothing."""

SPREADS = sys.platform == "linux"
"""Whether the kernel shares connections out among sockets on one port; BSD and macOS favour the last one."""

PRIVILEGED = 1024
UNIX = "unix:"

Where = tuple[Any, ...]
"""An address as the socket module has it: host, port, and more for IPv6."""


class ListenError(Exception):
    """An address cannot be listened on; the message is one line for the operator."""


@dataclass(frozen=True, slots=True)
class Group:
    """What listens on one address: a socket for each worker, or one that all of them share."""

    address: str
    """host:port, [v6]:port or unix:path, with the real port."""
    sockets: tuple[socket.socket, ...]


def bind(address: str, count: int = 1) -> list[Group]:
    """Listen on host:port, [v6]:port or unix:path with `count` sockets; a host name may have several addresses.

    Port 0 takes any free one. Raises ListenError, also when another process listens there already.
    """
    if address.startswith(UNIX):
        try:
            return [Group(address, (_unix(address.removeprefix(UNIX)),))]
        except OSError as error:
            raise ListenError(f"cannot listen on {address}: {_reason(error)}") from error
    host, port = split_address(address)
    try:
        return _bind_all(host, port, count)
    except OSError as error:
        raise ListenError(f"cannot listen on {address}: {_reason(error, port)}") from error


def widen(group: Group, count: int) -> Group:
    """The group with `count` sockets in all, if each worker has its own. Raises ListenError."""
    first = group.sockets[0]
    missing = count - len(group.sockets)
    if missing <= 0 or not SPREADS or not _shares_port(first):
        return group
    try:
        more = _listening(first.family, first.getsockname(), missing)
    except OSError as error:
        raise ListenError(f"cannot listen on {group.address}: {_reason(error)}") from error
    return Group(group.address, group.sockets + more)


def close(group: Group) -> None:
    """Close the sockets, and remove the file of a unix socket."""
    for sock in group.sockets:
        sock.close()
    if group.address.startswith(UNIX):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(group.address.removeprefix(UNIX))


def bound_address(sock: socket.socket) -> str:
    """Where a socket listens, written as in Group.address."""
    where = sock.getsockname()
    if isinstance(where, tuple):
        return join_address(where[0], where[1])
    return UNIX + os.fsdecode(where)


def _bind_all(host: str, port: int, count: int) -> list[Group]:
    groups: list[Group] = []
    absent: OSError | None = None
    try:
        for family, where in _resolve(host, port):
            try:
                sockets = _spread(family, where, count)
            except OSError as error:
                # localhost may have an IPv6 address where the machine has none
                if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    raise
                absent = error
            else:
                groups.append(Group(bound_address(sockets[0]), sockets))
        if not groups and absent is not None:
            raise absent
    except OSError:
        for group in groups:
            close(group)
        raise
    if absent is not None:
        log.warning("%s has an address that is not this machine's: %s", host, _reason(absent))
    return groups


def _resolve(host: str, port: int) -> list[tuple[int, Where]]:
    """The addresses of a host, each once."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    families = (socket.AF_INET, socket.AF_INET6)
    return list(dict.fromkeys((family, where) for family, _, _, _, where in found if family in families))


def _spread(family: int, where: Where, count: int) -> tuple[socket.socket, ...]:
    if not SPREADS:
        return _listening(family, where, 1)
    if where[1]:
        _probe(family, where)
    first = _listening(family, where, 1)
    try:  # port 0 has become a real one
        return first + _listening(family, first[0].getsockname(), count - 1)
    except OSError:
        first[0].close()
        raise


def _probe(family: int, where: Where) -> None:
    """Raises OSError when somebody listens there: SO_REUSEPORT would share the port with a gateway that still runs."""
    with _tcp(family) as probe:
        probe.bind(where)
        probe.listen(1)


def _listening(family: int, where: Where, count: int) -> tuple[socket.socket, ...]:
    made: list[socket.socket] = []
    try:
        for _ in range(count):
            sock = _tcp(family)
            made.append(sock)
            if SPREADS:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # set here, it holds for every connection accepted
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
            sock.bind(where)
            sock.listen(BACKLOG)
            sock.setblocking(False)
    except OSError:
        for sock in made:
            sock.close()
        raise
    return tuple(made)


def _tcp(family: int) -> socket.socket:
    # The protocol is named: asyncio turns Nagle's algorithm off only where it says TCP.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return sock


def _shares_port(sock: socket.socket) -> bool:
    """Not so unix sockets, and those that systemd made without ReusePort."""
    return sock.family != socket.AF_UNIX and bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))


def _unix(path: str) -> socket.socket:
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _remove_stale(path: str) -> None:
    """Unlink a socket file that nobody listens on any more; a live one is an error."""
    if not os.path.exists(path) or not stat.S_ISSOCK(os.stat(path).st_mode):
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise OSError(errno.EADDRINUSE, "address in use")


def _reason(error: OSError, port: int = 0) -> str:
    if error.errno == errno.EACCES and 0 < port < PRIVILEGED:
        return "ports below 1024 need CAP_NET_BIND_SERVICE, or systemd socket activation"
    return error.strerror or str(error)
