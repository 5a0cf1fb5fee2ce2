"""The configuration in force as plain data: each default filled in, each value as a file would say it, secrets hidden.

It walks the models by their fields, so that a new key needs nothing here. What may be secret is `Hidden`: it
keeps its real value for comparing (`changes.py`) and shows as `***`. Decided by the kind of value, and, where the
file's text is at hand (`marked`), by where the value came from: whatever came out of `${file:…}` is hidden, and so
are header values, bodies and query values that came out of `${NAME}`. Without the text all of those are hidden.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

from pydantic import PlainSerializer, PlainValidator, SecretStr

from gateway.config import health, slo, syntax, units
from gateway.config.complaints import Substituted
from gateway.config.document import compose
from gateway.config.fallback import WITHOUT_BODY, Fallback
from gateway.config.fields import Section
from gateway.config.health import BY_HTTP, Discover, Health, Percentile, StatusRange
from gateway.config.listen import Https, Listen
from gateway.config.logging import logged_share
from gateway.config.model import Config
from gateway.config.probes import Expect, Probe
from gateway.config.route import Match
from gateway.config.substitute import REFERENCE, Substitution
from gateway.config.syntax import Address
from gateway.config.transform import HeaderEdit, QueryEdit, Redirect, Respond
from gateway.config.units import Rate
from gateway.config.upstream import Upstream
from gateway.config.values import Builder

MASK = "***"
MOST_DIGITS = 9
"""As many as a duration may have before the point, and it and a share behind it."""


def duration_text(seconds: float) -> str:
    """`1m`, `50ms`: in the largest unit that needs no fraction, else `1.5ms` with as short a one as will do."""
    for decimals in range(MOST_DIGITS + 1):
        for unit, length in reversed(units.SECONDS.items()):
            number = f"{seconds / length:.{decimals}f}"
            if float(number) * length == seconds and len(f"{int(seconds / length)}") <= MOST_DIGITS:
                return f"{number}{unit}" if seconds else "0s"
    return f"{seconds:.{MOST_DIGITS}f}s"


def size_text(count: int) -> str:
    """`64KiB`: in the largest unit that needs no fraction."""
    unit, length = next(each for each in reversed(units.BYTES.items()) if count % each[1] == 0)
    return f"{count // length}{unit}" if count else "0B"


def share_text(part: float) -> str:
    """`20%`."""
    texts = (f"{part * 100:.{decimals}f}" for decimals in range(MOST_DIGITS + 1))
    return next((text for text in texts if float(f"{text}e-2") == part), f"{part * 100:.{MOST_DIGITS}f}") + "%"


def percentile_number(part: float) -> float:
    """`99`, `99.9`."""
    number = round(part * 100, MOST_DIGITS)
    return int(number) if number.is_integer() else number


def rate_text(rate: Rate) -> str:
    """`100/60s`: windows in seconds, so that rates compare at a glance; a month has no certain number of them."""
    if rate.window == units.PERIODS["month"]:
        return f"{rate.limit}/month"
    return (
        f"{rate.limit}/{rate.window:.0f}s" if rate.window.is_integer() else f"{rate.limit}/{duration_text(rate.window)}"
    )


UNITS: dict[object, Callable[[Any], object]] = {
    health.after: duration_text,
    units.duration: duration_text,
    units.positive_duration: duration_text,
    units.size: size_text,
    units.positive_size: size_text,
    units.size_or_none: size_text,
    units.share: share_text,
    logged_share: share_text,
    units.positive_share: share_text,
    slo.percentile: percentile_number,
}
"""How a number is written, by what reads it."""
OTHERWISE: dict[tuple[type[Section], str], Callable[[Any], object]] = {
    (Listen, "redirect_to_https"): lambda port: port or True,
}
FREE = frozenset(
    (
        (Match, "query"),
        *((answer, name) for answer in (Fallback, Respond) for name in ("json_", "text", "headers")),
        *((edit, name) for edit in (HeaderEdit, QueryEdit) for name in ("set", "add")),
        (Health, "path"),
        (Probe, "path"),
        (Probe, "body"),
        (Expect, "json_"),
        (Redirect, "to"),
    )
)
"""Values that can be anything, hence also a secret; header values are the others."""


@dataclass(frozen=True, slots=True)
class Hidden:
    """A value that may be secret, and what is shown of it."""

    real: object = field(repr=False)
    shown: str = MASK


def effective(config: Config, written: object = None, folder: Path = Path()) -> dict[str, Any]:
    """The configuration for eyes and scripts: plain values, secrets masked.

    `written` is what `marked` makes of the file's content; without it more is masked. Paths below `folder`, the
    file's own, are written relative to it, as in the file. A key without a value is not there.
    """
    shown: dict[str, Any] = masked(comparable(config, written, folder))
    return shown


def comparable(config: Config, written: object = None, folder: Path = Path()) -> dict[str, Any]:
    """The same for comparing: what is masked is `Hidden` and keeps its real value. Not to be printed."""
    data = _Writer(folder, cautious=written is None).section(config, written)
    if config.store_url != config.store.url:
        data["store"]["url"] = config.store_url  # not said, and with several workers not the default of one
    return data


def masked(value: Any) -> Any:
    """`value` with everything hidden as it is shown."""
    match value:
        case Hidden():
            return value.shown
        case dict():
            return {key: masked(part) for key, part in value.items()}
        case list():
            return [masked(part) for part in value]
    return value


class _Marking(Substitution):
    """Leaves each reference as it stands, so that the values tell where they come from. Reads nothing."""

    def __init__(self) -> None:
        super().__init__({}, Path())

    def __call__(self, text: str) -> Substituted:
        return Substituted(text)


def marked(content: bytes) -> object:
    """What a configuration file with `content`, which has been loaded before, says; each `${…}` as it stands."""
    return Builder("", _Marking()).build(compose("", content)) if b"${" in content else {}


class _Field(NamedTuple):
    """What writing a field takes, found out once."""

    name: str
    key: str
    write: Callable[[Any], object] | None
    """For its numbers."""
    reveal: Callable[[Any], str] | None
    """How the model itself shows a text that holds a secret."""
    free: bool
    optional: bool
    """None is written by leaving it out: it is the default, or another key stands in its place."""


@cache
def _fields(model: type[Section]) -> tuple[_Field, ...]:
    found = []
    for name, info in model.model_fields.items():
        readers = [mark.func for mark in _marks(info.annotation, info.metadata) if isinstance(mark, PlainValidator)]
        serializers = [mark.func for mark in info.metadata if isinstance(mark, PlainSerializer)]
        found.append(
            _Field(
                name,
                info.alias or name,
                OTHERWISE.get((model, name)) or next((UNITS[each] for each in readers if each in UNITS), None),
                next((each for each in serializers if each is not str), None),  # type: ignore[arg-type]
                (model, name) in FREE or syntax.header_value in readers,
                info.default is None or info.is_required(),
            )
        )
    return tuple(found)


def _marks(annotation: Any, metadata: Any = ()) -> Iterator[object]:
    """Whatever is annotated to a type and to the types within it, but not to a section's own fields."""
    yield from metadata
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from annotation.__metadata__
        yield from _marks(get_args(annotation)[0])
    elif origin not in (None, Literal):
        for inner in get_args(annotation):
            yield from _marks(inner)


