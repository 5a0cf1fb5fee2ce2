"""What the supervisor asks the operating system, and asks of it."""

from __future__ import annotations

import errno
import logging
import os
import resource
from contextlib import suppress

log = logging.getLogger("gateway.supervisor")


def allow_files(connections: int) -> None:
    """Let every process have as many descriptors as the system grants; a client connection may take two."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):  # macOS says "unlimited" and does not mean it
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft != resource.RLIM_INFINITY and soft < 2 * connections:
        log.warning("wire.connections is %d, but a process may open only %d files (ulimit -n)", connections, soft)


def terminal_is_gone() -> bool:
    """Whether standard input is a terminal that has hung up: the system then says EIO to every question."""
    try:
        os.tcgetpgrp(0)
    except OSError as error:
        return error.errno == errno.EIO
    return False
