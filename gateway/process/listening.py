"""The listening sockets: they belong to the supervisor, so that no crash and no reload loses a connection."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

from gateway.config.model import Config
from gateway.http.sockets import Group, ListenError, bind, bound_address, close, widen


@dataclass(slots=True)
class Plan:
    """The sockets of a configuration, not in use yet. By address, with its real port."""

    clients: dict[str, tuple[Group, bool]] = field(default_factory=dict)
    """And whether they speak TLS."""
    admin: Group | None = None
    admin_configured: str = ""
    configured: dict[tuple[str, bool], list[str]] = field(default_factory=dict)
    """What the configuration asked for, and the addresses that it became."""


class Listening:
    """Opens sockets, keeps those that stay, closes those that nobody asks for any more."""

    def __init__(self, inherited: list[socket.socket]) -> None:
        self.current = Plan()
        self._inherited: dict[str, list[socket.socket]] = {}
        for sock in inherited:
            self._inherited.setdefault(bound_address(sock), []).append(sock)
        # A predecessor may have had more workers than we shall: its sockets are covered, or clients would wait there.
        self.slots = max(map(len, self._inherited.values()), default=0)

    def plan(self, config: Config) -> Plan:
        """Everything that `config` listens on; what is open already is taken over. Raises ListenError."""
        slots = max(self.slots, config.workers)  # a socket of a worker that goes stays: another one covers it
        plan = Plan()
        try:
            for address, secure in config.listen.clients:
                configured = self.current.configured
                known = configured.get((str(address), secure)) or configured.get((str(address), not secure)) or []
                groups = [self.current.clients[name][0] for name in known] or self._open(str(address), slots)
                for group in groups:
                    plan.clients[group.address] = widen(group, slots), secure
                    plan.configured.setdefault((str(address), secure), []).append(group.address)
            self._plan_admin(plan, config)
            if self._inherited:
                unused = ", ".join(self._inherited)
                raise ListenError(f"was started with a socket for {unused}, which `listen` does not name")
        except ListenError:
            self.discard(plan)
            raise
        return plan

    def adopt(self, plan: Plan, config: Config) -> None:
        """The plan is in force: close what is no longer part of it."""
        old, self.current = self.current, plan
        self.slots = max(self.slots, config.workers)
        _close(old, plan)

    def discard(self, plan: Plan) -> None:
        """The plan came to nothing: close what was opened for it."""
        _close(plan, self.current)

    def close(self) -> None:
        """Close everything, and remove the files of unix sockets. Harmless when that was done."""
        _close(self.current, Plan())
        self.current = Plan()

    def let_go(self) -> None:
        """Close everything here, but somebody else goes on with it."""
        for sock in self.sockets:
            sock.close()
        self.current = Plan()

    @property
    def sockets(self) -> set[socket.socket]:
        """All that is open now."""
        return {sock for group in _groups(self.current) for sock in group.sockets}

    def _plan_admin(self, plan: Plan, config: Config) -> None:
        if config.listen.admin is None:
            return
        plan.admin_configured = str(config.listen.admin)
        if plan.admin_configured == self.current.admin_configured:
            plan.admin = self.current.admin
            return
        try:
            plan.admin = self._open(plan.admin_configured, 1)[0]
        except ListenError as error:
            raise ListenError(f"{error} (listen.admin)") from None

    def _open(self, address: str, slots: int) -> list[Group]:
        given = self._inherited.pop(address, None)
        if given is not None:
            return [Group(address, tuple(given))]
        return bind(address, slots)


def _groups(plan: Plan) -> list[Group]:
    return [group for group, _ in plan.clients.values()] + ([plan.admin] if plan.admin else [])


def _close(plan: Plan, kept: Plan) -> None:
    """Close what is in `plan` alone."""
    addresses = {group.address for group in _groups(kept)}
    sockets = {sock for group in _groups(kept) for sock in group.sockets}
    for group in _groups(plan):
        if group.address not in addresses:
            close(group)
        for sock in set(group.sockets) - sockets:
            sock.close()
