"""The admin listener over TLS: who gets in with which certificate, how it is renewed, and how commands reach it."""

import asyncio
import shutil
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPSConnection
from pathlib import Path

import pytest
from aiohttp import web

from gateway.admin import tail
from gateway.admin.access import CLIENT
from gateway.admin.app import admin_app
from gateway.auth.ledger import Ledger
from gateway.cli.admin_client import call
from gateway.cli.output import Failure
from gateway.config import Config
from gateway.http.sockets import bind
from gateway.process.admin_listener import AdminListener
from tests.configs import ROUTE, UPSTREAM, loaded
from tests.operated import Operated
from tests.wire.certificates import Authority

TOKEN = "a token for operators"


class Site:
    """An admin listener in a thread of its own, its files, and who is trusted."""

    def __init__(self, folder: Path, more: str) -> None:
        self.folder = folder
        self.authority = Authority(folder)
        self.operators = Authority(folder, "operators")
        self.authority.sign("localhost", "127.0.0.1", file="admin")
        self.instance = Operated(self.config(more), Ledger(folder / "records", None), folder / "notices")
        self.loop = asyncio.new_event_loop()

    def config(self, more: str) -> Config:
        tls = f"admin_tls: {{certificate: admin.pem, key: admin.key{more}}}"
        return loaded(self.folder, f"listen: {{{tls}}}\n{UPSTREAM}{ROUTE}")

    def configure(self, config: Config) -> None:
        self.instance.settings = config
        asyncio.run_coroutine_threadsafe(self.listener.configure(config), self.loop).result(5)

    def connect(self, shows: tuple[Path, Path] | None = None) -> HTTPSConnection:
        return HTTPSConnection("localhost", self.port, timeout=5, context=self.authority.client(shows))

    def status(self, shows: tuple[Path, Path] | None = None, **headers: str) -> int:
        connection = self.connect(shows)
        try:
            connection.request("GET", "/api/v1/log-level", headers=headers)
            return connection.getresponse().status
        finally:
            connection.close()

    async def _serve(self, ready: threading.Event, over: asyncio.Event) -> None:
        runner = web.AppRunner(admin_app(self.instance), shutdown_timeout=0.1)
        await runner.setup()
        (group,) = bind("127.0.0.1:0", 1)
        self.port = group.sockets[0].getsockname()[1]
        self.listener = AdminListener(runner)
        self.instance.trusted = self.listener.trusts
        try:
            await self.listener.configure(self.instance.settings)
            await self.listener.listen(group.sockets[0])
            ready.set()
            await over.wait()
        finally:
            await self.listener.listen(None)
            await runner.cleanup()

    @contextmanager
    def serving(self) -> Iterator[None]:
        ready, over = threading.Event(), asyncio.Event()
        thread = threading.Thread(target=lambda: self.loop.run_until_complete(self._serve(ready, over)))
        thread.start()
        try:
            assert ready.wait(10)
            yield
        finally:
            self.loop.call_soon_threadsafe(over.set)
            thread.join(10)
            self.loop.close()


@contextmanager
def site(folder: Path, more: str = ", client_ca: operators.pem") -> Iterator[Site]:
    made = Site(folder, more)
    with made.serving():
        yield made


