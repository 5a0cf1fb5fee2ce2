"""An issuer that is asked about tokens and fails: when it is left alone, and what the log says."""

import logging

import pytest

from gateway.auth.asking import AskError
from gateway.auth.providers import BadCredential
from gateway.errors import Shed
from tests.introspection import ALICE, INACTIVE, Oracle, Said, World
from tests.tokens import bearer

SECRET_TOKEN = b"s3cr3t-token"


async def test_after_failures_in_a_row_the_issuer_is_asked_once_a_second() -> None:
    world = World(Oracle(AskError("down")))
    for n in range(5):
        await world.unavailable(b"t%d" % n)
    assert world.asked == 5
    for n in range(100):
        await world.unavailable(b"u%d" % n)
    assert world.asked == 5
    for second in range(1, 5):
        world.pass_by(1.0)
        for n in range(20):
            await world.unavailable(b"v%d" % n)
        assert world.asked == 5 + second
    world.server.now = ALICE
    world.pass_by(1.0)
    await world.accepted(b"a")
    await world.accepted(b"b")
    assert world.asked == 11


async def test_an_answer_between_failures_means_that_the_issuer_is_there() -> None:
    world = World(cache=0.0)
    for _ in range(5):
        world.server.now = AskError("down")
        for _ in range(4):
            await world.unavailable()
        world.server.now = INACTIVE
        await world.refused()
    assert world.asked == 25


async def test_a_token_that_the_issuer_chokes_on_shuts_nobody_out() -> None:
    world = World()
    world.server.of = {b"poison%d" % n: AskError("status 400", away=False) for n in range(50)}
    for token in world.server.of:
        await world.unavailable(token)
    await world.accepted()


async def test_while_the_issuer_is_away_its_answers_count_to_their_end() -> None:
    world = World(cache=30.0)
    await world.accepted()
    world.server.now = AskError("down")
    world.pass_by(29.0)
    for n in range(10):
        await world.unavailable(b"other%d" % n)
    await world.accepted()
    world.pass_by(1.0)
    await world.unavailable()
    world.pass_by(1.0)
    world.server.now = ALICE
    await world.accepted()


async def test_a_failure_is_not_remembered() -> None:
    world = World(Oracle(AskError("down")))
    await world.unavailable()
    world.server.now = ALICE
    await world.accepted()


# --- what is told ---


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records]


async def test_a_trouble_is_told_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway.auth")
    world = World(Oracle(AskError("Cannot connect")))
    for n in range(20):
        await world.unavailable(b"t%d" % n)
        world.pass_by(1.0)
    world.server.now = ALICE
    await world.accepted()
    assert lines(caplog) == [
        ("WARNING", "provider opaque: the issuer could not be asked about a token: Cannot connect"),
        ("WARNING", "provider opaque: the issuer is left alone, but for one question a second"),
        ("INFO", "provider opaque: the issuer answers again"),
    ]
    world.server.now = AskError("Cannot connect")
    await world.unavailable(b"another-time")
    assert len(caplog.records) == 4


async def test_wrong_credentials_of_the_gateway_are_an_error_with_a_cure(caplog: pytest.LogCaptureFixture) -> None:
    world = World(Oracle(AskError("it replied with status 401", refused=True)))
    for n in range(4):
        await world.unavailable(b"t%d" % n)
        world.pass_by(20.0)
    ((level, line),) = lines(caplog)
    assert level == "ERROR"
    assert line.startswith("provider opaque: the issuer does not answer the gateway (it replied with status 401): ")
    assert line.endswith("check client_id and client_secret, and that this client may ask about tokens")


async def test_whoever_sends_tokens_cannot_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    world = World(cache=0.0)
    for n in range(100):
        world.server.now = AskError(f"it replied with status {400 + n % 2}", away=False)
        await world.unavailable()
        world.server.now = ALICE
        await world.accepted()
        world.pass_by(0.1)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("said", [ALICE, INACTIVE, {}, AskError("down"), ALICE | {"exp": 1}, ALICE | {"sub": 7}])
async def test_no_token_is_in_any_log_or_error(said: Said, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    world = World(Oracle(said))
    told = []
    for _ in range(8):
        try:
            await world.provider.identify(bearer(SECRET_TOKEN))
        except (BadCredential, Shed) as error:
            told.append(f"{error!r} {error.detail} {error.headers} {error.members} {error.__cause__!r}")
    assert SECRET_TOKEN.decode() not in caplog.text + "".join(told)
    assert SECRET_TOKEN in world.server.asked


async def test_the_end_of_an_issuer_is_that_of_its_client() -> None:
    world = World()
    await world.issuer.close()
    assert world.server.closed
