from pathlib import Path

import pytest

from gateway.parts import Parts, content


def make(text: str) -> list[str]:
    """A part that can be told apart from an equal one."""
    return [text]


def test_a_part_is_made_once() -> None:
    parts = Parts()
    first = parts.get(("a", 1), lambda: make("a"))
    assert parts.get(("a", 1), lambda: make("b")) is first
    assert parts.get(("a", 2), lambda: make("b")) == ["b"]


def test_an_equal_key_takes_the_part_over_and_another_makes_a_new_one() -> None:
    old = Parts()
    kept, left = old.get("kept", lambda: make("1")), old.get("left", lambda: make("1"))
    new = Parts(old)
    assert new.get("kept", lambda: make("2")) is kept
    assert new.get("new", lambda: make("2")) == ["2"]
    assert old.left_behind_by(new) == [left]
    assert new.left_behind_by(old) == [["2"]]


def test_none_can_be_a_part() -> None:
    old = Parts()
    old.get("none", lambda: None)
    made: list[str] = []
    Parts(old).get("none", lambda: made.append("again"))
    assert made == []


def test_making_parts_for_a_successor_changes_nothing_in_the_predecessor() -> None:
    old = Parts()
    old.get("a", lambda: make("1"))
    new = Parts(old)
    new.get("b", lambda: make("2"))
    assert old.get("b", lambda: make("old")) == ["old"]


def test_a_part_may_be_asked_for_inside_the_making_of_another() -> None:
    parts = Parts()
    outer = parts.get("outer", lambda: (parts.get("inner", lambda: make("1")),))
    assert outer == (["1"],)
    assert Parts(parts).get("inner", lambda: make("2")) is outer[0]


def test_with_a_part_come_the_parts_it_is_made_of() -> None:
    def outer(parts: Parts) -> tuple[list[str], ...]:
        return (parts.get("inner", lambda: (parts.get("innermost", lambda: make("1")), make("2")))[1],)

    first = Parts()
    first.get("outer", lambda: outer(first))
    innermost = first.get("innermost", lambda: make("3"))
    second = Parts(first)
    second.get("outer", lambda: outer(second))
    second.settle()
    assert first.left_behind_by(second) == []
    third = Parts(second)
    assert third.get("innermost", lambda: make("4")) is innermost
    assert len(second.left_behind_by(third)) == 2


def test_what_was_asked_for_before_is_not_forgotten_when_its_maker_fails() -> None:
    parts = Parts()
    with pytest.raises(ZeroDivisionError):
        parts.get("outer", lambda: parts.get("inner", lambda: make("1")) and 1 // 0)
    parts.get("other", lambda: make("2"))
    successor = Parts(parts)
    successor.get("other", lambda: make("3"))
    assert parts.left_behind_by(successor) == [["1"]], "nobody has it, so that somebody closes it"


def test_a_failure_leaves_no_part() -> None:
    parts = Parts()
    with pytest.raises(ZeroDivisionError):
        parts.get("a", lambda: 1 // 0)
    assert parts.get("a", lambda: 1) == 1


def test_what_was_not_taken_over_before_it_settled_is_gone() -> None:
    old = Parts()
    kept = old.get("a", lambda: make("1"))
    new = Parts(old)
    new.settle()
    assert new.get("a", lambda: make("2")) is not kept


def test_a_part_that_stays_passes_from_hand_to_hand() -> None:
    parts = Parts()
    first = parts.get("a", lambda: make("1"))
    for _ in range(5):
        parts = Parts(parts)
        assert parts.get("a", lambda: make("2")) is first
        parts.settle()


def test_two_equal_parts_are_told_apart() -> None:
    old, new = Parts(), Parts()
    left = old.get("a", lambda: make("1"))
    new.get("a", lambda: make("1"))
    (found,) = old.left_behind_by(new)
    assert found is left


def test_a_files_content_counts_and_not_its_name_or_time(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"certificate")
    other.write_bytes(b"certificate")
    assert content(one) == content(other) != content(None)
    other.write_bytes(b"certificate 2")
    assert content(one) != content(other)
    other.write_bytes(b"")
    assert content(other) != content(None), "an empty file is not the same as none"
    with pytest.raises(OSError, match="No such file"):
        content(tmp_path / "nowhere")
