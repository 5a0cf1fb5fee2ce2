import pytest

from gateway.resilience.fault import Fault


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ({"share": 1.01, "status": 503}, "share"),
        ({"share": -0.01, "status": 503}, "share"),
        ({"share": float("nan"), "status": 503}, "share"),
        ({"share": 1.0, "status": 200}, "status"),
        ({"share": 1.0, "status": 399}, "status"),
        ({"share": 1.0, "status": 600}, "status"),
        ({"share": 1.0, "delay": -1.0}, "delay"),
        ({"share": 1.0, "delay": float("inf")}, "delay"),
        ({"share": 1.0, "delay": float("nan")}, "delay"),
        ({"share": 1.0}, "a status or a delay"),
    ],
)
def test_a_fault_that_makes_no_sense_is_none(fault: dict[str, float], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Fault(**fault)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fault", [{"share": 0.0, "status": 400}, {"share": 1.0, "status": 599}, {"share": 0.5, "delay": 0.001}]
)
def test_the_limits_themselves_are_allowed(fault: dict[str, float]) -> None:
    assert Fault(**fault).until == float("inf")  # type: ignore[arg-type]
