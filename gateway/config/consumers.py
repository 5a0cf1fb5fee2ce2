"""`auth.consumers`, `roles` and `permissions`: the known callers, their credentials, what roles and scopes bring."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import PlainValidator, SecretStr, WithJsonSchema, field_validator

from gateway.auth import passwords, roles
from gateway.auth.consumers import common_name
from gateway.config import syntax
from gateway.config.complaints import show
from gateway.config.fields import Fault, Scope, Section, Text

KEY = re.compile(r"sha256:[0-9a-f]{64}")
SAN = re.compile(r"(DNS|URI|email|IP):.+")


def _key(value: object) -> str:
    if not KEY.fullmatch(syntax.text(value)):
        raise ValueError("must be the hash that `gateway keys new` prints, sha256: and 64 digits; never the key itself")
    return str(value)


def _certificate(value: object) -> str:
    """In the form in which certificates are compared."""
    written = syntax.plain_text(value)
    if SAN.fullmatch(written):
        return written
    from cryptography import x509  # 80 ms that only those who name certificates pay

    try:
        subject = x509.Name.from_rfc4514_string(written).rfc4514_string()
    except ValueError:
        subject = ""
    if not subject:
        raise ValueError(f"{show(value)} is no subject such as CN=acme,O=Acme Ltd, nor DNS:…, URI:…, email:… or IP:…")
    return subject


def _permission(value: object) -> str:
    return roles.pattern(syntax.scope(value))


KeyHash = Annotated[str, PlainValidator(_key), WithJsonSchema({"type": "string", "pattern": f"^{KEY.pattern}$"})]
Certificate = Annotated[str, PlainValidator(_certificate), WithJsonSchema({"type": "string"})]
Permission = Annotated[str, PlainValidator(_permission), WithJsonSchema({"type": "string"})]


class Consumer(Section):
    """A known caller of the providers of type api_key, basic and client_certificate."""

    keys: tuple[KeyHash, ...] = ()
    """Hashes of its API keys: `gateway keys new` makes one. Two at a time while one replaces the other."""
    password: SecretStr | None = None
    """The hash of its password: `gateway keys hash-password` makes it. Its user name is its name here."""
    certificate: Certificate | None = None
    """CN=…, a whole subject (RFC 4514), or another name: DNS:…, URI:…, email:…, IP:…."""
    scopes: tuple[Scope, ...] = ()
    roles: tuple[Scope, ...] = ()
    tier: Text | None = None

    @field_validator("password", mode="after")
    @classmethod
    def _a_hash(cls, password: SecretStr | None) -> SecretStr | None:
        if password is not None:
            passwords.read(password.get_secret_value())
        return password


Consumers = Mapping[str, Consumer]
Grants = dict[Scope, tuple[Permission, ...]]


def faults(
    consumers: Consumers, grants: Mapping[str, tuple[str, ...]], permissions: Mapping[str, tuple[str, ...]]
) -> Iterator[Fault]:
    """What only all of them together show."""
    for path, reason in roles.faults(grants):
        yield ("roles", *path), reason
    for path, reason in roles.permission_faults(permissions):
        yield ("permissions", *path), reason
    yield from _shared_keys(consumers)
    yield from _shared_certificates(consumers)
    for name, consumer in consumers.items():
        for position, role in enumerate(consumer.roles):
            if grants and role not in grants:
                yield ("consumers", name, "roles", position), f"there is no role {show(role)}"


def _shared_keys(consumers: Consumers) -> Iterator[Fault]:
    owners: dict[str, str] = {}
    for name, consumer in consumers.items():
        for position, key in enumerate(consumer.keys):
            if key in owners:
                yield ("consumers", name, "keys", position), f"is a key of {show(owners[key])} already"
            owners.setdefault(key, name)


def _shared_certificates(consumers: Consumers) -> Iterator[Fault]:
    """No certificate may be two consumers': `CN=a` names every subject with this common name, `CN=a,O=x` too."""
    owners: dict[str, str] = {}
    given = {name: each.certificate for name, each in consumers.items() if each.certificate is not None}
    common = {name: common_name(each) for name, each in given.items() if not SAN.fullmatch(each)}
    for name, certificate in given.items():
        owners.setdefault(certificate, name)
    for name, certificate in given.items():
        owner = owners[certificate] if owners[certificate] != name else owners.get(common.get(name, ""), name)
        if owner != name:
            yield ("consumers", name, "certificate"), f"can be the same certificate as that of {show(owner)}"
