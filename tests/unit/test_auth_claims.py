"""What claims say: headers for the upstream, scopes, paths."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.auth.claims import DEFAULTS, ClaimError, caller, check, find, header_value
from gateway.exchange import NEVER

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(anything)
@example("a\r\nx-admin: 1")
@example("\x7f")
@example(["a", "b\n"])
def test_a_header_value_never_holds_a_byte_that_means_something_to_a_header(value: object) -> None:
    sent = header_value(value)
    assert sent is None or (sent and all(0x20 <= byte <= 0x7E for byte in sent) and sent == sent.strip())


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1))
def test_printable_ascii_is_sent_as_it_is(value: str) -> None:
    assert header_value(value) == value.encode()


@pytest.mark.parametrize(
    "value", ["", " a", "a ", "José", "a\tb", None, {}, [], ["a,b"], ["a", None], [["a"]], ["", "a\n"]]
)
def test_what_cannot_be_sent_whole_is_not_sent(value: object) -> None:
    assert header_value(value) is None


@pytest.mark.parametrize(
    ("value", "sent"), [(7, b"7"), (True, b"true"), (1.5, b"1.5"), ("a b", b"a b"), (["a", 1, False], b"a,1,false")]
)
def test_numbers_booleans_and_lists_have_one_spelling(value: object, sent: bytes) -> None:
    assert header_value(value) == sent


def test_a_whole_name_goes_before_a_path() -> None:
    assert find({"a.b": 1, "a": {"b": 2}}, "a.b") == 1
    assert find({"a": {"b": 2}}, "a.b") == 2
    assert find({"a": "text"}, "a.b") is None
    assert find({"a": [{"b": 1}]}, "a.b") is None


def test_names_with_dots_are_found_at_every_level() -> None:
    space = "https://example.com/app.v2"
    assert find({f"{space}/roles": ["a"]}, f"{space}/roles") == ["a"]
    assert find({space: {"roles": ["a"]}}, f"{space}.roles") == ["a"]
    assert find({space: {"of.old": {"roles": ["a"]}}}, f"{space}.of.old.roles") == ["a"]
    assert find({"https://example": {"com/app": {"v2": 1}}}, space) == 1
    assert find({space: {"roles": ["a"]}}, f"{space}.groups") is None
    assert find({space: {}}, f"{space}.roles", "missing") == "missing"


def test_the_longest_name_goes_first_and_a_null_is_an_answer() -> None:
    assert find({"a.b": {"c": 1}, "a": {"b.c": 2}}, "a.b.c") == 1
    assert find({"a.b": {"d": 1}, "a": {"b.c": 2}}, "a.b.c") == 2
    assert find({"a.b": {"c": None}, "a": {"b": {"c": 2}}}, "a.b.c", "missing") is None


def test_a_claim_with_a_namespace_is_used_and_forwarded() -> None:
    payload = {"https://example.com/roles": ["admin"], "https://example.com/app": {"org.id": "o-1"}}
    who = caller(
        payload,
        provider="idp",
        paths={**DEFAULTS, "roles": "https://example.com/roles"},
        forward=[(b"x-roles", "https://example.com/roles"), (b"x-org", "https://example.com/app.org.id")],
        expires=0.0,
    )
    assert who.roles == {"admin"}
    assert who.forward == ((b"x-roles", b"admin"), (b"x-org", b"o-1"))


def scopes(value: object) -> frozenset[str]:
    return caller({"scope": value}, provider="idp", paths=DEFAULTS, forward=(), expires=0.0).scopes


def test_scopes_are_a_list_or_words_between_spaces() -> None:
    assert scopes("a b  c") == scopes(["a", "b", "c"]) == {"a", "b", "c"}
    assert scopes("") == scopes([]) == scopes(None) == frozenset()
    # Only a space separates: another white space cannot smuggle in a second scope.
    assert scopes("a\tadmin\u00a0x") == {"a\tadmin\u00a0x"}
    with pytest.raises(ClaimError):
        scopes({"a": 1})


@given(st.dictionaries(st.sampled_from(["exp", "nbf", "iat", "iss", "aud"]), anything), st.sampled_from([None, "i"]))
def test_no_claims_make_the_check_fail_otherwise(claims: dict[str, object], issuer: str | None) -> None:
    try:
        expires = check(claims, 1000.0, issuer=issuer, audience=frozenset({"a"}), leeway=30)
    except ClaimError:
        return
    assert expires > 970
    assert issuer in (None, claims["iss"])
    assert "a" in claims["aud"]


def judged(claims: dict[str, object], endless: bool) -> float:
    return check(claims, 1000.0, issuer=None, audience=frozenset(), leeway=0, endless=endless)


def test_a_token_may_be_endless_only_where_that_is_allowed_and_it_says_nothing() -> None:
    assert judged({}, endless=True) == NEVER
    with pytest.raises(ClaimError, match="no expiry"):
        judged({}, endless=False)
    assert judged({"exp": 1001}, endless=True) == 1001
    for exp in (None, "never", 1e300, float("inf"), True):
        with pytest.raises(ClaimError):
            judged({"exp": exp}, endless=True)
    with pytest.raises(ClaimError) as expired:
        judged({"exp": 1000}, endless=True)
    assert expired.value.reason == "expired"
