"""Vouches for callers by a JSON Web Token in the Authorization header (RFC 6750, 7519, 8725).

A token is verified once and then remembered by its SHA-256 until it ends or newer ones push it out: a
signature costs 30-150 µs, a remembered one about 1 µs. A failure is never remembered, so a flood of bad
tokens cannot push out good ones.
"""

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256

from gateway.auth import claims as claim
from gateway.auth import jws
from gateway.auth.keys import KeySource, NamedKey, OneKey, PublicKey, VerifyKey
from gateway.auth.providers import REALM, BadCredential
from gateway.exchange import Call, Caller, Fields, header_values

BEARER = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr](?![!#$%&'*+.^_`|~0-9A-Za-z-])")
"""The scheme, in any case (RFC 9110 section 11.1), and no longer token that begins like it."""

CREDENTIAL = re.compile(rb"[A-Za-z]{6} ([A-Za-z0-9_.-]+)")
"""Scheme, exactly one space, and the alphabet of a compact JWS."""

DIGEST = "sha256 of authorization"
"""The name under which a head keeps the digest of its credential."""

MAX_HEADER = jws.MAX_TOKEN + len(b"Bearer ")
MAX_LEEWAY = 60.0
"""Seconds. More is not clock skew any more but a longer life for every token."""


class JwtProvider:
    """Verifies tokens with a local key, a secret (bytes) or a loaded public one, or with keys from elsewhere."""

    challenge = b"Bearer " + REALM

    def __init__(
        self,
        name: str,
        *,
        key: bytes | PublicKey | KeySource,
        algorithms: Iterable[str] = (),
        issuer: str | None = None,
        audience: Iterable[str] = (),
        leeway: float = 30.0,
        claims: Mapping[str, str] = claim.DEFAULTS,
        forward: Sequence[tuple[bytes, str]] = (),
        clock: Callable[[], float] = time.time,
        cache_size: int = 10_000,
    ) -> None:
        """`leeway` in seconds for the issuer's clock; `claims` and `forward` name claims by dotted paths.

        `algorithms` are for a local key; a KeySource has its own.

        Raises ValueError for what can never work: a key that fits no algorithm, a leeway over a minute.
        """
        if not 0 <= leeway <= MAX_LEEWAY:
            raise ValueError(f"leeway must be between 0 and {MAX_LEEWAY:.0f} seconds")
        if unknown := set(claims) - set(claim.DEFAULTS):
            raise ValueError(f"unknown use of a claim: {', '.join(sorted(unknown))}")
        self.name = name
        self._keys = OneKey(VerifyKey(key, algorithms)) if isinstance(key, bytes | PublicKey) else key
        self._in_force = self._keys.names
        self._issuer = issuer
        self._audience = frozenset(audience)
        self._leeway = leeway
        self._paths = {**claim.DEFAULTS, **claims}
        self._forward = tuple(forward)
        self._clock = clock
        self._size = cache_size
        # Ordered, because dropping the first key of a plain dict over and over scans its dead slots.
        self._verified: OrderedDict[bytes, tuple[Caller, bytes]] = OrderedDict()  # and the name of the key

    async def identify(self, call: Call) -> Caller | None:
        """The caller, None without a Bearer credential. Raises BadCredential (401), Shed (503) without keys."""
        fields = call.request.fields
        digest = fields.derived.get(DIGEST)  # of a head that was seen before on this connection
        if digest is None:
            digest = self._digest(fields)
            if digest is None:
                return None
            fields.derived[DIGEST] = digest
        if self._keys.names is not self._in_force:
            self._forget()
        known = self._verified.get(digest)
        if known is None:
            return await self._verify(fields.index[b"authorization"], digest)
        caller = known[0]
        if self._clock() < caller.expires + self._leeway:
            return caller
        del self._verified[digest]
        raise self._bad("The token has expired.", "expired")

    def _digest(self, fields: Fields) -> bytes | None:
        """The name under which this credential is remembered, None when there is no Bearer credential."""
        credential = fields.index.get(b"authorization")
        if credential is None:
            return None
        if fields.repeated and len(header_values(fields.headers, b"authorization")) > 1:
            # Whoever comes after us may read the other one.
            raise self._bad("There is more than one Authorization header.")
        if len(credential) > MAX_HEADER:
            if BEARER.match(credential) is None:
                return None
            raise self._bad("The token is too large.")
        return sha256(credential).digest()

    def _forget(self) -> None:
        """Drop the tokens whose key is not in force any more."""
        self._in_force = self._keys.names
        for digest in [digest for digest, (_, key) in self._verified.items() if key not in self._in_force]:
            del self._verified[digest]

    async def _verify(self, credential: bytes, digest: bytes) -> Caller | None:
        if BEARER.match(credential) is None:
            return None
        found = CREDENTIAL.fullmatch(credential)
        if found is None:
            raise self._bad("The Authorization header is malformed.")
        try:
            token = jws.parse(found[1])
        except jws.MalformedError as error:
            raise self._bad(str(error)) from None
        key = await self._key_of(token)
        if not key.verifier.verify(token.algorithm, token.signed, token.signature):
            raise self._bad("The token's signature is not valid.")
        caller = self._judge(token.payload)
        if len(self._verified) >= self._size:
            self._verified.popitem(last=False)
        self._verified[digest] = caller, key.name
        return caller

    async def _key_of(self, token: jws.Jws) -> NamedKey:
        if token.algorithm not in self._keys.algorithms:
            raise self._bad("The token's algorithm is not accepted here.")
        if self._issuer is not None and token.payload.get("iss") != self._issuer:
            # Before anybody is asked for keys: that our issuer is away says nothing about another's tokens.
            raise self._bad("The token is from another issuer.")
        key = await self._keys.find(token.kid, token.algorithm)
        if key is None:
            raise self._bad("The token is signed with an unknown key.")
        return key

    def _judge(self, payload: Mapping[str, object]) -> Caller:
        try:
            expires = claim.check(
                payload, self._clock(), issuer=self._issuer, audience=self._audience, leeway=self._leeway
            )
            return claim.caller(payload, provider=self.name, paths=self._paths, forward=self._forward, expires=expires)
        except claim.ClaimError as error:
            raise self._bad(str(error), "expired" if error.expired else "invalid") from None

    def _bad(self, detail: str, outcome: str = "invalid") -> BadCredential:
        explained = b', error="invalid_token", error_description="%s"' % detail.encode()
        return BadCredential(detail, self.challenge + explained, outcome)
