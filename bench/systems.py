"""The upstream and the systems under test: how each is configured and started.

`bare` and its peers pass requests on and log nothing. `full` and its peer verify an RS256 token, its
expiry, issuer, audience and scope, count per subject, and write an access log to a file.
"""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bench.processes import free_port, redis_server, server

PATH = "/orders/7"
REPLY = b'{"id":7,"state":"shipped","lines":[{"sku":"A-1","count":2},{"sku":"B-2","count":1}],"total":"41.90"}'
ISSUER, AUDIENCE, SCOPE = "https://idp.example.com/", "orders-api", "orders:read"
HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Bench:
    """What all systems of one run share."""

    folder: Path
    upstream: int
    """Port of the upstream."""
    core: int | None


Started = tuple[int, AbstractContextManager[int]]
"""The port, and the running process (yields its pid)."""


@dataclass(frozen=True, slots=True)
class System:
    name: str
    title: str
    start: Callable[[Bench], Started]
    tool: str = ""
    """The program it needs on PATH, if it needs one."""

    @property
    def present(self) -> bool:
        return not self.tool or shutil.which(self.tool) is not None


def make_keys(folder: Path) -> str:
    """Write `public.pem`, return a token signed with its private half."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (folder / "public.pem").write_bytes(public)
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "user-4711", "scope": f"{SCOPE} orders:write"}
    return jwt.encode({**claims, "iat": now, "exp": now + 7200}, private, algorithm="RS256")


def upstream(folder: Path, core: int | None) -> Started:
    """nginx answering from memory, on connections that it never closes."""
    body = REPLY.decode()
    return nginx_serving(
        folder,
        "upstream",
        core,
        "",
        f"default_type application/json; location / {{ add_header X-Trace $http_x_trace; return 200 '{body}'; }}",
    )


def nginx(bench: Bench) -> Started:
    return nginx_serving(
        bench.folder,
        "nginx",
        bench.core,
        f"upstream up {{ server 127.0.0.1:{bench.upstream}; keepalive 256; keepalive_requests 1000000000; "
        "keepalive_timeout 1h; }",
        'location / { proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; }',
    )


def haproxy(bench: Bench) -> Started:
    return _haproxy(bench, "haproxy", "", log=False)


def haproxy_full(bench: Bench) -> Started:
    return _haproxy(
        bench,
        "haproxy-full",
        f"""
  stick-table type string len 64 size 100k expire 60s store http_req_rate(60s)
  http-request deny deny_status 401 unless {{ http_auth_bearer -m found }}
  http-request set-var(txn.t) http_auth_bearer
  http-request set-var(txn.now) date()
  http-request deny deny_status 401 unless {{ var(txn.t),jwt_header_query('$.alg') -m str RS256 }}
  http-request deny deny_status 401 unless {{ var(txn.t),jwt_verify("RS256","{bench.folder}/public.pem") -m int 1 }}
  http-request deny deny_status 401 unless {{ var(txn.t),jwt_payload_query('$.iss') -m str {ISSUER} }}
  http-request deny deny_status 401 unless {{ var(txn.t),jwt_payload_query('$.aud') -m str {AUDIENCE} }}
  http-request deny deny_status 401 unless {{ var(txn.t),jwt_payload_query('$.exp','int'),sub(txn.now) -m int gt 0 }}
  http-request deny deny_status 403 unless {{ var(txn.t),jwt_payload_query('$.scope') -m sub {SCOPE} }}
  http-request track-sc0 var(txn.t),jwt_payload_query('$.sub')
  http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt 100000000 }}""",
        log=True,
    )


def aiohttp_proxy(bench: Bench) -> Started:
    port = free_port()
    command = [sys.executable, str(HERE / "aiohttp_proxy.py"), str(port), str(bench.upstream)]
    return port, server(command, port, core=bench.core, log=bench.folder / "aiohttp.log")


def ours_bare(bench: Bench) -> Started:
    return gateway(
        bench.folder,
        "bare",
        f"""
