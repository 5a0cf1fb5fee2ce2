"""Ending a connection with a reset, where a clean end would say something else."""

import asyncio
import socket
import struct

AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER on, for no time: closing the socket throws away what is unsent and sends RST instead of FIN."""


def reset(transport: asyncio.Transport) -> None:
    """Cut the connection so that the other end reads an error."""
    if not transport.is_closing():
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    transport.abort()
