"""Section I of the attacks: secrets, the admin side and operation, against the installed command.

What concerns single modules stands with them: I6 in test_breaker.py, I10 (mutated requests) in tests/wire.
"""

import json
import signal
from importlib.metadata import version
from pathlib import Path
from threading import Thread
from time import sleep

import aiohttp.http_parser
import httptools
import pytest

from tests.servers import free_port
from tests.system.gateways import Start, command, fetch, proxy
from tests.system.upstream import Upstream

JWT_SECRET = "jwt-secret-that-nobody-may-ever-read-anywhere"
ADMIN_TOKEN = "admin-token-that-nobody-may-ever-read-either"
STORE_PASSWORD = "store-password-of-the-redis"
SECRETS = (JWT_SECRET, ADMIN_TOKEN, STORE_PASSWORD)


def test_i1_a_redirect_of_an_upstream_is_passed_through_and_not_followed(start: Start, upstream: Upstream) -> None:
    gateway = start(proxy(upstream.port))
    status, _ = gateway.ask("/status/302")
    assert (status, upstream.requests) == (302, 1)


def test_i2_only_the_configuration_chooses_the_upstream(start: Start, upstream: Upstream) -> None:
    with Upstream() as other:
        gateway = start(proxy(upstream.port))
        elsewhere = f"127.0.0.1:{other.port}"
        for header in ("X-Forwarded-Host", "X-Original-URL", "X-Rewrite-URL", "Forwarded", "X-Host", "Via"):
            assert fetch(f"http://127.0.0.1:{gateway.port}/0", headers={header: f"host={elsewhere}"})[0] == 200
        assert fetch(f"http://127.0.0.1:{gateway.port}/0", headers={"Host": elsewhere})[0] == 200
        assert (upstream.requests, other.connections) == (7, 0)


def test_i3_no_secret_is_in_metrics_status_or_logs(start: Start, upstream: Upstream) -> None:
    settings = proxy(
        upstream.port,
        store={"url": f"redis://:{STORE_PASSWORD}@127.0.0.1:{free_port()}/0"},
        auth={"providers": {"idp": {"type": "jwt", "secret": "${THE_SECRET}", "algorithms": ["HS256"]}}},
        routes=[
            {
                "name": "all",
                "match": {"path": "/**"},
                "auth": {"providers": ["idp"]},
                "rate_limit": [{"by": "ip", "limit": "5/minute"}],
                "upstream": "up",
            }
        ],
        logging={"access": "json", "level": "debug"},
    )
    gateway = start(settings, listen={"admin_token": ADMIN_TOKEN}, environ={"THE_SECRET": JWT_SECRET})
    gateway.ask("/0")
    shown = gateway.operate("/metrics")[1] + gateway.operate("/readyz")[1] + gateway.operate("/api/v1/config")[1]
    base = f"http://127.0.0.1:{gateway.admin}/api/v1"
    bearer = {"Authorization": f"Bearer {ADMIN_TOKEN}", "X-Gateway-Client": "test"}
    told, config = fetch(f"{base}/config", headers=bearer)
    assert (told, json.loads(config)["config"]["listen"]["admin_token"]) == (200, "***")
    gateway.path.write_text(gateway.path.read_text().replace('"HS256"', '"HS257"').replace("${THE_SECRET}", "short"))
    refused, complaints = fetch(f"{base}/reload", "POST", bearer)
    assert refused == 422
    shown += config + complaints + gateway.errors.read_text() + gateway.output.read_text()
    gateway.configure(settings)
    printed = command("check", "--print", "-c", str(gateway.path), THE_SECRET=JWT_SECRET)
    assert printed.returncode == 0
    for secret in SECRETS:
        assert secret not in shown + printed.stdout + printed.stderr


@pytest.mark.parametrize(
    "path", ["/metrics", "/healthz", "/readyz", "/dashboard", "/api/v1/config", "/api/v1/reload", "/api/v1/drain"]
)
def test_i4_nothing_of_the_admin_side_is_on_the_public_listener(start: Start, upstream: Upstream, path: str) -> None:
    orders = {"name": "orders", "match": {"path": "/orders/**"}, "upstream": "up"}
    gateway = start(proxy(upstream.port, routes=[orders]))
    for method in ("GET", "POST"):
        status, body = fetch(f"http://127.0.0.1:{gateway.port}{path}", method, {"X-Gateway-Client": "test"})
        assert (status, json.loads(body)["code"]) == (404, "no_route")
    assert gateway.ready() == 200


def test_i4_the_admin_side_is_on_the_loopback_unless_it_is_configured_otherwise(tmp_path: Path) -> None:
    file = tmp_path / "routes.yaml"
    file.write_text("upstreams: {up: {targets: ['http://127.0.0.1:1']}}\n"
                    "routes: [{name: all, match: {path: /**}, upstream: up}]\n")  # fmt: skip
    printed = command("check", "--print", "--json", "-c", str(file))
    assert json.loads(printed.stdout)["config"]["listen"]["admin"] == "127.0.0.1:9901"


def test_i4_without_its_token_the_admin_api_changes_nothing(start: Start, upstream: Upstream) -> None:
    gateway = start(proxy(upstream.port), listen={"admin_token": ADMIN_TOKEN})
    for path in ("/api/v1/reload", "/api/v1/drain"):
        assert gateway.operate(path, "POST")[0] == 401
    assert gateway.ready() == 200
    assert gateway.metric("gateway_config_reloads_total") == 0
    told = command("reload", "--admin", f"http://127.0.0.1:{gateway.admin}", GATEWAY_ADMIN_TOKEN=ADMIN_TOKEN)
    assert (told.returncode, gateway.metric("gateway_config_reloads_total")) == (0, 1)


def test_i5_an_invalid_configuration_is_refused_and_the_old_one_stays(start: Start, upstream: Upstream) -> None:
    gateway = start(proxy(upstream.port))
    before = gateway.metrics()[next(key for key in gateway.metrics() if key[0] == "gateway_config_info")]
    gateway.path.write_text("routes: [{name: all, match: {path: nowhere}, upstream: nobody}]\n")
    status, said = gateway.reload()
    assert (status, said["code"], len(said["errors"])) == (422, "invalid_request", 2)
    assert all(str(gateway.path) + ":1:" in line for line in said["errors"])
    assert (gateway.ask()[0], gateway.ready(), before) == (200, 200, 1.0)
    assert gateway.metric("gateway_config_last_reload_successful") == 0


def test_i8_a_stop_fails_nothing_that_is_under_way_and_refuses_what_is_new(start: Start, upstream: Upstream) -> None:
    gateway = start(proxy(upstream.port, workers=2))
    answers: list[int] = []
    clients = [Thread(target=lambda: answers.append(gateway.ask("/wait/1.2")[0])) for _ in range(12)]
    for client in clients:
        client.start()
    sleep(0.4)
    gateway.process.send_signal(signal.SIGTERM)
    sleep(0.4)
    with pytest.raises(OSError, match="refused"):
        gateway.ask("/late")
    for client in clients:
        client.join(10)
    assert answers == [200] * 12
    assert gateway.process.wait(10) == 0


def test_i9_the_parsers_are_compiled_and_the_token_library_is_new_enough() -> None:
    """PyJWT before 2.12 and aiohttp's own parser in Python are known to be weaker."""
    assert tuple(map(int, version("PyJWT").split(".")[:2])) >= (2, 12)
    assert httptools.HttpRequestParser.__module__ == "httptools.parser.parser"
    assert aiohttp.http_parser.HttpRequestParser is not aiohttp.http_parser.HttpRequestParserPy
