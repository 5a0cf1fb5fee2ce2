import hashlib
import json
import os

import pytest
import yaml

from gateway.cli.demo import SHIPPED
from gateway.cli.main import main

SMALL = """\
upstreams:
  api:
    targets: [http://127.0.0.1:9001]
routes:
  - name: all
    match: {path: /**}
    upstream: api
"""


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return str(path)


@pytest.fixture
def broken(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text(SMALL.replace("upstream: api", "upstream: apii").replace("name: all", "nmae: all"))
    return str(path)


def test_a_right_configuration_is_fine(small, capsys):
    assert main(["check", "-c", small]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{small}: fine")
    assert "routes: 1" in out
    assert err == ""


def test_every_complaint_is_one_line_with_its_place_and_status_2(broken, capsys):
    assert main(["check", "-c", broken]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) >= 2
    assert all(line.startswith(f"{broken}:") for line in lines)
    assert any(line.startswith(f"{broken}:5:5: ") and "nmae" in line for line in lines)
    assert any(":7:" in line and "did you mean 'api'?" in line for line in lines)


def test_complaints_as_json(broken, capsys):
    assert main(["check", "--json", "-c", broken]) == 2
    out, err = capsys.readouterr()
    assert err == ""
    report = json.loads(out)
    assert report["ok"] is False
    assert {"file", "line", "column", "key", "message"} == set(report["errors"][0])


def test_a_summary_as_json(small, capsys):
    assert main(["check", "--json", "-c", small]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["ok"], report["routes"], report["errors"]) == (True, 1, [])
    assert "config" not in report


def test_the_whole_configuration_with_its_defaults(small, capsys):
    assert main(["check", "--print", "-c", small]) == 0
    whole = yaml.safe_load(capsys.readouterr().out)
    assert whole["routes"][0]["match"]["path"] == "/**"
    assert whole["upstreams"]["api"]["timeouts"]["try"] == "3s"
    assert whole["upstreams"]["api"]["retry"]["budget"] == "20%"
    assert whole["wire"]["body_limit"] == "10MiB"


def test_the_hash_is_that_of_the_files_bytes(small, capsys):
    digest = hashlib.sha256(SMALL.encode()).hexdigest()
    assert main(["check", "--print", "-c", small]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"# {small} sha256:{digest}"
    assert main(["check", "--print", "--json", "-c", small]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["hash"] == digest
    assert report["config"]["upstreams"]["api"]["timeouts"]["try"] == "3s"


def test_what_is_printed_is_a_configuration_that_prints_the_same(small, tmp_path, capsys):
    assert main(["check", "--print", "-c", small]) == 0
    printed = capsys.readouterr().out
    (tmp_path / "printed.yaml").write_text(printed)
    assert main(["check", "--print", "-c", str(tmp_path / "printed.yaml")]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == printed.splitlines()[1:]


def test_lists_of_plain_values_stand_on_one_line(small, capsys):
    assert main(["check", "--print", "-c", small]) == 0
    assert "      methods: [GET, HEAD, OPTIONS, PUT, DELETE]\n" in capsys.readouterr().out


def test_a_pipe_can_be_printed_because_it_is_read_once(capsys):
    reading, writing = os.pipe()
    try:
        os.write(writing, SMALL.encode())
        os.close(writing)
        assert main(["check", "--print", "-c", f"/dev/fd/{reading}"]) == 0
    finally:
        os.close(reading)
    assert "routes:\n" in capsys.readouterr().out


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_no_secret_is_printed(form, capsys, monkeypatch):
    monkeypatch.setenv("JWT_SECRET", "a-real-secret-of-more-than-32-bytes-0123")
    monkeypatch.setenv("STORE_URL", "redis://user:hunter2@127.0.0.1:6379/0")
    assert main(["check", "--print", *form, "-c", str(SHIPPED)]) == 0
    out = capsys.readouterr().out
    assert "a-real-secret" not in out
    assert "hunter2" not in out


def test_a_file_that_is_not_there(tmp_path, capsys):
    assert main(["check", "-c", str(tmp_path / "none.yaml")]) == 2
    assert capsys.readouterr().err == f"{tmp_path}/none.yaml:1:1: cannot read the file: No such file or directory\n"


def test_what_is_allowed_but_probably_not_meant_is_a_warning(tmp_path, capsys):
    path = tmp_path / "routes.yaml"
    path.write_text(
        "workers: 2\nstore: {url: memory}\nupstreams: {up: {targets: ['http://127.0.0.1:1']}}\n"
        "routes: [{name: all, match: {path: /**}, rate_limit: [{by: ip, limit: 5/minute}], upstream: up}]\n"
    )
    assert main(["check", "-c", str(path)]) == 0
    assert "warning: store.url is memory: each of the 2 workers counts for itself" in capsys.readouterr().err
    assert main(["check", "--json", "-c", str(path)]) == 0
    assert len(json.loads(capsys.readouterr().out)["warnings"]) == 1


@pytest.mark.parametrize(("url", "warned"), [("http://idp.example.com/jwks", True), ("http://127.0.0.1:9/jwks", False)])
def test_keys_that_anybody_on_the_way_could_replace_are_a_warning(tmp_path, capsys, url, warned):
    path = tmp_path / "routes.yaml"
    path.write_text(
        f"auth: {{providers: {{idp: {{type: jwt, jwks: '{url}', algorithms: [RS256]}}}}}}\n"
        "upstreams: {up: {targets: ['http://127.0.0.1:1']}}\n"
        "routes: [{name: all, match: {path: /**}, auth: {providers: [idp]}, upstream: up}]\n"
    )
    assert main(["check", "-c", str(path)]) == 0
    assert ("auth.providers.idp: keys that come over http" in capsys.readouterr().err) == warned
