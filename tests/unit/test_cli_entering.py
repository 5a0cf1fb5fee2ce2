"""What `gateway explain` finds out at the door: pages of other sites, addresses, versions; and that it is the truth."""

import json

import pytest

from gateway import assemble
from gateway.cli import entering, explanation
from gateway.cli.configured import load_config
from gateway.cli.main import main
from gateway.exchange import Fields, Peer, Request

CONFIG = """\
security_headers: true
trusted_proxies: [10.0.0.0/8, 172.16.0.0/12]
upstreams:
  old: {targets: [http://127.0.0.1:9001]}
  new: {targets: [http://127.0.0.1:9002]}
routes:
  - name: orders
    match: {path: "/orders/{id}", methods: [GET, PUT, POST]}
    versions:
      from: [path, header, query, media_type]
      header: X-Version
      query: v
      media_type: application/vnd.example.{version}+json
      default: v2
      available:
        v0: {upstream: old, sunset: 2020-01-01, successor: v1}
        v1: {upstream: old, deprecated: 2026-01-01, sunset: 2097-06-30, successor: v2, link: https://docs.example.com,
             brownouts: [{from: 2026-11-01, to: 2026-11-02}]}
        v2+: {upstream: new}
    cors: {origins: ["https://app.example"], methods: [GET, PUT], headers: [X-A], credentials: true}
    allow_ip: [192.0.2.0/24]
    body_limit: 1KiB
  - name: hook
    match: {path: /orders/hook, methods: [POST], headers: {X-Secret: s}}
    cors: {origins: "*", private_network: true}
    upstream: old
  - {name: plain, match: {path: /plain}, upstream: old}
"""
PAGE = ("-H", "Origin: https://app.example")
AT_HOME = ("--client", "192.0.2.7")


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "routes.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def explain(config, capsys):
    def explain(*argv):
        assert main(["explain", "-c", str(config), "--json", *argv]) == 0
        return json.loads(capsys.readouterr().out)

    return explain


def preflight(url, method, *headers):
    asked = ("-H", f"Access-Control-Request-Method: {method}")
    return ("OPTIONS", url, *PAGE, *asked, *(part for name in headers for part in ("-H", name)))


# -- addresses


@pytest.mark.parametrize(
    ("argv", "address", "source", "allowed"),
    [
        ((), None, "", None),
        (("--client", "192.0.2.7"), "192.0.2.7", "--client", True),
        (("--client", "::ffff:192.0.2.7"), "::ffff:c000:207", "--client", True),
        (("--client", "198.51.100.1"), "198.51.100.1", "--client", False),
        (("-H", "X-Forwarded-For: 192.0.2.7"), "192.0.2.7", "X-Forwarded-For", True),
        (("-H", "X-Forwarded-For: 192.0.2.7, 198.51.100.1, 10.1.1.1"), "198.51.100.1", "X-Forwarded-For", False),
        (("-H", "Forwarded: for=192.0.2.7"), "192.0.2.7", "Forwarded", True),
        (("-H", "X-Forwarded-For: nonsense"), None, "", None),
        (("--client", "172.16.0.9", "-H", "X-Forwarded-For: 192.0.2.7"), "192.0.2.7", "X-Forwarded-For", True),
        (("--client", "198.51.100.1", "-H", "X-Forwarded-For: 192.0.2.7"), "198.51.100.1", "--client", False),
    ],
)
def test_the_address_is_the_clients_or_what_trusted_proxies_say_or_not_known(explain, argv, address, source, allowed):
    said = explain("GET", "/orders/7", *argv)
    assert said["client"] == {"address": address, "source": source, "allowed": allowed}
    if allowed is False:
        assert (said["refusal"]["status"], said["permitted"], said["forwarded"]) == (403, False, None)
        assert "x-frame-options: DENY" in said["reply_headers"]
    else:
        assert (said["refusal"], said["permitted"]) == (None, True)


def test_without_trusted_proxies_nobody_is_believed(explain, config):
    config.write_text(CONFIG.replace("trusted_proxies: [10.0.0.0/8, 172.16.0.0/12]\n", ""))
    assert explain("GET", "/orders/7", "-H", "X-Forwarded-For: 192.0.2.7")["client"]["address"] is None


def test_a_route_that_asks_for_no_address_takes_any(explain):
    assert explain("GET", "/plain")["client"] == {"address": None, "source": "", "allowed": True}


