import json

from gateway.cli.demo import SHIPPED
from gateway.cli.main import main

CONFIG = """\
auth:
  providers:
    idp: {type: jwt, secret: 0123456789abcdef0123456789abcdef, algorithms: [HS256]}
upstreams:
  api:
    targets: [http://127.0.0.1:9001, {url: "https://api.example.com", weight: 2}]
routes:
  - name: "odd[red]"
    match: {path: "/a/{id}", host: api.example.com, methods: [GET], headers: {X-Beta: "1"}}
    auth: {providers: [idp], optional: true, scopes: [a, b]}
    rate_limit: [{by: ip, limit: 10/second, burst: 3}]
    upstream: api
"""


def test_the_table_shows_what_is_configured(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)  # which tests in parallel are given
    assert main(["routes", "-c", str(SHIPPED)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "HOST", "METHODS", "PATH", "AUTH", "LIMITS", "UPSTREAM"]
    orders = next(line for line in lines if line.startswith("orders"))
    for part in (
        "GET POST",
        "/orders/**",
        "demo|partners [GET orders:read; POST orders:write]",
        "standard(consumer 600/60s",
    ):
        assert part in orders
    assert "orders → http://127.0.0.1:9001 http://127.0.0.1:9002" in orders


def test_a_pipe_gets_plain_text_and_one_line_a_route(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    path = tmp_path / "routes.yaml"
    path.write_text(CONFIG.replace("odd[red]", "odd"))
    assert main(["routes", "-c", str(path)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert out.count("\n") == 2
    assert "/a/{id} X-Beta: 1" in out
    assert "idp or anonymous [a b]" in out
    assert "(ip 10/1s burst 3)" in out


def test_routes_as_json(tmp_path, capsys):
    path = tmp_path / "routes.yaml"
    path.write_text(CONFIG.replace("odd[red]", "odd"))
    assert main(["routes", "--json", "-c", str(path)]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {
            "name": "odd",
            "host": "api.example.com",
            "methods": ["GET"],
            "path": "/a/{id}",
            "headers": {"X-Beta": "1"},
            "query": {},
            "auth": {
                "providers": ["idp"],
                "optional": True,
                "scopes": {"*": ["a", "b"]},
                "roles": [],
                "claims": {},
                "max_age": None,
            },
            "limits": ["(ip 10/1s burst 3)"],
            "fallbacks": 0,
            "upstream": "api",
            "split": None,
            "versions": None,
            "redirect": None,
            "respond": None,
            "targets": ["http://127.0.0.1:9001", "https://api.example.com"],
        }
    ]


LIMITS = """\
rate_limits:
  standard: {by: [consumer, "header:X-Tenant"], limit: 100/minute, burst: 20, lease: 2, on_failure: closed,
             tiers: {gold: 6000/minute, tin: {limit: 60/minute, burst: 20}}, cost: {POST: 5, GET: 0, "*": 2}}
  month: {by: consumer, limit: 100000/month, algorithm: calendar, time_zone: Europe/Berlin, tiers: {gold: 5/week}}
  tried: {by: "claim:tenant", limit: 100/30s, algorithm: sliding_window, mode: observe, cost: 3}
"""


def test_all_of_a_limit_is_shown_shortly(tmp_path, capsys):
    path = tmp_path / "routes.yaml"
    text = LIMITS + CONFIG.replace("odd[red]", "odd").replace(
        "[{by: ip, limit: 10/second, burst: 3}]", "[standard, month, tried]"
    )
    path.write_text(text)
    assert main(["routes", "--json", "-c", str(path)]) == 0
    expected = [
        (
            "standard(consumer+header:X-Tenant 100/60s burst 20; gold 6000/60s; tin 60/60s burst 20; POST costs 5; "
            "GET costs 0; others cost 2; leases 2; closed without the store)"
        ),
        "month(consumer 100000 a month of Europe/Berlin; gold 5 a week of Europe/Berlin)",
        "tried(claim:tenant 100/30s sliding; each costs 3; only observes)",
    ]
    assert json.loads(capsys.readouterr().out)[0]["limits"] == expected
    assert main(["explain", "-c", str(path), "--json", "GET", "http://api.example.com/a/1", "-H", "X-Beta: 1"]) == 0
    stages = json.loads(capsys.readouterr().out)["stages"]
    assert [stage["settings"] for stage in stages if stage["stage"] == "limit"] == expected


REQUIRED = """\
      scopes: {GET: [a, {any: [b, c]}], "*": [d]}
      roles: {all: [x, y]}
      claims: {acr: [gold, silver], level: 3, verified: true}
      max_age: 15m
"""


def test_what_is_required_is_shown_shortly_and_for_scripts_as_it_is_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    path = tmp_path / "routes.yaml"
    auth = "    auth:\n      providers: [idp]\n" + REQUIRED
    text = CONFIG.replace("    auth: {providers: [idp], optional: true, scopes: [a, b]}\n", auth)
    path.write_text(text.replace("odd[red]", "odd"))
    assert main(["routes", "-c", str(path)]) == 0
    shown = "idp [GET a b|c; d; role x+y; acr=gold|silver; level=3; verified=true; max_age=900s]"
    assert shown in capsys.readouterr().out
    assert main(["routes", "--json", "-c", str(path)]) == 0
    (route,) = json.loads(capsys.readouterr().out)
    assert route["auth"] == {
        "providers": ["idp"],
        "optional": False,
        "scopes": {"GET": ["a", {"any": ["b", "c"]}], "*": ["d"]},
        "roles": {"all": ["x", "y"]},
        "claims": {"acr": ["gold", "silver"], "level": [3], "verified": [True]},
        "max_age": 900,
    }


SPLIT = """\
upstreams:
  old: {targets: ["http://127.0.0.1:9001", "http://127.0.0.1:9002"]}
  new: {discover: {dns: new.internal, port: 8080, scheme: https}}
  services: {discover: {dns: _http._tcp.example.internal, type: srv}}
routes:
  - {name: orders, match: {path: /orders}, split: {old: 90, new: 10, services: 0}, split_by: consumer}
  - {name: found, match: {path: /found}, upstream: services}
"""


def test_a_split_shows_the_share_and_the_targets_of_each_upstream_that_answers(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    path = tmp_path / "routes.yaml"
    path.write_text(SPLIT)
    assert main(["routes", "-c", str(path)]) == 0
    _, orders, found = (line.rstrip() for line in capsys.readouterr().out.splitlines())
    assert orders.endswith(
        "  old (90 of 100) → http://127.0.0.1:9001 http://127.0.0.1:9002; new (10 of 100) → https://new.internal:8080"
    )
    assert found.endswith("  services → http://_http._tcp.example.internal")


def test_a_split_for_scripts_has_the_weights_and_no_upstream(tmp_path, capsys):
    path = tmp_path / "routes.yaml"
    path.write_text(SPLIT)
    assert main(["routes", "--json", "-c", str(path)]) == 0
    orders, found = json.loads(capsys.readouterr().out)
    assert (orders["upstream"], orders["split"]) == (None, {"old": 90, "new": 10, "services": 0})
    assert orders["targets"] == ["http://127.0.0.1:9001", "http://127.0.0.1:9002", "https://new.internal:8080"]
    assert (found["upstream"], found["split"]) == ("services", None)


ENDS = """\
upstreams:
  old: {targets: ["http://127.0.0.1:9001"]}
  new: {targets: ["http://127.0.0.1:9002"]}
routes:
  - name: orders
    match: {path: /orders}
    versions: {available: {v1: {upstream: old}, v2+: {upstream: new}, v4: {upstream: old}}}
  - {name: docs, match: {path: /docs}, redirect: {to: "https://docs.example.com/{host}", status: 308}}
  - {name: ok, match: {path: /ok}, respond: {status: 204}}
"""


def test_versions_redirects_and_answers_stand_in_the_place_of_an_upstream(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    path = tmp_path / "routes.yaml"
    path.write_text(ENDS)
    assert main(["routes", "-c", str(path)]) == 0
    _, orders, docs, ok = (line.rstrip() for line in capsys.readouterr().out.splitlines())
    assert orders.endswith("  old (v1, v4) → http://127.0.0.1:9001; new (v2+) → http://127.0.0.1:9002")
    assert docs.endswith("  308 → https://docs.example.com/{host}")
    assert ok.endswith("  status 204")


def test_versions_redirects_and_answers_for_scripts(tmp_path, capsys):
    path = tmp_path / "routes.yaml"
    path.write_text(ENDS)
    assert main(["routes", "--json", "-c", str(path)]) == 0
    orders, docs, ok = json.loads(capsys.readouterr().out)
    assert orders["versions"] == {"v1": "old", "v2+": "new", "v4": "old"}
    assert orders["targets"] == ["http://127.0.0.1:9001", "http://127.0.0.1:9002"]
    assert docs["redirect"] == {"status": 308, "to": "https://docs.example.com/{host}"}
    assert ok["respond"] == {"status": 204}
    for route in (orders, docs, ok):
        ends = [key for key in ("upstream", "split", "versions", "redirect", "respond") if route[key] is not None]
        assert len(ends) == 1
    assert (docs["targets"], ok["targets"]) == ([], [])


def test_a_broken_configuration_prints_no_table(tmp_path, capsys):
    path = tmp_path / "routes.yaml"
    path.write_text(CONFIG)
    assert main(["routes", "-c", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"{path}:8:")
