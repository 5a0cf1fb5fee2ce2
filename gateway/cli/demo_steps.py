"""What there is to try in the demo: command lines that work as they are, each with what it shows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to try."""

    title: str
    expect: str
    command: str


def steps(gateway: str, admin: str | None, token: str) -> list[Step]:
    """The tour; `gateway` and `admin` are addresses, `token` may read orders but not write them."""
    curl, base = curl_for(gateway)
    bearer = f"-H 'Authorization: Bearer {token}'"
    handshake = (
        "-H 'Connection: Upgrade' -H 'Upgrade: websocket' "
        "-H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=='"
    )
    tour = [
        Step("A public route, answered by two instances in turns", "200", f"{curl} -i {base}/public/hello"),
        Step("A protected route without a token", "401", f"{curl} -i {base}/orders/7"),
        Step("The same with a token that may read orders", "200", f"{curl} -i {bearer} {base}/orders/7"),
        Step(
            "Writing, which this token's scope does not allow",
            "403",
            f"{curl} -i {bearer} -d item=1 {base}/orders/7",
        ),
        Step(
            "More than five requests a minute from one address",
            "429",
            f"for n in 1 2 3 4 5 6; do {curl} -o /dev/null -w '%{{http_code}} ' {base}/limited; done; "
            f"{curl} -i {base}/limited",
        ),
        Step("A service whose first try fails: retried, so it works", "200", f"{curl} -i {base}/payments/invoice"),
        Step("A service that is down: the fallback answers", "200", f"{curl} -i {base}/payments/down"),
        Step("Server-sent events, one by one as they come", "200", f"{curl} -i -N {base}/events"),
        Step(
            "A WebSocket (curl only opens it; talk to it with a client of yours)",
            "101",
            f"{curl} -i -N --max-time 2 {handshake} {base}/ws",
        ),
    ]
    if admin is not None:
        curl, base = curl_for(admin)
        tour.append(
            Step(
                "What was counted meanwhile",
                "200",
                f"{curl} {base}/metrics | grep -E '^gateway_(requests|retries)_total'",
            )
        )
    return tour


def curl_for(address: str) -> tuple[str, str]:
    """The command and the URL that reach `address`, or a URL, from this machine."""
    if address.startswith("unix:"):
        return f"curl -s --unix-socket '{address.removeprefix('unix:')}'", "http://localhost"
    scheme, _, place = address.rpartition("://")
    host, _, port = place.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 - compared, not listened on
    return "curl -s", f"{scheme or 'http'}://{host}:{port}"
