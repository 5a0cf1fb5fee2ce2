"""Identity as upstreams, guessers and readers of logs meet it: signed tokens, slowed guesses, and nothing to read."""

import base64
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.auth.passwords import make
from tests.system.callers import SOON, SURE, Answer, Callers, ask, key, operate, token
from tests.system.gateways import Process, Start, command, fetch, proxy
from tests.system.load import figure
from tests.system.upstream import Upstream
from tests.tokens import SECRET

KEY = "gwk_that-the-configuration-has"
DIGEST = f"sha256:{sha256(KEY.encode()).hexdigest()}"
ISSUER = "https://gateway.test"


class Echo(BaseHTTPRequestHandler):
    """Answers with the Authorization that came."""

    def do_GET(self) -> None:
        body = (self.headers["Authorization"] or "").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of an upstream that answers with the Authorization it was sent."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def pem() -> bytes:
    """Another private key."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


# -- tokens of the gateway's own


def signing(port: int, file: Path, **parts: object) -> str:
    """Everything wants an API key, and the upstream gets a token instead."""
    auth = {
        "signing": {"key": str(file), "algorithm": "ES256", "issuer": ISSUER},
        "providers": {"partners": {"type": "api_key", "header": "X-API-Key", "credential": "sign"}},
        "consumers": {"acme": {"keys": [DIGEST]}},
    }
    routes = [{"name": "all", "match": {"path": "/x/**"}, "upstream": "up", "auth": {"providers": ["partners"]}}]
    return proxy(port, **{"workers": 2, "auth": auth, "routes": routes, **parts})


def published(gateway: Process) -> jwt.PyJWKSet:
    status, body = gateway.operate("/.well-known/jwks.json")
    assert status == 200
    return jwt.PyJWKSet.from_json(body)


def kid(answer: Answer) -> str:
    """The key that has signed what the upstream got."""
    assert answer.status == 200, answer
    found: str = jwt.get_unverified_header(answer.body.removeprefix("Bearer "))["kid"]
    return found


def verify(answer: Answer, keys: jwt.PyJWKSet) -> None:
    """As an upstream does."""
    word = answer.body.removeprefix("Bearer ")
    said = jwt.decode(word, keys[kid(answer)], algorithms=["ES256"], audience="up", issuer=ISSUER)
    assert (said["sub"], said["provider"]) == ("acme", "partners")


def test_upstreams_verify_with_what_is_published_also_while_the_key_changes(start: Start, echo: int, tmp_path: Path):
    file = tmp_path / "signing.pem"
    file.write_bytes(pem())
    gateway = start(signing(echo, file))
    sets = [published(gateway)]
    with Callers(gateway.port, {"acme": key(KEY)}, pause=0.01) as callers:
        for _ in range(3):
            file.write_bytes(pem())
            reloading = Thread(target=gateway.reload)
            reloading.start()
            while kid(ask(gateway.port, key(KEY))) == sets[-1].keys[0].key_id:
                pass
            sets.append(published(gateway))  # at the very first token that the old set is no good for
            verify(ask(gateway.port, key(KEY)), sets[-1])
            reloading.join(10)
            begun = time.monotonic()
            callers.go_on()
            used = {kid(heard.answer) for heard in list(callers.heard["acme"]) if heard.began > begun}
            assert used == {sets[-1].keys[0].key_id}, "the old one signs nothing any more"
    assert callers.statuses("acme").keys() == {200}
    every = {each.key_id: known for known in sets for each in known.keys}
    assert len(every) == 4
    for heard in callers.heard["acme"]:
        verify(heard.answer, every[kid(heard.answer)])
    figure(f"{len(callers.heard['acme'])} requests over 3 changes of the key")
    assert fetch(f"http://127.0.0.1:{gateway.port}/.well-known/jwks.json")[0] == 404, "not for the public"
    partners = {"type": "api_key", "header": "X-API-Key"}
    gateway.configure(signing(echo, file, auth={"providers": {"partners": partners}}))
    assert gateway.reload()[0] == 200
    assert gateway.operate("/.well-known/jwks.json")[0] == 404, "nothing is signed any more"


# -- who guesses

GUESSES = 12


def test_wrong_credentials_are_counted_over_all_workers_and_then_nobody_looks(start: Start, upstream: Upstream):
    auth = {
        "failure_limit": f"{GUESSES}/hour",
        "providers": {"partners": {"type": "api_key", "header": "X-API-Key"}},
        "consumers": {"acme": {"keys": [DIGEST]}},
    }
    routes = [
        {"name": "open", "match": {"path": "/open/**"}, "upstream": "up"},
        {"name": "all", "match": {"path": "/**"}, "upstream": "up", "auth": {"providers": ["partners"]}},
    ]
    gateway = start(proxy(upstream.port, workers=2, auth=auth, routes=routes, trusted_proxies=["127.0.0.1"]))
    gateway.store()  # the embedded one: nothing was said about a store

    def guess(number: int) -> Answer:
        return ask(gateway.port, {**key(f"gwk_{number}"), "X-Forwarded-For": "203.0.113.7"})

    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(guess, range(5 * GUESSES)))
    counted = Counter(answer.status for answer in answers)
    figure(f"{GUESSES} allowed, {counted[401]} answered 401, {counted[429]} answered 429")
    assert counted == {401: GUESSES, 429: 4 * GUESSES}
    assert all(0 < int(answer.retry_after) <= 3600 // GUESSES + 1 for answer in answers if answer.status == 429)
    right = {**key(KEY), "X-Forwarded-For": "203.0.113.7"}
    assert {ask(gateway.port, right).status for _ in range(SURE)} == {429}, "the right one is not looked at either"
    assert ask(gateway.port, right, "/open/x").status == 200
    for elsewhere in ({"X-Forwarded-For": "203.0.113.8"}, {}):
        assert {ask(gateway.port, {**key(KEY), **elsewhere}).status for _ in range(SURE)} == {200}
        assert ask(gateway.port, {**key("gwk_wrong"), **elsewhere}).status == 401
    assert ask(gateway.port, right, source="127.0.0.2").status == 200, "no proxy of ours: its own address counts"
    throttled = gateway.metric("gateway_auth_total", result="throttled", provider="")
    refused = gateway.metric("gateway_auth_total", result="unknown", provider="partners")
    assert throttled + refused == 5 * GUESSES + SURE + 2
    assert throttled >= SURE
    assert GUESSES + 2 <= refused <= GUESSES + 2 + 2 * 8, "besides these only some that were under way were looked at"
    assert gateway.metric("gateway_requests_total", status="429") == 4 * GUESSES + SURE


# -- what is written down


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"acme:{password}".encode()).decode()}


def guarded(port: int, file: Path, password: str) -> str:
    """Every way to prove oneself, in every place, and everything written down that can be."""
    providers = ["partners", "idp", "legacy"]
    auth = {
        "revocation": True,
        "failure_limit": "20/hour",
        "signing": {"key": str(file), "algorithm": "ES256", "issuer": ISSUER},
        "providers": {
            "partners": {"type": "api_key", "header": "X-API-Key", "query": "api_key", "credential": "sign"},
            "idp": {"type": "jwt", "secret": SECRET.decode(), "algorithms": ["HS256"], "query": "token",
                    "cookie": "session", "header": "X-Token"},
            "legacy": {"type": "basic"},
        },
        "consumers": {"acme": {"keys": [DIGEST], "password": str(make(password.encode(), b"0123456789abcdef"))}},
    }  # fmt: skip
    route = {"name": "all", "match": {"path": "/**"}, "upstream": "up", "auth": {"providers": providers}}
    return proxy(port, workers=2, auth=auth, routes=[route], logging={"access": "json", "level": "debug"})


def secrets(*headers: dict[str, str]) -> set[str]:
    """What proves something in these headers, and each part of a token but its first, which is the same for all."""
    words = {word for each in headers for value in each.values() for word in value.split()} - {"Bearer", "Basic"}
    return words | {part for word in words if word.count(".") == 2 for part in word.split(".")[1:]}


def test_no_credential_is_written_down_or_told(
    start: Start, echo: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file, password, admin = tmp_path / "signing.pem", "a-password-of-acme", "a-token-for-operators"
    file.write_bytes(pem())
    gateway = start(guarded(echo, file, password), listen={"admin_token": admin})
    monkeypatch.setenv("GATEWAY_ADMIN_TOKEN", admin)
    made = operate(gateway, "POST", "keys", consumer="acme")[1]
    rotated = operate(gateway, "POST", f"keys/{made['id']}/rotate")[1]
    good = [key(KEY), key(made["key"]), key(rotated["key"]), token("alice", "a1"), basic(password)]
    bad = [key("gwk_of-nobody"), basic("a-wrong-one"), token("alice", "a3", exp=1)]
    bad += [token("alice", "a2", secret=SECRET[::-1]), {"Authorization": "Bearer not.a-token.at-all"}]
    time.sleep(SOON / 2)  # to ask again and again until it is known would be guessing
    assert [ask(gateway.port, each).status for each in good] == [200] * 5
    told = [ask(gateway.port, each) for each in bad]
    word = good[3]["Authorization"].split()[1]
    assert ask(gateway.port, {}, f"/x?api_key={KEY}&token=").status == 200
    assert ask(gateway.port, {}, f"/x?token={word}").status == 200
    assert ask(gateway.port, {"Cookie": f"session={word}"}).status == 200
    told += [ask(gateway.port, each, f"/x?token={word}") for each in (good[3], {"X-Token": word})]
    done = command("revoke", "--token", word, "--admin", f"http://127.0.0.1:{gateway.admin}")
    assert done.returncode == 0
    time.sleep(SOON / 2)
    told += [ask(gateway.port, good[3]), *(ask(gateway.port, bad[0]) for _ in range(20))]
    assert {answer.status for answer in told} == {401, 429}
    answers = [operate(gateway, "GET", path) for path in ("config", "keys", "revocations", "nothing")]
    answers += [operate(gateway, "POST", "reload"), operate(gateway, "POST", "keys", consumer="nobody")]
    answers += [gateway.operate(path) for path in ("/metrics", "/readyz", "/.well-known/jwks.json", "/api/v1/config")]
    assert gateway.stop() == 0
    output, errors = gateway.output.read_text(), gateway.errors.read_text()
    assert output.count('"path":"/x"') > 30
    assert f"key {rotated['id']} of acme made" in errors
    everything = "\n".join([output, errors, done.stdout + done.stderr, *map(repr, [*told, *answers])])
    hidden = secrets(*good, *bad) | {admin, SECRET.decode(), password, "a-wrong-one", file.read_text().splitlines()[1]}
    assert len(hidden) > 20
    assert {each for each in hidden if each in everything} == set()
