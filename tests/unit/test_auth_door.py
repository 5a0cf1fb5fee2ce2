"""Several providers, one question: who is calling?"""

import pytest

from gateway.auth.door import everyone, identify_by
from gateway.auth.providers import BadCredential, Reason, Unavailable
from gateway.errors import GatewayError, Refused, Shed
from gateway.exchange import ANONYMOUS, Call, Caller, Hop
from tests.fakes import Clock
from tests.tokens import call_with


class Vouching:
    """A provider that always gives the same answer."""

    challenge = b'Bearer realm="gateway"'

    def __init__(self, name: str, answer: Caller | GatewayError | None, challenge: bytes = challenge) -> None:
        self.name = name
        self.challenge = challenge
        self._answer = answer
        self.asked = 0

    async def identify(self, call: Call) -> Caller | None:
        self.asked += 1
        if isinstance(self._answer, GatewayError):
            raise self._answer
        return self._answer

    def refusal(self, detail: str, reason: Reason) -> BadCredential:
        return BadCredential(detail, self.challenge, reason, self.name)


ALICE = Caller(consumer="alice", provider="b")


def bad(reason: Reason = "signature", name: str = "a") -> BadCredential:
    return BadCredential("It is bad.", b"Bearer", reason, name)


async def test_the_first_provider_that_vouches_decides() -> None:
    clock, call, last = Clock(), call_with(), Vouching("c", None)
    identify = identify_by([Vouching("a", None), Vouching("b", ALICE), last], clock=clock)
    assert await identify(call) is ALICE
    assert call.hops == [Hop("auth", "b", "ok", clock.now, 0.0, False)]
    assert last.asked == 0


async def test_a_token_bad_for_one_issuer_may_be_good_for_the_next() -> None:
    call = call_with()
    assert await identify_by([Vouching("a", bad()), Vouching("b", ALICE)])(call) is ALICE
    assert [hop.outcome for hop in call.hops] == ["ok"]


@pytest.mark.parametrize("optional", [False, True])
@pytest.mark.parametrize("reason", ["signature", "expired"])
async def test_a_bad_credential_is_refused_even_where_none_is_needed(optional: bool, reason: Reason) -> None:
    call, error = call_with(), bad(reason)
    with pytest.raises(BadCredential) as caught:
        await identify_by([Vouching("a", error), Vouching("b", None)], optional=optional)(call)
    assert caught.value is error
    assert [(hop.name, hop.outcome, hop.waited) for hop in call.hops] == [("a", reason, False)]


async def test_the_first_refusal_is_the_one_that_is_told() -> None:
    first = bad()
    with pytest.raises(BadCredential) as caught:
        await identify_by([Vouching("a", first), Vouching("b", bad("expired"))])(call_with())
    assert caught.value is first


async def test_no_credential_is_refused_without_an_error_code() -> None:
    call = call_with()
    with pytest.raises(Refused) as caught:
        await identify_by([Vouching("a", None), Vouching("b", None), Vouching("c", None, b"ApiKey")])(call)
    assert (caught.value.status, caught.value.code) == (401, "unauthenticated")
    assert caught.value.headers == [
        (b"www-authenticate", b'Bearer realm="gateway"'),
        (b"www-authenticate", b"ApiKey"),
    ]
    assert [(hop.name, hop.outcome) for hop in call.hops] == [("", "missing")]


async def test_no_credential_is_anonymous_where_it_is_optional() -> None:
    call = call_with()
    assert await identify_by([Vouching("a", None)], optional=True)(call) is ANONYMOUS
    assert [hop.outcome for hop in call.hops] == ["missing"]


async def test_a_provider_that_cannot_check_ends_the_question() -> None:
    down = GatewayError("identity_unavailable", 503)
    with pytest.raises(GatewayError) as caught:
        await identify_by([Vouching("a", down), Vouching("b", ALICE)])(call_with())
    assert caught.value is down


async def test_an_open_route_asks_nobody() -> None:
    call = call_with((b"authorization", b"Bearer nonsense"))
    assert await everyone(call) is ANONYMOUS
    assert call.hops == []