upstreams:
  orders: {{targets: [http://127.0.0.1:{bench.upstream}], retry: off, breaker: off}}
routes:
  - {{name: orders, match: {{path: /orders/**}}, upstream: orders}}
logging: {{access: off}}
""",
        bench.core,
    )


def ours_full(bench: Bench) -> Started:
    return gateway(bench.folder, "full", full_policy(bench.upstream), bench.core)


def ours_full_redis(bench: Bench) -> Started:
    """The same, with limits in a Redis that shares the other core with the upstream and the load."""
    with ExitStack() as stack:
        url, _ = stack.enter_context(redis_server(bench.folder))
        settings = full_policy(bench.upstream) + f"store: {{url: '{url}', timeout: 1s, on_failure: closed}}\n"
        port, running = gateway(bench.folder, "full-redis", settings, bench.core)
        return port, _also_ending(running, stack.pop_all())


@contextmanager
def _also_ending(running: AbstractContextManager[int], others: ExitStack) -> Iterator[int]:
    with others, running as pid:
        yield pid


def full_policy(upstream: int) -> str:
    return f"""
auth:
  providers:
    idp: {{type: jwt, issuer: {ISSUER}, audience: [{AUDIENCE}], key: public.pem, algorithms: [RS256]}}
rate_limits:
  standard: {{by: consumer, limit: 1000000/second}}
upstreams:
  orders:
    targets: [http://127.0.0.1:{upstream}]
    retry: {{attempts: 3}}
    breaker: {{consecutive_failures: 5, failure_rate: 50%, window: 10s, minimum_requests: 20}}
routes:
  - name: orders
    match: {{path: /orders/**, methods: [GET, POST]}}
    auth: {{providers: [idp], scopes: {{GET: ["{SCOPE}"], POST: ["orders:write"]}}}}
    rate_limit: [standard]
    upstream: orders
logging: {{access: json}}
"""


def gateway(folder: Path, name: str, settings: str, core: int | None, module: str = "gateway") -> Started:
    """`gateway run` with `settings`, on free ports; its access log goes to a file."""
    port, admin = free_port(), free_port()
    file = folder / f"{name}.yaml"
    file.write_text(f"listen: {{http: 127.0.0.1:{port}, admin: 127.0.0.1:{admin}}}\n{settings.lstrip()}")
    command = [sys.executable, "-m", module, "run", "-c", str(file)]
    files = {"log": folder / f"{name}.log", "output": folder / f"{name}.access"}
    # Its port takes connections before its processes are complete, and what they load then is no growth.
    return port, server(command, port, core=core, says="listening on", **files)


SYSTEMS = (
    System("nginx", "nginx proxy_pass", nginx, "nginx"),
    System("haproxy", "HAProxy", haproxy, "haproxy"),
    System("haproxy-full", "HAProxy, RS256 + limit + log", haproxy_full, "haproxy"),
    System("aiohttp", "aiohttp server + client", aiohttp_proxy),
    System("bare", "gateway, one route", ours_bare),
    System("full", "gateway, full policy", ours_full),
    System("full-redis", "gateway, full policy, Redis", ours_full_redis),
)


def nginx_serving(folder: Path, name: str, core: int | None, outside: str, inside: str) -> Started:
    port = free_port()
    home = folder / name
    home.mkdir(exist_ok=True)
    temporary = "\n  ".join(
        f"{kind}_temp_path {home}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""  # its workers must reach the folder, which is the caller's own
    (home / "nginx.conf").write_text(f"""{user}
daemon off;
worker_processes 1;
pid {home}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  {temporary}
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  {outside}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    {inside}
  }}
}}
""")
    command = ["nginx", "-p", str(home), "-c", str(home / "nginx.conf"), "-e", "stderr"]
    return port, server(command, port, core=core, log=folder / f"{name}.log")


def _haproxy(bench: Bench, name: str, rules: str, *, log: bool) -> Started:
    port = free_port()
    file = bench.folder / f"{name}.cfg"
    file.write_text(f"""
global
  nbthread 1
  maxconn 8192
  {"log stdout format raw local0" if log else ""}
defaults
  mode http
  {"log global" if log else ""}
  {"option httplog" if log else ""}
  timeout client 1h
  timeout server 1h
  timeout connect 5s
  http-reuse always
frontend public
  bind 127.0.0.1:{port}
  default_backend up{rules}
backend up
  server one 127.0.0.1:{bench.upstream}
""")
    command = ["haproxy", "-db", "-q", "-f", str(file)]
    running = server(
        command, port, core=bench.core, log=bench.folder / f"{name}.log", output=bench.folder / f"{name}.access"
    )
    return port, running
