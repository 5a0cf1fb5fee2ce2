"""Laws of versions: the order of names, baselines against a reference, paths that are cut, and Accept of any bytes."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Refused
from gateway.routing.finder import Finder
from gateway.routing.media_type import MOST_ELEMENTS, MediaType
from gateway.routing.path import normalise
from gateway.routing.pattern import fold
from gateway.routing.router import Router, Rule, VersionSegment
from gateway.routing.version_names import UNKNOWN, Names, numbered

numbers = st.lists(st.integers(0, 12), min_size=1, max_size=3).map(tuple)
segments = st.one_of(
    st.sampled_from(
        ["v1", "v2", "V2", "v2.", "v9", "latest", "Latest", "orders", "admin", "Admin", "admin.", "x", "..."]
    ),
    st.text("vV12.;x-０１ſıi ", max_size=4),
)


def written(version: tuple[int, ...]) -> str:
    return "v" + ".".join(map(str, version))


def shortest(version: tuple[int, ...]) -> tuple[int, ...]:
    """Without zeros at its end, but for the first number."""
    end = len(version)
    while end > 1 and version[end - 1] == 0:
        end -= 1
    return version[:end]


@given(st.dictionaries(numbers.map(shortest), st.booleans(), min_size=1, max_size=6), numbers)
def test_a_baseline_serves_all_versions_up_to_the_next_entry(
    available: dict[tuple[int, ...], bool], asked: tuple[int, ...]
) -> None:
    names = Names([written(version) + "+" * baseline for version, baseline in available.items()], {})
    earlier = [version for version in available if version <= shortest(asked)]
    expected = None
    if earlier:
        last = max(earlier)
        if available[last] or written(last) == written(asked):
            expected = written(last)
    assert names.known(written(asked)) == expected


@given(numbers, numbers)
def test_versions_are_ordered_like_their_numbers(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    left, right = numbered(written(one)), numbered(written(other))
    assert left is not None
    assert right is not None
    assert (left < right) == (shortest(one) < shortest(other))


@given(segments)
def test_a_segment_is_a_version_exactly_if_its_folded_form_is(segment: str) -> None:
    names = Names(["v1", "v2.1+", "Beta", "2026-01-01"], {"latest": "v1"})
    assert (names.read(segment) is None) == (names.read(fold(segment)) is None)


NAMES = Names(["v1", "v2"], {"latest": "v2"})
ORDERS = VersionSegment(NAMES.read, cut=True)
RULES = [
    Rule("/**", None, None, (), (), "open", "open"),
    Rule("/*/**", None, None, (), (), "open", "open", ORDERS),
    Rule("/admin/**", None, None, (), (), "admin", "admin"),
    Rule("/orders/{id}", None, None, (), (), "orders", "orders"),
    Rule("/*/orders/{id}", None, None, (), (), "orders", "orders", ORDERS),
]


@given(st.lists(st.one_of(segments, st.sampled_from([";x", "v1;x=1", "a;v1", "%76%31"])), max_size=5))
def test_what_is_forwarded_is_a_path_of_the_route_that_was_matched(parts: list[str]) -> None:
    """With or without a version: the path that goes on leads, asked for by itself, to the same route."""
    finder = Finder(Router(RULES))
    target = "/" + "/".join(parts)
    try:
        path, _, match = finder.find("GET", target.encode("utf-8"), b"h", b"h", [])
    except Refused:
        return
    assert match.version in ("", "v1", "v2", UNKNOWN)
    again = finder.find("GET", path, b"h", b"h", [])
    assert (again.path, again.match.target) == (path, match.target)
    if match.version:
        assert again.match.version == ""
        assert normalise(path, b"h").segments == normalise(target.encode(), b"h").segments[1:]


MEDIA_TYPE = MediaType("application/vnd.example.{version}+json")
pieces = st.sampled_from(
    b'application/vnd.example.|application/vnd.example+json|v2|+json|;|version=|q=|0.5|0|1|,|"| |*/*|=|\t|\xff'.split(
        b"|"
    )
)


@given(st.lists(pieces, max_size=60).map(b"".join))
def test_any_accept_is_read_within_bounds(accept: bytes) -> None:
    asked = MEDIA_TYPE.accepted(accept)
    assert len(asked.versions) <= MOST_ELEMENTS
    assert all(asked.versions) or b"version=" in accept
    assert asked.versions or asked.others
    MEDIA_TYPE.of_body(accept)
