"""Attacks on path, host and route (B1-B16): whatever the spelling, nobody gets behind a protected route unasked."""

import re
import time
from itertools import product
from urllib.parse import unquote_to_bytes

import pytest

from tests.tokens import SECRET, claims, sign
from tests.wire.actors import Answer, Client, Gateway, Upstream
from tests.wire.conftest import Start
from tests.wire.payloads import get, message
from tests.wire.strict import read_requests


def guarded(upstream: Upstream, more: str = "") -> str:
    """A protected /admin/** beside an open catch-all, with one and the same upstream behind them."""
    return f"""
listen: {{admin: "off"}}
auth:
  providers:
    idp: {{type: jwt, secret: "{SECRET.decode()}", algorithms: [HS256], forward: {{X-User-Id: sub}}}}
upstreams:
  up: {{targets: ["http://127.0.0.1:{upstream.port}"], retry: off, breaker: off}}
routes:
  - {{name: admin, match: {{path: "/admin/**"}}, auth: {{providers: [idp]}}, upstream: up}}
  - {{name: open, match: {{path: "/**"}}, upstream: up}}
{more}
"""


@pytest.fixture
async def gateway(start: Start, upstream: Upstream) -> Gateway:
    return await start(guarded(upstream))


@pytest.fixture
async def client(gateway: Gateway) -> Client:
    return await gateway.client()


def token() -> bytes:
    return b"Authorization: Bearer " + sign(claims(exp=time.time() + 600))


def targets(upstream: Upstream) -> list[bytes]:
    """The targets that the upstream received, in order, read pedantically."""
    return [request.target for visit in upstream.visits for request in read_requests(bytes(visit.received))[0]]


def reaches_admin(target: bytes) -> bool:
    """Whether some lenient server would take `target` for something in /admin: written without the gateway's code."""
    decoded = unquote_to_bytes(target.partition(b"?")[0]).replace(b"\\", b"/")
    decoded = re.split(rb"[\x00\r\n]", decoded)[0]
    kept: list[bytes] = []
    for piece in decoded.split(b"/"):
        name = piece.partition(b";")[0].rstrip(b" \t")
        if name == b"..":
            kept = kept[:-1]
        elif name := name.rstrip(b". "):
            kept.append(name.lower())
    return kept[:1] == [b"admin"]


async def turned_away(client: Client, upstream: Upstream, target: bytes, status: int) -> Answer:
    """Ask without a token: the gateway answers `status` itself, and the upstream hears nothing."""
    answer = await client.ask(get(target=target))
    assert (answer.status, upstream.received) == (status, b""), (target, answer)
    assert answer.headers["content-type"] == "application/problem+json"
    return answer


async def forwarded(client: Client, upstream: Upstream, target: bytes, *fields: bytes) -> bytes:
    """The target that the upstream receives for this one."""
    answer = await client.ask(get(*fields, target=target))
    assert answer.status == 200, (target, answer)
    return targets(upstream)[-1]


