"""What the listeners for TLS show their clients, read again only where something has changed."""

from __future__ import annotations

import ssl
from collections.abc import Hashable
from dataclasses import dataclass

from gateway.config.model import Config
from gateway.http.tls import server_context
from gateway.parts import content


@dataclass(frozen=True, slots=True)
class ListenerTls:
    """What the listeners for TLS show their clients, and what it was made of."""

    certificates: Hashable = None
    clients: Hashable = None
    """Who is trusted as a client."""
    context: ssl.SSLContext | None = None


def listener_tls(config: Config, now: ListenerTls) -> ListenerTls:
    """For the listeners of `config`; the same as `now` if nothing has changed, files included. Raises OSError."""
    https = config.listen.https
    if https is None:
        return ListenerTls()
    certificates = tuple(content(file) for pair in https.pairs for file in pair)
    clients = content(https.client_ca), https.client_certificate
    if (certificates, clients) == (now.certificates, now.clients):
        return now
    required = https.client_certificate == "required"
    return ListenerTls(certificates, clients, server_context(https.pairs, https.client_ca, required=required))