def test_what_is_no_address_is_wrong_usage(config, capsys):
    assert main(["explain", "-c", str(config), "--client", "home", "GET", "/plain"]) == 2
    assert capsys.readouterr().err == "gateway explain: --client 'home' is not an IP address\n"


# -- pages of other sites


@pytest.mark.parametrize(
    ("origin", "allowed", "reason"),
    [
        (None, None, "not from a page of another site: it would send an Origin"),
        ("https://app.example", True, "the page may read the reply"),
        ("https://evil.example", False, "pages of this origin may not read the reply"),
    ],
)
def test_whether_a_page_may_read_the_reply(explain, origin, allowed, reason):
    said = explain("GET", "/orders/7", *(() if origin is None else ("-H", f"Origin: {origin}")))
    assert said["cors"] == {"origin": origin, "preflight": False, "allowed": allowed, "reason": reason}
    assert said["permitted"] is True, "CORS protects readers of replies, not servers"
    assert ("access-control-allow-origin: https://app.example" in said["reply_headers"]) is (allowed is True)
    assert "vary: origin" in said["reply_headers"]


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (preflight("/orders/7", "PUT", "Access-Control-Request-Headers: x-a"), "the page may send this request"),
        (preflight("/orders/7", "POST"), "the page may send this request"),  # for which browsers need no leave
        (
            preflight("/orders/7", "PUT", "Access-Control-Request-Headers: x-a, X-B,x-c"),
            "the header X-B is not allowed; the header x-c is not allowed",
        ),
        (
            preflight("/orders/7", "GET", "Access-Control-Request-Private-Network: true"),
            "requests into a private network are not allowed",
        ),
    ],
)
def test_what_a_browser_makes_of_the_answer_to_its_preflight(explain, argv, reason):
    said = explain(*argv)
    assert (said["route"], said["cors"]["preflight"], said["cors"]["reason"]) == ("orders", True, reason)
    assert said["cors"]["allowed"] is (reason == "the page may send this request")
    assert (said["answer"]["status"], said["refusal"], said["permitted"], said["caller"]) == (204, None, None, None)


def test_a_method_that_is_not_allowed_is_named(explain, config):
    config.write_text(CONFIG.replace("methods: [GET, PUT], headers", "methods: [GET], headers"))
    assert explain(*preflight("/orders/7", "PUT"))["cors"]["reason"] == "the method PUT is not allowed"


def test_a_preflight_finds_the_route_of_what_is_to_follow(explain):
    said = explain(*preflight("/orders/hook", "POST", "Access-Control-Request-Headers: x-secret"))
    assert (said["route"], said["cors"]["allowed"]) == ("hook", True)
    (orders,) = [other["reason"] for other in said["others"] if other["route"] == "orders"]
    assert orders.startswith("outranked by hook")


def test_of_another_origin_a_preflight_is_refused(explain):
    said = explain(*(part.replace("app.example", "evil.example") for part in preflight("/orders/7", "PUT")))
    assert (said["refusal"]["status"], said["cors"]["allowed"], said["answer"]) == (403, False, None)
    assert said["cors"]["reason"] == said["refusal"]["detail"] == "pages of this origin may not use this route"


def test_a_route_without_cors_leaves_preflights_to_its_upstream(explain):
    said = explain(*preflight("/plain", "PUT"))
    assert (said["route"], said["cors"], said["permitted"]) == ("plain", None, True)
    assert explain(*preflight("/nowhere", "PUT"))["refusal"]["status"] == 404


# -- versions


@pytest.mark.parametrize(
    ("url", "headers", "name", "found_in"),
    [
        ("/orders/7", [], "v2", []),
        ("/v1/orders/7", [], "v1", ["the path"]),
        ("/v9/orders/7", [], "v2", ["the path"]),
        ("/orders/7", ["X-Version: v1"], "v1", ["the header X-Version"]),
        ("/orders/7?v=v1", [], "v1", ["the query parameter v"]),
        ("/orders/7", ["Accept: application/vnd.example.v1+json"], "v1", ["the media type"]),
        ("/v1/orders/7?v=v1", ["X-Version: v1"], "v1", ["the path", "the header X-Version", "the query parameter v"]),
        ("/orders/7", ["Accept: text/html"], "v2", []),
    ],
)
def test_which_version_and_where_it_was_found(explain, url, headers, name, found_in):
    said = explain("GET", url, *(part for field in headers for part in ("-H", field)))
    assert said["version"] == {"name": name, "found_in": found_in}
    assert f"x-api-version: {name}" in said["reply_headers"]
    assert f"x-api-version: {name}" in said["forwarded"]["headers"]


