"""The reference documentation says what the code does: every key, metric, field, command, link and example."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from gateway.admin.access import CLIENT
from gateway.admin.app import admin_app
from gateway.auth.ledger import Ledger
from gateway.cli.admin_client import TOKEN
from gateway.cli.main import COMMANDS, main
from gateway.config import Config, load
from gateway.config.document import compose
from gateway.config.fallback import ALL_FAILURES
from gateway.config.fields import Section
from gateway.config.later import KEYS
from gateway.config.substitute import Substitution
from gateway.config.values import Builder
from gateway.exchange import Call, Fields, Peer, Reply, Request
from gateway.http.forward import HOP_BY_HOP, IDENTITY, OURS, OVERRIDES
from gateway.http.reply_reader import NOT_PASSED
from gateway.logs.access_log import AccessLog
from gateway.process.children import IGNORED
from gateway.resilience.fallback_answers import FIELDS
from gateway.routing.versions import Versions
from gateway.telemetry import catalogue
from gateway.telemetry.collector import INSTANCE
from gateway.telemetry.exposition import BUILD_INFO
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tally import Family
from gateway.transform.codecs import ENCODERS
from gateway.transform.fields import CallFields
from gateway.transform.public_address import PublicAddress
from gateway.transform.security import FOR_UPSTREAMS, OWN
from tests.configs import complaints, loaded
from tests.operated import Operated

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("README.md"), *ROOT.glob("docs/**/*.md")])
FENCED = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| `([^`]+)` \|(.*)\|$", re.MULTILINE)


@cache
def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def prose(text: str) -> str:
    """Without fenced blocks, in which `#` and `](` mean something else."""
    return FENCED.sub("", text)


def sections(text: str) -> dict[str, str]:
    """What stands below each heading, up to the next one of any level."""
    parts = re.split(r"^#+ (.*)$", prose(text), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(text: str) -> dict[str, list[str]]:
    """The table rows that begin with a name in backticks: name -> the other cells."""
    return {name: [cell.strip() for cell in rest.split(" | ")] for name, rest in ROW.findall(text)}


# -- configuration -----------------------------------------------------------------------------------


def models_in(annotation: Any) -> Iterator[tuple[str, type[Section]]]:
    """The sections that a value of this type holds, each with how it is reached."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield "", annotation
    elif origin is Annotated:
        yield from models_in(arguments[0])
    elif origin in (Union, UnionType):
        for argument in arguments:
            for way, model in models_in(argument):
                yield way + _type_of(model), model
    elif origin in (dict, tuple):
        for argument in arguments:
            for way, model in models_in(argument):
                yield (".NAME" if origin is dict else "[]") + way, model


def _type_of(model: type[Section]) -> str:
    """How a heading tells sections of one place apart: ` (api_key)`; the first of them needs no mark."""
    kind = model.model_fields.get("type")
    written = get_args(kind.annotation)[0] if kind is not None and kind.is_required() else "jwt"
    return "" if written == "jwt" else f" ({written})"


