"""The listener for TLS through the installed command: certificates are renewed on disk, and no client notices."""

import shutil
import socket
import ssl
import time
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509

from tests.system.gateways import Process, Start, fetch, proxy, quiet_port
from tests.system.load import Load, figure
from tests.system.upstream import Upstream
from tests.wire.certificates import Authority

DAY = 86400


class Site:
    """A gateway's https side: its files, and what clients see."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.authority = Authority(folder)
        self.certificate, self.key = folder / "live.pem", folder / "live.key"
        self.port = quiet_port()
        self._renewals = 0
        self.renew()

    def renew(self) -> int:
        """Replace both files as renewal tools do, one after the other; the new serial number."""
        self._renewals += 1
        made = self.authority.sign("localhost", file=f"renewal-{self._renewals}")
        serial = x509.load_pem_x509_certificate(made[0].read_bytes()).serial_number
        for source, target in zip(made, (self.certificate, self.key), strict=True):
            shutil.copy(source, target.with_suffix(".new"))
            target.with_suffix(".new").replace(target)
        return serial

    def listen(self, **more: object) -> dict[str, object]:
        files = {"certificate": str(self.certificate), "key": str(self.key)}
        return {"https": {"address": f"127.0.0.1:{self.port}", **files, **more}}

    def serial(self) -> int:
        """Of the certificate that a new client is shown, and verifies."""
        with (
            socket.create_connection(("127.0.0.1", self.port), 5) as plain,
            self.authority.client().wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            return x509.load_der_x509_certificate(secure.getpeercert(binary_form=True) or b"").serial_number

    def wait_serial(self, wanted: int, patience: float) -> None:
        ends = time.monotonic() + patience
        while self.serial() != wanted:
            assert time.monotonic() < ends, "the old certificate is still shown"
            time.sleep(0.05)

    def ask(self, sent: bytes, shows: tuple[Path, Path] | None = None) -> bytes:
        """Everything that comes back. Raises OSError, as ssl.SSLError is."""
        with (
            socket.create_connection(("127.0.0.1", self.port), 5) as plain,
            self.authority.client(shows).wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            secure.sendall(sent)
            return b"".join(iter(lambda: secure.recv(65536), b""))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "certificates")


GET = b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def test_a_renewed_certificate_is_shown_soon_and_no_request_fails(start: Start, upstream: Upstream, site: Site):
    gateway = start(proxy(upstream.port, workers=2), listen=site.listen())
    assert 0 < gateway.metric("gateway_certificate_expiry_seconds") <= DAY
    with Load(site.port, kept=6, fresh=2, pause=0.04, tls=site.authority.client()) as load:
        for number in range(2):
            load.phase = f"renewal {number}"
            site.wait_serial(site.renew(), 3.0)
            time.sleep(0.5)
        load.phase = "renewed"
    load.check()
    figure(f"{load.asked} requests on {load.connections} connections, slowest {load.slowest * 1000:.0f} ms")
    assert "cannot" not in gateway.errors.read_text()


def test_a_certificate_that_does_not_fit_its_key_is_not_used(start: Start, upstream: Upstream, site: Site):
    gateway = start(proxy(upstream.port, workers=2), listen=site.listen())
    serial = site.serial()
    with Load(site.port, kept=3, fresh=1, pause=0.04, tls=site.authority.client()) as load:
        shutil.copy(site.authority.sign("localhost", file="other")[0], site.certificate)
        gateway.wait_for("the certificate in use stays")
        assert site.serial() == serial
        site.wait_serial(site.renew(), 3.0)
    load.check()
    assert gateway.ready() == 200


@pytest.mark.parametrize("need", ["required", "optional"])
def test_clients_show_certificates_where_they_are_asked_to(start: Start, upstream: Upstream, site: Site, need: str):
    listen = site.listen(client_ca=str(site.authority.file), client_certificate=need)
    start(proxy(upstream.port), listen=listen)
    mine = site.authority.sign(subject="CN=acme")
    assert site.ask(GET, mine).startswith(b"HTTP/1.1 200 ")
    if need == "optional":
        assert site.ask(GET).startswith(b"HTTP/1.1 200 ")
    else:
        with suppress(OSError):  # the alert, when it comes before the end
            assert site.ask(GET) == b""
    assert upstream.requests == (2 if need == "optional" else 1)


def test_plain_requests_are_redirected_and_hsts_is_said_over_tls_only(start: Start, upstream: Upstream, site: Site):
    gateway = start(proxy(upstream.port), listen={**site.listen(hsts="180d"), "redirect_to_https": True})
    with socket.create_connection(("127.0.0.1", gateway.port), 5) as client:
        client.sendall(b"GET /a?b=c HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        plain = b"".join(iter(lambda: client.recv(65536), b"")).lower()
    assert plain.startswith(b"http/1.1 308 ")
    assert f"\r\nlocation: https://localhost:{site.port}/a?b=c\r\n".encode() in plain
    assert b"strict-transport-security" not in plain
    secure = site.ask(GET).lower()
    assert secure.startswith(b"http/1.1 200 ")
    assert b"\r\nstrict-transport-security: max-age=15552000" in secure


def announced(gateway: Process, header: bytes) -> bytes:
    """The answer to a request behind this PROXY header; b"" when the connection is closed."""
    with socket.create_connection(("127.0.0.1", gateway.port), 5) as client:
        client.sendall(header + GET.replace(b"/x", b"/client"))
        try:
            return b"".join(iter(lambda: client.recv(65536), b""))
        except ConnectionResetError:
            return b""


def test_a_trusted_load_balancer_announces_its_clients(start: Start, upstream: Upstream):
    settings = proxy(upstream.port, workers=2, trusted_proxies=["127.0.0.0/8"])
    gateway = start(settings, listen={"proxy_protocol": True})
    said = announced(gateway, b"PROXY TCP4 203.0.113.7 192.0.2.1 5000 80\r\n")
    assert said.endswith(b"\r\n\r\n203.0.113.7")
    assert announced(gateway, b"") == b"", "who is trusted must say who the client is"
    gateway.configure(proxy(upstream.port, workers=2), proxy_protocol=False)
    assert gateway.reload()[0] == 200
    assert announced(gateway, b"").endswith(b"\r\n\r\n127.0.0.1")
    unasked = announced(gateway, b"PROXY TCP4 203.0.113.7 192.0.2.1 5000 80\r\n")
    assert unasked.startswith(b"HTTP/1.1 501 "), "then it is a request with an unknown method"


def test_https_can_be_added_and_taken_away_by_a_reload(start: Start, upstream: Upstream, site: Site):
    gateway = start(proxy(upstream.port, workers=2))
    with Load(gateway.port) as load:
        gateway.configure(proxy(upstream.port, workers=2), **site.listen())
        assert gateway.reload()[0] == 200
        with Load(site.port, kept=3, fresh=1, pause=0.04, tls=site.authority.client()) as secure:
            time.sleep(0.5)
        del gateway.listen["https"]
        gateway.configure(proxy(upstream.port, workers=2))
        assert gateway.reload()[0] == 200
        with pytest.raises(OSError, match="refused"):
            fetch(f"http://127.0.0.1:{site.port}/")
    load.check()
    secure.check(10)


def test_a_client_that_never_shakes_hands_is_let_go(start: Start, upstream: Upstream, site: Site):
    start(proxy(upstream.port, wire={"header_timeout": "300ms"}), listen=site.listen())
    with socket.create_connection(("127.0.0.1", site.port), 5) as client:
        began = time.monotonic()
        with suppress(ConnectionResetError):
            assert client.recv(1) == b""
        assert 0.2 < time.monotonic() - began < 2
    context = site.authority.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", site.port), 5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        assert secure.version() == "TLSv1.2"
