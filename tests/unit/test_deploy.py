"""The files for operators agree with each other, with the code, and with how long a gateway takes to stop.

Schemas (Compose, Kubernetes) are checked by `make check`; here is what no schema knows.
"""

import configparser
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway import __version__
from gateway.config import load
from gateway.config.units import duration
from tests.metrics import OF_PROMETHEUS, family_name, grouped_in, labels_in, measured, names_in

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
STRAGGLERS = 10.0
"""Seconds that the supervisor gives to processes which do not end by themselves, on top of the drain."""


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def stopping_time(config: Path) -> float:
    """The longest that a gateway with this configuration takes to end."""
    wire = load(config, {}).wire
    return wire.lame_duck + wire.drain_timeout + STRAGGLERS


# -- the image ---------------------------------------------------------------------------------------

INSTRUCTIONS = re.sub(r"\\\n|^#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)


def instruction(name: str) -> str:
    """What the last stage says."""
    return re.findall(rf"^{name}\s+(.*)$", INSTRUCTIONS.rpartition("\nFROM ")[2], re.MULTILINE)[-1]


def test_what_the_image_is_made_of_exists_and_reaches_the_builder() -> None:
    copied = [
        name for words in re.findall(r"^COPY (?!--from)(.*) \S+$", INSTRUCTIONS, re.MULTILINE) for name in words.split()
    ]
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}

    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert set(copied) == sent


def test_the_image_is_labelled_with_the_version_that_is_in_it() -> None:
    assert (
        dict(re.findall(r'([\w.]+)="([^"]*)"', instruction("LABEL")))["org.opencontainers.image.version"] == __version__
    )


def test_the_image_runs_the_gateway_itself_as_a_numbered_user() -> None:
    assert instruction("USER") == "10001:10001"
    assert json.loads(instruction("ENTRYPOINT")) + json.loads(instruction("CMD"))[:1] == ["gateway", "run"]
    assert instruction("STOPSIGNAL") == "SIGTERM"


def test_the_images_health_check_is_a_program_that_fails_when_nobody_answers() -> None:
    words = json.loads(instruction("HEALTHCHECK").partition("CMD ")[2])
    address = re.findall(r"GATEWAY_HEALTH_URL=(\S+)", INSTRUCTIONS)[0].replace("9901", "1")

    # Nobody listens there.
    environ = {**os.environ, "GATEWAY_HEALTH_URL": address}
    ended = subprocess.run([sys.executable, *words[1:]], env=environ, capture_output=True, text=True, timeout=30)

    assert ended.returncode == 1
    assert "URLError" in ended.stderr


# -- Compose -----------------------------------------------------------------------------------------