PREFIXES = [b"", b"/", b"/.", b"/x/..", b"/%2e", b"/x/%2E%2e", b"/x/.%2e", b"/x;a/..", b"/x/..;", b"/%2f", b"/x%2f.."]
SPELLINGS = [
    *(b"admin", b"Admin", b"ADMIN", b"%61dmin", b"%41dmin"),
    *(b"a%64min", b"admin.", b"admin%2e", b"admin%20", b"admin.."),
    *(b"admin;a=b", b"admin;", b"admin%3b", b"admin%3Bx", b";/admin"),
    *(b"admin%00", b"admin%0d%0a", b"admin%09", b"%09admin"),
    *(b"admin\\", b"admin%5c", b"%5cadmin", b"admin%2f", b"%2fadmin"),
    *(b"\\admin", b"admin#", b"admin%23", b"admin%3f"),
    *(b"%c1%a1dmin", b"admin%ff", b"%2561dmin", b"%20admin", b"admin%c0%ae", b"%e2%80%8eadmin", b"admin%a0"),
]
SUFFIXES = [
    b"",
    b"/",
    b"/x",
    b"//x",
    b"/.",
    b"/x/..",
    b"/..;/x",
    b"/;/x",
    b"/%2e%2e/admin",
    b"?x",
    b"/x.css",
    b";x.css",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_b01_to_b11_no_combination_of_spellings_reaches_what_is_protected(
    gateway: Gateway, upstream: Upstream, spelling: bytes
) -> None:
    client = await gateway.client()
    statuses = set()
    for prefix, suffix in product(PREFIXES, SUFFIXES):
        answer = await client.ask(get(target=prefix + b"/" + spelling + suffix))
        statuses.add(answer.status)
        if answer.headers.get("connection") == "close":
            client = await gateway.client()
    assert statuses <= {200, 400, 401, 404}
    assert [target for target in targets(upstream) if reaches_admin(target)] == []


def test_the_check_for_protected_targets_reads_like_the_most_lenient_server() -> None:
    for target in (b"/admin", b"//x/%2e%2e/%41dmin;a", b"/x/..;b/Admin.%20/y", b"/x%2f..%5cadmin", b"/admin%00.css"):
        assert reaches_admin(target), target
    for target in (b"/", b"/x/admin", b"/admin/../x", b"/%2561dmin", b"/administrator", b"/x?/admin"):
        assert not reaches_admin(target), target


async def test_b08_an_escaped_number_sign_or_question_mark_stays_part_of_its_segment(
    client: Client, upstream: Upstream
) -> None:
    for target in (b"/admin%23", b"/admin%3F", b"/x/%23/%3F?y"):
        assert await forwarded(client, upstream, target) == target


@pytest.mark.parametrize(
    "target",
    [
        *(b"/x/../admin", b"/x/../admin/", b"/x/%2e%2e/admin/x", b"/x/.%2e/admin", b"/x/%2E./admin", b"/./admin"),
        *(b"/%2e/admin", b"/a/b/../../admin", b"/admin/."),
        *(b"/admin/x/..", b"/admin/./x", b"/x/../admin?y=/../open"),
    ],
)
async def test_b01_dot_segments_are_resolved_before_the_route_is_chosen(
    client: Client, upstream: Upstream, target: bytes
) -> None:
    answer = await turned_away(client, upstream, target, 401)
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        (b"/admin/../open", b"/open"),
        (b"/admin/%2e%2e/open", b"/open"),
        (b"/admin/..", b"/"),
        (b"/a/./b/../c", b"/a/c"),
        (b"/a/b/.%2E?q=../admin", b"/a/?q=../admin"),
    ],
)
async def test_b01_what_was_matched_is_what_is_forwarded(
    client: Client, upstream: Upstream, target: bytes, sent: bytes
) -> None:
    assert await forwarded(client, upstream, target) == sent


async def test_b01_with_a_token_the_same_normal_path_arrives_whatever_the_spelling(
    client: Client, upstream: Upstream
) -> None:
    for target in (b"/admin/x", b"/y/../admin/x", b"/%61dmin//x", b"/admin/%2e/x", b"//admin/x"):
        assert await forwarded(client, upstream, target, token()) == b"/admin/x"


@pytest.mark.parametrize("target", [b"/..", b"/../admin", b"/x/../../admin", b"/%2e%2e/admin", b"/admin/../../admin"])
async def test_b01_climbing_above_the_root_is_refused(client: Client, upstream: Upstream, target: bytes) -> None:
    await turned_away(client, upstream, target, 400)


@pytest.mark.parametrize(
    "target",
    [
        *(b"/%2fadmin", b"/x%2f..%2fadmin", b"/x/..%2fadmin", b"/x/..%2Fadmin", b"/admin%2fx", b"/x%2f", b"/%2F"),
        *(b"/x/..%5cadmin", b"/%5cadmin", b"/x%5c..%5Cadmin", b"/admin%5cx", b"/x%5C"),
    ],
)
async def test_b02_an_escaped_slash_or_backslash_in_the_path_is_refused(
    client: Client, upstream: Upstream, target: bytes
) -> None:
    await turned_away(client, upstream, target, 400)


@pytest.mark.parametrize("target", [b"/%00", b"/admin%00", b"/open%00/../admin", b"/x%00.css", b"/x/%00?y"])
async def test_b03_an_escaped_nul_is_refused(client: Client, upstream: Upstream, target: bytes) -> None:
    await turned_away(client, upstream, target, 400)


@pytest.mark.parametrize(
    "target",
    [
        *(b"/%252e%252e/admin", b"/x/%252e%252e/admin", b"/%2561dmin", b"/x%252f..%252fadmin", b"/%255cadmin"),
        *(b"/%25252e", b"/admin%2500", b"/%25%32%65"),
    ],
)
async def test_b04_nothing_is_decoded_twice(client: Client, upstream: Upstream, target: bytes) -> None:
    # %32%65 are the unreserved "2e", which is decoded once; the percent sign before them stays escaped.
    assert await forwarded(client, upstream, target) == target.replace(b"%32%65", b"2e")


