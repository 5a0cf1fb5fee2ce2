"""Versions in media types: `application/vnd.example.v2+json`, or a parameter: `application/json; version=v2`. Pure.

The template says which, by where its `{version}` stands. Where that follows a dot in the type itself, a `version`
parameter of the type without it counts as well: `application/vnd.example+json; version=v2`.
"""

import re
from typing import NamedTuple

VERSION = "{version}"

MOST_ELEMENTS = 32
"""Of one Accept that are read; what follows counts as something else that the client takes."""
MOST_PARAMETERS = 8

REMEMBERED, LONGEST = 512, 256
"""Values of Accept that are remembered, and their bytes: clients send a handful. When full, all are dropped."""

_TEMPLATE = re.compile(
    r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]*(?:\{version\}[A-Za-z0-9!#$&^_.+-]*|;[ ]*[A-Za-z0-9_-]+=\{version\})"
)
_Q = re.compile(rb"[01](?:\.[0-9]{0,3})?")


class Asked(NamedTuple):
    versions: tuple[str, ...]
    """The one that is liked best first."""
    others: bool
    """Something without a version would do as well."""


NOTHING = Asked((), True)


class MediaType:
    """Reads Accept and Content-Type by a template. Raises ValueError for one that cannot be read by."""

    def __init__(self, template: str) -> None:
        if template.count(VERSION) != 1:
            raise ValueError(f"must have {VERSION} in it, once")
        if _TEMPLATE.fullmatch(template) is None:
            raise ValueError(
                f"must be like application/vnd.example.{VERSION}+json or application/json; version={VERSION}"
            )
        kind, _, parameter = template.lower().partition(";")
        before, mark, after = kind.partition(VERSION)
        self._before, self._after = before.encode(), after.encode()
        self._in_type = bool(mark)
        self._plain = (before.removesuffix(".") + after).encode()  # where the version is a parameter
        self._parameter = b"version" if mark else parameter.partition("=")[0].strip().encode()
        self._known: dict[bytes, Asked] = {}

    def accepted(self, value: bytes) -> Asked:
        """What an Accept header asks for (RFC 9110 section 12.5.1)."""
        known = self._known.get(value)
        if known is None:
            known = self._read(value)
            if len(value) <= LONGEST:
                if len(self._known) >= REMEMBERED:
                    self._known.clear()
                self._known[value] = known
        return known

    def of_body(self, value: bytes) -> str | None:
        """The version that a Content-Type names."""
        return self._version(value)[0]

    def _read(self, value: bytes) -> Asked:
        liked: list[tuple[float, str]] = []
        elements = value.split(b",", MOST_ELEMENTS)
        others = len(elements) > MOST_ELEMENTS
        for element in elements[:MOST_ELEMENTS]:
            version, quality = self._version(element)
            if version is None:
                others = others or bool(quality and element.strip(b" \t"))
            elif quality:
                liked.append((-quality, version))
        liked.sort(key=lambda each: each[0])
        return Asked(tuple(version for _, version in liked), others) if liked else NOTHING

    def _version(self, element: bytes) -> tuple[str | None, float]:
        """Of one media range: the version it names, and its q."""
        written, *parameters = element.split(b";", MOST_PARAMETERS)
        written = written.strip(b" \t")
        kind = written.lower()
        version, quality = None, 1.0
        if self._in_type and kind.startswith(self._before) and kind.endswith(self._after):
            # Types ignore case, versions do not: their text is as the client wrote it.
            version = written[len(self._before) : len(written) - len(self._after)] or None
        for parameter in parameters:
            name, _, value = parameter.partition(b"=")
            name, value = name.strip(b" \t").lower(), value.strip(b' \t"')
            if name == b"q":
                quality = float(value) if _Q.fullmatch(value) else 0.0
            elif name == self._parameter and kind == self._plain:
                version = value
        return None if version is None else version.decode("latin-1"), quality