COMPOSE = read(ROOT / "docker-compose.yml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ours = {name for name, service in SERVICES.items() if "build" in service}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_do_little_to_its_host(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - ours))
def test_an_image_of_somebody_else_has_a_version_and_a_health_check(name: str) -> None:
    assert re.fullmatch(r"[\w/]+:v?\d+\.\d+\.\d+(-\w+)?", SERVICES[name]["image"])
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


def test_services_wait_for_services_that_exist_and_can_tell_how_they_are() -> None:
    for service in SERVICES.values():
        for other, how in service.get("depends_on", {}).items():
            assert how["condition"] in ("service_healthy", "service_started")
            assert other in ours or how["condition"] == "service_started" or "healthcheck" in SERVICES[other]


def test_what_compose_mounts_exists_and_is_not_written_to() -> None:
    mounts = [volume.split(":") for service in SERVICES.values() for volume in service.get("volumes", [])]

    assert [source for source, _, _ in mounts if not (ROOT / source).exists()] == []
    assert {mode for _, _, mode in mounts} == {"ro"}


def test_the_variables_of_the_gateway_are_those_that_its_configuration_reads() -> None:
    text = re.sub(r"^#.*", "", (ROOT / "config/routes.yaml").read_text(encoding="utf-8"), flags=re.MULTILINE)
    read_there = set(re.findall(r"\$\{(\w+)", text))

    assert set(SERVICES["gateway"]["environment"]) == read_there


def test_the_addresses_of_the_gateways_neighbours_are_services() -> None:
    named = re.findall(r"\w+://([\w-]+):\d+", " ".join(SERVICES["gateway"]["environment"].values()))

    assert len(named) == 4
    assert set(named) <= SERVICES.keys()


def test_compose_waits_until_the_gateway_has_drained() -> None:
    assert duration(SERVICES["gateway"]["stop_grace_period"]) > stopping_time(ROOT / "config/routes.yaml")


def test_the_gateway_in_compose_has_two_workers_and_listens_to_the_outside() -> None:
    environment = {**SERVICES["gateway"]["environment"], "JWT_SECRET": "s" * 32}
    config = load(ROOT / "config/routes.yaml", environment)

    assert config.workers == 2
    assert [address.host for address in (*(config.listen.http or ()), config.listen.admin) if address] == [
        "0.0.0.0"
    ] * 2


def test_no_password_for_grafana_is_written_down() -> None:
    environment = SERVICES["grafana"]["environment"]

    assert environment["GF_SECURITY_ADMIN_PASSWORD"] == "${GRAFANA_ADMIN_PASSWORD:-}"
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "${GRAFANA_WITHOUT_ADMIN:-true}"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


# -- Prometheus and Grafana --------------------------------------------------------------------------

BOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((DEPLOY / "grafana/dashboards").iterdir())
}
PANELS = [(name, panel) for name, board in BOARDS.items() for panel in board["panels"]]
SHOWN = [(name, panel) for name, panel in PANELS if panel["type"] != "row"]
QUERIES = sorted({target["expr"] for _, panel in SHOWN for target in panel["targets"]})
RECORDED = {
    rule["record"]: frozenset(grouped_in(rule["expr"]))
    for group in read(DEPLOY / "prometheus/rules/recording.yml")["groups"]
    for rule in group["rules"]
}


def of_panels(values: list[tuple[str, dict[str, Any]]]) -> list[Any]:
    return [pytest.param(board, panel, id=f"{board}-{panel['title']}") for board, panel in values]


def test_prometheus_scrapes_the_admin_listener_of_the_gateway() -> None:
    config = read(DEPLOY / "prometheus/prometheus.yml")
    jobs = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    admin = SERVICES["gateway"]["environment"]["GATEWAY_ADMIN"].rpartition(":")[2]

    assert jobs["gateway"] == [f"gateway:{admin}"]
    assert duration(config["global"]["scrape_timeout"]) <= duration(config["global"]["scrape_interval"])


def test_grafana_finds_prometheus_and_its_dashboards() -> None:
    (source,) = read(DEPLOY / "grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    (provider,) = read(DEPLOY / "grafana/provisioning/dashboards/gateway.yaml")["providers"]
    grafana = SERVICES["grafana"]
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])

    assert source["url"] == "http://prometheus:9090"
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in grafana["volumes"]
    assert (str(home.parent), home.stem in BOARDS) == (provider["options"]["path"], True)


def test_there_is_a_board_for_each_question() -> None:
    assert list(BOARDS) == ["consumer", "overview", "route", "upstream"]
    assert {board["uid"] for board in BOARDS.values()} == {f"gateway-{name}" for name in BOARDS}
    assert len({board["title"] for board in BOARDS.values()}) == len(BOARDS)


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_asks_for_metrics_and_labels_that_exist(query: str) -> None:
    known = measured() | RECORDED | OF_PROMETHEUS
    names = names_in(query)

    assert names
    assert names <= known.keys(), names - known.keys()
    assert labels_in(query) <= frozenset.union(*(known[name] for name in names))


def test_everything_that_is_measured_is_on_a_board() -> None:
    shown = {family_name(name) for query in QUERIES for name in names_in(query)}

    assert {family_name(name) for name in measured()} <= shown