@pytest.mark.parametrize(
    ("url", "headers", "status", "code", "detail"),
    [
        ("/orders/7?v=v00", [], 400, "unknown_version", "The version in the query is not known here."),
        ("/orders/7", ["X-Version: x"], 400, "unknown_version", "The version in the header is not known here."),
        (
            "/orders/7",
            ["Accept: application/vnd.example.x+json"],
            406,
            "unknown_version",
            "The version in the media types that are accepted is not known here.",
        ),
        (
            "/v1/orders/7",
            ["X-Version: v2"],
            400,
            "bad_request",
            "The request names two versions: v1 in the path, v2 in the header.",
        ),
    ],
)
def test_versions_that_are_not_known_or_not_one(explain, url, headers, status, code, detail):
    said = explain("GET", url, *(part for field in headers for part in ("-H", field)))
    assert said["refusal"] == {"status": status, "code": code, "detail": detail}
    assert (said["version"], said["permitted"]) == ({"name": None, "found_in": []}, False)


def test_a_version_that_is_gone_is_told_with_what_the_client_hears(explain):
    said = explain("GET", "/v0/orders/7", "-H", "X-Version: v0")
    assert (said["refusal"]["status"], said["refusal"]["code"]) == (410, "version_gone")
    assert said["version"] == {"name": "v0", "found_in": ["the path", "the header X-Version"]}
    assert "sunset: Wed, 01 Jan 2020 00:00:00 GMT" in said["reply_headers"]
    assert 'link: </v1/orders/7>; rel="successor-version"' in said["reply_headers"]


async def test_a_brown_out_is_told_while_it_lasts(config):
    async def said(day):
        moment = 1793491200.0 + 86400 * (day - 1)  # of November 2026
        return await explanation.explain(load_config(config), "GET", "/v1/orders/7", [], "192.0.2.7", lambda: moment)

    during, after = await said(1), await said(2)
    assert during["refusal"] is not None
    assert (during["refusal"]["status"], during["refusal"]["code"]) == (503, "version_gone")
    assert (after["refusal"], after["permitted"]) == (None, True)
    assert "deprecation: @1767225600" in during["reply_headers"]
    assert [line for line in after["reply_headers"] if line.startswith("link: <https")] == [
        'link: <https://docs.example.com>; rel="deprecation", <https://docs.example.com>; rel="sunset"'
    ]


def test_a_path_without_a_known_version_is_no_route_and_both_reasons_are_told(explain):
    said = explain("GET", "/vx/orders/7")
    assert (said["route"], said["refusal"]["status"], said["version"]) == (None, 404, None)
    (orders,) = [other["reason"] for other in said["others"] if other["route"] == "orders"]
    assert orders == (
        "path differs at segment 1: 'vx' is not 'orders'; "
        "with a version in front: path does not begin with one of its versions: 'vx'"
    )


@pytest.mark.parametrize("url", ["/V1/orders/7", "/v1/orders/7"])
def test_who_is_refused_before_has_no_version_and_every_upstream_is_told(explain, url):
    said = explain("GET", url, "--client", "198.51.100.1")
    assert (said["refusal"]["status"], said["version"]) == (403, None)
    assert said["targets"] == ["http://127.0.0.1:9001", "http://127.0.0.1:9002"]


def test_the_route_that_takes_it_is_not_among_the_others(explain):
    assert {other["route"] for other in explain("GET", "/v1/orders/7")["others"]} == {"hook", "plain"}


# -- bodies


@pytest.mark.parametrize(("length", "status"), [("1024", None), ("1025", 413), ("x", None)])
def test_a_body_that_is_announced_as_too_large(explain, length, status):
    said = explain("PUT", "/orders/7", *AT_HOME, "-H", f"Content-Length: {length}")
    assert said["body_limit"] == 1024
    assert (said["refusal"] and said["refusal"]["status"]) == status
    assert said["permitted"] is (status is None)


# -- it is the truth