@pytest.mark.parametrize(
    "target", [b"//admin", b"///admin", b"//admin/x", b"//admin//x", b"/.//admin", b"//x/..//admin"]
)
async def test_b05_double_slashes_do_not_hide_a_protected_path(
    client: Client, upstream: Upstream, target: bytes
) -> None:
    await turned_away(client, upstream, target, 401)


async def test_b05_what_follows_two_slashes_is_no_authority(client: Client, upstream: Upstream) -> None:
    assert await forwarded(client, upstream, b"//evil.example/x") == b"/evil.example/x"
    assert await forwarded(client, upstream, b"//evil.example:80//x") == b"/evil.example:80/x"
    assert b"\r\nhost: 127.0.0.1:%d\r\n" % upstream.port in upstream.received


@pytest.mark.parametrize(
    "target",
    [
        *(b"/admin/..;/x", b"/x/..;/admin", b"/x/..;a=b/admin"),
        *(b"/.;/admin", b"/x/%2e%2e;/admin", b"/x/.%2e;y/admin"),
        *(b"/x/..%3b/admin", b"/x/..%3B/admin", b"/.%3bx/admin", b"/..;/admin"),
    ],
)
async def test_b06_a_dot_segment_with_parameters_is_refused(client: Client, upstream: Upstream, target: bytes) -> None:
    await turned_away(client, upstream, target, 400)


@pytest.mark.parametrize(
    "target", [b"/admin;a=b", b"/admin;/x", b"/admin;a=b;c/x", b"/;/admin", b"/;a=b/admin;c", b"/%61dmin;jsessionid=1"]
)
async def test_b06_parameters_do_not_hide_a_protected_path(client: Client, upstream: Upstream, target: bytes) -> None:
    await turned_away(client, upstream, target, 401)


async def test_b06_parameters_are_forwarded_as_they_came(client: Client, upstream: Upstream) -> None:
    assert await forwarded(client, upstream, b"/admin;a=b/x;c", token()) == b"/admin;a=b/x;c"


@pytest.mark.parametrize(
    "target", [b"/\\admin", b"\\admin", b"/x\\..\\admin", b"/x/..\\admin", b"/admin\\x", b"/\\\\a"]
)
async def test_b07_a_raw_backslash_is_refused(client: Client, upstream: Upstream, target: bytes) -> None:
    await turned_away(client, upstream, target, 400)


@pytest.mark.parametrize("target", [b"/#", b"/open#/admin", b"/admin#/../open", b"/x?y#z", b"/#/../admin", b"/admin#"])
async def test_b08_a_fragment_is_refused(client: Client, upstream: Upstream, target: bytes) -> None:
    await turned_away(client, upstream, target, 400)


@pytest.mark.parametrize(
    "target",
    [
        *(b"/\xc3\xa4", b"/\xff", b"/\xc0\xaf", b"/admin\xa0", b"/?\xe4"),
        *(b"/%c0%af", b"/%c0%ae%c0%ae/admin", b"/%e0%80%af", b"/%c1%a1dmin"),
        *(b"/%ed%a0%80", b"/%ff", b"/%c3", b"/%f4%90%80%80"),
        *(b"/%", b"/%4", b"/%zz", b"/%u0061dmin", b"/%%36%31dmin"),
        *(b"/%-1", b"/% 1", b"/x?%zz", b"/x?%", b"/%6\xb91"),
    ],
)
async def test_b09_raw_bytes_overlong_forms_and_broken_escapes_are_refused(
    client: Client, upstream: Upstream, target: bytes
) -> None:
    await turned_away(client, upstream, target, 400)


@pytest.mark.parametrize(
    "target",
    [
        *(b"/%0d%0a", b"/%0D%0AX-Evil:%201", b"/x%0a", b"/x%0d", b"/x%0d%0aHost:%20b%0d%0a%0d%0aGET%20/admin"),
        *(b"/x%09", b"/x%1f", b"/x%7f", b"/x%08"),
    ],
)
async def test_b10_an_escaped_line_end_or_control_character_is_refused(
    client: Client, upstream: Upstream, target: bytes
) -> None:
    await turned_away(client, upstream, target, 400)


async def test_b10_in_the_query_an_escaped_line_end_stays_escaped(client: Client, upstream: Upstream) -> None:
    target = b"/x?a=%0d%0aX-Evil:%201%0D%0A"
    assert await forwarded(client, upstream, target) == target
    assert b"\r\nx-evil" not in upstream.received.lower()


