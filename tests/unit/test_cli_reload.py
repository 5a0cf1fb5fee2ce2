"""`gateway reload` against something that plays the admin API, or plays something else."""

import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import UnixStreamServer

import pytest

from gateway.cli import admin_client
from gateway.cli.admin_client import call
from gateway.cli.main import main
from gateway.cli.output import Failure

DONE = {"reloaded": True, "hash": "abcdef0123456789" * 4, "took_ms": 123.4, "workers": 2}
PROBLEM = "application/problem+json"


class Played:
    """The admin API: what it answers, and what it was asked."""

    def __init__(self, status=200, said=DONE, content_type="application/json"):
        self.status, self.content_type = status, content_type
        self.body = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.asked = []


class Handler(BaseHTTPRequestHandler):
    played: Played

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.played.asked.append((self.path, dict(self.headers), body))
        self.send_response(self.played.status)
        self.send_header("Content-Type", self.played.content_type)
        self.send_header("Content-Length", str(len(self.played.body)))
        self.end_headers()
        self.wfile.write(self.played.body)

    def address_string(self):
        return "somebody"

    def log_message(self, *_):
        pass


@contextmanager
def serving(server):
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def playing(played):
    """The URL at which it listens."""
    server = HTTPServer(("127.0.0.1", 0), type("Playing", (Handler,), {"played": played}))
    with serving(server):
        yield f"http://127.0.0.1:{server.server_port}"