@pytest.mark.parametrize(("board", "panel"), of_panels(SHOWN))
def test_a_panel_says_what_it_shows_in_which_unit_and_where_it_comes_from(board: str, panel: dict[str, Any]) -> None:
    several = [target["refId"] for target in panel["targets"]]

    assert panel["description"].endswith((".", ")"))
    assert panel["datasource"]["uid"] == "${datasource}"
    assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
    assert len(set(several)) == len(several)
    for target in panel["targets"]:
        seconds = "histogram_quantile" in target["expr"]
        assert not seconds or panel["fieldConfig"]["defaults"]["unit"] == "s"
        # Of a histogram with trace ids, the ids are shown, too.
        assert target.get("exemplar", False) == ("gateway_request_duration_seconds_bucket" in target["expr"])


def test_panels_have_their_own_number_and_place() -> None:
    cells: dict[tuple[str, int, int], int] = {}
    for board, panel in PANELS:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        across = range(place["x"], place["x"] + place["w"])
        for x, y in itertools.product(across, range(place["y"], place["y"] + place["h"])):
            assert cells.setdefault((board, x, y), panel["id"]) == panel["id"]
    assert len({(board, panel["id"]) for board, panel in PANELS}) == len(PANELS)


@pytest.mark.parametrize("board", BOARDS)
def test_a_boards_variables_are_those_that_its_queries_use(board: str) -> None:
    defined = {variable["name"] for variable in BOARDS[board]["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps([panel.get("targets") for name, panel in PANELS if name == board])))

    assert used - {"__rate_interval"} == defined


def test_boards_lead_to_each_other() -> None:
    uids = {board["uid"] for board in BOARDS.values()}
    for name, board in BOARDS.items():
        (link,) = board["links"]
        assert set(link["tags"]) <= set(board["tags"])
        assert link["includeVars"]
        text = json.dumps(board["panels"])
        for uid, variable, label in re.findall(r"/d/([\w-]+)\?.*?var-(\w+)=\$\{__field\.labels\.(\w+)\}", text):
            assert uid in uids, name
            assert (uid, variable) == (f"gateway-{label}", label)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not here: Debian has it in prometheus")
def test_prometheus_understands_every_query(tmp_path: Path) -> None:
    rules = [
        {"record": f"query:{number}", "expr": query.replace("$__rate_interval", "1m")}
        for number, query in enumerate(QUERIES)
    ]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "boards", "rules": rules}]}), encoding="utf-8")

    done = subprocess.run(["promtool", "check", "rules", str(path)], capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stdout + done.stderr


# -- Kubernetes --------------------------------------------------------------------------------------

KUSTOMIZATION = read(KUBERNETES / "kustomization.yaml")
RESOURCES = {
    (resource["kind"], resource["metadata"]["name"]): resource
    for file in KUSTOMIZATION["resources"]
    for resource in yaml.safe_load_all((KUBERNETES / file).read_text(encoding="utf-8"))
}
DEPLOYMENT = RESOURCES["Deployment", "gateway"]["spec"]
POD = DEPLOYMENT["template"]["spec"]
(CONTAINER,) = POD["containers"]
LABELS = DEPLOYMENT["template"]["metadata"]["labels"]


def test_every_file_for_kubernetes_is_part_of_the_kustomization() -> None:
    (config_map,) = KUSTOMIZATION["configMapGenerator"]

    assert {*KUSTOMIZATION["resources"], *config_map["files"], "kustomization.yaml"} == {
        path.name for path in KUBERNETES.iterdir()
    }
    assert config_map["name"] == POD["volumes"][0]["configMap"]["name"]
    assert KUSTOMIZATION["images"] == [{"name": CONTAINER["image"], "newTag": __version__}]


def test_no_resource_belongs_to_a_namespace() -> None:
    assert [name for name, resource in RESOURCES.items() if "namespace" in resource["metadata"]] == []


def test_every_selector_chooses_the_gateways_pods() -> None:
    selectors = [
        DEPLOYMENT["selector"]["matchLabels"],
        RESOURCES["PodDisruptionBudget", "gateway"]["spec"]["selector"]["matchLabels"],
        RESOURCES["NetworkPolicy", "gateway"]["spec"]["podSelector"]["matchLabels"],
        *(spread["labelSelector"]["matchLabels"] for spread in POD["topologySpreadConstraints"]),
        *(resource["spec"]["selector"] for (kind, _), resource in RESOURCES.items() if kind == "Service"),
    ]

    assert all(selector == LABELS for selector in selectors)
    assert RESOURCES["HorizontalPodAutoscaler", "gateway"]["spec"]["scaleTargetRef"]["name"] == "gateway"


def test_ports_lead_to_where_the_gateway_listens() -> None:
    listen = load(KUBERNETES / "routes.yaml", {}).listen
    services = [resource for (kind, _), resource in RESOURCES.items() if kind == "Service"]
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    used = {port["targetPort"] for service in services for port in service["spec"]["ports"]}
    for rule in RESOURCES["NetworkPolicy", "gateway"]["spec"]["ingress"]:
        used |= {port["port"] for port in rule["ports"]}

    assert listen.http is not None
    assert listen.admin is not None
    assert ports == {"http": listen.http[0].port, "admin": listen.admin.port}
    assert used == ports.keys()


def test_probes_restart_what_is_dead_and_spare_what_is_busy() -> None:
    asked = {name: CONTAINER[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}

    assert asked["startup"] == asked["readiness"] == {"path": "/readyz", "port": "admin"}
    assert asked["liveness"] == {"path": "/healthz", "port": "admin"}


def test_kubernetes_waits_until_the_gateway_has_drained() -> None:
    assert POD["terminationGracePeriodSeconds"] >= stopping_time(KUBERNETES / "routes.yaml")


def test_the_container_is_what_the_restricted_pod_security_standard_asks_for() -> None:
    user = int(instruction("USER").partition(":")[0])

    assert POD["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_runtime_directory_of_a_pod_is_memory_that_it_may_write_to() -> None:
    variables = {variable["name"]: variable["value"] for variable in CONTAINER["env"]}
    (mount,) = [mount for mount in CONTAINER["volumeMounts"] if mount["mountPath"] == variables["RUNTIME_DIRECTORY"]]
    (volume,) = [volume for volume in POD["volumes"] if volume["name"] == mount["name"]]

    assert volume["emptyDir"]["medium"] == "Memory"
    assert not mount.get("readOnly")


# -- systemd -----------------------------------------------------------------------------------------

UNITS = sorted((DEPLOY / "systemd").iterdir())


def unit(path: Path) -> configparser.ConfigParser:
    """A unit; of a repeated option the last one."""
    parser = configparser.ConfigParser(
        strict=False, interpolation=None, delimiters=("=",), comment_prefixes=("#", ";"), empty_lines_in_values=False
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path, encoding="utf-8")
    return parser


SERVICE = unit(DEPLOY / "systemd/gateway.service")["Service"]


def test_systemd_waits_until_the_gateway_has_drained() -> None:
    assert duration(SERVICE["TimeoutStopSec"]) > stopping_time(ROOT / "config/routes.yaml")


def test_systemd_signals_the_supervisor_and_hears_it() -> None:
    assert (SERVICE["Type"], SERVICE["NotifyAccess"], SERVICE["KillMode"]) == ("notify", "main", "mixed")
    assert SERVICE["RuntimeDirectory"] == "gateway"
    assert SERVICE["RestartPreventExitStatus"] == "2"


def test_the_socket_is_an_address_that_a_configuration_can_name(tmp_path: Path) -> None:
    address = unit(DEPLOY / "systemd/gateway.socket")["Socket"]["ListenStream"]
    config = tmp_path / "routes.yaml"
    config.write_text(f"listen: {{http: {address}}}\nroutes: []\n", encoding="utf-8")

    assert [str(each) for each in load(config, {}).listen.http or ()] == [address]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    program = SERVICE["ExecStart"].split()[0]
    for path in UNITS:  # the program must exist to be accepted
        text = path.read_text(encoding="utf-8").replace(program, shutil.which("true") or "")
        (tmp_path / path.name).write_text(text, encoding="utf-8")

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / path.name) for path in UNITS)],
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert (done.returncode, done.stdout + done.stderr) == (0, "")
