"""The folder of a running gateway, and what becomes of those that killed ones have left behind."""

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.process.instance import LOCK, MEMORY, Instance, InstanceError, parent_folder

KILLED = """
import os, pathlib, sys
from gateway.process.instance import Instance
instance = Instance(pathlib.Path(sys.argv[1]))
(instance.cells / "0").mkdir()
print(instance.folder, flush=True)
if sys.argv[2:] == ["child"] and os.fork() == 0:
    sys.stdin.read()  # a worker that lives on, until the test lets it go
os._exit(1)
"""


def killed(parent: Path) -> Path:
    """The folder that an instance has left behind."""
    command = [sys.executable, "-c", KILLED, str(parent)]
    return Path(subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout.strip())


def test_a_folder_is_its_owners_alone_and_removed_at_the_end(tmp_path: Path) -> None:
    instance = Instance(tmp_path)
    assert instance.folder.parent == tmp_path
    assert stat.S_IMODE(instance.folder.stat().st_mode) == 0o700
    assert instance.cells.is_dir()
    assert instance.log_lock.parent == instance.folder
    (instance.cells / "0").mkdir()
    instance.close()
    assert list(tmp_path.iterdir()) == []


def test_several_live_side_by_side(tmp_path: Path) -> None:
    one, other = Instance(tmp_path), Instance(tmp_path)
    assert one.folder.is_dir()
    assert one.folder != other.folder
    other.close()
    assert list(tmp_path.iterdir()) == [one.folder]
    one.close()


def test_what_a_killed_instance_left_is_removed_by_the_next(tmp_path: Path) -> None:
    orphan = killed(tmp_path)
    assert (orphan / "cells" / "0").is_dir()
    instance = Instance(tmp_path)
    assert list(tmp_path.iterdir()) == [instance.folder]
    instance.close()


def test_a_folder_whose_workers_live_on_without_a_supervisor_stays(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), "child"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        assert process.wait(20) == 1
        Instance(tmp_path).close()
        assert folder.is_dir()
        process.stdin.close()
        assert process.stdout.read() == "", "the worker has ended"
    Instance(tmp_path).close()
    assert not folder.exists()


def test_nothing_is_removed_but_folders_of_gateways(tmp_path: Path) -> None:
    (tmp_path / "gateway-being-made").mkdir()
    (tmp_path / "gateway-notes").mkdir()
    (tmp_path / "gateway-notes" / "lock").write_text("somebody else's")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / LOCK).touch()
    (tmp_path / "gateway-file").touch()
    before = sorted(tmp_path.rglob("*"))
    Instance(tmp_path).close()
    assert sorted(tmp_path.rglob("*")) == before


def test_links_are_not_followed(tmp_path: Path) -> None:
    treasure, parent = tmp_path / "treasure", tmp_path / "parent"
    for folder in (treasure, parent, parent / "gateway-x"):
        folder.mkdir()
    (treasure / LOCK).touch()
    (parent / "gateway-link").symlink_to(treasure)
    (parent / "gateway-x" / LOCK).symlink_to(treasure / LOCK)
    Instance(parent).close()
    assert (treasure / LOCK).exists()
    assert {path.name for path in parent.iterdir()} == {"gateway-link", "gateway-x"}


def test_an_orphan_that_somebody_else_removes_first_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "glob", lambda self, _: iter([self / "gateway-gone"]))
    Instance(tmp_path).close()


def test_many_may_start_at_once_among_orphans(tmp_path: Path) -> None:
    orphans = [Instance(tmp_path) for _ in range(20)]
    for orphan in orphans:
        os.close(orphan._lock)  # as the kernel does it for a killed process
    with ThreadPoolExecutor(20) as pool:
        instances = list(pool.map(lambda _: Instance(tmp_path), range(100)))
    assert all(instance.cells.is_dir() for instance in instances), "one took another for an orphan"
    for instance in instances:
        instance.close()
    Instance(tmp_path).close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "reason"), [("nowhere", "No such file or directory"), ("file", "Not a directory")])
def test_a_parent_that_cannot_be_written_to_is_one_line_with_a_cure(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InstanceError) as caught:
        Instance(tmp_path / name)
    cure = "name a folder it may write to as runtime_dir"
    assert str(caught.value) == f"cannot write to {tmp_path / name} ({reason}): {cure}"


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_parent_that_may_not_be_written_to_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InstanceError, match="Permission denied"):
        Instance(tmp_path)


def test_a_folder_that_cannot_be_completed_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Path, __: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(InstanceError, match="No space left"):
        Instance(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_set_of_metrics_is_counted_on_in_by_the_next_worker(tmp_path: Path) -> None:
    instance = Instance(tmp_path)
    first, second = instance.take_set(), instance.take_set()
    assert first != second
    assert instance.live == set(), "they have not begun"
    instance.live.update((first, second))
    instance.leave_set(first)
    assert instance.live == {second}
    assert instance.take_set() == first
    assert instance.take_set() not in (first, second), "as many sets as workers lived at the same time"
    instance.leave_set("never began")
    assert instance.live == {second}
    instance.close()


def test_where_the_folders_are(tmp_path: Path) -> None:
    systemd = {"RUNTIME_DIRECTORY": "/run/gateway:/run/other"}
    assert parent_folder(tmp_path, systemd) == tmp_path
    assert parent_folder(None, systemd) == Path("/run/gateway")
    assert parent_folder(None, {}).is_dir()
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK | os.X_OK):
        assert parent_folder(None, {"RUNTIME_DIRECTORY": ""}) == MEMORY
