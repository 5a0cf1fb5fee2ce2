"""Laws of the normal form, and the router against a reference that scores every rule by the documented order."""

import re
from urllib.parse import unquote

from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Refused
from gateway.exchange import Headers
from gateway.routing.explain import why
from gateway.routing.path import Normal, normalise
from gateway.routing.router import LOOKALIKE, Match, Router, Rule

# RFC 3986 section 3.3 and 3.4, written down again: absolute-path and [ "?" query ].
PATH = re.compile(rb"(/([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-F]{2})*)+")
QUERY = re.compile(rb"(\?([A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?")

pieces = st.sampled_from(
    b"/ / a b A . .. ; ;x=1 %2e %2E %61 %25 %2561 %252f %20 %c3%a9 %C3 %2f %5c %00 %zz".split()
    + rb"% ? ?q= & = + [ ] \ # : @ ~".split()
    + [b"\x80"]
)
targets = st.one_of(
    st.lists(pieces, max_size=12).map(lambda parts: b"/" + b"".join(parts)),
    st.lists(pieces, max_size=12).map(b"".join),
    st.binary(max_size=20).map(lambda tail: b"/" + tail),
    st.text("/.%;?2eEfF5cC0aA=", max_size=30).map(lambda tail: b"/" + tail.encode()),
)


@given(targets)
def test_a_normal_form_is_valid_normal_and_normalises_to_itself(target: bytes) -> None:
    normal = outcome(target)
    if isinstance(normal, str):
        return
    path, query, segments = normal
    assert PATH.fullmatch(path)
    assert QUERY.fullmatch(query)
    assert b"//" not in path
    assert not {b".", b".."} & set(path.split(b"/"))
    for escape in re.findall(rb"%([0-9A-F]{2})", path):
        char = int(escape, 16)
        assert not re.fullmatch(rb"[A-Za-z0-9._~-]", bytes((char,)))
        assert char > 31
        assert char not in b"/\\\x7f"
    assert all(segments)
    assert segments == [s for s in (unquote(p.split(";")[0], errors="strict") for p in path.decode().split("/")) if s]
    assert normalise(path + query, b"h") == normal


@given(st.lists(st.sampled_from(["a", ".", "..", "b.c", "", "~"]), max_size=8))
def test_plain_targets_and_their_escaped_spelling_have_one_normal_form(parts: list[str]) -> None:
    plain = "/" + "/".join(parts)
    escaped = "".join(c if c == "/" else f"%{ord(c):02x}" for c in plain)
    assert outcome(plain.encode()) == outcome(escaped.encode())


def outcome(target: bytes) -> Normal | str:
    try:
        return normalise(target, b"h")
    except Refused as refusal:
        return refusal.detail


# --- the reference: no trie, no shortcuts ------------------------------------------------------------------


def fold(text: str) -> str:
    return text.split(";")[0].rstrip(". ").casefold()


def score(rule: Rule[int], host: str, segments: list[str], lenient: bool) -> tuple[tuple[int, ...], ...] | None:
    """Host, then path, as tuples that compare as documented; None when they do not match."""
    if rule.host is None:
        host_score: tuple[int, ...] = (0, 0)
    elif rule.host.startswith("*."):
        if not host.endswith(rule.host[1:]):
            return None
        host_score = (1, len(rule.host))
    elif host == rule.host:
        host_score = (2, 0)
    else:
        return None
    steps = [step for step in rule.path.split("/") if step]
    path_score: list[int] = []
    rest = list(segments)
    for step in steps:
        if step == "**":
            return host_score, (*path_score, 1)
        if not rest:
            return None
        segment = rest.pop(0)
        if step == "*" or step.startswith("{"):
            path_score.append(2)
        elif segment == (fold(step) if lenient else step):
            path_score.append(3)
        else:
            return None
    return None if rest else (host_score, (*path_score, 9))


def holds(rule: Rule[int], headers: Headers, query: str) -> bool:
    given_pairs = [tuple(pair.split("=")) for pair in query.split("&")]
    return all(h in headers for h in rule.headers) and all(q in given_pairs for q in rule.query)


def best(
    rules: list[Rule[int]], method: str, host: str, segments: list[str], headers: Headers, query: str, lenient: bool
) -> Rule[int] | None:
    scored = []
    for rule in rules:
        points = score(rule, host, segments, lenient)
        if points is None or not holds(rule, headers, query) or (rule.methods and method not in rule.methods):
            continue
        conditions = len(rule.headers) + len(rule.query)
        scored.append((points, conditions, rule.methods is not None, -rule.target, rule))
    return max(scored, key=lambda entry: entry[:-1])[-1] if scored else None


