"""What a worker knows of stored keys and revocations: whom it lets in, and what it makes of the file they come in."""

import logging
import os
import re
import stat
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gateway.auth import records
from gateway.auth.records import (
    EMPTY,
    Contents,
    Record,
    Records,
    Revocation,
    StoredKey,
    check,
    dump,
    parse,
    read,
    write,
)
from gateway.errors import Shed
from gateway.exchange import Caller
from tests.fakes import Clock

NOW = 1_800_000_000.0
DIGEST = sha256(b"gwk_secret").digest()
KEY = StoredKey("key_0123456789ab", "acme", f"sha256:{DIGEST.hex()}", NOW, None, "for the shop")


def revocation(**fields: Any) -> Revocation:
    anyone: dict[str, Any] = {"jti": "", "consumer": "", "provider": "", "issued_before": None, "expires": None}
    return Revocation(id="rev_0123456789ab", created=NOW, **(anyone | fields))


REVOCATION = revocation(jti="t1")


def token(provider: str = "main", **claims: object) -> Caller:
    return Caller(consumer=str(claims.get("sub", "")), provider=provider, claims=claims)


def with_key(consumer: str = "acme") -> Caller:
    return Caller(consumer=consumer, provider="keys")


async def records_of(folder: Path, *listed: Record, clock: Clock | None = None) -> Records:
    write(folder / "records", Contents.of(1, listed))
    found = Records(folder / "records", clock=clock or Clock(NOW))
    await found.look()
    return found


# -- who is revoked ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "caller", "covered"),
    [
        ({"jti": "t1"}, token(jti="t1"), True),
        ({"jti": "t1"}, token(jti="t2"), False),
        ({"jti": "t1"}, token(sub="t1"), False),
        ({"jti": "1"}, token(jti=1), False),
        ({"jti": "t1"}, token(jti=["t1"]), False),
        ({"jti": "t1"}, token(jti=None), False),
        ({"jti": "t1"}, with_key(), False),
        ({"jti": "t1", "provider": "main"}, token(jti="t1"), True),
        ({"jti": "t1", "provider": "main"}, token("other", jti="t1"), False),
        ({"jti": "t1", "consumer": "acme"}, token(jti="t1", sub="acme"), True),
        ({"jti": "t1", "consumer": "acme"}, token(jti="t1", sub="else"), False),
        ({"jti": "t1", "issued_before": 100.0}, token(jti="t1", iat=99), True),
        ({"jti": "t1", "issued_before": 100.0}, token(jti="t1", iat=100), False),
        ({"consumer": "acme"}, token(sub="acme"), True),
        ({"consumer": "acme"}, token(sub="acme2"), False),
        ({"consumer": "acme"}, token(jti="acme"), False),
        ({"consumer": "acme"}, with_key(), True),
        ({"consumer": "acme", "provider": "main"}, with_key(), False),
        ({"consumer": "acme", "provider": "keys"}, with_key(), True),
        ({"consumer": "acme", "issued_before": 100.0}, token(sub="acme", iat=99.9), True),
        ({"consumer": "acme", "issued_before": 100.0}, token(sub="acme", iat=100.1), False),
        ({"consumer": "acme", "issued_before": 100.0}, token(sub="acme"), True),
        ({"consumer": "acme", "issued_before": 100.0}, with_key(), False),
        ({"issued_before": 100.0}, token(sub="acme", iat=99), True),
        ({"issued_before": 100.0}, token(sub="acme", iat=100), False),
        ({"issued_before": 100.0}, token(sub="acme", iat=10**400), False),
        ({"issued_before": 100.0}, token(sub="acme"), True),
        ({"issued_before": 100.0}, token(sub="acme", iat="1000"), True),
        ({"issued_before": 100.0}, token(sub="acme", iat=True), True),
        ({"issued_before": 0.5}, token(sub="acme", iat=True), True),
        ({"issued_before": 100.0}, token(sub="acme", iat=float("inf")), True),
        ({"issued_before": 100.0}, token(sub="acme", iat=float("nan")), True),
        ({"issued_before": 100.0}, with_key(), False),
        ({"issued_before": 100.0}, Caller(), False),
        ({"issued_before": 100.0, "provider": "main"}, token(sub="acme", iat=99), True),
        ({"issued_before": 100.0, "provider": "main"}, token("other", sub="acme", iat=99), False),
    ],
)
async def test_a_revocation_covers_whoever_fits_all_that_it_gives(
    tmp_path: Path, fields: dict[str, Any], caller: Caller, covered: bool
) -> None:
    found = await records_of(tmp_path, revocation(**fields))
    assert found.revoked(caller) is covered