REQUESTS = [
    ("GET", "/orders/7", []),
    ("GET", "/v1/orders/7", [("origin", "https://app.example")]),
    ("GET", "/v0/orders/7?v=v0", []),
    ("GET", "/v1/orders/7?v=v2", []),
    ("GET", "/orders/7", [("x-version", "nine"), ("origin", "https://evil.example")]),
    ("DELETE", "/orders/7", []),
    ("GET", "/vx/orders/7", []),
    ("OPTIONS", "/v1/orders/7", [("origin", "https://app.example"), ("access-control-request-method", "PUT")]),
    ("OPTIONS", "/orders/7", [("origin", "https://evil.example"), ("access-control-request-method", "PUT")]),
    ("OPTIONS", "/orders/hook", [("origin", "https://x.example"), ("access-control-request-method", "POST"),
                                 ("access-control-request-headers", "x-secret")]),
    ("OPTIONS", "/orders/hook", [("origin", "https://x.example"), ("access-control-request-method", "POST")]),
    ("OPTIONS", "/nowhere", [("origin", "https://x.example"), ("access-control-request-method", "POST")]),
    ("OPTIONS", "/orders/7", []),
]  # fmt: skip


@pytest.mark.parametrize("client", ["192.0.2.7", "198.51.100.1"])
@pytest.mark.parametrize(("method", "url", "headers"), REQUESTS)
async def test_what_is_explained_is_what_the_gateway_does(config, method, url, headers, client):
    loaded = load_config(config)
    fields = [(name.encode(), value.encode()) for name, value in headers]
    said = await explanation.explain(loaded, method, url, fields, client)

    runtime = assemble.assemble(loaded)
    try:
        for route in runtime.routes.values():
            route.send = runtime.routes["plain"].rehearse(assemble.Fault(1.0, 599, 0.0))  # nobody is asked
        call = runtime.handler.open(
            Request(method, url.encode(), Fields(fields, host=b"localhost"), Peer(client, 1), 0.0)
        )
        reply = await runtime.handler.handle(call)
    finally:
        await runtime.close()
    refusal, answer = said["refusal"], said["answer"]
    assert reply.status == (refusal["status"] if refusal else answer["status"] if answer else 599)
    assert (said["route"] or "") == call.route
    if said["version"] is not None:  # the gateway has come as far as to choose one
        assert (said["version"]["name"] or "") == call.version
    if reply.status != 599:
        assert said["reply_headers"] == call.added.decode().splitlines()
        assert (refusal["code"] if refusal else None) == (call.error.code if call.error else None)


def test_the_steps_are_taken_in_the_order_of_assemble(config, monkeypatch):
    taken = []
    for module in (assemble, entering):
        monkeypatch.setattr(module, "cors", lambda *_: lambda call: taken.append("cors"))
        monkeypatch.setattr(module, "addresses", lambda *_: lambda call: taken.append("addresses"))
    monkeypatch.setattr(entering.Versions, "enter", lambda self, call: taken.append("version"))
    route = load_config(config).routes[0]
    versions = entering.Versions(route.versions, lambda: 0.0)
    call = entering.call_of(load_config(config), ("GET", b"/orders/7", []), b"h", "http", "192.0.2.7")
    assemble._enter(route, versions)(call)
    built, taken[:] = list(taken), []
    entering.enter(route, versions, call, lambda: 0.0)
    assert taken == built == ["cors", "addresses", "version"]


# -- for people


def test_people_are_told_each_decision_on_a_line(config, capsys):
    assert main(["explain", "-c", str(config), "GET", "/v1/orders/7", *PAGE, *AT_HOME]) == 0
    out = capsys.readouterr().out
    for line in (
        "  page of https://app.example: the page may read the reply\n",
        "  client: 192.0.2.7 by --client, allowed\n",
        "  version: v1, named in the path\n",
        "  permitted\n",
        "  forwarded: /orders/7 without the client's x-api-version, with\n    x-api-version: v1\n",
        "  the reply says besides:\n    access-control-allow-origin: https://app.example\n",
        "    deprecation: @1767225600\n",
    ):
        assert line in out
    assert main(["explain", "-c", str(config), "GET", "/orders/7"]) == 0
    out = capsys.readouterr().out
    for line in ("  client: the address decides: give --client\n", "  version: v2, by default\n"):
        assert line in out
    assert (
        main(["explain", "-c", str(config), *preflight("/orders/7", "GET", "Access-Control-Request-Headers: y")]) == 0
    )
    out = capsys.readouterr().out
    assert "  preflight of https://app.example: the header y is not allowed\n  answer: 204\n" in out
    assert "permitted" not in out
    assert main(["explain", "-c", str(config), "GET", "/orders/7", "--client", "::1"]) == 0
    out = capsys.readouterr().out
    assert "  client: ::1 by --client, refused\n  answer: 403 forbidden requests from this address" in out
