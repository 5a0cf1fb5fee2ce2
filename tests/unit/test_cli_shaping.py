"""What `gateway explain` says of a request's way: what the upstream gets, what the gateway answers, in which coding."""

import json

import pytest

from gateway import assemble
from gateway.cli import explanation
from gateway.cli.configured import load_config
from gateway.cli.main import main
from gateway.exchange import Fields, Peer, Request
from tests.tokens import sign

CONFIG = """\
auth:
  providers:
    idp: {type: jwt, secret: 0123456789abcdef0123456789abcdef, algorithms: [HS256]}
upstreams: {u: {targets: [http://127.0.0.1:9001]}}
routes:
  - name: orders
    match: {path: "/api/orders/{id}"}
    auth: {providers: [idp]}
    transform:
      strip_prefix: /api
      rewrite: {from: "^/orders/([0-9]+)$", to: "/o/{1}"}
      add_prefix: "/t/{claim.tenant}"
      query: {set: {by: "{consumer}"}, remove: debug}
      request_headers:
        {set: {X-Who: "{consumer}", X-Id: "{request.id}"}, add: {X-More: "{param.id}"}, remove: [X-Debug]}
      response_headers: {set: {X-Param: "{param.id}"}, add: {X-None: "{claim.none}"}, remove: [Server]}
    upstream: u
  - {name: plain, match: {path: /plain}, upstream: u, compress: {encodings: [gzip], min_size: 1GiB}}
  - name: away
    match: {path: "/away/**"}
    redirect: {to: "https://docs.example{path}", status: 308, keep_query: true}
    transform: {response_headers: {set: {X-Host: "{host}"}}}
    compress: true
  - name: here
    match: {path: "/here/{name}"}
    respond: {json: {hello: "{param.name}", padding: "PADDING"}, headers: {Access-Control-Allow-Origin: "*"}}
    cors: {origins: ["https://app.example"]}
    compress: {encodings: [gzip], min_size: 64B}
  - name: asked
    match: {path: /asked}
    auth: {providers: [idp]}
    redirect: {to: /plain}
""".replace("PADDING", "x" * 200)


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


def bearer(**claims):
    return sign({"sub": "alice", "exp": 4102444800, **claims}, b"0123456789abcdef0123456789abcdef").decode()


def test_what_the_upstream_gets_of_this_very_request(explain):
    said = explain("GET", "/api/orders/7?a=1&debug=2", "--token", bearer(tenant="acme"))
    assert said["path"] == "/api/orders/7"
    assert said["forwarded"] == {
        "path": "/t/acme/o/7",
        "query": "?a=1&by=alice",
        "headers": ["x-who: alice", "x-id: explain", "x-more: 7"],
        "removed": ["x-debug", "x-id", "x-who"],
    }
    assert said["reply_headers"] == ["x-param: 7"]
    assert (said["answer"], said["compression"]) == (None, None)


def test_a_path_that_cannot_be_forwarded_is_refused(explain):
    said = explain("GET", "/api/orders/7", "--token", bearer(tenant=".."))
    assert (said["refusal"]["status"], said["permitted"], said["forwarded"]) == (400, False, None)


def test_who_is_not_permitted_is_told_of_no_way(explain):
    said = explain("GET", "/api/orders/7", "--token", bearer(tenant="acme") + "x")
    assert (said["refusal"]["status"], said["forwarded"]) == (401, None)


def test_where_the_path_needs_to_know_the_caller_nothing_is_said_without(explain, config):
    said = explain("GET", "/api/orders/7")
    assert (said["permitted"], said["refusal"], said["forwarded"]) == (None, None, None)
    config.write_text(CONFIG.replace('      add_prefix: "/t/{claim.tenant}"\n', ""))
    assert explain("GET", "/api/orders/7")["forwarded"]["path"] == "/o/7"


