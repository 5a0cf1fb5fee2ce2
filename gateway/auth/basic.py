"""Vouches for callers by user name and password in the Authorization header (RFC 7617).

A password takes scrypt some 0.2 s, so it is checked in a thread, one at a time, and remembered for a minute by the
SHA-256 of the whole credential: then it costs what a token does. A wrong one is never remembered. An unknown
user takes as long as a wrong password, and a flood of either finds a short queue and then 503, while those
who are remembered pass.
"""

import asyncio
import re
import time
from base64 import b64decode, b64encode
from collections import OrderedDict
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import NamedTuple

from gateway.auth import passwords
from gateway.auth.bearer import DIGEST
from gateway.auth.consumers import Consumer
from gateway.auth.passwords import Scrypt
from gateway.auth.providers import REALM, BadCredential, Reason
from gateway.errors import Shed
from gateway.exchange import Call, Caller, Fields, Hidden, header_values

SCHEME = re.compile(rb"[Bb][Aa][Ss][Ii][Cc](?![!#$%&'*+.^_`|~0-9A-Za-z-])")
CREDENTIAL = re.compile(rb"[A-Za-z]{5} ([A-Za-z0-9+/]+={0,2})")
"""Scheme, exactly one space, base64."""

CONTROL = re.compile(r"[\x00-\x1f\x7f]")
"""RFC 7617 section 2: neither name nor password holds one."""

LONGEST = 2048
"""Bytes of a header: name and password together have some 1500."""

REMEMBERED_FOR = 60.0
"""Seconds. A changed configuration forgets at once, because the provider is made anew."""

MOST_REMEMBERED = 10_000
MOST_WAITING = 8
"""Passwords being checked or waiting for it, about 2 s of work; one more is turned away."""

AUTHORIZATION = Hidden(frozenset((b"authorization",)), frozenset())
"""Where name and password stand."""

NOBODY = Scrypt(passwords.N, passwords.R, passwords.P, b"no such user....", bytes(32))
"""Takes the time of a password where there is none."""


class Login(NamedTuple):
    """A user that is known by a password."""

    password: Scrypt
    caller: Caller


class BasicProvider:
    """Knows the passwords of all consumers; the user name is the consumer's."""

    challenge = b"Basic " + REALM + b', charset="UTF-8"'

    def __init__(
        self,
        name: str,
        *,
        consumers: Iterable[Consumer],
        hidden: Hidden | None = AUTHORIZATION,
        signed: bool = False,
        clock: Callable[[], float] = time.monotonic,
        matches: Callable[[Scrypt, bytes], bool] = Scrypt.matches,
    ) -> None:
        """With `hidden` None the upstream gets the password. `matches` takes its time, and is called in a thread."""
        self.name = name
        self._logins = {
            each.name: Login(each.password, each.caller(name, hidden, signed))
            for each in consumers
            if each.password is not None
        }
        # As dear as the dearest, or else the wait would tell who exists.
        passwords = (login.password for login in self._logins.values())
        dearest = max(passwords, key=lambda password: password.cost, default=NOBODY)
        self._nobody = dearest._replace(hash=bytes(len(dearest.hash)))
        self._clock = clock
        self._matches = matches
        self._verified: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()
        self._checks: dict[bytes, asyncio.Task[Caller | None]] = {}
        self._turn = asyncio.Semaphore(1)

    async def identify(self, call: Call) -> Caller | None:
        """The caller, None without a Basic credential. Raises BadCredential (401), Shed (503)."""
        fields = call.request.fields
        credential = fields.index.get(b"authorization")
        if credential is None or SCHEME.match(credential) is None:
            return None
        digest = self._digest(fields, credential)
        known = self._verified.get(digest)
        if known is not None and self._clock() < known[1]:
            return known[0]
        check = self._checks.get(digest)  # the same credential on other connections: one check is enough
        if check is None:
            user, password = self._read(credential)
            if len(self._checks) >= MOST_WAITING:
                raise Shed("overloaded", detail="Too many passwords are being checked.", retry_after=1)
            check = self._checks[digest] = asyncio.create_task(self._check(user, password, digest))
        caller = await asyncio.shield(check)  # whoever leaves does not end it for the others
        if caller is None:
            raise self.refusal("User name or password is not valid.", "unknown")
        return caller

    def refusal(self, detail: str, reason: Reason) -> BadCredential:
        """A 401 that asks again."""
        return BadCredential(detail, self.challenge, reason, self.name)

    def _digest(self, fields: Fields, credential: bytes) -> bytes:
        """The name under which this credential is remembered."""
        digest = fields.derived.get(DIGEST)  # of a head that was seen before on this connection
        if digest is None:
            if fields.repeated and len(header_values(fields.headers, b"authorization")) > 1:
                raise self.refusal("There is more than one Authorization header.", "ambiguous")
            if len(credential) > LONGEST:
                raise self.refusal("The Authorization header is too large.", "too_large")
            digest = fields.derived[DIGEST] = sha256(credential).digest()
        return digest

    def _read(self, credential: bytes) -> tuple[str, bytes]:
        """User name and password. The first colon separates them: a name has none, a password may."""
        found = CREDENTIAL.fullmatch(credential)
        try:
            raw = b64decode(found[1], validate=True) if found is not None and len(credential) <= LONGEST else b""
            text = raw.decode()
        except ValueError:
            raise self.refusal("The Authorization header is malformed.", "malformed") from None
        user, colon, password = text.partition(":")
        # Other base64 of the same bytes, with stray bits at its end, would be another credential to others.
        if found is None or b64encode(raw) != found[1] or not user or not colon or CONTROL.search(text):
            raise self.refusal("The Authorization header is malformed.", "malformed")
        return user, password.encode()

    async def _check(self, user: str, password: bytes, digest: bytes) -> Caller | None:
        """One check; the caller when the password is right, who is then remembered."""
        try:
            async with self._turn:
                login = self._logins.get(user)
                expected = login.password if login is not None else self._nobody
                right = await asyncio.to_thread(self._matches, expected, password)
        finally:
            del self._checks[digest]
        if login is None or not right:
            return None
        self._verified.pop(digest, None)
        if len(self._verified) >= MOST_REMEMBERED:
            self._verified.popitem(last=False)
        self._verified[digest] = login.caller, self._clock() + REMEMBERED_FOR
        return login.caller
