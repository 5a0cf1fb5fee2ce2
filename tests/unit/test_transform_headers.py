"""What templates tell, and what becomes of header fields on their way to the upstream."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.exchange import Call, Caller
from gateway.http.forward import Forwarder
from gateway.transform.fields import CallFields
from gateway.transform.request_headers import request_headers
from gateway.transform.template import COMPONENT, HEADER, PATH, compile_text, filled
from tests.fakes import make_call

FIELDS = CallFields(frozenset({"id"}))
CLAIMS = {
    "tenant": "acme",
    "realm": {"name": "north"},
    "https://example.com/plan": "gold",
    "level": 3,
    "groups": ["a", "b"],
    "address": {"street": "x"},
    "staff": True,
}


def call(*headers: tuple[bytes, bytes], consumer: str = "alice") -> Call:
    made = make_call(headers=list(headers))
    made.path, made.params, made.route, made.version = b"/orders/7%2F8", {"id": "7 8"}, "orders", "v2"
    made.caller = Caller(consumer, "idp", claims=CLAIMS)
    return made


def text(template: str, of: Call | None = None) -> bytes:
    return filled(compile_text(template, FIELDS, HEADER), of or call())


@pytest.mark.parametrize(
    ("template", "becomes"),
    [
        ("{request.id}", b"test-request"),
        ("{consumer}", b"alice"),
        ("{param.id}", b"7 8"),
        ("{claim.tenant}", b"acme"),
        ("{claim.realm.name}", b"north"),
        ("{claim.https://example.com/plan}", b"gold"),
        ("{claim.level}", b"3"),
        ("{claim.groups}", b"a,b"),
        ("{claim.staff}", b"true"),
        ("{claim.address}", b""),
        ("{claim.nothing}", b""),
        ("{version}", b"v2"),
        ("{route}", b"orders"),
        ("{client.ip}", b"192.0.2.7"),
        ("{host}", b"example.com"),
        ("{path}", b"/orders/7%2F8"),
        ("{method}", b"GET"),
        ("<{consumer}@{claim.tenant}>, {{{route}}}", b"<alice@acme>, {orders}"),
        ("größer", "größer".encode("latin-1")),
    ],
)
def test_a_template_tells_of_the_call(template: str, becomes: bytes) -> None:
    assert text(template) == becomes


@pytest.mark.parametrize("name", ["param.other", "param.", "claim.", "claim.a..b", "query", "status", "client", ""])
def test_a_name_that_is_none_is_an_error_and_the_names_that_are_stand_in_it(name: str) -> None:
    with pytest.raises(ValueError, match=r"is no field: there are \{request\.id\}.*\{param\.id\}, \{claim\.PATH\}"):
        text(f"{{{name}}}")


def test_where_the_route_is_not_known_yet_any_parameter_will_do() -> None:
    assert callable(compile_text("{param.other}", CallFields(None), HEADER))


@given(st.text())
def test_c10_no_value_splits_a_header_a_path_or_a_query(value: str) -> None:
    of = call(consumer=value)
    header = filled(compile_text("{consumer}", FIELDS, HEADER), of)
    assert all(32 <= byte < 127 for byte in header)
    for form in (PATH, COMPONENT):
        assert not set(filled(compile_text("{consumer}", FIELDS, form), of)) & set(b"/?#&=;\\ \r\n\0")


# -- towards the upstream


def sent(
    of: Call, set: dict[str, str] | None = None, add: dict[str, str] | None = None, remove: tuple[str, ...] = ()
) -> list[bytes]:
    """The fields that are the client's or the configuration's."""
    request_headers(set or {}, add or {}, remove, FIELDS)(of)
    head = Forwarder().head(of, b"upstream").removesuffix(b"\r\n\r\n")
    ours = (b"host:", b"x-request-id:", b"x-forwarded-", b"forwarded:", b"via:")
    return [line for line in head.split(b"\r\n")[1:] if not line.startswith(ours)]


def test_a_field_is_set_in_the_place_of_the_clients_in_every_spelling() -> None:
    of = call((b"x-tenant", b"evil"), (b"x_tenant", b"evil"), (b"x.tenant", b"evil"), (b"x-own", b"1"))
    assert sent(of, set={"X-Tenant": "{claim.tenant}"}) == [b"x-own: 1", b"x-tenant: acme"]


def test_where_there_is_nothing_to_set_the_clients_word_does_not_count_either() -> None:
    assert sent(call((b"x-tenant", b"evil")), set={"X-Tenant": "{claim.nothing}"}) == []


def test_an_empty_value_that_was_asked_for_is_sent() -> None:
    assert sent(call((b"accept-encoding", b"gzip")), set={"Accept-Encoding": ""}) == [b"accept-encoding: "]


def test_a_field_is_added_beside_the_clients() -> None:
    assert sent(call((b"x-tag", b"a")), add={"X-Tag": "{consumer}"}) == [b"x-tag: a", b"x-tag: alice"]


def test_removed_fields_do_not_go_on_and_others_do() -> None:
    of = call((b"x-debug", b"1"), (b"X_Debug".lower(), b"2"), (b"cookie", b"a=1"), (b"x-debug-2", b"3"))
    assert sent(of, remove=("X-Debug", "Cookie")) == [b"x-debug-2: 3"]


def test_c10_a_consumers_name_adds_no_field() -> None:
    of = call(consumer="a\r\nx-admin: yes")
    assert sent(of, set={"X-User": "{consumer}"}) == [b"x-user: a%0D%0Ax-admin: yes"]


def test_what_several_stages_ask_for_goes_together() -> None:
    of = call((b"x-a", b"1"), (b"x-b", b"2"))
    of.lines, of.removed = b"x-api-version: v2\r\n", frozenset({b"x-a"})
    assert sent(of, set={"X-B": "3"}) == [b"x-api-version: v2", b"x-b: 3"]


def test_a_head_that_is_remembered_is_another_one_where_other_fields_are_removed() -> None:
    """The same fields again on a connection, on another route."""
    of, forwarder = call((b"x-a", b"1"), (b"x-b", b"2")), Forwarder()
    for _ in range(2):
        for removed, left in (((b"x-a",), b"x-b: 2"), ((b"x-b",), b"x-a: 1"), ((), b"x-a: 1\r\nx-b: 2")):
            of.removed = frozenset(removed)
            head = forwarder.head(of, b"upstream")
            assert b"\r\n" + left + b"\r\nvia" in head
            assert head.count(b"\r\nx-a") + head.count(b"\r\nx-b") == 2 - len(removed)


def test_lines_are_not_remembered_with_the_head() -> None:
    of, forwarder = call((b"x-a", b"1")), Forwarder()
    for lines in (b"x-c: 1\r\n", b"x-c: 2\r\n", b""):
        of.lines = lines
        head = forwarder.head(of, b"upstream")
        assert head.count(b"x-c: ") == bool(lines)
        assert lines in head