def test_what_nobody_changes_goes_on_as_it_came(explain):
    said = explain("GET", "/plain?x")
    assert said["forwarded"] == {"path": "/plain", "query": "?x", "headers": [], "removed": []}


@pytest.mark.parametrize(
    ("headers", "coding"),
    [
        ([], ""),
        (["Accept-Encoding: gzip"], "gzip"),
        (["Accept-Encoding: br", "Accept-Encoding: *;q=0.5"], "gzip"),
        (["Accept-Encoding: br, gzip;q=0"], ""),
        (["Accept-Encoding: gzip", "Cache-Control: no-transform"], ""),
    ],
)
def test_in_which_coding_a_client_gets_what_is_compressed(explain, headers, coding):
    said = explain("GET", "/plain", *(part for field in headers for part in ("-H", field)))
    assert said["compression"] == coding


def test_where_a_client_is_sent(explain):
    said = explain("GET", "http://a.example/away/x%20y?z=1", "-H", "Accept-Encoding: gzip")
    assert said["answer"] == {
        "status": 308,
        "headers": ["location: https://docs.example/away/x%20y?z=1", "x-host: a.example"],
        "size": 0,
    }
    assert (said["forwarded"], said["compression"], said["targets"]) == (None, None, [])


def test_what_the_gateway_itself_answers_is_the_whole_answer(explain):
    said = explain("GET", "/here/you", "-H", "Accept-Encoding: gzip", "-H", "Origin: https://app.example")
    assert said["answer"]["headers"] == ["content-type: application/json", "content-encoding: gzip"]
    assert 40 < said["answer"]["size"] < 100
    assert said["reply_headers"] == [
        "access-control-allow-origin: https://app.example",
        "vary: origin",
        "vary: accept-encoding",
    ]


@pytest.mark.parametrize("url", ["/away/a?b", "/here/you", "/here/%22"])
@pytest.mark.parametrize("secured", [True, False])
async def test_the_answer_is_that_of_the_gateway(config, url, secured):
    config.write_text(f"security_headers: {str(secured).lower()}\n{CONFIG}")
    loaded = load_config(config)
    fields = [(b"accept-encoding", b"gzip"), (b"origin", b"https://evil.example")]
    said = await explanation.explain(loaded, "GET", url, fields)
    runtime = assemble.assemble(loaded)
    try:
        request = Request("GET", url.encode(), Fields(fields, host=b"localhost"), Peer("192.0.2.7", 1))
        call = runtime.handler.open(request)
        reply = await runtime.handler.handle(call)
    finally:
        await runtime.close()
    assert said["answer"] == {
        "status": reply.status,
        "headers": [f"{name.decode()}: {value.decode()}" for name, value in reply.headers],
        "size": len(reply.body),
    }
    assert said["reply_headers"] == call.added.decode().splitlines()
    assert ("x-frame-options: SAMEORIGIN" in said["reply_headers"]) is secured


def test_people_are_told_what_goes_on_and_what_is_answered(config, capsys):
    def told(*argv):
        assert main(["explain", "-c", str(config), *argv]) == 0
        return capsys.readouterr().out

    out = told("GET", "/api/orders/7?debug", "--token", bearer(tenant="acme"))
    assert (
        "  forwarded: /t/acme/o/7?by=alice without the client's x-debug, x-id, x-who, with\n    x-who: alice\n"
    ) in out
    assert "  the reply says besides:\n    x-param: 7\n" in out
    assert "  forwarded: /plain\n  not compressed for this client\n" in told("GET", "/plain")
    assert "  compressed with gzip\n" in told("GET", "/plain", "-H", "Accept-Encoding: gzip")
    assert "  answer: 308\n    location: https://docs.example/away/x\n" in told("GET", "/away/x")
    assert "  answer: 200, 226 bytes\n    access-control" not in told("GET", "/here/you")
    out = told("GET", "/asked")
    assert "depends on the caller: give --token; if it is:\n  answer: 307\n    location: /plain\n" in out