class _Writer:
    """Writes values; beside each goes what the file says in its place, as far as that is known."""

    def __init__(self, folder: Path, cautious: bool) -> None:
        self._folder = folder
        self._cautious = cautious

    def section(self, section: Section, written: object) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for each in _fields(type(section)):
            value = getattr(section, each.name)
            if not _left_out(section, each, value):
                data[each.key] = self._value(value, each, _below(written, each.key))
        return data

    def _value(self, value: Any, field: _Field, written: object) -> Any:
        match value:
            case Section():
                return self.section(value, written)
            case dict():
                return {key: self._value(part, field, _below(written, key)) for key, part in value.items()}
            case list() | tuple() if not isinstance(value, (Address, Rate, StatusRange)):
                return [self._value(part, field, _below(written, place)) for place, part in enumerate(value)]
        plain = self._plain(value, field)
        if self._hides(value, field, written):
            return Hidden(plain.real if isinstance(plain, Hidden) else plain)
        return plain

    def _plain(self, value: Any, field: _Field) -> Any:
        match value:
            case SecretStr():
                return Hidden(value.get_secret_value())
            case Address() if value.path:
                return str(value._replace(path=self._relative(Path(value.path))))
            case Address() | IPv4Network() | IPv6Network() | StatusRange() | Percentile():
                return str(value)
            case Rate():
                return rate_text(value)
            case Path():
                return self._relative(value)
            case None if field.name != "json_":
                return "none" if field.write is size_text else "off"
            case int() | float() if field.write:
                return field.write(value)
            case str() if field.reveal and (shown := field.reveal(value)) != value:
                return Hidden(value, shown)
        return value

    def _relative(self, path: Path) -> str:
        return str(path.relative_to(self._folder) if path.is_relative_to(self._folder) else path)

    def _hides(self, value: Any, field: _Field, written: object) -> bool:
        # An address is no secret, but the query behind it may be.
        free = field.free and (field.name not in ("path", "to") or "?" in value)
        if self._cautious or not isinstance(written, Substituted):
            return self._cautious and free
        references = [found for found in REFERENCE.finditer(written) if found[0] != "$${"]
        return any(found["file"] for found in references) or (free and bool(references))


def _left_out(section: Section, field: _Field, value: object) -> bool:
    """Nothing says it as well, or saying it would be an error."""
    match section:
        case Https(client_ca=None) if field.name == "client_certificate":
            return True
        case Health(tcp=True) if field.name in BY_HTTP:
            return True
        case Fallback(upstream=str()) if field.name not in ("on", "upstream"):
            return True
        case Fallback() | Respond() if field.name == "json_":
            return section.status in WITHOUT_BODY or section.text is not None or section.file is not None
        case Fallback() | Respond() if field.name == "text":
            return section.status in WITHOUT_BODY or section.text is None
        case Upstream(discover=Discover()) if field.name == "targets":
            return True
    return value is None and field.optional


def _below(written: object, key: str | int) -> object:
    """What the file says for a part; a lone value stands for a list of one, and a list for a mapping of one."""
    match written:
        case dict() if isinstance(key, str):
            return written.get(key)
        case list() if isinstance(key, int) and key < len(written):
            return written[key]
    return written
