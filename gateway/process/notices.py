"""How notices get from the operator process to all workers: by one small file in the instance's folder.

The operator process replaces it when something changes, workers look at it a few times a second, so no request waits
for it; what was read stays in force whatever happens. A new operator process goes on with what the last one wrote.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.files import replace_file
from gateway.upstream.notices import NOTHING, Notices, Place, decode, encode

if TYPE_CHECKING:
    from gateway.config import Config

log = logging.getLogger("gateway.notices")


class NoticeBoard:
    """In the operator process; it alone writes."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self.clock = clock
        self._trouble = ""
        self.current = self._left_behind()
        """What is posted, and in force once it is `written`."""
        self.written = True

    def post(self, **changes: Any) -> bool:
        """Replace these fields. False: it could not be written, so it is in force only after a `tick` that can."""
        changed = replace(self.current, **changes)
        if changed != self.current:
            self.current = changed
            self.written = False
        return self.written or self._write()

    def tick(self) -> None:
        """Once a second: take down what is over, and write what could not be written before."""
        now = self.clock()
        over = [each for each in self.current.faults if each.until <= now]
        for each in over:
            log.warning("rehearsal %s on route %s is over", each.id, each.route)
        if over or not self.written:
            self.post(faults=tuple(each for each in self.current.faults if each not in over))

    def keep_to(self, config: Config) -> None:
        """Take down what is about routes and circuits that this configuration does not have."""
        routes = {route.name for route in config.routes}
        held = frozenset(place for place in self.current.held_open if _has_circuit(config, place))
        faults = tuple(each for each in self.current.faults if each.route in routes)
        for upstream, target in sorted(self.current.held_open - held):
            named = f"{upstream} {target}".strip()
            log.warning("circuit of %s is no longer held open: it is not configured any more", named)
        for each in set(self.current.faults) - set(faults):
            log.warning("rehearsal %s is over: route %s is not configured any more", each.id, each.route)
        self.post(held_open=held, faults=faults)

    def _write(self) -> bool:
        try:
            replace_file(self._path, encode(self.current))
        except OSError as error:
            trouble = error.strerror or str(error)
            if trouble != self._trouble:  # once a second it would be no news
                log.error("workers are not told what has changed: cannot write %s: %s", self._path, trouble)
            self._trouble = trouble
            return False
        self._trouble = ""
        self.written = True
        return True

    def _left_behind(self) -> Notices:
        try:
            return decode(self._path.read_bytes())
        except FileNotFoundError:
            return NOTHING
        except (OSError, ValueError) as error:
            log.error("notices cannot be read, what they held open or rehearsed is over: %s: %s", self._path, error)
            return NOTHING


class NoticesReader:
    """In a worker; `notices` are the last ones that could be read."""

    def __init__(self, path: Path) -> None:
        self.notices = NOTHING
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._trouble = ""

    async def look(self) -> bool:
        """Read the file if it has changed; whether `notices` are new. One that cannot be read changes nothing."""
        try:
            info = self._path.stat()
            seen = (info.st_mtime_ns, info.st_ino, info.st_size)
            if seen == self._seen:
                return False
            notices = decode(await asyncio.to_thread(self._path.read_bytes))
        except FileNotFoundError:  # nothing was ever posted
            return False
        except OSError as error:  # perhaps only for the moment: so the next look tries again
            self._complain(error.strerror or str(error))
            return False
        except ValueError as error:
            self._complain(str(error))
            self._seen = seen
            return False
        self._trouble = ""
        self._seen = seen
        changed, self.notices = notices != self.notices, notices
        return changed

    def _complain(self, trouble: str) -> None:
        if trouble != self._trouble:
            log.error("notices cannot be read, the last ones stay in force: %s: %s", self._path, trouble)
            self._trouble = trouble


def _has_circuit(config: Config, place: Place) -> bool:
    """What was discovered may come back, so of an upstream that discovers all targets count."""
    upstream, target = place
    settings = config.upstreams.get(upstream)
    if settings is None or settings.breaker is None:
        return False
    if not target:
        return True
    own = settings.breaker.per == "target"
    return own and (settings.discover is not None or target in {each.url for each in settings.targets})
