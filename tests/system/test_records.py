"""API keys and revocations while the gateway runs: known to all workers and instances in a second, come what may."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from itertools import count
from threading import Event, Thread

import pytest

from tests import servers
from tests.servers import RedisServer
from tests.system.callers import SOON, SURE, Callers, ask, in_force, key, operate, tell, token
from tests.system.gateways import Process, Start, proxy, quiet_port
from tests.system.load import figure
from tests.system.proc import alive, descendants, needs_proc, wait_gone
from tests.system.test_succession import heirs, successors
from tests.system.upstream import Upstream
from tests.tokens import SECRET

pytestmark = needs_proc

CONFIGURED = "gwk_that-the-configuration-has"
INVALID = 'Bearer realm="gateway", error="invalid_token"'


@pytest.fixture
def redis(monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisServer]:
    """Empty, and killed at the end."""
    monkeypatch.setattr(servers, "free_port", quiet_port)  # it is started again: no client may get its port meanwhile
    with servers.redis_server() as server:
        yield server


def guarded(upstream: Upstream, *, revocation: bool = True, **parts: object) -> str:
    """All but /open wants a key or a token."""
    auth = {
        "revocation": revocation,
        "providers": {
            "partners": {"type": "api_key", "header": "X-API-Key"},
            "idp": {"type": "jwt", "secret": SECRET.decode(), "algorithms": ["HS256"]},
        },
        "consumers": {"acme": {}, "globex": {"keys": [f"sha256:{sha256(CONFIGURED.encode()).hexdigest()}"]}},
    }
    routes = [
        {"name": "open", "match": {"path": "/open/**"}, "upstream": "up"},
        {"name": "all", "match": {"path": "/**"}, "upstream": "up", "auth": {"providers": ["partners", "idp"]}},
    ]
    return proxy(upstream.port, **{"workers": 2, "auth": auth, "routes": routes, **parts})


def listless(upstream: Upstream) -> str:
    """Nobody asks for keys or revocations."""
    idp = {"type": "jwt", "secret": SECRET.decode(), "algorithms": ["HS256"]}
    route = {"name": "all", "match": {"path": "/**"}, "upstream": "up", "auth": {"providers": ["idp"]}}
    return proxy(upstream.port, workers=2, auth={"providers": {"idp": idp}}, routes=[route])


def made(gateway: Process) -> tuple[str, dict[str, str]]:
    """Id and headers of a new key."""
    status, said = operate(gateway, "POST", "keys", consumer="acme")
    assert status == 201, said
    return said["id"], key(said["key"])


def ids(gateway: Process, collection: str) -> set[str]:
    """What the list has, of what was made while the gateway runs."""
    status, said = operate(gateway, "GET", collection)
    assert status == 200
    return {each["id"] for each in said[collection]} - {None}


# -- in one gateway


def test_a_key_is_made_rotated_and_ended_on_every_worker(start: Start, upstream: Upstream):
    gateway = start(guarded(upstream, store={"url": "embedded"}))
    short = operate(gateway, "POST", "keys", consumer="acme", expires="1500ms")[1]
    ends = time.monotonic() + 1.5
    in_force("a key for a moment", 200, key(short["key"]), gateway)
    assert time.monotonic() < ends, "this machine is too slow to see it"
    first = tell(gateway, "keys", "new", "--consumer", "acme", "--note", "billing")
    assert first["durable"] is False
    in_force("a new key", 200, key(first["key"]), gateway)
    second = tell(gateway, "keys", "rotate", first["id"], "--overlap", "1h")
    in_force("a rotated key", 200, key(second["key"]), gateway)
    in_force("the one in whose place it is", 200, key(first["key"]), gateway)
    listed = {each["id"]: each for each in tell(gateway, "keys", "list")["keys"]}
    assert listed.keys() - {short["id"]} == {None, first["id"], second["id"]}
    assert listed[first["id"]]["expires"] is not None
    assert (listed[second["id"]]["consumer"], listed[second["id"]]["note"]) == ("acme", "billing")
    tell(gateway, "keys", "revoke", first["id"])
    in_force("a withdrawn key", 401, key(first["key"]), gateway)
    in_force("the other key", 200, key(second["key"]), gateway)
    time.sleep(max(0.0, ends - time.monotonic()))
    in_force("the end of the first", 401, key(short["key"]), gateway)
    assert ids(gateway, "keys") == {second["id"]}


REVOKED: list[tuple[list[str], set[str]]] = [
    (["--jti", "a1"], {"alice"}),
    (["--consumer", "alice"], {"alice", "again", "later"}),
    (["--issued-before", "now", "--consumer", "alice"], {"alice", "again"}),
    (["--issued-before", "now", "--provider", "idp"], {"alice", "again", "bob"}),
]
"""What is said, and whom it concerns."""


def test_what_is_revoked_is_refused_at_once_however_often_it_was_good(start: Start, upstream: Upstream):
    gateway = start(guarded(upstream))
    now = int(time.time())
    who = {
        "alice": token("alice", "a1"),
        "again": token("alice", "a2"),
        "bob": token("bob", "b1"),
        "later": token("alice", "a3", iat=now + 20),
        "globex": key(CONFIGURED),
    }
    with Callers(gateway.port, who) as callers:
        for words, concerned in REVOKED:
            said = tell(gateway, "revoke", *words)
            began = time.monotonic()
            for name in concerned:
                in_force(f"{' '.join(words)}, for {name}", 401, who[name], gateway)
            settled = time.monotonic()
            callers.go_on()
            took = max(callers.last(name, 200, began) for name in concerned)
            figure(f"{' '.join(words)}: the last request with it was let in after {took * 1000:.0f} ms")
            assert took < SOON
            for name in who:
                assert callers.statuses(name, settled).keys() == {401 if name in concerned else 200}, (words, name)
            assert {callers.heard[name][-1].answer.challenge[: len(INVALID)] for name in concerned} == {INVALID}
            assert ids(gateway, "revocations") == {said["id"]}
            assert operate(gateway, "DELETE", f"revocations/{said['id']}")[0] == 200
            for name in concerned:
                in_force(f"{name} after it was lifted", 200, who[name], gateway)
    assert callers.statuses("globex").keys() == {200}
    revoked = gateway.metric("gateway_auth_total", provider="idp", result="revoked")
    assert revoked == gateway.metric("gateway_requests_total", status="401")
    assert gateway.metric("gateway_auth_total", result="unavailable") == 0


def test_the_list_outlives_the_operator_process_and_workers(start: Start, upstream: Upstream):
    gateway = start(guarded(upstream))
    kept, good = made(gateway)
    revoked = operate(gateway, "POST", "revocations", jti="a1")[1]["id"]
    bad = token("alice", "a1")
    in_force("a revocation", 401, bad, gateway)
    in_force("a key", 200, good, gateway)
    with Callers(gateway.port, {"bad": bad, "good": good}) as callers:
        victim = gateway.operator()
        os.kill(victim, signal.SIGKILL)
        assert ids(gateway, "keys") == {kept}, "the new operator process knows it"
        assert ids(gateway, "revocations") == {revoked}
        assert gateway.operator() != victim
        callers.go_on()
    assert callers.statuses("bad").keys() == {401}
    assert callers.statuses("good").keys() == {200}
    with Callers(gateway.port, {"bad": bad, "good": good}) as callers:
        for victim in gateway.wait_workers(2):
            os.kill(victim, signal.SIGKILL)
            gateway.wait_workers(2, but=victim)
            callers.go_on()
    assert callers.statuses("bad").keys() <= {0, 401}, "who is born knows the list from the first request on"
    assert callers.statuses("good").keys() <= {0, 200}
    assert operate(gateway, "DELETE", f"revocations/{revoked}")[0] == 200
    in_force("lifted by the new operator process", 200, bad, gateway)


def test_a_reload_keeps_the_list_and_turns_revocation_off_and_on(start: Start, upstream: Upstream):
    gateway = start(guarded(upstream))
    kept, good = made(gateway)
    revoked = operate(gateway, "POST", "revocations", jti="a1")[1]["id"]
    bad = token("alice", "a1")
    in_force("a revocation", 401, bad, gateway)
    in_force("a key", 200, good, gateway)
    with Callers(gateway.port, {"bad": bad, "good": good}) as callers:
        gateway.configure(guarded(upstream, trusted_proxies=["10.0.0.0/8"]))
        assert gateway.reload()[0] == 200
        callers.go_on()
        gateway.process.send_signal(signal.SIGHUP)
        gateway.wait_metric(2, "gateway_config_reloads_total", result="success")
        callers.go_on()
        assert callers.statuses("bad").keys() == {401}
        gateway.configure(guarded(upstream, revocation=False))
        assert gateway.reload()[0] == 200
        off = time.monotonic()
        callers.go_on()
        assert callers.statuses("bad", off).keys() == {200}
        assert operate(gateway, "POST", "revocations", jti="a2")[0] == 409
        assert ids(gateway, "revocations") == {revoked}
        gateway.configure(guarded(upstream))
        assert gateway.reload()[0] == 200
        on = time.monotonic()
        callers.go_on()
        assert callers.statuses("bad", on).keys() == {401}
    assert callers.statuses("good").keys() == {200}
    assert ids(gateway, "keys") == {kept}
    gateway.configure(listless(upstream))
    assert gateway.reload()[0] == 200
    tell(gateway, "revoke", "--lift", revoked)
    time.sleep(SOON / 2)
    gateway.configure(guarded(upstream))
    assert gateway.reload()[0] == 200
    assert {ask(gateway.port, bad).status for _ in range(SURE)} == {200}, "lifted while nobody looked"


def test_a_successor_knows_what_its_predecessor_knew(start: Start, upstream: Upstream):
    gateway = start(guarded(upstream, store={"url": "memory"}))
    kept, good = made(gateway)
    revoked = operate(gateway, "POST", "revocations", consumer="alice")[1]["id"]
    bad = token("alice", "a1")
    in_force("a revocation", 401, bad, gateway)
    in_force("a key", 200, good, gateway)
    with heirs(gateway):
        with Callers(gateway.port, {"bad": bad, "good": good}) as callers:
            gateway.process.send_signal(signal.SIGUSR2)
            (successor,) = successors(gateway, 1)
            assert gateway.process.wait(10) == 0
            callers.go_on()
        assert callers.statuses("bad").keys() == {401}
        assert callers.statuses("good").keys() == {200}
        assert (ids(gateway, "keys"), ids(gateway, "revocations")) == ({kept}, {revoked})
        assert operate(gateway, "DELETE", f"keys/{kept}")[0] == 200
        in_force("withdrawn at the successor", 401, good, gateway)
        family = [successor, *descendants(successor)]
        os.kill(successor, signal.SIGTERM)
        assert wait_gone(family) == []
        assert not any(map(alive, family))


def test_nothing_that_was_answered_during_a_succession_is_lost(start: Start, upstream: Upstream):
    gateway = start(guarded(upstream, store={"url": "memory"}))
    answers: list[tuple[int, str]] = []
    stop = Event()

    def revoke() -> None:
        for number in count():
            if stop.wait(0.02):
                return
            status, said = operate(gateway, "POST", "revocations", jti=f"t{number}")
            answers.append((status, said.get("id", said.get("detail", ""))))

    revoking = Thread(target=revoke)
    with heirs(gateway):
        revoking.start()
        try:
            gateway.process.send_signal(signal.SIGUSR2)
            successors(gateway, 1)
            assert gateway.process.wait(10) == 0
            time.sleep(0.2)
        finally:
            stop.set()
            revoking.join(10)
        figure(f"{Counter(status for status, _ in answers)}")
        assert {status for status, _ in answers} <= {201, 409}
        assert {said for status, said in answers if status == 201} == ids(gateway, "revocations")
        assert all("hands over" in said for status, said in answers if status == 409)


# -- with a Redis


def shared(upstream: Upstream, redis: RedisServer, **parts: object) -> str:
    return guarded(upstream, **{"store": {"url": redis.url}, **parts})


def test_instances_follow_each_other_and_need_no_redis_for_what_they_know(
    start: Start, upstream: Upstream, redis: RedisServer
):
    here, there = start(shared(upstream, redis)), start(shared(upstream, redis))
    bad = token("alice", "a1")
    _, good = made(here)
    in_force("a key, here and there", 200, good, here, there)
    withdrawn, gone = made(there)
    in_force("another, here and there", 200, gone, here, there)
    revoked = operate(there, "POST", "revocations", jti="a1")[1]["id"]
    in_force("a revocation, here and there", 401, bad, here, there)
    assert operate(here, "DELETE", f"keys/{withdrawn}")[0] == 200
    in_force("a withdrawn key, here and there", 401, gone, here, there)
    assert ids(here, "keys") == ids(there, "keys")
    with (
        Callers(here.port, {"bad": bad, "good": good, "gone": gone}) as at_here,
        Callers(there.port, {"bad": bad, "good": good, "gone": gone}) as at_there,
    ):
        redis.kill()
        for gateway in (here, there):
            for method, path, body in (
                ("POST", "keys", {"consumer": "acme"}),
                ("POST", "revocations", {"jti": "a2"}),
                ("DELETE", f"revocations/{revoked}", {}),
            ):
                status, said = operate(gateway, method, path, **body)
                assert (status, said["code"]) == (503, "store_unavailable")
                assert "nothing was changed" in said["detail"]
            assert ids(gateway, "revocations") == {revoked}, "what is in force can still be seen"
            assert gateway.ready() == 200
        os.kill(here.operator(), signal.SIGKILL)
        assert ids(here, "revocations") == {revoked}, "its successor has it from the instance"
        victim = here.workers()[0]
        os.kill(victim, signal.SIGKILL)
        here.wait_workers(2, but=victim)
        at_here.go_on()
        at_there.go_on()
        redis.start()  # empty, as after a failure of one without persistence
        began = time.monotonic()
        third = start(shared(upstream, redis))
        in_force("what an empty Redis got back, at a third", 401, bad, third)
        in_force("a key at a third", 200, good, third)
        in_force("a withdrawn key at a third", 401, gone, third)
        figure(f"all of it {time.monotonic() - began:.1f} s after Redis came back")
        assert ids(third, "keys") == ids(here, "keys") == ids(there, "keys")
        assert ids(third, "revocations") == {revoked}
        at_here.go_on()
    for callers, lost in (at_here, {0}), (at_there, set()):  # the killed worker's own requests
        assert callers.statuses("bad").keys() - lost == {401}
        assert callers.statuses("gone").keys() - lost == {401}
        assert callers.statuses("good").keys() - lost == {200}
    assert operate(third, "DELETE", f"revocations/{revoked}")[0] == 200
    in_force("lifted at the third, everywhere", 200, bad, here, there, third)


def test_without_a_list_nobody_is_let_in_on_suspicion(start: Start, upstream: Upstream, redis: RedisServer):
    redis.kill()
    gateway = start(shared(upstream, redis))
    status, said = gateway.operate("/readyz")
    assert status == 503
    assert "what is revoked" in said
    for headers in (token("alice", "a1"), key("gwk_perhaps-a-good-one")):
        answer = ask(gateway.port, headers)
        assert answer.status == 503
        assert '"identity_unavailable"' in answer.body
        assert answer.retry_after
    assert ask(gateway.port, {}).status == 401
    assert ask(gateway.port, {}, "/open/x").status == 200
    assert gateway.metric("gateway_auth_total", result="unavailable") == 2
    redis.start()
    in_force("the list", 200, token("alice", "a1"), gateway)
    assert ask(gateway.port, key("gwk_of-nobody")).status == 401
    assert gateway.ready() == 200
    assert "the store is away" in gateway.errors.read_text()


def test_a_reload_goes_over_to_a_redis_and_no_good_credential_is_refused(
    start: Start, upstream: Upstream, redis: RedisServer
):
    gateway = start(listless(upstream))
    with Callers(gateway.port, {"good": token("alice", "a1")}, pause=0.005) as callers:
        gateway.configure(shared(upstream, redis))
        assert gateway.reload()[0] == 200
        time.sleep(0.5)
        callers.go_on()
    assert callers.statuses("good").keys() == {200}
    assert gateway.ready() == 200


def test_a_list_that_was_kept_alone_is_shared_with_a_reload(start: Start, upstream: Upstream, redis: RedisServer):
    there = start(shared(upstream, redis))
    for _ in range(4):
        made(there)  # so that Redis has seen more changes than the other one
    here = start(guarded(upstream))
    _, good = made(here)
    revoked = operate(here, "POST", "revocations", jti="a1")[1]["id"]
    bad = token("alice", "a1")
    in_force("a revocation", 401, bad, here)
    in_force("a key", 200, good, here)
    with Callers(here.port, {"bad": bad, "good": good}) as callers:
        here.configure(shared(upstream, redis))
        assert here.reload()[0] == 200
        in_force("the revocation, there too", 401, bad, there)
        in_force("the key, there too", 200, good, there)
        callers.go_on()
    assert callers.statuses("bad").keys() == {401}
    assert callers.statuses("good").keys() == {200}
    assert len(ids(here, "keys")) == len(ids(there, "keys")) == 5
    here.configure(listless(upstream))
    assert here.reload()[0] == 200
    assert operate(here, "DELETE", f"revocations/{revoked}")[0] == 200
    in_force("lifted where nobody looks", 200, bad, there)