@contextmanager
def saying(raw):
    """Somebody who takes one request and answers with these bytes, or stays silent; the URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        over = threading.Event()

        def answer():
            peer, _ = server.accept()
            with peer:
                peer.recv(65536)
                if raw is None:
                    over.wait(10)
                else:
                    peer.sendall(raw)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            over.set()
            thread.join()


@pytest.fixture(autouse=True)
def no_token(monkeypatch):
    monkeypatch.delenv("GATEWAY_ADMIN_TOKEN", raising=False)


def test_a_reload_is_one_line(capsys):
    with playing(played := Played()) as url:
        assert main(["reload", "--admin", url]) == 0
    assert capsys.readouterr() == ("reloaded in 123 ms: 2 workers, sha256:abcdef012345\n", "")
    ((path, headers, body),) = played.asked
    assert (path, body) == ("/api/v1/reload", b"")
    assert headers["X-Gateway-Client"] == "cli"
    assert headers["Content-Length"] == "0"
    assert "Authorization" not in headers


def test_one_worker_is_not_several(capsys):
    with playing(Played(said={**DONE, "workers": 1, "took_ms": 9})) as url:
        assert main(["reload", "--admin", url]) == 0
    assert capsys.readouterr().out == "reloaded in 9 ms: 1 worker, sha256:abcdef012345\n"


def test_the_token_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("GATEWAY_ADMIN_TOKEN", "open-sesame")
    with playing(played := Played()) as url:
        assert main(["reload", "--admin", url]) == 0
    assert played.asked[0][1]["Authorization"] == "Bearer open-sesame"


def test_a_token_that_no_header_can_carry_is_not_shown(monkeypatch, capsys):
    monkeypatch.setenv("GATEWAY_ADMIN_TOKEN", "open\nsesame")
    assert main(["reload", "--admin", "http://127.0.0.1:1"]) == 2
    assert capsys.readouterr().err == "GATEWAY_ADMIN_TOKEN has characters that a header cannot have\n"


def test_over_a_unix_socket(tmp_path, capsys):
    path = str(tmp_path / "admin.sock")
    with serving(UnixStreamServer(path, type("Playing", (Handler,), {"played": Played()}))):
        assert main(["reload", "--admin", f"unix:{path}"]) == 0
    assert capsys.readouterr().out.startswith("reloaded in 123 ms")


def test_a_refused_configuration_is_told_line_by_line(capsys):
    errors = ["routes.yaml:3:5: nmae: unknown key", "routes.yaml:9:1: upstream: there is no upstream 'x'"]
    with playing(Played(422, {"title": "no", "errors": errors}, PROBLEM)) as url:
        assert main(["reload", "--admin", url]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [*errors, "the configuration was refused; the gateway goes on with the one it has"]


@pytest.mark.parametrize("status", [500, 503, 409])
def test_a_reload_that_failed_says_why(status, capsys):
    with playing(Played(status, {"title": "no", "detail": "worker 2 did\nnot prepare"}, PROBLEM)) as url:
        assert main(["reload", "--admin", url]) == 1
    assert capsys.readouterr() == ("", "not reloaded: worker 2 did not prepare\n")


def test_a_missing_token_is_named(capsys):
    with playing(Played(401, {"title": "The admin API needs its token"}, PROBLEM)) as url:
        assert main(["reload", "--admin", url]) == 1
    assert capsys.readouterr().err == "not reloaded: The admin API needs its token: set GATEWAY_ADMIN_TOKEN\n"


@pytest.mark.parametrize(
    ("status", "said", "outcome"),
    [(200, DONE, 0), (422, {"errors": ["a:1:1: b"]}, 2), (500, {"detail": "no"}, 1)],
)
def test_as_json_the_answer_is_printed_as_it_came(status, said, outcome, capsys):
    with playing(Played(status, said, PROBLEM)) as url:
        assert main(["reload", "--json", "--admin", url]) == outcome
    out, err = capsys.readouterr()
    assert (json.loads(out), err) == (said, "")


STRANGERS = {
    "another status": (Played(200, {"status": "ok"}), "cannot reload: is it"),
    "the public listener": (Played(404, {"title": "No route matches this request"}, PROBLEM), "cannot reload: is it"),
    "html": (Played(404, b"<html>", "text/html"), "answered 404 with no JSON"),
    "broken": (Played(200, b"{", "application/json"), "answered 200 with broken JSON"),
    "too deep": (Played(200, b"[" * 100_000, "application/json"), "answered 200 with broken JSON"),
    "a list": (Played(200, b"[]"), "answered 200 with JSON that is no object"),
}


@pytest.mark.parametrize(("played", "why"), STRANGERS.values(), ids=STRANGERS)
def test_what_is_no_gateway_is_one_line(played, why, capsys):
    with playing(played) as url:
        assert main(["reload", "--admin", url]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"what listens at {url} {why}")
    assert err.count("\n") == 1


def through(status, body, content_type="application/problem+json"):
    """A reply of a listener for clients."""
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}X-Request-Id: 7f3a\r\nVia: 1.1 gateway\r\n\r\n{body}".encode()


@pytest.mark.parametrize(
    "raw",
    [
        through(404, '{"code": "no_route", "instance": "7f3a"}'),
        through(401, '{"code": "unauthenticated", "instance": "7f3a"}'),
        through(404, "<html>", "text/html"),
    ],
    ids=["no route", "a route for all", "an upstream's page"],
)
def test_the_listener_for_clients_is_told_apart(raw, capsys):
    with saying(raw) as url:
        assert main(["reload", "--admin", url]) == 1
    said = f"{url} is where a gateway listens for clients, not for operators: --admin takes its listen.admin\n"
    assert capsys.readouterr() == ("", said)


def test_an_admin_listener_may_stand_behind_another_gateway(capsys):
    with saying(through(500, '{"code": "internal", "detail": "worker 2 did not prepare"}')) as url:
        assert main(["reload", "--admin", url]) == 1
    assert capsys.readouterr() == ("", "not reloaded: worker 2 did not prepare\n")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"SSH-2.0-server\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
    ],
    ids=["nothing", "another protocol", "cut short", "broken chunks"],
)
def test_what_breaks_off_or_speaks_otherwise_is_one_line(raw, capsys):
    with saying(raw) as url:
        assert main(["reload", "--admin", url]) == 1
    assert capsys.readouterr().err == (
        f"what listens at {url} broke off, or does not speak HTTP: is it the gateway's admin listener?\n"
    )


def test_an_answer_without_end_is_not_taken_in(monkeypatch):
    monkeypatch.setattr(admin_client, "LARGEST", 1000)
    with playing(Played(200, {"a": "b" * 1000})) as url, pytest.raises(Failure, match="more than 1000 bytes"):
        call(url, "POST", "/")


def test_nobody_listens(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    for address in (url, f"unix:{tmp_path}/none.sock"):
        assert main(["reload", "--admin", address]) == 1
        said = f"nobody listens at {address}: is the gateway running? --admin says where\n"
        assert capsys.readouterr() == ("", said)


def test_whoever_does_not_answer_is_given_up():
    with saying(None) as url, pytest.raises(Failure, match=r"did not answer within 0\.05 s"):
        call(url, "POST", "/", patience=0.05)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:9901",
        "http://",
        "http://host:x",
        "http://u:p@host",
        "http://host/path",
        "http://[::1",
        "http://ho st",
        f"http://{'a' * 64}",
        "unix:",
    ],
)
def test_an_address_that_is_none_is_wrong_usage(url, capsys):
    assert main(["reload", "--admin", url]) == 2
    assert capsys.readouterr().err == f"--admin {url!r} is none of http://host:port, https://host:port and unix:path\n"


def test_a_body_goes_as_json():
    with playing(played := Played()) as url:
        assert call(url, "POST", "/x", {"a": 1}) == (200, DONE)
    ((path, headers, body),) = played.asked
    assert (path, headers["Content-Type"], body) == ("/x", "application/json", b'{"a":1}')
