"""The systems: the gateway as a user would write it, and its peers with the same time-outs and number of tries.

What is not such a number is each one's own default, or stricter where the default would do nothing: peers are set up
as somebody would who cares. The settings are kept with the results.
"""

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bench.processes import free_port, server
from bench.scenarios.catalogue import ATTEMPTS, OPEN_FOR, TOTAL, TRY
from bench.systems import gateway, nginx_serving

Started = tuple[int, AbstractContextManager[int]]
"""The port, and the running process (yields its pid)."""


@dataclass(frozen=True, slots=True)
class System:
    """What is put between callers and targets."""

    name: str
    title: str
    settings: Callable[[Sequence[int]], str]
    """Ports of the targets -> configuration."""
    start: Callable[[Path, str, int | None], Started]
    """Folder, settings and core."""
    tool: str = ""

    @property
    def present(self) -> bool:
        return not self.tool or program(self.tool) is not None


def program(tool: str) -> str | None:
    """Its path: on PATH, or beside the interpreter, where wheels install programs."""
    return shutil.which(tool) or shutil.which(tool, path=str(Path(sys.executable).parent))


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}ms"


def ours(ports: Sequence[int]) -> str:
    targets = ", ".join(f"http://127.0.0.1:{port}" for port in ports)
    return f"""
upstreams:
  up:
    targets: [{targets}]
    timeouts: {{try: {milliseconds(TRY)}, total: {milliseconds(TOTAL)}}}
routes:
  - {{name: all, match: {{path: /**}}, upstream: up}}
logging: {{access: off}}
"""


def start_ours(folder: Path, settings: str, core: int | None) -> Started:
    return gateway(folder, "ours", settings, core)


def nginx(ports: Sequence[int]) -> str:
    """`max_fails=1 fail_timeout=10s` are its defaults."""
    servers = " ".join(f"server 127.0.0.1:{port} max_fails=1 fail_timeout={OPEN_FOR:.0f}s;" for port in ports)
    return f"""upstream up {{ {servers} keepalive 64; }}
location / {{
  proxy_pass http://up;
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_connect_timeout {milliseconds(TRY)};
  proxy_read_timeout {milliseconds(TRY)};
  proxy_next_upstream error timeout http_502 http_503 http_504;
  proxy_next_upstream_tries {ATTEMPTS};
  proxy_next_upstream_timeout {milliseconds(TOTAL)};
}}
"""


def start_nginx(folder: Path, settings: str, core: int | None) -> Started:
    outside, _, inside = settings.partition("location")
    return nginx_serving(folder, "nginx", core, outside, f"location{inside}")


def haproxy(ports: Sequence[int]) -> str:
    """Observing needs checks; `inter 2s fall 3 rise 2` are their defaults. It has no time for all tries together."""
    servers = "\n".join(f"  server t{port} 127.0.0.1:{port}" for port in ports)
    return f"""
global
  nbthread 1
defaults
  mode http
  timeout client 1h
  timeout http-keep-alive 1h
  timeout connect {milliseconds(TRY)}
  timeout server {milliseconds(TRY)}
  timeout queue {milliseconds(TRY)}
  retries {ATTEMPTS - 1}
  retry-on all-retryable-errors
  option redispatch 1
  option httpchk GET /health
  default-server check inter 2s fall 3 rise 2 observe layer7 error-limit 5 on-error mark-down
backend up
{servers}
"""


def start_haproxy(folder: Path, settings: str, core: int | None) -> Started:
    port = free_port()
    file = folder / "haproxy.cfg"
    file.write_text(f"{settings}frontend public\n  bind 127.0.0.1:{port}\n  default_backend up\n")
    return port, server(["haproxy", "-db", "-q", "-f", str(file)], port, core=core, log=folder / "haproxy.log")


def envoy(ports: Sequence[int]) -> str:
    """What JSON is, YAML is too. Outliers are looked at each second, not every ten, and half of the targets may go."""
    retry = {
        "retry_on": "gateway-error,reset,connect-failure",
        "num_retries": ATTEMPTS - 1,
        "per_try_timeout": f"{TRY}s",
        "retry_host_predicate": [_typed("envoy.retry_host_predicates.previous_hosts", PREVIOUS)],
        "host_selection_retry_max_attempts": 5,
    }
    route = {"cluster": "up", "timeout": f"{TOTAL}s", "retry_policy": retry}
    outliers = {
        "consecutive_5xx": 5,
        "consecutive_gateway_failure": 5,
        "enforcing_consecutive_gateway_failure": 100,
        "interval": "1s",
        "base_ejection_time": f"{OPEN_FOR}s",
        "max_ejection_percent": 50,
    }
    budget = {"budget_percent": {"value": 20}, "min_retry_concurrency": 3}
    cluster = {
        "name": "up",
        "type": "STATIC",
        "connect_timeout": f"{TRY}s",
        "outlier_detection": outliers,
        "circuit_breakers": {"thresholds": [{"retry_budget": budget}]},
        "load_assignment": {
            "cluster_name": "up",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}} for port in ports]}],
        },
    }
    manager = {
        "@type": f"{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "public",
        "route_config": {
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}]
        },
        "http_filters": [_typed("envoy.filters.http.router", f"{EXTENSIONS}.filters.http.router.v3.Router")],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    listener = {"name": "public", "filter_chains": [{"filters": filters}]}
    return json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}}, indent=1)


EXTENSIONS = "type.googleapis.com/envoy.extensions"
PREVIOUS = f"{EXTENSIONS}.retry.host.previous_hosts.v3.PreviousHostsPredicate"


def _typed(name: str, type: str) -> dict[str, object]:
    return {"name": name, "typed_config": {"@type": type}}


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def start_envoy(folder: Path, settings: str, core: int | None) -> Started:
    port = free_port()
    configuration = json.loads(settings)
    configuration["static_resources"]["listeners"][0]["address"] = _address(port)
    file = folder / "envoy.json"
    file.write_text(json.dumps(configuration))
    command = [str(program("envoy")), "-c", str(file), "--concurrency", "1", "--disable-hot-restart", "-l", "warning"]
    return port, server(command, port, core=core, log=folder / "envoy.log")


SYSTEMS = (
    System("ours", "gateway", ours, start_ours),
    System("nginx", "nginx", nginx, start_nginx, "nginx"),
    System("haproxy", "HAProxy", haproxy, start_haproxy, "haproxy"),
    System("envoy", "Envoy", envoy, start_envoy, "envoy"),
)
