"""Several issuers whose tokens stand in the same places, asked as one provider: by `iss`, not by trial and error.

A token is read once and given to the providers of its issuer, then to those that take any; nobody else sees it. What
was verified is remembered by the provider that vouched. To ask each whether it knows a token costs some 20 ns a
provider, so there is no second memory here that would have to forget the same things at the same time.
"""

from collections.abc import Sequence

from gateway.auth.bearer import TokenError
from gateway.auth.jws import Jws
from gateway.auth.providers import BadCredential
from gateway.auth.tokens import FOREIGN, JwtProvider
from gateway.errors import Shed
from gateway.exchange import Call, Caller


class Issuers:
    """Asks those of its providers whom a token may concern, in their order; if it concerns none, the first refuses."""

    def __init__(self, providers: Sequence[JwtProvider]) -> None:
        """The `places` of all of them must be the same."""
        first = providers[0]
        self.name = first.name
        self.challenge = first.challenge
        self.refusal = first.refusal
        self._first = first
        self._known = tuple((provider.known, provider.remembered) for provider in providers)
        self._of_any = tuple(provider for provider in providers if provider.issuer is None)
        self._of = {
            issuer: (*(provider for provider in providers if provider.issuer == issuer), *self._of_any)
            for issuer in {provider.issuer for provider in providers} - {None}
        }

    async def identify(self, call: Call) -> Caller | None:
        """The caller, None without a token. Raises BadCredential (401), Refused (403), Unavailable (503)."""
        first = self._first
        try:
            digest = first.places.digest(call)
        except TokenError as error:
            raise self.refusal(str(error), error.reason) from None
        if digest is None:
            return None
        for known, remembered in self._known:
            if digest in known:
                caller = remembered(digest)
                if caller is not None:
                    return caller
        token = first.read(call)
        return None if token is None else await self._verify(token, digest)

    async def _verify(self, token: Jws, digest: bytes) -> Caller:
        refusal: BadCredential | None = None
        away: Shed | None = None
        for provider in self._meant(token):
            try:
                return await provider.verify(token, digest)
            except BadCredential as error:
                # Without its way here, which leads through this very frame: a cycle.
                refusal = refusal or error.with_traceback(None)
            except Shed as error:
                away = away or error.with_traceback(None)
        if away is not None:  # who knows: it may have been a good token
            raise away
        raise refusal or self.refusal(FOREIGN, "issuer")

    def _meant(self, token: Jws) -> Sequence[JwtProvider]:
        issuer = token.payload.get("iss")
        return self._of.get(issuer, self._of_any) if isinstance(issuer, str) else self._of_any
