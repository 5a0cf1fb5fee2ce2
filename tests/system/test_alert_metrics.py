"""What alerts compare with: how many connections may be open, and when versions end."""

from tests.system.gateways import Start, proxy
from tests.system.upstream import Upstream

ENDS = 1_830_297_600  # 2028-01-01T00:00:00Z


def settings(upstream: Upstream, **versions: object) -> str:
    available = {"v1": {"upstream": "up", **versions}, "v2": {"upstream": "up"}}
    route = {"name": "orders", "match": {"path": "/**"}, "versions": {"available": available}}
    return proxy(upstream.port, workers=2, wire={"lame_duck": "0s", "connections": 501}, routes=[route])


def test_the_limit_of_connections_and_the_ends_of_versions_are_there_without_a_request(
    start: Start, upstream: Upstream
) -> None:
    gateway = start(settings(upstream, deprecated="2026-01-01", sunset="2028-01-01"))
    ends = "gateway_version_sunset_timestamp_seconds"

    gateway.wait_metric(502, "gateway_connections_limit")  # 251 for each of the two workers
    gateway.wait_metric(ENDS, ends, route="orders", version="v1")
    assert gateway.metric(ends) == ENDS

    gateway.configure(settings(upstream, deprecated="2026-01-01"))
    assert gateway.reload()[0] == 200
    gateway.wait_metric(0, ends)
