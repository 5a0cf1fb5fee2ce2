"""Makes API keys."""

import secrets
from hashlib import sha256

PREFIX = "gwk_"
"""In front of every key, so that scanners find one that was committed by mistake."""


def new_key() -> tuple[str, str]:
    """A key, and the hash that is kept of it."""
    key = PREFIX + secrets.token_urlsafe(32)  # 256 bits: nobody finds it by trying, so a fast hash will do
    return key, f"sha256:{sha256(key.encode()).hexdigest()}"
