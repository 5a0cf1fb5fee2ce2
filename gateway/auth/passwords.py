"""Hashes of passwords by scrypt (RFC 7914), written `scrypt:N:r:p:salt:hash`, the last two in base64. Pure."""

import hashlib
import hmac
import re
from base64 import b64decode, b64encode
from typing import NamedTuple

N, R, P = 2**14, 8, 5
"""What new hashes take: 16 MiB and about 0.2 s, one of the settings that the OWASP cheat sheet holds equivalent."""

CHEAPEST = 2**14 * 8
"""N x r x p: what RFC 7914's predecessor held enough for logins in 2009; below it, guessing is too cheap."""

MOST_MEMORY = 64 * 1024 * 1024
DEAREST = 2**14 * 8 * 40
"""N x r x p: about 2 s. More would let a single request block all others that bring a password."""

WRITTEN = re.compile(r"scrypt:([0-9]{1,8}):([0-9]{1,3}):([0-9]{1,3}):([A-Za-z0-9+/]+=*):([A-Za-z0-9+/]+=*)")


class Scrypt(NamedTuple):
    """What a password is compared with."""

    n: int
    r: int
    p: int
    salt: bytes
    hash: bytes

    def __repr__(self) -> str:
        """Without what helps guessing."""
        return f"Scrypt({self.n}, {self.r}, {self.p})"

    def __str__(self) -> str:
        salt, hashed = b64encode(self.salt).decode(), b64encode(self.hash).decode()
        return f"scrypt:{self.n}:{self.r}:{self.p}:{salt}:{hashed}"

    @property
    def cost(self) -> int:
        """In proportion to the time it takes."""
        return self.n * self.r * self.p

    def matches(self, password: bytes) -> bool:
        """Whether this is its hash. Takes long, and lets other threads run meanwhile."""
        return hmac.compare_digest(_scrypt(password, self, len(self.hash)), self.hash)


def make(password: bytes, salt: bytes) -> Scrypt:
    """The hash of a new password; `salt` is 16 random bytes."""
    new = Scrypt(N, R, P, salt, b"")
    return new._replace(hash=_scrypt(password, new, 32))


def read(written: str) -> Scrypt:
    """What `str` wrote. Raises ValueError, whose text quotes nothing."""
    found = WRITTEN.fullmatch(written)
    if found is None:
        raise ValueError("must be scrypt:N:r:p:salt:hash, as `gateway keys hash-password` prints it")
    n, r, p = (int(found[place]) for place in (1, 2, 3))
    try:
        read = Scrypt(n, r, p, b64decode(found[4], validate=True), b64decode(found[5], validate=True))
    except ValueError:
        raise ValueError("salt and hash must be base64") from None
    if n < 2 or n & (n - 1) or r < 1 or p < 1:
        raise ValueError("N must be a power of two, r and p at least 1")
    if not CHEAPEST <= read.cost <= DEAREST or 128 * n * r > MOST_MEMORY:
        raise ValueError("is too cheap to guess or too dear to check: use N 16384, r 8, p 5")
    if len(read.salt) < 16 or not 32 <= len(read.hash) <= 64:
        raise ValueError("needs a salt of at least 16 bytes and a hash of 32 to 64")
    return read


def _scrypt(password: bytes, cost: Scrypt, length: int) -> bytes:
    # OpenSSL counts what it needs beside the 128 x N x r bytes, too: twice that is always enough.
    memory = 256 * cost.n * cost.r + 128 * cost.r * cost.p + 2**20
    return hashlib.scrypt(password, salt=cost.salt, n=cost.n, r=cost.r, p=cost.p, maxmem=memory, dklen=length)
