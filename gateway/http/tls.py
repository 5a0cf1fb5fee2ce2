"""TLS towards upstreams: always verified, TLS 1.2 or newer."""

import ssl
from pathlib import Path


def client_context(ca: Path | None = None, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """A context that trusts `ca` (PEM file) or else the system, and shows `certificate` when asked.

    Raises OSError (ssl.SSLError is one) for files that cannot be read or do not fit each other.
    """
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context
