"""Which content coding a client gets, by its Accept-Encoding (RFC 9110 section 12.5.3). Pure.

In doubt the reply stays as it is: a field that is too long says nothing, and a coding whose weight cannot be read
is not acceptable. There is no 406: who accepts nothing that we have gets the reply uncompressed.
"""

import re
from collections.abc import Iterable, Sequence

LONGEST = 256
"""Bytes of the field that are read: browsers send 30, and all registered codings with their weights have 200."""

ELEMENT = re.compile(rb"([!#$%&'*+\-.^_`|~0-9a-z]+)(?:[ \t]*;[ \t]*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?")
"""In lower case; anything behind the coding that is not exactly a weight makes it unreadable."""
CODING = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")

SYNONYMS = {b"x-gzip": b"gzip"}
"""RFC 9110 section 8.4.1.3."""


def choose(field: bytes, offered: Sequence[bytes]) -> bytes:
    """One of `offered`, in which the earlier is preferred among equals; b"" to leave the reply as it is."""
    if not field or len(field) > LONGEST:
        return b""
    asked = weights(field.lower().split(b","))
    others = asked.get(b"*", 0.0)
    best, most = b"", 0.0
    for coding in offered:
        weight = asked.get(coding, others)
        if weight > most:
            best, most = coding, weight
    # Not compressing is always possible, but wins only where the client asks for it by name.
    return b"" if asked.get(b"identity", 0.0) > most else best


def weights(elements: Iterable[bytes]) -> dict[bytes, float]:
    """What the client thinks of each coding that it names; of one named twice, the worse."""
    found: dict[bytes, float] = {}
    for element in elements:
        whole = element.strip(b" \t")
        parts = ELEMENT.fullmatch(whole)
        if parts is not None:
            coding, weight = parts[1], 1.0 if parts[2] is None else float(parts[2])
        elif begin := CODING.match(whole):
            coding, weight = begin[0], 0.0
        else:
            continue
        coding = SYNONYMS.get(coding, coding)
        found[coding] = min(weight, found.get(coding, weight))
    return found
