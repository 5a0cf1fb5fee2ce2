"""Composes a route's providers into one question: who is calling?"""

import time
from collections.abc import Awaitable, Callable, Collection, Sequence

from gateway.auth.providers import BadCredential, Provider, Reason, Unavailable
from gateway.errors import Refused, Shed
from gateway.exchange import ANONYMOUS, Call, Caller, Hop

NOT_MINE: Collection[Reason] = frozenset({"issuer", "malformed"})
"""A refusal for such a reason says little when another provider has a better one."""

Identify = Callable[[Call], Awaitable[Caller]]
"""Raises Refused (401), Shed (503)."""


def identify_by(
    providers: Sequence[Provider],
    *,
    optional: bool = False,
    revoked: Callable[[Caller], bool] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Identify:
    """Any one of `providers` must vouch for the caller; the first that does, in their order.

    Raises Shed when none does and one of them cannot tell at the moment.

    Each is asked until one vouches for a caller who is not `revoked`, because a token that is not valid for one
    issuer may be another's. With `optional`, a request without any credential is anonymous; one with a bad
    credential is still refused.
    """
    asked = tuple(providers)

    async def identify(call: Call) -> Caller:
        started = clock()
        refusal: BadCredential | None = None
        away: Shed | None = None
        for provider in asked:
            try:
                caller = await provider.identify(call)
                if caller is not None and revoked is not None and revoked(caller):
                    raise provider.refusal("The credential has been revoked.", "revoked")
            except BadCredential as error:
                refusal = _better(refusal, error)
            except Shed as error:  # it cannot say now; another one may know the caller
                call.hops.append(Hop("auth", _away(error, provider), "unavailable", started, clock() - started))
                away, started = error, clock()
            except Refused:  # a good credential, perhaps, in the wrong hands
                call.hops.append(Hop("auth", provider.name, "origin", started, clock() - started, False))
                raise
            else:
                if caller is not None:
                    call.hops.append(Hop("auth", caller.provider, "ok", started, clock() - started, False))
                    return caller
        if away is not None:  # who knows: it may have been a good credential
            raise away
        name, outcome = ("", "missing") if refusal is None else (refusal.provider, refusal.reason)
        call.hops.append(Hop("auth", name, outcome, started, clock() - started, False))
        if refusal is None and optional:
            return ANONYMOUS
        raise refusal or _nothing_sent(asked)

    return identify


def _better(refusal: BadCredential | None, other: BadCredential) -> BadCredential:
    """The first, unless it says no more than that the credential may be for somebody else."""
    if refusal is None or (refusal.reason in NOT_MINE and other.reason not in NOT_MINE):
        return other
    return refusal


def _away(error: Shed, asked: Provider) -> str:
    """Which provider cannot say: several may be asked as one."""
    return error.provider if isinstance(error, Unavailable) else asked.name


async def everyone(call: Call) -> Caller:
    """The identity on an open route: nobody in particular."""
    return ANONYMOUS


def _nothing_sent(providers: tuple[Provider, ...]) -> Refused:
    # RFC 6750 section 3.1: who sent no credential is told how to, and no error code.
    challenges = dict.fromkeys(provider.challenge for provider in providers)
    headers = [(b"www-authenticate", challenge) for challenge in challenges]
    return Refused("unauthenticated", 401, "This route needs credentials.", headers=headers)
