"""Client certificates: which consumer one stands for."""

import pytest

from gateway.auth.certificates import CertificateProvider
from gateway.auth.consumers import Consumer, common_name
from gateway.auth.providers import BadCredential
from gateway.exchange import Call, ClientCertificate
from tests.fakes import Clock
from tests.tokens import NOW, call_with

CONSUMERS = (
    Consumer("by-cn", certificate="CN=acme"),
    Consumer("by-subject", certificate="CN=full,O=Acme Ltd"),
    Consumer("by-dns", certificate="DNS:client.example.com"),
    Consumer("by-uri", certificate="URI:spiffe://example.com/orders"),
    Consumer("by-key"),
)


def showing(subject: str, *sans: str, expires: float = NOW + 10) -> Call:
    call = call_with((b"x-client-cert", b"CN=acme"), (b"x-forwarded-client-cert", b"Subject=CN=acme"))
    call.request.peer.certificate = ClientCertificate(subject, sans, expires)
    return call


def provider() -> CertificateProvider:
    return CertificateProvider("mtls", consumers=CONSUMERS, clock=Clock(NOW))


@pytest.mark.parametrize(
    ("subject", "sans", "consumer"),
    [
        ("CN=acme", (), "by-cn"),
        ("CN=acme,O=Acme Ltd,C=DE", (), "by-cn"),
        ("CN=full,O=Acme Ltd", (), "by-subject"),
        ("CN=x", ("DNS:a", "DNS:client.example.com"), "by-dns"),
        ("", ("URI:spiffe://example.com/orders",), "by-uri"),
    ],
)
async def test_a_certificate_is_its_consumer(subject: str, sans: tuple[str, ...], consumer: str) -> None:
    caller = await provider().identify(showing(subject, *sans))
    assert caller is not None
    assert (caller.consumer, caller.label, caller.provider) == (consumer, consumer, "mtls")


@pytest.mark.parametrize(
    ("subject", "sans"),
    [
        ("", ()),
        ("CN=ACME", ()),
        ("CN=acme2", ()),
        ("OU=CN\\=acme", ()),
        ("CN=x\\,CN=acme", ()),
        ("CN=acme,CN=other", ()),
        ("CN=full", ()),
        ("CN=full,O=Acme Ltd,C=DE", ()),
        ("CN=x", ("DNS:sub.client.example.com", "email:CN=acme", "DNS:CN=acme")),
        ("CN=x", ("DNS:spiffe://example.com/orders",)),
        ("1.2.3.4.5=#0400,CN=acme2", ()),
    ],
)
async def test_a_certificate_that_is_nobodys_is_refused(subject: str, sans: tuple[str, ...]) -> None:
    with pytest.raises(BadCredential, match="not known"):
        await provider().identify(showing(subject, *sans))


async def test_a_certificate_that_could_be_two_consumers_is_neither() -> None:
    with pytest.raises(BadCredential, match="ambiguous"):
        await provider().identify(showing("CN=acme", "DNS:client.example.com"))


async def test_a_certificate_that_expires_during_a_connection_is_refused_from_then_on() -> None:
    clock = Clock(NOW)
    asked = CertificateProvider("mtls", consumers=CONSUMERS, clock=clock)
    call = showing("CN=acme")
    assert await asked.identify(call) is not None
    clock.advance(10)
    with pytest.raises(BadCredential, match="expired") as caught:
        await asked.identify(call)
    assert (caught.value.reason, caught.value.status) == ("expired", 401)


@pytest.mark.parametrize("signed", [False, True])
async def test_of_a_certificate_nothing_has_to_be_hidden(signed: bool) -> None:
    asked = CertificateProvider("mtls", consumers=CONSUMERS, signed=signed, clock=Clock(NOW))
    caller = await asked.identify(showing("CN=acme"))
    assert caller is not None
    assert (caller.hidden, caller.signed) == (None, signed)


async def test_a_header_is_not_a_certificate() -> None:
    call = showing("CN=acme")
    call.request.peer.certificate = None
    assert await provider().identify(call) is None


def test_a_common_name_is_written_as_in_the_subject() -> None:
    assert common_name("CN=a\\,b,O=x") == "CN=a\\,b"
    assert common_name("O=x") == common_name("CN=a+CN=b") == common_name("nonsense") == ""