async def test_one_of_several_revocations_of_the_same_token_or_consumer_suffices(tmp_path: Path) -> None:
    listed = [
        revocation(jti="t1", provider="other"),
        revocation(jti="t1", provider="main"),
        revocation(consumer="acme", issued_before=100.0),
        revocation(consumer="acme", provider="keys"),
        revocation(issued_before=10.0),
        revocation(issued_before=20.0, provider="main"),
    ]
    found = await records_of(tmp_path, *listed)
    assert found.revoked(token(jti="t1", iat=1000))
    assert not found.revoked(token("third", jti="t1", iat=1000))
    assert found.revoked(with_key())
    assert found.revoked(token(sub="acme", iat=50))
    assert not found.revoked(token(sub="acme", iat=500))
    assert found.revoked(token(sub="else", iat=15))
    assert not found.revoked(token("third", sub="else", iat=15))


async def test_a_revocation_that_has_expired_does_not_count(tmp_path: Path) -> None:
    clock = Clock(NOW)
    found = await records_of(tmp_path, revocation(jti="t1", expires=NOW + 10), clock=clock)
    clock.advance(9.9)
    assert found.revoked(token(jti="t1"))
    clock.advance(0.1)
    assert not found.revoked(token(jti="t1"))


async def test_the_clock_is_not_asked_unless_something_fits(tmp_path: Path) -> None:
    def explosive() -> float:
        raise AssertionError("nobody needs the time")

    await records_of(tmp_path, REVOCATION, revocation(consumer="acme"), revocation(issued_before=100.0), KEY)
    found = Records(tmp_path / "records", clock=explosive)
    await found.look()
    assert not found.revoked(token(jti="t2", sub="else", iat=101))
    assert found.consumer_of(bytes(32)) is None


# -- stored keys ---------------------------------------------------------------------------------


async def test_a_stored_key_is_found_by_its_digest_until_it_ends(tmp_path: Path) -> None:
    clock = Clock(NOW)
    found = await records_of(tmp_path, replace(KEY, expires=NOW + 10), clock=clock)
    assert found.consumer_of(DIGEST) == "acme"
    assert found.consumer_of(sha256(b"gwk_other").digest()) is None
    clock.advance(10)
    assert found.consumer_of(DIGEST) is None


async def test_a_key_without_an_end_stays(tmp_path: Path) -> None:
    clock = Clock(NOW)
    found = await records_of(tmp_path, KEY, clock=clock)
    clock.advance(1e9)
    assert found.consumer_of(DIGEST) == "acme"


# -- before the first list, and after it -----------------------------------------------------------


def test_without_a_list_nobody_is_revoked_and_no_key_known() -> None:
    found = Records()
    assert found.loaded
    assert not found.revoked(token(jti="t1"))
    assert found.consumer_of(DIGEST) is None


async def test_a_shared_list_that_was_never_read_fails_closed(tmp_path: Path) -> None:
    found = Records(tmp_path / "records")
    found.expected = True
    await found.look()
    assert not found.loaded
    for ask in (lambda: found.revoked(token(jti="t1")), lambda: found.consumer_of(DIGEST)):
        with pytest.raises(Shed) as caught:
            ask()
        assert (caught.value.status, caught.value.code, caught.value.retry_after) == (503, "identity_unavailable", 1)


async def test_an_empty_list_that_was_read_is_a_list(tmp_path: Path) -> None:
    found = await records_of(tmp_path)
    found.expected = True
    assert found.loaded
    assert not found.revoked(token(jti="t1"))
    assert found.consumer_of(DIGEST) is None


async def test_a_look_reads_the_file_only_when_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[Path] = []
    load = records._load
    monkeypatch.setattr(records, "_load", lambda path: loads.append(path) or load(path))
    found = await records_of(tmp_path, REVOCATION)
    await found.look()
    assert len(loads) == 1
    write(tmp_path / "records", Contents(2, (), ()))
    await found.look()
    assert len(loads) == 2
    assert not found.revoked(token(jti="t1"))


async def test_without_a_path_a_look_is_for_nothing() -> None:
    found = Records()
    await found.look()
    assert found.loaded


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"[]\n",
        b'{"version": true}\n',
        b'{"version": -1}\n',
        b'{"version": 1, "more": 2}\n',
        b'{"version": 1}\nnonsense\n',
        b'{"version": 1}\n' + dump(KEY)[:-1],
        b'{"version": 1}\n' + dump(KEY) + b"\n\n",
        b'{"version": 1}\n' + dump(replace(KEY, id="key_1")) + b"\n",
        b"\xff\xfe\n",
    ],
)
async def test_a_broken_file_changes_nothing_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: bytes
) -> None:
    found = await records_of(tmp_path, REVOCATION, KEY)
    (tmp_path / "records").write_bytes(text)
    for _ in range(3):
        await found.look()
    assert found.revoked(token(jti="t1"))
    assert found.consumer_of(DIGEST) == "acme"
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "for the shop" not in caplog.text
    write(tmp_path / "records", EMPTY)
    await found.look()
    assert not found.revoked(token(jti="t1"))


