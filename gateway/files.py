"""Files that other processes read at any moment."""

import contextlib
import os
from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """In one step: who reads it sees the one or the other. For a single writer. Raises OSError."""
    unnamed = path.with_name(path.name + ".new")  # only one process writes, so the name needs no luck
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        with os.fdopen(os.open(unnamed, flags, 0o600), "wb") as file:
            file.write(content)
        unnamed.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            unnamed.unlink()  # half of it fills a disk that is full already
        raise