def folded_path(rule: Rule[int]) -> list[str]:
    return ["{}" if s.startswith("{") or s == "*" else s if s == "**" else fold(s) for s in rule.path.split("/") if s]


def reference(
    rules: list[Rule[int]], method: str, host: str, segments: list[str], headers: Headers, query: str
) -> int | str | list[str]:
    """The number of the winning rule, a refusal, or what a 405 allows."""
    rule = best(rules, method, host, segments, headers, query, lenient=False)
    if rule is None:
        others = [r for r in rules if score(r, host, segments, lenient=False) and holds(r, headers, query)]
        allowed = sorted({m for r in others for m in r.methods or ()})
        return allowed or "no_route"
    if "{" in rule.path or "*" in rule.path:
        lenient = best(rules, method, host, [f for s in segments if (f := fold(s))], headers, query, lenient=True)
        if lenient is not None and (lenient.host, folded_path(lenient)) != (rule.host, folded_path(rule)):
            return "lookalike"
    return rule.target


step_texts = st.sampled_from(["a", "b", "A", "a.b", "{x}", "*"])
paths = st.builds(
    lambda parts, tail: "/" + "/".join([p.replace("x", f"x{i}") for i, p in enumerate(parts)] + tail),
    st.lists(step_texts, max_size=4),
    st.sampled_from([[], ["**"], [""]]),
).map(lambda path: path.replace("//", "/"))
methods = st.sampled_from([None, None, frozenset({"GET"}), frozenset({"POST", "PUT"})])
hosts = st.sampled_from([None, None, "h.example", "*.example", "*.h.example"])
conditions = st.sampled_from([(), (), ((b"x", b"1"),), ((b"x", b"1"), (b"y", b"2"))])
queries = st.sampled_from([(), (), (("q", "1"),)])
rule_parts = st.lists(st.tuples(paths, methods, hosts, conditions, queries), min_size=1, max_size=8)
segments_sent = st.lists(st.sampled_from(["a", "b", "A", "c", "a.b", "a.", "A.B", "..."]), max_size=5)


def decision(
    router: Router[int], method: str, host: str, normal: Normal, headers: Headers
) -> Match[int] | str | list[str]:
    """The match, or the refusal as `reference` puts it."""
    try:
        return router.match(method, host.encode(), normal, headers)
    except Refused as refusal:
        if refusal.status == 405:
            return [*refusal.members["allowed"]]  # type: ignore[misc]
        return "lookalike" if refusal.detail == LOOKALIKE else refusal.code


@given(
    rule_parts,
    st.lists(segments_sent, min_size=1, max_size=4),
    st.sampled_from(["GET", "POST", "HEAD"]),
    st.sampled_from(["h.example", "g.h.example", "other"]),
    st.lists(st.sampled_from([(b"x", b"1"), (b"x", b"2"), (b"y", b"2")]), max_size=3),
    st.sampled_from(["", "q=1", "q=2&q=1", "q=2"]),
)
def test_the_router_agrees_with_the_reference(
    parts: list[
        tuple[str, frozenset[str] | None, str | None, tuple[tuple[bytes, bytes], ...], tuple[tuple[str, str], ...]]
    ],
    requests: list[list[str]],
    method: str,
    host: str,
    headers: Headers,
    query: str,
) -> None:
    rules = [Rule(*part, target=n, name=str(n)) for n, part in enumerate(parts)]
    router = Router(rules)
    for segments in requests:
        normal = normalise(f"/{'/'.join(segments)}?{query}".encode(), b"")
        expected = reference(rules, method, host, segments, headers, query)
        found = decision(router, method, host, normal, headers)
        assert (found.target if isinstance(found, Match) else found) == expected
        if isinstance(found, Match):
            steps = enumerate(found.rule.path.strip("/").split("/"))
            assert found.params == {step[1:-1]: segments[at] for at, step in steps if step.startswith("{")}
        reasons = why(router, method, host.encode(), normal, headers)
        assert [reason.rule for reason in reasons if reason.matched] == (
            [str(expected)] if isinstance(expected, int) else []
        )
        assert all(reason.reason for reason in reasons)