@pytest.mark.parametrize(
    "target",
    [
        *(b"/Admin", b"/ADMIN/x", b"/admiN", b"/%41dmin", b"/admin."),
        *(b"/admin./x", b"/admin%2e", b"/admin...", b"/Admin."),
        *(b"/admin%20", b"/admin%20/x", b"/admin.%20.", b"/admin%3bx"),
        *(b"/Admin;x", b"/x/../ADMIN", b"//Admin", b"/.../Admin"),
    ],
)
async def test_b11_a_look_alike_of_a_protected_path_is_nobodys(
    client: Client, upstream: Upstream, target: bytes
) -> None:
    await turned_away(client, upstream, target, 404)


async def test_b11_with_a_narrow_open_route_no_look_alike_of_the_protected_one_is_served(
    start: Start, upstream: Upstream
) -> None:
    yaml = guarded(upstream).replace('path: "/**"', 'path: "/admin/public/**"')
    client = await (await start(yaml)).client()
    for target, status in {
        b"/admin/public/../secret": 401,
        b"/admin/public/%2e%2e/secret": 401,
        b"/admin/Public/x": 404,
        b"/Admin/public/x": 404,
        b"/admin/public%2f..%2fsecret": 400,
        b"/admin/public/..;/secret": 400,
        b"/admin/publicx": 401,
        b"/admin/public;x/../secret": 401,
    }.items():
        await turned_away(client, upstream, target, status)
    assert await forwarded(client, upstream, b"/admin/public/x") == b"/admin/public/x"


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        (b"/%61pi/%7Eme/caf%c3%a9", b"/api/~me/caf%C3%A9"),
        (b"/api/a%20b", b"/api/a%20b"),
        (b"/caf%C3%A9/%252fx", b"/caf%C3%A9/%252fx"),
        (b"/caf%c3%a9/..%20", b"/caf%C3%A9/..%20"),
    ],
)
async def test_b12_an_escaped_prefix_is_matched_decoded_and_forwarded_whole(
    start: Start, upstream: Upstream, target: bytes, sent: bytes
) -> None:
    """No option cuts a prefix off, so no offset can differ: every byte of the normal form goes on."""
    yaml = guarded(upstream).replace('path: "/**"', 'path: "/api/**"')
    client = await (await start(yaml + '  - {name: cafe, match: {path: "/café/**"}, upstream: up}\n')).client()
    assert await forwarded(client, upstream, target) == sent


@pytest.mark.parametrize(
    "field",
    [
        *(b"X-Original-URL: /admin", b"X-Rewrite-URL: /admin", b"X_Original_URL: /admin", b"x.rewrite.url: /admin"),
        *(b"X-HTTP-Method-Override: DELETE", b"X-HTTP-Method: DELETE", b"X-Method-Override: DELETE"),
        *(b"X_HTTP_Method_Override: DELETE", b"X-Original-Host: admin", b"X-Forwarded-Prefix: /admin"),
    ],
)
async def test_b13_a_field_that_overrides_url_or_method_goes_no_further(
    client: Client, upstream: Upstream, field: bytes
) -> None:
    assert await forwarded(client, upstream, b"/open", field) == b"/open"
    assert upstream.requests == [b"GET /open"]
    name, _, value = field.partition(b": ")
    assert name.lower() not in upstream.received.lower()
    assert value not in upstream.received


async def test_b13_a_method_override_in_the_query_does_not_change_the_method(
    client: Client, upstream: Upstream
) -> None:
    assert await forwarded(client, upstream, b"/open?_method=DELETE") == b"/open?_method=DELETE"
    assert upstream.requests == [b"GET /open?_method=DELETE"]


@pytest.mark.parametrize(
    "host",
    [
        *(b"admin.example", b"ADMIN.Example", b"admin.example:80", b"admin.example:8443", b"admin.example."),
        *(b"Admin.Example.:80", b"admin.example:", b"admin.example:00080"),
    ],
)
@pytest.mark.parametrize("form", [b"/x", b"http://%b/x"])
async def test_b14_a_protected_host_is_itself_in_every_spelling(
    start: Start, upstream: Upstream, host: bytes, form: bytes
) -> None:
    yaml = guarded(upstream).replace('path: "/admin/**"', 'path: "/**", host: admin.example')
    client = await (await start(yaml)).client()
    target = form % host if b"%" in form else form
    answer = await client.ask(get(target=target, host=b"Host: " + host))
    assert (answer.status, upstream.received) == (401, b"")
    # The open route of the others is there all the same, and one connection does not remember the host.
    assert (await client.ask(get(target=b"/x", host=b"Host: other.example"))).status == 200


