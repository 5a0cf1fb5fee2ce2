"""TLS on both sides, 1.2 or newer: upstreams are always verified, listeners choose a certificate by name."""

import functools
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from gateway.exchange import ClientCertificate

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secrecy and authenticated encryption, or nothing. Those of 1.3 are all of this kind."""

UNREADABLE = (ValueError, x509.DuplicateExtension, x509.InvalidVersion, x509.UnsupportedGeneralNameType)
"""What this parser has to say about odd certificates."""


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


def server_context(
    pairs: Sequence[tuple[Path, Path]], client_ca: Path | None = None, required: bool = True
) -> ssl.SSLContext:
    """A listener's context over (certificate, key) pairs; a name that none of them has gets the first.

    With `client_ca` clients are asked for a certificate, which is `required` or not. Raises OSError.
    """
    first = _pair_context(*pairs[0], client_ca, required)
    # None stands for the first: a context whose callback held itself would never be freed.
    by_name: dict[str, ssl.SSLContext | None] = dict.fromkeys(names(pairs[0][0]))
    for certificate, key in pairs[1:]:
        context = _pair_context(certificate, key, client_ca, required)
        for name in names(certificate):
            by_name.setdefault(name, context)

    def choose(connection: ssl.SSLSocket | ssl.SSLObject, asked: str | None, _: ssl.SSLContext) -> None:
        name = (asked or "").lower().removesuffix(".")
        chosen = by_name[name] if name in by_name else by_name.get("*." + name.partition(".")[2])
        if chosen is not None:
            connection.context = chosen

    if len(pairs) > 1:
        _ignore_odd_names()
        first.sni_callback = choose
    return first


def names(path: Path) -> tuple[str, ...]:
    """The host names that the first certificate of a PEM file is for, lowercase. Raises OSError."""
    certificate = _first(path)
    try:
        found = _alternatives(certificate)
    except UNREADABLE as error:
        raise ssl.SSLError(f"{path}: {error}") from None
    if found is not None:
        return tuple(name.lower() for name in found.get_values_for_type(x509.DNSName))
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return tuple(str(name.value).lower() for name in common)


def expiry(path: Path) -> float:
    """The wall-clock second at which the first certificate of a PEM file ends. Raises OSError."""
    return _first(path).not_valid_after_utc.timestamp()


def shown_certificate(connection: ssl.SSLObject) -> ClientCertificate | None:
    """What the client at the other end has shown, and OpenSSL has verified."""
    encoded = connection.getpeercert(binary_form=True)
    if encoded is None:
        return None
    try:
        certificate = x509.load_der_x509_certificate(encoded)
        found = _alternatives(certificate) or ()
        sans = tuple(text for name in found if (text := _san(name)))
        return ClientCertificate(
            certificate.subject.rfc4514_string(), sans, certificate.not_valid_after_utc.timestamp()
        )
    except UNREADABLE:  # OpenSSL reads some certificates that this parser does not: who it is cannot be said
        return None


def _pair_context(certificate: Path, key: Path, client_ca: Path | None, required: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    # A password, even a wrong one: without it OpenSSL would ask on the terminal.
    context.load_cert_chain(certificate, key, password="")
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
        context.load_verify_locations(client_ca)
    return context


def _first(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())[0]
    except ValueError as error:
        raise ssl.SSLError(f"{path}: {error}") from None


def _alternatives(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def _san(name: x509.GeneralName) -> str:
    match name:
        case x509.DNSName():
            return f"DNS:{name.value}"
        case x509.UniformResourceIdentifier():
            return f"URI:{name.value}"
        case x509.RFC822Name():
            return f"email:{name.value}"
        case x509.IPAddress():
            return f"IP:{name.value}"
    return ""


@functools.cache
def _ignore_odd_names() -> None:
    """Keep a client that asks for a name in odd bytes out of the log: its handshake fails, and that is all.

    The ssl module decodes the name before it calls us, and what it raises ends in sys.unraisablehook.
    """
    report = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if not (isinstance(unraisable.exc_value, UnicodeDecodeError) and isinstance(unraisable.object, bytes)):
            report(unraisable)

    sys.unraisablehook = hook