def away() -> Vouching:
    """A provider that cannot tell at the moment."""
    return Vouching("away", Shed("identity_unavailable", 503, retry_after=1.0))


async def test_a_provider_that_cannot_tell_leaves_it_to_the_others() -> None:
    call = call_with()
    assert await identify_by([away(), Vouching("b", ALICE)])(call) is ALICE
    assert [(hop.name, hop.outcome, hop.waited) for hop in call.hops] == [
        ("away", "unavailable", True),
        ("b", "ok", False),
    ]


@pytest.mark.parametrize("other", [bad(), None])
async def test_when_nobody_else_vouches_who_cannot_tell_has_the_last_word(other: BadCredential | None) -> None:
    with pytest.raises(Shed) as raised:
        await identify_by([Vouching("b", other), away()])(call_with())
    assert (raised.value.code, raised.value.status) == ("identity_unavailable", 503)


async def test_a_caller_who_is_revoked_is_refused_and_counted_as_that() -> None:
    call = call_with()
    with pytest.raises(BadCredential) as caught:
        await identify_by([Vouching("b", ALICE)], revoked=lambda caller: caller is ALICE)(call)
    assert (caught.value.status, caught.value.reason) == (401, "revoked")
    assert [(hop.name, hop.outcome) for hop in call.hops] == [("b", "revoked")]


async def test_who_is_revoked_with_one_credential_may_have_another() -> None:
    other = Caller(consumer="alice", provider="c")
    identify = identify_by([Vouching("b", ALICE), Vouching("c", other)], revoked=lambda caller: caller is ALICE)
    assert await identify(call_with()) is other


async def test_when_revocations_cannot_be_told_nobody_gets_in() -> None:
    def unknown(caller: Caller) -> bool:
        raise Shed("identity_unavailable", 503, retry_after=1.0)

    call = call_with()
    with pytest.raises(Shed):
        await identify_by([Vouching("b", ALICE)], optional=True, revoked=unknown)(call)
    assert [(hop.name, hop.outcome) for hop in call.hops] == [("b", "unavailable")]


async def test_a_page_that_may_not_use_its_credential_ends_the_question() -> None:
    forbidden = Refused("forbidden", 403)
    last = Vouching("c", ALICE)
    with pytest.raises(Refused) as caught:
        await identify_by([Vouching("a", forbidden), last], optional=True)(call_with())
    assert caught.value is forbidden
    assert last.asked == 0


@pytest.mark.parametrize(
    ("reasons", "told"),
    [
        (["issuer", "expired"], "expired"),
        (["malformed", "issuer", "revoked"], "revoked"),
        (["issuer", "malformed"], "issuer"),
        (["signature", "expired"], "signature"),
    ],
)
async def test_that_a_token_is_for_somebody_else_gives_way_to_a_better_reason(reasons: list[Reason], told: str) -> None:
    call = call_with()
    asked = [Vouching(f"p{number}", bad(reason, f"p{number}")) for number, reason in enumerate(reasons)]
    with pytest.raises(BadCredential) as caught:
        await identify_by(asked)(call)
    assert caught.value.reason == told
    assert [(hop.name, hop.outcome) for hop in call.hops] == [(f"p{reasons.index(told)}", told)]


async def test_of_several_asked_as_one_the_one_that_is_away_is_named() -> None:
    call = call_with()
    with pytest.raises(Unavailable):
        await identify_by([Vouching("first", Unavailable("third"))])(call)
    assert [(hop.name, hop.outcome) for hop in call.hops] == [("third", "unavailable")]


async def test_a_foreign_origin_ends_the_question_and_is_counted() -> None:
    call, last = call_with(), Vouching("b", ALICE)
    with pytest.raises(Refused) as caught:
        await identify_by([Vouching("a", Refused("forbidden", 403)), last])(call)
    assert caught.value.status == 403
    assert [(hop.name, hop.outcome) for hop in call.hops] == [("a", "origin")]
    assert last.asked == 0