@pytest.mark.parametrize("target", [b"http://b.example/admin", b"http://open.example/x", b"http://admin.example@b/x"])
async def test_b14_an_absolute_target_cannot_name_another_host_than_the_one_routed_by(
    start: Start, upstream: Upstream, target: bytes
) -> None:
    yaml = guarded(upstream).replace('path: "/admin/**"', 'path: "/**", host: admin.example')
    client = await (await start(yaml)).client()
    answer = await client.ask(get(target=target, host=b"Host: admin.example"))
    assert (answer.status, upstream.received) == (400, b"")


@pytest.mark.parametrize("name", [b"X-Forwarded-Host", b"X-Host", b"X-Original-Host", b"Forwarded"])
async def test_b14_no_other_field_of_a_client_chooses_the_host(start: Start, upstream: Upstream, name: bytes) -> None:
    yaml = guarded(upstream).replace('path: "/admin/**"', 'path: "/**", host: admin.example')
    client = await (await start(yaml)).client()
    value = b"host=open.example" if name == b"Forwarded" else b"open.example"
    answer = await client.ask(get(name + b": " + value, target=b"/x", host=b"Host: admin.example"))
    assert (answer.status, upstream.received) == (401, b"")


@pytest.mark.parametrize(
    "target", [b"http://a/admin", b"HTTP://A:80/x/../admin", b"http://a//admin", b"http://a/%61dmin"]
)
async def test_b14_an_absolute_target_is_normalised_like_any_other(
    client: Client, upstream: Upstream, target: bytes
) -> None:
    await turned_away(client, upstream, target, 401)


@pytest.mark.parametrize(
    "query",
    [
        *(b"?", b"??", b"?a=1&a=2", b"?a=1;b=2", b"?a;a=&&="),
        *(b"?%61=%41", b"?a=%2f..%2Fadmin", b"?/../admin", b"?a=+%20"),
        *(b"?a=%00", b"?a=b?c", b"?%c3%28", b"?a[]".replace(b"[]", b"%5b%5d"), b"?x=http://evil/"),
    ],
)
async def test_b15_a_legal_query_is_forwarded_byte_for_byte(client: Client, upstream: Upstream, query: bytes) -> None:
    assert await forwarded(client, upstream, b"/x" + query) == b"/x" + query


async def test_b15_no_duplicate_or_odd_separator_hides_a_parameter_that_routes_ask_for(
    start: Start, upstream: Upstream
) -> None:
    yaml = guarded(upstream).replace('path: "/admin/**"', 'path: "/do", query: {act: delete}')
    client = await (await start(yaml)).client()
    queries = (
        b"act=delete",
        b"act=x&act=delete",
        b"act=delete&act=x",
        b"%61ct=d%65lete",
        b"&&act=delete&",
        b"act=delete&;",
    )
    for query in queries:
        await turned_away(client, upstream, b"/do?" + query, 401)


ADMIN_PATHS = [
    b"/metrics",
    b"/healthz",
    b"/readyz",
    b"/dashboard",
    b"/api/v1/status",
    b"/api/v1/routes",
    b"/",
    b"/debug",
]


@pytest.mark.parametrize("path", ADMIN_PATHS)
@pytest.mark.parametrize("host", [b"a", b"127.0.0.1:9901", b"localhost", b"admin", b"metrics"])
async def test_b16_nothing_of_the_gateways_own_is_on_the_public_port(
    start: Start, upstream: Upstream, path: bytes, host: bytes
) -> None:
    client = await (await start(guarded(upstream).replace('path: "/**"', 'path: "/open/**"'))).client()
    for target in (path, b"/" + path, b"/open/.." + path, b"http://" + host + path, path + b"?x", path + b";x"):
        answer = await client.ask(get(target=target, host=b"Host: " + host))
        assert (answer.status, upstream.received) == (404, b""), target
        assert b'"no_route"' in answer.body


@pytest.mark.parametrize("path", ADMIN_PATHS)
async def test_b16_a_path_that_the_admin_port_has_too_belongs_to_the_upstream(
    client: Client, upstream: Upstream, path: bytes
) -> None:
    assert await forwarded(client, upstream, path) == path


async def test_b16_no_method_finds_an_admin_endpoint(start: Start, upstream: Upstream) -> None:
    client = await (await start(guarded(upstream).replace('path: "/**"', 'path: "/open/**"'))).client()
    for method in (b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"):
        answer = await client.ask(message(method + b" /metrics HTTP/1.1", b"Content-Length: 0"))
        assert (answer.status, upstream.received) == (404, b"")
