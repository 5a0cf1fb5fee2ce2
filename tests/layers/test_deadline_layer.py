import pytest

from gateway.exchange import NEVER
from gateway.resilience.deadline import deadline
from tests.fakes import Clock, make_call, replying


@pytest.mark.parametrize(("before", "after"), [(NEVER, 1010.0), (1003.0, 1003.0), (2000.0, 1010.0)])
async def test_a_call_gets_so_much_time_and_never_more_than_it_had(before: float, after: float) -> None:
    call = make_call()
    call.deadline = before
    await deadline(10.0, Clock(1000.0))(replying(200))(call)
    assert call.deadline == after