def walk(model: type[BaseModel] = Config, path: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Every section, by its path as the headings write it."""
    yield path, model
    for name, field in model.model_fields.items():
        for way, inner in models_in(field.annotation):
            yield from walk(inner, f"{path}.{field.alias or name}{way}".removeprefix("."))


WITHOUT_A_HEADING = "routes[].rate_limit[]"
"""The same keys as `rate_limits.NAME`, which says so."""

SECTIONS = {path: model for path, model in walk() if not path.startswith(WITHOUT_A_HEADING)}


def keys_of(path: str) -> dict[str, list[str]]:
    text = sections(page("docs/configuration.md"))[f"`{path}`" if path else "The whole file"]
    _, _, table = text.partition("| key |")
    return rows(table.partition("\n\n")[0])


def value_of(text: str) -> Any:
    """A value as the configuration would read it."""
    return Builder("", Substitution({}, Path())).build(compose("", text.encode()))


def test_the_walk_finds_sections_within_lists_and_mappings() -> None:
    assert {
        "listen",
        "auth.providers.NAME.claims",
        "upstreams.NAME.targets[]",
        "routes[].fallback[]",
    } <= SECTIONS.keys()


@pytest.mark.parametrize("path", SECTIONS)
def test_a_section_is_documented_with_the_keys_that_it_has_and_no_others(path: str) -> None:
    fields = SECTIONS[path].model_fields

    assert list(keys_of(path)) == [field.alias or name for name, field in fields.items()]


@pytest.mark.parametrize("path", SECTIONS)
def test_the_defaults_in_the_documentation_are_those_of_the_models(path: str) -> None:
    written = {key: cells[1] for key, cells in keys_of(path).items()}
    for name, field in SECTIONS[path].model_fields.items():
        key = field.alias or name
        assert _says(written[key], field), f"{path}.{key} is said to be {written[key]} by default"


def _says(cell: str, field: FieldInfo) -> bool:
    if field.is_required():
        return cell == "required"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, Section):
        return cell == "below"
    if cell == "as installed":
        return default == tuple(ENCODERS)
    if cell.startswith("as "):
        return cell == "as `wire.body_limit`" and default == Config(routes=()).wire.body_limit
    if cell == "–":
        return default in (None, (), {})
    read_as: Any = Annotated[(field.annotation, "as in the model", *field.metadata)]
    return bool(TypeAdapter(read_as).validate_python(value_of(cell.strip("`"))) == default)


def test_every_failure_that_a_fallback_can_cover_is_documented() -> None:
    _, _, table = sections(page("docs/configuration.md"))["`routes[].fallback[]`"].partition("| in `on` |")

    assert list(rows(table.partition("\n\n")[0])) == [*ALL_FAILURES, "overloaded"]


def test_every_field_of_a_fallbacks_template_is_documented() -> None:
    text = sections(page("docs/configuration.md"))["`routes[].fallback[]`"]

    assert set(re.findall(r"^\| `\{([a-z.]+)\}` \|", text, re.MULTILINE)) == FIELDS.keys()


def test_what_is_not_supported_yet_is_listed() -> None:
    listed = sections(page("docs/configuration.md"))["Not supported yet"]
    words = {word for words in KEYS.values() for word in words}

    assert {word for word in words if f"`{word}`" not in listed} == set()


def test_nothing_is_called_unsupported_that_is_not() -> None:
    first, _, _ = sections(page("docs/configuration.md"))["Not supported yet"].partition("| key |")
    words = {word for words in KEYS.values() for word in words}
    named = {word for line in first.splitlines() for word in re.findall(r"`(\w+)`", line.rpartition(" | ")[2])}

    assert named <= words


EXAMPLES = [
    pytest.param(text, id=f"{path.relative_to(ROOT)}-{number}")
    for path in PAGES
    for number, (language, text) in enumerate(FENCED.findall(path.read_text(encoding="utf-8")), 1)
    if language == "yaml"
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_of_a_configuration_loads(example: str, tmp_path: Path, key_files: dict[str, bytes]) -> None:
    for name, content in key_files.items():
        (tmp_path / name).write_bytes(content)
    config = tmp_path / "routes.yaml"
    # An example of one section is whole but for the one key that is always needed.
    config.write_text(example if "routes:" in example.splitlines() else f"{example}\nroutes: []\n", encoding="utf-8")

    load(config, {})  # raises ConfigError, whose text is every complaint


@pytest.fixture(scope="module")
def key_files() -> dict[str, bytes]:
    """The files that the examples name."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return {
        "signing.pem": ec.generate_private_key(ec.SECP256R1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        ),
        "idp.pem": key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "gateway.key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "gateway.pem": _certificate(key),
        "ca.pem": _certificate(key),
        "internal.secret": b"0123456789" * 4 + b"\n",
        "introspection.secret": b"hunter2\n",
    }


def _certificate(key: rsa.RSAPrivateKey) -> bytes:
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "example")])
    begins = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, begins, begins + timedelta(days=3650))
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)


WITH_COMPLAINTS = """\
listen:
  htttp: 127.0.0.1:8080
upstreams:
  orders:
    targets: [http://127.0.0.1:9001]
    timeouts: {try: 30, total: 10s}
routes:
  - name: orders
    match: {path: /orders/**, methods: [get]}
    rate_limit: [standrad]
    cache: {ttl: 30s}
    upstream: orders
rate_limits:
  standard: {by: consumer, limit: 100/minute}
"""


def test_complaints_look_as_the_documentation_shows_them(tmp_path: Path) -> None:
    shown = sections_with_code(page("docs/configuration.md"))["Complaints"].splitlines()

    assert [f"bad.yaml:{complaint}" for complaint in complaints(tmp_path, WITH_COMPLAINTS)] == shown


