"""The types of which the configuration's models are made, each with what an editor is told about it."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError

from gateway.config import syntax, units
from gateway.config.complaints import show
from gateway.config.paths import path_pattern


class Section(BaseModel):
    """A part of the configuration: frozen, and strange to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


Fault = tuple[tuple[str | int, ...], str]
"""The path of a value below the section that complains, and what is wrong with it."""


def refuse(faults: list[Fault]) -> None:
    """Raise, if there are `faults`, so that each is reported at its own place."""
    if faults:
        lines = [
            InitErrorDetails(type=PydanticCustomError("value", "{message}", {"message": message}), loc=path, input=None)
            for path, message in faults
        ]
        raise ValidationError.from_exception_data("section", lines)


def given_for(data: Any, key: str, others: tuple[str, ...], nothing: object) -> Any:
    """`key` is required, unless one of `others` stands in its place: then it is `nothing`."""
    if isinstance(data, dict) and key not in data and any(other in data for other in others):
        return {**data, key: nothing}
    return data


def one_of_required(*keys: str) -> Callable[[dict[str, Any]], None]:
    """Tells editors of `given_for`."""

    def told(schema: dict[str, Any]) -> None:
        schema["required"] = [key for key in schema["required"] if key not in keys]
        schema["oneOf"] = [{"required": [key]} for key in keys]

    return told


class Or:
    """Tells editors of another way to write a value."""

    def __init__(self, **schema: Any) -> None:
        self._schema = schema

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [self._schema, handler(core)]}


class OrOne:
    """Tells editors that a lone value may stand for a list of one."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        several = handler(core)
        return {"anyOf": [several["items"], several]}


def whole(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)  # from the environment everything comes as text
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f"must be a whole number, not {show(value)}")


def _flag(value: object) -> bool:
    if value in ("true", "false"):
        return value == "true"
    if isinstance(value, bool):
        return value
    raise ValueError(f"must be true or false, not {show(value)}")


def one_or_more(value: object) -> object:
    """A lone value stands for a list of one."""
    return value if isinstance(value, (list, tuple)) else [value]


def _folder(info: ValidationInfo) -> Path:
    """The configuration's own folder, to which relative paths belong: the validation's context."""
    return info.context["folder"] if info.context else Path()


def _address(value: object, info: ValidationInfo) -> syntax.Address:
    address = syntax.address(value)
    return address._replace(path=str(_folder(info) / address.path)) if address.path else address


def existing_file(value: object, info: ValidationInfo) -> Path:
    path = _folder(info) / syntax.text(value)
    try:
        path.open("rb").close()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise ValueError(f"cannot read {show(value)}: {reason}") from None
    return path


def _existing_folder(value: object, info: ValidationInfo) -> Path:
    path = _folder(info) / syntax.text(value)
    if not path.is_dir():
        raise ValueError(f"{show(value)} is not a folder")
    return path


def _text(pattern: str = ".*", **schema: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^(?:{pattern})$", **schema})


AsWhole = BeforeValidator(whole)
"""After the bounds, so that editors are told of them: `Annotated[int, Field(ge=1), AsWhole]`."""
Whole = Annotated[int, Field(ge=1, le=10**9), AsWhole]
Flag = Annotated[bool, BeforeValidator(_flag)]
Status = Annotated[int, Field(ge=200, le=599), AsWhole]
Weight = Annotated[int, Field(ge=0, le=1000), AsWhole]

Duration = Annotated[float, PlainValidator(units.positive_duration), _text(units.DURATION)]
DurationOrZero = Annotated[float, PlainValidator(units.duration), _text(units.DURATION)]
Size = Annotated[int, PlainValidator(units.positive_size), _text(units.SIZE)]
SizeOrZero = Annotated[int, PlainValidator(units.size), _text(units.SIZE)]
SizeOrNone = Annotated[int | None, PlainValidator(units.size_or_none), _text(f"none|{units.SIZE}")]
Share = Annotated[float, PlainValidator(units.share), _text(units.SHARE)]
PositiveShare = Annotated[float, PlainValidator(units.positive_share), _text(units.SHARE)]
RateOf = Annotated[units.Rate, PlainValidator(units.rate), PlainSerializer(str), _text(units.RATE)]

Text = Annotated[str, PlainValidator(syntax.plain_text), _text()]
Name = Annotated[str, PlainValidator(syntax.name), _text(syntax.NAME.pattern)]
Method = Annotated[str, PlainValidator(syntax.method), _text(syntax.METHOD.pattern)]
Scope = Annotated[str, PlainValidator(syntax.scope), _text(syntax.SCOPE.pattern)]
Claim = Annotated[str, PlainValidator(syntax.claim), _text()]
HeaderName = Annotated[str, PlainValidator(syntax.header_name), _text(syntax.TOKEN.pattern)]
SettableHeader = Annotated[str, PlainValidator(syntax.settable_header), _text(syntax.TOKEN.pattern)]
IdentityHeader = Annotated[str, PlainValidator(syntax.identity_header), _text(syntax.TOKEN.pattern)]
HeaderValue = Annotated[str, PlainValidator(syntax.header_value), _text()]
SecretHeader = Annotated[SecretStr, BeforeValidator(syntax.header_value)]
SecretHeaders = Annotated[dict[SettableHeader, SecretHeader], AfterValidator(syntax.each_header_once)]
"""Their values are never shown: a credential that stands in the file itself is no less one."""
HostName = Annotated[str, PlainValidator(syntax.hostname), _text()]
HostPattern = Annotated[str, PlainValidator(syntax.host_pattern), _text()]
PathPattern = Annotated[str, PlainValidator(path_pattern), _text("/.*")]
Network = Annotated[syntax.Network, PlainValidator(syntax.network), PlainSerializer(str), _text()]
Address = Annotated[syntax.Address, PlainValidator(_address), PlainSerializer(str), _text(".+:.+")]
File = Annotated[Path, PlainValidator(existing_file), _text()]
Folder = Annotated[Path, PlainValidator(_existing_folder), _text()]
