from gateway.config.complaints import Complaint, ConfigError, Substituted, cut, hint, show


def test_a_complaint_is_one_line_with_file_position_key_and_message() -> None:
    assert str(Complaint("f.yaml", 3, 7, "a.b", "is wrong")) == "f.yaml:3:7: a.b: is wrong"


def test_a_complaint_about_the_whole_file_names_no_key() -> None:
    assert str(Complaint("f.yaml", 1, 1, "", "the file is empty")) == "f.yaml:1:1: the file is empty"


def test_an_error_has_its_complaints_in_the_files_order_and_each_once() -> None:
    second, first = Complaint("f", 10, 1, "b", "x"), Complaint("f", 9, 5, "a", "x")
    error = ConfigError([second, first, second])
    assert error.complaints == (first, second)
    assert str(error) == "f:9:5: a: x\nf:10:1: b: x"


def test_what_came_from_the_environment_is_never_shown_nor_any_part_of_it() -> None:
    secret = Substituted("hunter2")
    assert show(secret) == "***"
    assert show(cut(secret, secret[:3])) == "***"
    assert hint(secret, ["hunter3"]) == ""


def test_values_are_shown_on_one_line_and_shortened() -> None:
    assert show("a\nb\x1b[31m") == r"'a\nb\x1b[31m'"
    assert len(show("x" * 10_000)) < 70
    assert len(show(10**90)) < 70
    assert [show(value) for value in (True, None, {}, [], 3)] == ["true", "nothing", "a mapping", "a list", "3"]


def test_the_nearest_name_is_suggested_and_none_when_nothing_is_near() -> None:
    assert hint("upsteam", ["name", "upstream"]) == " (did you mean 'upstream'?)"
    assert hint("GET", ["get"]) == " (did you mean 'get'?)"
    assert hint("banana", ["name", "upstream"]) == ""


def test_a_suggestion_among_very_many_names_is_found_among_those_that_begin_alike() -> None:
    names = [f"service-{number:05}" for number in range(20_000)]
    assert hint("service-00123x", names) == " (did you mean 'service-00123'?)"
    assert hint("banana-00001", names) == ""
