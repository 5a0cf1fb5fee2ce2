"""Watches upstreams in the operator process: asks the DNS for their targets, probes these, posts what it finds."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

from gateway.config.model import Config
from gateway.config.upstream import Target, Upstream
from gateway.http.tls import client_context
from gateway.parts import content
from gateway.process.probe import Watch
from gateway.process.prober import Prober
from gateway.process.resolver import Resolver
from gateway.upstream.discovery import Discovery, certified_name
from gateway.upstream.health import Check
from gateway.upstream.notices import Found, Notices

log = logging.getLogger("gateway.operator")

Post = Callable[..., Any]
"""Of the notice board."""


class Watching:
    """Of all upstreams that ask for it; goes on from what was `known` before."""

    def __init__(self, post: Post, known: Notices) -> None:
        self._post = post
        self._config: Config | None = None
        self._contexts: dict[Hashable, ssl.SSLContext] = {}
        self._prober = Prober(lambda ill: post(ill=ill), known.ill)
        self._resolver = Resolver(self._found, known.found)

    def configure(self, config: Config) -> None:
        """Watch what `config` says from now on; what it says as before goes on. In the loop."""
        self._config = config
        wanted = {name: discovery(each) for name, each in config.upstreams.items()}
        self._resolver.follow({name: each for name, each in wanted.items() if each is not None})
        self._probe()

    def reasons(self) -> list[str]:
        """Why this gateway is not ready yet."""
        return [f"no target of upstream {name} has been discovered yet" for name in self._resolver.missing()]

    async def close(self) -> None:
        """Watch no more. What was posted last stays in force."""
        await self._resolver.close()
        await self._prober.close()

    def _found(self, found: Mapping[str, tuple[Found, ...]]) -> None:
        self._post(found=found)
        self._probe()

    def _probe(self) -> None:
        """Those that are configured and those that were found."""
        if self._config is None:
            return
        contexts, self._contexts = self._contexts, {}
        watches = [
            watch for name, each in self._config.upstreams.items() for watch in self._watches(name, each, contexts)
        ]
        self._prober.watch(watches)

    def _watches(self, name: str, settings: Upstream, before: Mapping[Hashable, ssl.SSLContext]) -> Iterator[Watch]:
        if settings.health is None:
            return
        found = self._resolver.found.get(name, ())
        targets = [*settings.targets, *(Target(url=each.url) for each in found)]
        tls, server_name = None, ""
        if not settings.health.tcp and any(target.scheme == "https" for target in targets):
            try:
                tls = self._context(settings, before)
            except OSError as error:  # a file has changed since it was checked
                log.error("upstream %s cannot be probed: %s", name, error)
                return
            server_name = expected_name(settings)
        check = check_of(settings)
        for target in targets:
            secure = tls if target.scheme == "https" else None
            yield Watch(name, target.url, target.host, target.port, check, secure, server_name)

    def _context(self, settings: Upstream, before: Mapping[Hashable, ssl.SSLContext]) -> ssl.SSLContext:
        """The same object as before while its files say the same: probes go on then. Raises OSError."""
        files = settings.tls and (settings.tls.ca, settings.tls.certificate, settings.tls.key)
        key = files and (files, tuple(map(content, files)))
        context = self._contexts.get(key) or before.get(key) or client_context(*(files or ()))
        self._contexts[key] = context
        return context


def discovery(settings: Upstream) -> Discovery | None:
    """Where the targets of an upstream are asked for; None where they are configured."""
    asked = settings.discover
    if asked is None:
        return None
    return Discovery(asked.dns, asked.target_port, asked.type, asked.scheme, asked.refresh, asked.server or "")


def expected_name(settings: Upstream) -> str:
    """The name that certificates of an upstream's targets must have; "" for that of each target's URL."""
    if settings.tls is not None and settings.tls.server_name:
        return settings.tls.server_name
    return certified_name(settings.discover.dns) if settings.discover is not None else ""


def check_of(settings: Upstream) -> Check:
    """How the targets of an upstream are probed."""
    health = settings.health
    assert health is not None
    return Check(
        path=health.path or "",
        interval=health.interval,
        timeout=health.timeout,
        healthy_after=health.healthy_after,
        unhealthy_after=health.unhealthy_after,
        expect=health.expect,
        host=health.host or "",
    )