def sections_with_code(text: str) -> dict[str, str]:
    """The first fenced block below each heading."""
    found: dict[str, str] = {}
    heading = ""
    for match in re.finditer(r"^#+ ([^\n]*)$|^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if match[1] is not None:
            heading = match[1]
        else:
            found.setdefault(heading, match[2])
    return found


# -- observability -----------------------------------------------------------------------------------


def metrics() -> dict[str, Family]:
    families = [*Metrics().families, BUILD_INFO, *(family for family, _ in INSTANCE)]
    return {family.name: family for family in families}


def documented_metrics() -> dict[str, list[str]]:
    found = rows(page("docs/metrics.md"))
    return {name: cells for name, cells in found.items() if name.startswith(("gateway_", "process_"))}


def test_every_metric_is_documented_with_its_type() -> None:
    found = {name: cells[0] for name, cells in documented_metrics().items()}

    assert found == {name: family.kind for name, family in metrics().items()}


def test_no_metric_is_named_that_does_not_exist() -> None:
    known = metrics()
    parts = {
        f"{name}_{part}"
        for name, family in known.items()
        if family.kind == "histogram"
        for part in ("bucket", "sum", "count")
    }

    for name in ("docs/observability.md", "docs/metrics.md"):
        assert set(re.findall(r"\bgateway_[a-z0-9_]+", page(name))) <= known.keys() | parts


def test_the_list_of_metrics_is_what_make_docs_writes() -> None:
    assert page("docs/metrics.md") == catalogue.page(), "make docs"


def test_nothing_is_said_about_metrics_that_do_not_exist() -> None:
    assert catalogue.ABOUT.keys() | catalogue.GROUPS.keys() <= metrics().keys()


def test_a_metric_is_documented_with_its_labels() -> None:
    found = {name: tuple(re.findall(r"`(\w+)`", cells[1])) for name, cells in documented_metrics().items()}

    assert found == {name: family.labels for name, family in metrics().items()}


class Lines:
    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def put(self, line: bytes) -> None:
        self.lines.append(line)


def test_the_access_log_is_documented_field_by_field() -> None:
    sink = Lines()
    AccessLog(sink).add(Call(Request("GET", b"/", Fields([]), Peer("127.0.0.1", 1)), "id"), 200, 0, 0, 0.0, 0.0)
    fields = list(orjson.loads(sink.lines[0]))

    assert list(rows(sections(page("docs/logging.md"))["Access log"])) == fields
    assert list(orjson.loads(sections_with_code(page("docs/logging.md"))["Access log"])) == fields


def test_every_admin_endpoint_is_documented(tmp_path: Path) -> None:
    app = admin_app(Operated(loaded(tmp_path, "routes: []"), Ledger(tmp_path / "records", None)))
    routes = [(route.method, route.resource) for route in app.router.routes() if route.method != "HEAD"]
    endpoints = {f"{method} {resource.canonical}" for method, resource in routes if resource is not None}

    documented = rows(sections(page("docs/admin.md"))["Admin endpoints"])
    files = {name for name in endpoints if " /dashboard/" in name}  # what the page loads
    assert {name for name in documented if " /" in name} == endpoints - files


def test_what_the_admin_api_asks_for_is_documented() -> None:
    text = sections(page("docs/admin.md"))["Who may call the admin API"]

    assert f"`{CLIENT}`" in text
    assert TOKEN in page("docs/admin.md")


# -- versions and shaping ----------------------------------------------------------------------------


def example(name: str, folder: Path) -> Config:
    """The first configuration of a page."""
    text = next(text for language, text in FENCED.findall(page(name)) if language == "yaml")
    return loaded(folder, text)


def test_the_headers_of_a_deprecated_version_are_those_that_the_documentation_shows(tmp_path: Path) -> None:
    settings = example("docs/versions.md", tmp_path).routes[0].versions
    assert settings is not None
    call = Call(Request("GET", b"/v1/orders/7", Fields([]), Peer("127.0.0.1", 1)), "id")
    call.path, call.version = b"/orders/7", "v1"
    Versions(settings, lambda: 0.0).enter(call)

    (shown,) = [text for language, text in FENCED.findall(page("docs/versions.md")) if language == "http"]
    fields = [line.partition(": ") for line in shown.splitlines()]
    assert call.added.decode() == "".join(f"{name.lower()}: {value}\r\n" for name, _, value in fields)


def test_every_field_of_a_template_is_documented_and_no_other() -> None:
    assert set(rows(sections(page("docs/shaping.md"))["Fields"])) - {"{{`, `}}"} == {
        f"{{{name}}}" for name in CallFields(None)
    }


def test_a_reply_leads_back_to_the_public_address_as_the_documentation_shows(tmp_path: Path) -> None:
    told = re.findall(
        r"^\| `(/.*)` \| `(/.*)` \| `(.*)` \| (.*) \|$",
        sections(page("docs/shaping.md"))["The public address"],
        re.MULTILINE,
    )
    undo = PublicAddress([(b"10.0.0.1", b"9001")], location=True)

    assert len(told) == 4
    for asked, forwarded, said, heard in told:
        call = Call(Request("GET", asked.encode(), Fields([]), Peer("127.0.0.1", 1)), "id")
        call.path = forwarded.encode()
        reply = Reply(201, [(b"location", said.encode())])
        undo(call, reply)
        assert reply.headers == [(b"location", said.encode() if heard.startswith("the same") else heard[1:-1].encode())]


def test_the_security_headers_are_documented_with_their_values() -> None:
    tables = sections(page("docs/shaping.md"))["Security headers"].split("| header | value |")[1:]
    added, own = ({name.lower(): cells[0].strip("`| ") for name, cells in rows(table).items()} for table in tables)

    assert added == {name.decode(): value.decode() for name, value in FOR_UPSTREAMS.items()}
    assert own == dict(line.split(": ", 1) for line in OWN.decode().splitlines())


# -- the wire ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heading", "names"),
    [
        ("From client to upstream", HOP_BY_HOP | OVERRIDES | IDENTITY | OURS),
        ("From upstream to client", NOT_PASSED),
    ],
)
def test_every_header_that_does_not_pass_is_named(heading: str, names: set[bytes]) -> None:
    named = {name.lower().encode() for name in re.findall(r"`([\w-]+)`", sections(page("docs/wire.md"))[heading])}

    assert names - named == set()