async def test_a_file_that_cannot_be_read_now_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = await records_of(tmp_path, REVOCATION)
    (tmp_path / "records").unlink()
    (tmp_path / "records").mkdir()
    for _ in range(3):
        await found.look()
    assert found.revoked(token(jti="t1"))
    assert len(caplog.records) == 1
    (tmp_path / "records").rmdir()
    await found.look()
    assert found.revoked(token(jti="t1"))  # nor is it forgotten with its file
    write(tmp_path / "records", EMPTY)
    await found.look()
    assert not found.revoked(token(jti="t1"))


# -- the file --------------------------------------------------------------------------------------


def test_what_was_written_is_read(tmp_path: Path) -> None:
    contents = Contents(7, (KEY, replace(KEY, id="key_00000000000f", expires=NOW + 0.25, note="süß")), (REVOCATION,))
    write(tmp_path / "records", contents)
    assert read(tmp_path / "records") == contents


def test_the_file_is_for_its_owner_alone_and_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "records"
    write(path, EMPTY)
    with path.open("rb") as reader:
        write(path, Contents(1, (KEY,), ()))
        assert reader.read() == b'{"version":0}\n'  # who had begun to read the old one can end it
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["records"]


def test_where_it_cannot_be_written_nothing_is_left_behind(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    with pytest.raises(OSError, match="records"):
        write(tmp_path / "records", Contents(1, (KEY,), ()))
    assert os.listdir(tmp_path) == ["records"]


def test_many_records_are_read_in_breaths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "BREATH", (4, 0.0))
    keys = tuple(replace(KEY, id=f"key_{i:012x}", digest=f"sha256:{i:064x}") for i in range(10))
    write(tmp_path / "records", Contents(1, keys, ()))
    assert read(tmp_path / "records").keys == keys


# -- records ---------------------------------------------------------------------------------------


def test_a_record_survives_its_json() -> None:
    for record in (KEY, REVOCATION, revocation(issued_before=5.5, provider="main", expires=NOW)):
        assert parse(dump(record)) == record


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"id": "key_1"}, "the id"),
        ({"id": "key_0123456789AB"}, "the id"),
        ({"id": "key_0123456789ab\n"}, "the id"),
        ({"id": "rev_0123456789ab"}, "the id"),
        ({"id": None}, "the id"),
        ({"consumer": ""}, "belongs to a consumer"),
        ({"consumer": "a\nb"}, "consumer must be"),
        ({"consumer": "a" * 257}, "consumer must be"),
        ({"consumer": 7}, "consumer must be"),
        ({"consumer": "\ud800"}, "consumer must be"),
        ({"digest": "sha256:abc"}, "digest"),
        ({"digest": "sha512:" + "0" * 64}, "digest"),
        ({"note": "a" * 201}, "note must be"),
        ({"note": "\x1b[31m"}, "note must be"),
        ({"created": None}, "created must be"),
        ({"created": float("nan")}, "created must be"),
        ({"created": True}, "created must be"),
        ({"expires": float("inf")}, "expires must be"),
        ({"expires": -1.0}, "expires must be"),
        ({"expires": "tomorrow"}, "expires must be"),
    ],
)
def test_a_key_has_fields_that_can_be_shown_and_compared(changed: dict[str, Any], complaint: str) -> None:
    check(KEY)
    with pytest.raises(ValueError, match=complaint):
        check(replace(KEY, **changed))


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"jti": ""}, "at least one of"),
        ({"jti": "", "provider": "main"}, "at least one of"),
        ({"jti": "a\0b"}, "jti must be"),
        ({"jti": "a" * 257}, "jti must be"),
        ({"jti": ["t1"]}, "jti must be"),
        ({"provider": "a\r\nb"}, "provider must be"),
        ({"consumer": "a" * 257}, "consumer must be"),
        ({"issued_before": float("inf")}, "issued_before must be"),
        ({"issued_before": True}, "issued_before must be"),
        ({"id": "key_0123456789ab"}, "the id"),
    ],
)
def test_a_revocation_has_fields_that_can_be_shown_and_compared(changed: dict[str, Any], complaint: str) -> None:
    check(REVOCATION)
    with pytest.raises(ValueError, match=complaint):
        check(replace(REVOCATION, **changed))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"7",
        b"null",
        b'{"id": "key_0123456789ab"}',
        b'{"digest": "sha256:"}',
        dump(KEY).replace(b'"note"', b'"notes"'),
        dump(KEY)[:-1] + b',"scopes":["admin"]}',
        dump(REVOCATION).replace(b"null", b"NaN", 1),
        dump(REVOCATION).replace(b"null", b"1e999", 1),
        b"[" * 10_000,
    ],
)
def test_what_is_no_record_is_not_read_as_one(line: bytes) -> None:
    with pytest.raises(ValueError, match=re.compile(".")):
        parse(line)


def test_workers_need_no_heavy_libraries_for_it() -> None:
    heavy = ("redis", "aiohttp", "pydantic", "cryptography")
    script = f"import sys, gateway.auth.records; print(*set(sys.modules) & set({heavy}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == (b"\n", b"")
