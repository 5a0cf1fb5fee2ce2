"""TLS from commands to a gateway's admin listener, as the environment says: whom to trust, and what to show."""

from __future__ import annotations

import os
import ssl

from gateway.cli.output import Failure

AUTHORITY = "GATEWAY_ADMIN_CA"
"""A PEM file: who has signed the gateway's certificate, where that is nobody whom the system trusts."""
CERTIFICATE, KEY = "GATEWAY_ADMIN_CERTIFICATE", "GATEWAY_ADMIN_KEY"
"""PEM files: the client certificate to show, and its key, which may be in the same file."""


def context() -> ssl.SSLContext:
    """Always verifies whom it talks to. Raises Failure for files that cannot be used."""
    authority, certificate, key = (os.environ.get(name) or None for name in (AUTHORITY, CERTIFICATE, KEY))
    if key is not None and certificate is None:
        raise Failure(f"{KEY} needs {CERTIFICATE} beside it", status=2)
    name = AUTHORITY
    try:
        made = ssl.create_default_context(cafile=authority)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        name = CERTIFICATE
        if certificate is not None:
            # A password, even a wrong one: without it OpenSSL would ask on the terminal.
            made.load_cert_chain(certificate, key, password="")
    except OSError as error:  # ssl.SSLError is one
        raise Failure(f"{name} cannot be used: {error.strerror or error}", status=2) from None
    return made


def trouble(url: str, error: ssl.SSLError) -> Failure:
    """Why there is no TLS with the gateway at `url`."""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = error.verify_message.rstrip(".")
        return Failure(f"the certificate of {url} is not valid: {reason} ({AUTHORITY} names who signed it)")
    return Failure(f"no TLS with {url}: {error.reason or error}")