def test_the_signals_that_the_supervisor_heeds_are_documented() -> None:
    documented = " ".join(rows_of_words(page("docs/deployment.md"), "Signals, for the supervisor"))

    for signal in IGNORED:
        assert signal.name in documented
        assert signal.name in sections(page("docs/wire.md"))["Draining"]


def rows_of_words(text: str, heading: str) -> list[str]:
    """The first cells of the table below a heading."""
    return re.findall(r"^\| (\w[^|]*) \|", sections(text)[heading], re.MULTILINE)


# -- architecture ------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["resilience", "idempotency", "upstream", "process", "routing", "transform"])
def test_every_module_of_a_folder_has_its_place_in_the_architecture(folder: str) -> None:
    listed = sections_with_code(page("docs/architecture.md"))["Where things are"]
    about = re.split(r"^(?=  \w+/ )", listed.partition(f"\n  {folder}/ ")[2], flags=re.MULTILINE)[0]
    names = set(re.findall(r"\w+", about))

    assert {file.stem for file in (ROOT / "gateway" / folder).glob("[!_]*.py")} - names == set()


def test_the_folders_in_the_architecture_are_those_that_there_are() -> None:
    listed = sections_with_code(page("docs/architecture.md"))["Where things are"]

    assert set(re.findall(r"^  (\w+)/ ", listed, re.MULTILINE)) == {
        folder.parent.name for folder in (ROOT / "gateway").glob("*/__init__.py")
    }


def test_a_file_that_the_architecture_names_exists() -> None:
    named = re.findall(r"`((?:\w+/)+\w*(?:\.\w+)?)`", page("docs/architecture.md"))

    assert [name for name in named if not (ROOT / name).exists() and not (ROOT / "gateway" / name).exists()] == []


# -- command line ------------------------------------------------------------------------------------


def test_every_command_is_documented_and_no_other() -> None:
    assert [heading for heading in sections(page("docs/cli.md")) if heading.startswith("`")] == [
        f"`gateway {name}`" for name in COMMANDS
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_documented(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    options = set(re.findall(r"(?<![\w-])--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    text = sections(page("docs/cli.md"))[f"`gateway {name}`"]

    assert {option for option in options if option not in text and option != "--config"} == set()
    assert "--config" not in options or "-c FILE" in text


SESSIONS = [
    (command, shown)
    for language, text in FENCED.findall(page("docs/cli.md"))
    if language == "console"
    for command, _, shown in [text.removeprefix("$ ").partition("\n")]
    if command.split()[1] in ("check", "routes", "explain")
]


@pytest.mark.parametrize(("command", "shown"), SESSIONS, ids=[command for command, _ in SESSIONS])
def test_the_output_in_the_documentation_is_what_the_command_prints(
    command: str, shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    for variable in set(re.findall(r"\$\{(\w+):-", page("config/routes.yaml"))) | {"COLUMNS"}:
        monkeypatch.delenv(variable, raising=False)

    assert main(shlex.split(command)[1:]) == 0
    printed = capsys.readouterr().out
    assert [line.rstrip() for line in printed.splitlines()] == shown.splitlines()


# -- links -------------------------------------------------------------------------------------------

LINKS = [
    pytest.param(path, link, id=f"{path.relative_to(ROOT)}: {link}")
    for path in PAGES
    for link in dict.fromkeys(re.findall(r"\]\(([^)\s]+)\)", prose(path.read_text(encoding="utf-8"))))
    if "://" not in link and not link.startswith("mailto:")
]


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", prose(path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("path", "link"), LINKS)
def test_a_link_leads_somewhere(path: Path, link: str) -> None:
    file, _, anchor = link.partition("#")
    target = path.parent / file if file else path

    assert target.exists()
    assert not anchor or anchor in anchors(target)
