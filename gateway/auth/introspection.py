"""Vouches for callers by tokens that only their issuer can read: it is asked about each (RFC 7662).

What it says is remembered by the token's SHA-256 for `cache`, from the question on, and never longer than the token
lasts; a refusal for some seconds, and elsewhere, so that a flood of invented tokens cannot push out good ones.
However many requests bring a token, there is one question about it at a time; and of all questions so many at most.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from gateway.auth import claims as claim
from gateway.auth.bearer import Bearer, Places, TokenError
from gateway.auth.providers import REALM, BadCredential, Reason, Unavailable
from gateway.errors import Shed
from gateway.exchange import Call, Caller, Hidden, Hop

MOST_ASKING = 64
"""Questions under way. One more is turned away: an issuer that is slow must not make everybody else slow."""

REFUSED_FOR = 5.0
"""Seconds at most for which a refusal is remembered: a token may be introduced a moment after it is first seen."""

OTHER_USES = frozenset({"refresh", "refresh_token", "offline", "id", "id_token"})
KINDS = ("token_use", "token_usage", "token_type", "typ")
"""Issuers find refresh and ID tokens active, too, and say in one of these members what they are. Neither is for us:
a refresh token outlives the access tokens that it is there to renew."""


class Answer(NamedTuple):
    """What is known about a token."""

    until: float
    """Of the timer."""
    caller: Caller | None
    """None: refused."""
    detail: str = ""
    reason: Reason = "inactive"


class IntrospectionProvider:
    """Asks an issuer, and judges what it says of an active token as if it were a JWT's claims."""

    challenge = b"Bearer " + REALM

    def __init__(
        self,
        name: str,
        *,
        ask: Callable[[bytes], Awaitable[Mapping[str, Any]]],
        places: Places | None = None,
        issuer: str | None = None,
        audience: Iterable[str] = (),
        leeway: float = 30.0,
        claims: Mapping[str, str] = claim.DEFAULTS,
        forward: Sequence[tuple[bytes, str]] = (),
        cache: float = 30.0,
        hidden: Hidden | None = None,
        signed: bool = False,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
        cache_size: int = 10_000,
    ) -> None:
        """`ask` raises Unavailable. `cache` and `leeway` are in seconds; `cache_size` tokens are known, good or bad."""
        self.name = name
        self._ask = ask
        self._places: Places = places if places is not None else Bearer()
        self._issuer = issuer
        self._audience = frozenset(audience)
        self._leeway = leeway
        self._paths = {**claim.DEFAULTS, **claims}
        self._forward = tuple(forward)
        self._cache = cache
        self._hidden = hidden
        self._signed = signed
        self._clock = clock
        self._timer = timer
        self._size = cache_size
        self._active: OrderedDict[bytes, Answer] = OrderedDict()
        self._refused: OrderedDict[bytes, Answer] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[Answer | None]] = {}

    async def identify(self, call: Call) -> Caller | None:
        """The caller, None without a token. Raises BadCredential (401), Refused (403), Unavailable and Shed (503)."""
        try:
            digest = self._places.digest(call)
            if digest is None:
                return None
            known = self._active.get(digest)
            if known is not None and self._timer() < known.until:
                return known.caller
            return await self._first_seen(call, digest)
        except TokenError as error:
            raise self.refusal(str(error), error.reason) from None

    def refusal(self, detail: str, reason: Reason) -> BadCredential:
        """The 401 of RFC 6750 section 3.1."""
        explained = b', error="invalid_token", error_description="%s"' % detail.encode()
        return BadCredential(detail, self.challenge + explained, reason, self.name)

    async def _first_seen(self, call: Call, digest: bytes) -> Caller | None:
        answer = self._refused.get(digest)
        if answer is None or self._timer() >= answer.until:
            token = self._places.token(call)
            if token is None:
                return None
            began = self._timer()
            try:
                answer = await self._answer(digest, token)
            finally:
                call.hops.append(Hop("ask", self.name, "", began, self._timer() - began))
        if answer.caller is None:
            raise self.refusal(answer.detail, answer.reason)
        return answer.caller

    async def _answer(self, digest: bytes, token: bytes) -> Answer:
        """What the issuer says now, by a question that may be under way already."""
        asking = self._asking.get(digest)
        if asking is None:
            if len(self._asking) >= MOST_ASKING:
                raise Shed("overloaded", detail="Too many tokens are being checked.", retry_after=1)
            asking = self._asking[digest] = asyncio.create_task(self._question(digest, token))
            asking.add_done_callback(lambda _: self._asking.pop(digest, None))
        # Not awaited itself: whoever leaves does not end it for the others, and its end is not theirs.
        await asyncio.wait({asking})
        answer = None if asking.cancelled() else asking.result()
        if answer is None:
            raise Unavailable(self.name)
        return answer

    async def _question(self, digest: bytes, token: bytes) -> Answer | None:
        """Ask and remember; None without an answer. It raises nothing, as there may be nobody left to hear of it."""
        asked = self._timer()
        try:
            said = await self._ask(token)
        except Unavailable:
            return None
        answer = self._judge(said, asked)
        self._active.pop(digest, None)
        self._refused.pop(digest, None)
        if self._timer() < answer.until:
            memory = self._refused if answer.caller is None else self._active
            if len(memory) >= self._size:
                memory.popitem(last=False)
            memory[digest] = answer
        return answer

    def _judge(self, said: Mapping[str, Any], asked: float) -> Answer:
        try:
            if said.get("active") is not True:
                raise claim.ClaimError("The token is not active.", "inactive")
            if any(isinstance(kind := said.get(name), str) and kind.lower() in OTHER_USES for name in KINDS):
                raise claim.ClaimError("The token is not an access token.", "type")
            caller = self._caller(said)
        except claim.ClaimError as error:
            return Answer(asked + min(self._cache, REFUSED_FOR), None, str(error), error.reason)
        # Past its end, which for the issuer's sake may be `leeway` later than it says, the issuer is asked each time.
        ends = self._timer() + caller.expires - self._clock()
        return Answer(min(asked + self._cache, ends), caller)

    def _caller(self, said: Mapping[str, Any]) -> Caller:
        paths = self._paths
        if paths[claim.CONSUMER] == claim.DEFAULTS[claim.CONSUMER] and "sub" not in said:
            paths = {**paths, claim.CONSUMER: "client_id"}  # a client that acts for itself need not have a sub
        # Unlike a JWT an answer need not say when the token ends: its issuer is asked again.
        expires = claim.check(
            said, self._clock(), issuer=self._issuer, audience=self._audience, leeway=self._leeway, endless=True
        )
        return claim.caller(
            said,
            provider=self.name,
            paths=paths,
            forward=self._forward,
            expires=expires,
            hidden=self._hidden,
            signed=self._signed,
        )
