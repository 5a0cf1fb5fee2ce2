"""What a figure depends on: the machine, the kernel, the versions; and where figures are kept."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import gateway

RESULTS = Path(__file__).with_name("results")
PACKAGES = ("aiohttp", "httptools", "orjson", "uvloop")
TOOLS = {"nginx": "-v", "haproxy": "-v", "envoy": "--version", "wrk": "-v"}


def describe() -> dict[str, object]:
    """Of this machine, nothing that identifies it."""
    built = f"{platform.python_version()}, {platform.python_compiler()}, in {sys.base_prefix.rpartition('/')[2] or '/'}"
    versions = {"gateway": gateway.__version__, "python": built}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    for tool, option in TOOLS.items():
        versions[tool] = _version(tool, option)
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "versions": versions,
    }


def keep(name: str, figures: object) -> Path:
    """Write `figures` into today's file for this commit, beside what other benchmarks put there."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{time.strftime('%Y-%m-%d')}-{_commit()}.json"
    kept = json.loads(file.read_text()) if file.exists() else {}
    kept["machine"] = describe()
    kept[name] = figures
    file.write_text(json.dumps(kept, indent=2) + "\n")
    return file


def _commit() -> str:
    """Short hash of the commit, with `-changed` when the sources differ from it."""
    try:
        folder = Path(__file__).parent
        commit = _said(["git", "-C", str(folder), "rev-parse", "--short", "HEAD"])
        changed = _said(["git", "-C", str(folder), "status", "--porcelain", "--", "..", ":!results"])
    except (OSError, subprocess.CalledProcessError):
        return "unversioned"
    return f"{commit}-changed" if changed else commit


def _said(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def _version(tool: str, option: str) -> str:
    if shutil.which(tool) is None:
        return "not installed"
    # wrk calls its version a usage error, nginx prints its own to standard error.
    said = subprocess.run([tool, option], capture_output=True, text=True, check=False, timeout=10)
    found = re.search(r"\d+\.\d+(\.\d+)?", said.stdout + said.stderr)
    return found[0] if found else "unknown"


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        if found:
            return found[1]
    if platform.system() == "Darwin":
        return _said(["sysctl", "-n", "machdep.cpu.brand_string"])
    return platform.processor() or "unknown"
