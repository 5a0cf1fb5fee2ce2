"""How a configuration travels to processes that live already: pickled, in a file without a name."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.config.model import Config


@contextmanager
def parcel(config: Config, folder: Path) -> Iterator[int]:
    """A descriptor to send along with a message; the file may hold secrets, and is gone with its last reader."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(pickle.dumps(config, pickle.HIGHEST_PROTOCOL))
        file.flush()
        yield file.fileno()


def unpack(descriptor: int) -> Config:
    """The configuration in a parcel that the supervisor has sent to all its children at once."""
    try:
        # Not read(): the position in the file belongs to all of them.
        content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    finally:
        os.close(descriptor)
    config: Config = pickle.loads(content)  # noqa: S301 - an unnamed file of our own parent process
    return config
