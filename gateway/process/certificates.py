"""Watches the certificates of the listeners: until when they are valid, and whether they were renewed."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from gateway.config.listen import unusable_pair
from gateway.config.model import Config
from gateway.http.tls import expiry

log = logging.getLogger("gateway.certificates")

DAY = 86400.0
SOON = 14 * DAY
"""Seconds before its end at which a certificate is worth a warning: automatic renewal is due at thirty days."""

Stamp = tuple[int, int, int]


def stamps(files: Iterable[Path]) -> dict[Path, Stamp | None]:
    """What changes when a file is written or replaced; None for one that is not there."""
    found: dict[Path, Stamp | None] = {}
    for file in files:
        try:
            info = os.stat(file)
        except OSError:
            found[file] = None
        else:
            found[file] = (info.st_mtime_ns, info.st_size, info.st_ino)
    return found


class Certificates:
    """Those of one configuration."""

    def __init__(self, config: Config, clock: Callable[[], float] = time.time) -> None:
        https, admin = config.listen.https, config.listen.admin_tls
        self._pairs = https.pairs if https is not None else []
        if admin is not None:
            self._pairs.append((admin.certificate, admin.key))
        self._ca = [each.client_ca for each in (https, admin) if each is not None and each.client_ca is not None]
        self._clock = clock
        self._warned = 0.0
        self._stamps = self._seen = stamps(self._files())
        self.ends = self._ends()

    def renewed(self) -> bool:
        """Whether files have changed since they were last looked at and can be used; says so if they cannot."""
        now = stamps(self._files())
        settled, self._seen = now == self._seen, now  # a certificate and its key are not written in one moment
        if now == self._stamps or not settled:
            return False
        self._stamps = now
        for certificate, key in self._pairs:
            if reason := unusable_pair(certificate, key):
                log.error("%s %s: the certificate in use stays", certificate, reason)
                return False
        self.ends = self._ends()
        self._warned = 0.0
        return True

    def warn(self) -> None:
        """Say once a day which certificates have expired or soon will."""
        now = self._clock()
        if now < self._warned + DAY:
            return
        self._warned = now
        for name, end in self.ends.items():
            day = time.strftime("%Y-%m-%d", time.gmtime(end))
            if end <= now:
                log.warning("the certificate %s has expired on %s: clients will refuse it", name, day)
            elif end <= now + SOON:
                log.warning("the certificate %s expires on %s", name, day)

    def _files(self) -> list[Path]:
        return [*self._ca, *(file for pair in self._pairs for file in pair)]

    def _ends(self) -> dict[str, float]:
        """Wall-clock seconds by file."""
        ends: dict[str, float] = {}
        for certificate, _ in self._pairs:
            try:
                ends[str(certificate)] = expiry(certificate)
            except OSError as error:  # it was there a moment ago; whoever is to use it will say so, too
                log.error("%s", error)
        return ends
