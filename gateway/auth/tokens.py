"""Vouches for callers by a JSON Web Token (RFC 6750, 7519, 8725).

A token is verified once and then remembered by its SHA-256 until it ends or newer ones push it out: a
signature costs 30-150 µs, a remembered one about 1 µs. A failure is never remembered, so a flood of bad
tokens cannot push out good ones.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence

from gateway.auth import claims as claim
from gateway.auth import jws
from gateway.auth.bearer import Bearer, Places, TokenError
from gateway.auth.keys import KeySource, NamedKey, OneKey, PublicKey, VerifyKey
from gateway.auth.providers import REALM, BadCredential, Reason
from gateway.exchange import Call, Caller, Hidden

MAX_LEEWAY = 60.0
"""Seconds. More is not clock skew any more but a longer life for every token."""

FOREIGN = "The token is from another issuer."


class JwtProvider:
    """Verifies tokens with a local key, a secret (bytes) or a loaded public one, or with keys from elsewhere."""

    challenge = b"Bearer " + REALM

    def __init__(
        self,
        name: str,
        *,
        key: bytes | PublicKey | KeySource,
        algorithms: Iterable[str] = (),
        places: Places | None = None,
        issuer: str | None = None,
        audience: Iterable[str] = (),
        typ: str | None = None,
        endless: bool = False,
        leeway: float = 30.0,
        claims: Mapping[str, str] = claim.DEFAULTS,
        forward: Sequence[tuple[bytes, str]] = (),
        hidden: Hidden | None = None,
        signed: bool = False,
        clock: Callable[[], float] = time.time,
        cache_size: int = 10_000,
    ) -> None:
        """`leeway` in seconds for the issuer's clock; `claims` and `forward` name claims by dotted paths.

        `algorithms` are for a local key; a KeySource has its own. `endless` tokens need no `exp`. `hidden` and
        `signed` are what every caller gets.

        Raises ValueError for what can never work: a key that fits no algorithm, a leeway over a minute.
        """
        if not 0 <= leeway <= MAX_LEEWAY:
            raise ValueError(f"leeway must be between 0 and {MAX_LEEWAY:.0f} seconds")
        if unknown := set(claims) - set(claim.DEFAULTS):
            raise ValueError(f"unknown use of a claim: {', '.join(sorted(unknown))}")
        self.name = name
        self.places: Places = places if places is not None else Bearer()
        self.issuer = issuer
        self._keys = OneKey(VerifyKey(key, algorithms)) if isinstance(key, bytes | PublicKey) else key
        self._in_force = self._keys.names
        self._audience = frozenset(audience)
        self._type = jws.media_type(typ)
        self._endless = endless
        self._leeway = leeway
        self._paths = {**claim.DEFAULTS, **claims}
        self._forward = tuple(forward)
        self._hidden = hidden
        self._signed = signed
        self._clock = clock
        self._size = cache_size
        # Ordered, because dropping the first key of a plain dict over and over scans its dead slots.
        self._verified: OrderedDict[bytes, tuple[Caller, bytes]] = OrderedDict()  # and the name of the key
        self.known: Container[bytes] = self._verified

    async def identify(self, call: Call) -> Caller | None:
        """The caller, None without a token. Raises BadCredential (401), Refused (403), Unavailable (503)."""
        try:
            digest = self.places.digest(call)
        except TokenError as error:
            raise self.refusal(str(error), error.reason) from None
        if digest is None:
            return None
        caller = self.remembered(digest)
        if caller is not None:
            return caller
        token = self.read(call)
        return None if token is None else await self.verify(token, digest)

    def remembered(self, digest: bytes) -> Caller | None:
        """The caller with this token, if it was verified before and still counts."""
        if self._keys.names is not self._in_force:
            self._forget()
        known = self._verified.get(digest)
        if known is None:
            return None
        caller = known[0]
        if self._clock() < caller.expires + self._leeway:
            return caller
        del self._verified[digest]
        return None

    def read(self, call: Call) -> jws.Jws | None:
        """The token of the call, not verified. Raises BadCredential (401)."""
        try:
            text = self.places.token(call)
            return None if text is None else jws.parse(text)
        except (TokenError, jws.MalformedError) as error:
            raise self.refusal(str(error), error.reason) from None

    async def verify(self, token: jws.Jws, digest: bytes) -> Caller:
        """The caller with this token, from now on remembered. Raises BadCredential (401), Unavailable (503)."""
        key = await self._key_of(token)
        if not key.verifier.verify(token.algorithm, token.signed, token.signature):
            raise self.refusal("The token's signature is not valid.", "signature")
        caller = self._judge(token.payload)
        if len(self._verified) >= self._size:
            self._verified.popitem(last=False)
        self._verified[digest] = caller, key.name
        return caller

    def refusal(self, detail: str, reason: Reason) -> BadCredential:
        """The 401 of RFC 6750 section 3.1."""
        explained = b', error="invalid_token", error_description="%s"' % detail.encode()
        return BadCredential(detail, self.challenge + explained, reason, self.name)

    def _forget(self) -> None:
        """Drop the tokens whose key is not in force any more."""
        self._in_force = self._keys.names
        for digest in [digest for digest, (_, key) in self._verified.items() if key not in self._in_force]:
            del self._verified[digest]

    async def _key_of(self, token: jws.Jws) -> NamedKey:
        if token.algorithm not in self._keys.algorithms:
            raise self.refusal("The token's algorithm is not accepted here.", "algorithm")
        if self.issuer is not None and token.payload.get("iss") != self.issuer:
            # Before anybody is asked for keys: that our issuer is away says nothing about another's tokens.
            raise self.refusal(FOREIGN, "issuer")
        if self._type is not None and jws.media_type(token.typ) != self._type:
            raise self.refusal("The token is of another type.", "type")
        key = await self._keys.find(token.kid, token.algorithm)
        if key is None:
            raise self.refusal("The token is signed with an unknown key.", "unknown_key")
        return key

    def _judge(self, payload: Mapping[str, object]) -> Caller:
        try:
            expires = claim.check(
                payload,
                self._clock(),
                issuer=self.issuer,
                audience=self._audience,
                leeway=self._leeway,
                endless=self._endless,
            )
            return claim.caller(
                payload,
                provider=self.name,
                paths=self._paths,
                forward=self._forward,
                expires=expires,
                hidden=self._hidden,
                signed=self._signed,
            )
        except claim.ClaimError as error:
            raise self.refusal(str(error), error.reason) from None
