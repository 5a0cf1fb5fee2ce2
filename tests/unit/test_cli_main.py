import json
import subprocess
import sys

import pytest

from gateway import __version__
from gateway.cli.main import COMMANDS, main


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"gateway {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    assert main([command, "--help"]) == 0
    assert f"gateway {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "argv", [[], ["chekc"], ["check", "--nonsense"], ["token"], ["explain", "GET"], ["check", "-c"]]
)
def test_wrong_usage_is_one_line_and_status_2(argv, capsys):
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("gateway")
    assert err.count("\n") == 1


def test_an_interrupt_is_no_traceback(monkeypatch, capsys):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr("gateway.cli.schema.perform", interrupted)
    assert main(["schema"]) == 130
    assert capsys.readouterr() == ("", "")


def test_what_the_system_refuses_is_one_line(monkeypatch, capsys):
    def full(options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gateway.cli.schema.perform", full)
    assert main(["schema"]) == 1
    assert capsys.readouterr().err == "gateway: [Errno 28] No space left on device\n"


def test_the_schema_is_json_schema(capsys):
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert {"listen", "routes", "upstreams"} <= set(schema["properties"])


def test_answering_the_version_imports_nothing_heavy():
    code = "import sys; from gateway.cli.main import main; main(['--version']); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"aiohttp", "asyncio", "jwt", "orjson", "prometheus_client", "pydantic", "redis", "rich", "yaml"}
    assert heavy.isdisjoint(run.stdout.split())
