"""Composes a route's providers into one question: who is calling?"""

import time
from collections.abc import Awaitable, Callable, Sequence

from gateway.auth.providers import BadCredential, Provider
from gateway.errors import Refused, Shed
from gateway.exchange import ANONYMOUS, Call, Caller, Hop

Identify = Callable[[Call], Awaitable[Caller]]
"""Raises Refused (401), Shed (503)."""


def identify_by(
    providers: Sequence[Provider], *, optional: bool = False, clock: Callable[[], float] = time.monotonic
) -> Identify:
    """Any one of `providers` must vouch for the caller; the first that does, in their order.

    Raises Shed when none does and one of them cannot tell at the moment.

    Each is asked until one vouches, because a token that is not valid for one issuer may be another's. With
    `optional`, a request without any credential is anonymous; one with a bad credential is still refused.
    """
    asked = tuple(providers)

    async def identify(call: Call) -> Caller:
        started = clock()
        refusal: BadCredential | None = None
        away: Shed | None = None
        refused_by = ""
        for provider in asked:
            try:
                caller = await provider.identify(call)
            except BadCredential as error:
                if refusal is None:
                    refusal, refused_by = error, provider.name
                continue
            except Shed as error:  # it cannot say now; another one may know the caller
                call.hops.append(Hop("auth", provider.name, "unavailable", started, clock() - started))
                away, started = error, clock()
                continue
            if caller is not None:
                call.hops.append(Hop("auth", provider.name, "ok", started, clock() - started, False))
                return caller
        if away is not None:  # who knows: it may have been a good credential
            raise away
        outcome = "missing" if refusal is None else refusal.outcome
        call.hops.append(Hop("auth", refused_by, outcome, started, clock() - started, False))
        if refusal is not None:
            raise refusal
        if optional:
            return ANONYMOUS
        raise _nothing_sent(asked)

    return identify


async def everyone(call: Call) -> Caller:
    """The identity on an open route: nobody in particular."""
    return ANONYMOUS


def _nothing_sent(providers: tuple[Provider, ...]) -> Refused:
    # RFC 6750 section 3.1: who sent no credential is told how to, and no error code.
    challenges = dict.fromkeys(provider.challenge for provider in providers)
    headers = [(b"www-authenticate", challenge) for challenge in challenges]
    return Refused("unauthenticated", 401, "This route needs credentials.", headers=headers)
