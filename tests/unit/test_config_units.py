from collections.abc import Callable

import pytest

from gateway.config import units
from gateway.config.complaints import Substituted
from gateway.config.units import Rate


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("50ms", 0.05), ("2s", 2.0), ("1.5m", 90.0), ("1h", 3600.0), ("180d", 180 * 86400.0), ("0s", 0.0)],
)
def test_durations(written: str, seconds: float) -> None:
    assert units.duration(written) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("written", "count"), [("0B", 0), ("512B", 512), ("64KiB", 65536), ("10MiB", 10 * 2**20), ("1GiB", 2**30)]
)
def test_sizes(written: str, count: int) -> None:
    assert units.size(written) == count


def test_none_is_a_size_where_that_is_allowed() -> None:
    assert units.size_or_none("none") is None
    assert units.size_or_none("1KiB") == 1024
    with pytest.raises(ValueError, match=r"or none$"):
        units.size_or_none("nothing")


@pytest.mark.parametrize(("written", "part"), [("0%", 0.0), ("20%", 0.2), ("12.5%", 0.125), ("100%", 1.0)])
def test_shares(written: str, part: float) -> None:
    assert units.share(written) == pytest.approx(part)


@pytest.mark.parametrize(
    ("written", "rate"),
    [
        ("100/second", Rate(100, 1)),
        ("100/minute", Rate(100, 60)),
        ("1/hour", Rate(1, 3600)),
        ("7/day", Rate(7, 86400)),
        ("100/30s", Rate(100, 30)),
        ("5/500ms", Rate(5, 0.5)),
    ],
)
def test_rates(written: str, rate: Rate) -> None:
    assert units.rate(written) == rate


WRONG: list[tuple[Callable[[object], object], list[object]]] = [
    (
        units.duration,
        ["", "5", 5, 5.0, "5 s", "s", "-1s", "1m30s", "1S", "5s\n", "٥s", None, True, [], "1e3s", "9999d"],
    ),
    (units.positive_duration, ["0s", "0ms", "0.0h"]),
    (units.size, ["", "5", 5, "10MB", "10mib", "1.5KiB", "-1B", None, "1 KiB", "5B\n"]),
    (units.positive_size, ["0B", "0GiB"]),
    (units.share, ["20", 0.2, "101%", "-1%", "%", "20 %", None, "100.1%"]),
    (units.positive_share, ["0%", "0.0%"]),
    (units.rate, ["100", 100, "0/second", "100/fortnight", "1.5/second", "100/0s", "100/", "-1/second", "1/30", None]),
]


@pytest.mark.parametrize(("read", "written"), [(read, value) for read, values in WRONG for value in values])
def test_what_is_no_such_quantity_is_refused(read: Callable[[object], object], written: object) -> None:
    with pytest.raises(ValueError, match=r"is not|must|longer"):
        read(written)


@pytest.mark.parametrize("read", [units.duration, units.size, units.size_or_none, units.share, units.rate])
def test_a_wrong_quantity_from_the_environment_is_not_quoted(read: Callable[[object], object]) -> None:
    with pytest.raises(ValueError, match=r"\*\*\*") as caught:
        read(Substituted("hunter2"))
    assert "hunter2" not in str(caught.value)