def test_a_client_certificate_is_as_good_as_the_token(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with site(tmp_path) as here:
        here.instance.token = TOKEN
        mine = here.operators.sign(subject="CN=ada,O=acme")
        assert here.status(mine) == 200
        assert here.status(Authorization=f"Bearer {TOKEN}") == 200
        assert here.status() == 401
        connection = here.connect(mine)
        connection.request("POST", "/api/v1/drain")
        assert connection.getresponse().status == 403, "a page of another site would show it, too"
        connection.close()
        connection = here.connect(mine)
        connection.request("POST", "/api/v1/drain", headers={CLIENT: "test"})
        assert connection.getresponse().status == 202
        connection.close()
    assert 'by="certificate ada"' in caplog.messages[-1]


def test_a_certificate_of_somebody_else_is_not_even_heard(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        forged = Authority(tmp_path, "others").sign(subject="CN=ada", file="forged")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            here.status(forged)


def test_without_authorities_no_certificate_is_asked_for(tmp_path: Path) -> None:
    with site(tmp_path, "") as here:
        here.instance.token = TOKEN
        assert here.status(here.operators.sign(subject="CN=ada")) == 401


def test_old_versions_are_not_spoken_and_plain_requests_not_answered(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        context = here.authority.client()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        connection = HTTPSConnection("localhost", here.port, timeout=5, context=context)
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
        connection.close()
        with pytest.raises(Failure, match="does not speak HTTP"):
            call(f"http://127.0.0.1:{here.port}", "GET", "/healthz")


def test_a_renewed_certificate_is_shown_and_connections_stay(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        here.instance.token = TOKEN
        connection = here.connect(here.operators.sign(subject="CN=ada"))
        connection.request("GET", "/api/v1/log-level")
        connection.getresponse().read()
        renewed = here.authority.sign("localhost", file="renewed")
        for made, used in zip(renewed, ("admin.pem", "admin.key"), strict=True):
            shutil.copy(made, tmp_path / used)
        here.configure(here.instance.settings)
        connection.request("GET", "/api/v1/log-level")
        assert connection.getresponse().status == 200
        connection.close()
        other = here.connect()
        other.connect()
        shown = other.sock.getpeercert(binary_form=True)
        other.close()
        assert shown == ssl.PEM_cert_to_DER_cert(renewed[0].read_text())


def test_who_is_trusted_no_more_is_asked_again(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        here.instance.token = TOKEN
        connection = here.connect(here.operators.sign(subject="CN=ada"))
        connection.request("GET", "/api/v1/log-level")
        assert connection.getresponse().read()
        here.configure(here.config(""))
        connection.request("GET", "/api/v1/log-level")  # on the connection that began when it was trusted
        assert connection.getresponse().status == 401
        connection.close()


def test_a_stream_ends_when_whoever_began_it_is_trusted_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "HEARTBEAT", 0.1)
    with site(tmp_path) as here:
        connection = here.connect(here.operators.sign(subject="CN=ada"))
        connection.request("GET", "/api/v1/tail", headers={"Host": "gateway.internal"})
        stream = connection.getresponse()
        assert stream.readline() == b"event: ready\n"
        here.configure(here.config(""))
        stream.read()  # to its end; a stream that goes on is a timeout
        connection.close()


def test_a_pair_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        shutil.copy(here.authority.sign("localhost", file="other")[0], tmp_path / "admin.pem")
        with pytest.raises(OSError, match=r"KEY_VALUES_MISMATCH|key values mismatch"):
            here.configure(here.instance.settings)
        assert here.listener.secure
        connection = here.connect()
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
        connection.close()


# -- commands --------------------------------------------------------------------------------------------


def test_commands_verify_the_gateway_and_show_their_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CA", "CERTIFICATE", "KEY", "TOKEN"):
        monkeypatch.delenv(f"GATEWAY_ADMIN_{name}", raising=False)
    with site(tmp_path) as here:
        here.instance.token = TOKEN
        url = f"https://localhost:{here.port}"
        with pytest.raises(Failure, match=r"is not valid: .*GATEWAY_ADMIN_CA names who signed it"):
            call(url, "GET", "/api/v1/log-level")
        monkeypatch.setenv("GATEWAY_ADMIN_CA", str(here.authority.file))
        assert call(url, "GET", "/api/v1/log-level").status == 401
        certificate, key = here.operators.sign(subject="CN=ada")
        monkeypatch.setenv("GATEWAY_ADMIN_CERTIFICATE", str(certificate))
        monkeypatch.setenv("GATEWAY_ADMIN_KEY", str(key))
        assert call(url, "GET", "/api/v1/log-level").status == 200


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"CA": "nowhere.pem"}, "GATEWAY_ADMIN_CA cannot be used: No such file or directory"),
        ({"CERTIFICATE": "nowhere.pem"}, "GATEWAY_ADMIN_CERTIFICATE cannot be used: No such file or directory"),
        ({"KEY": "nowhere.key"}, "GATEWAY_ADMIN_KEY needs GATEWAY_ADMIN_CERTIFICATE beside it"),
    ],
)
def test_files_that_cannot_be_used_are_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], says: str
) -> None:
    for name in ("CA", "CERTIFICATE", "KEY"):
        monkeypatch.delenv(f"GATEWAY_ADMIN_{name}", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(f"GATEWAY_ADMIN_{name}", value)
    with pytest.raises(Failure) as failure:
        call("https://127.0.0.1:1", "GET", "/healthz")
    assert (str(failure.value), failure.value.status) == (says, 2)
