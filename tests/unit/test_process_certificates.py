"""The listener's certificates as files that are renewed, vanish, and end."""

import logging
import os
import time
from pathlib import Path

import pytest

from gateway.config import Config
from gateway.process.certificates import DAY, SOON, Certificates, stamps
from tests.configs import ROUTE, UPSTREAM, loaded
from tests.fakes import Clock
from tests.wire.certificates import Authority

SIGNED_FOR = DAY
"""Seconds for which the test authority signs."""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def configured(folder: Path, more: str = "") -> Config:
    """A configuration that listens with the certificate in a.pem."""
    https = f"listen: {{https: {{address: '127.0.0.1:0', certificate: a.pem, key: a.key{more}}}}}\n"
    return loaded(folder, https + UPSTREAM + ROUTE)


@pytest.fixture
def files(authority: Authority) -> tuple[Path, Path]:
    certificate, key = authority.sign("a")
    return certificate, key


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    lines = [record.getMessage() for record in caplog.records if record.name == "gateway.certificates"]
    caplog.clear()
    return lines


def write(path: Path, content: bytes) -> None:
    """Replace a file as certificate tools do: the new one takes the old one's name."""
    new = path.with_suffix(".new")
    new.write_bytes(content)
    os.replace(new, path)


def renewed(certificates: Certificates) -> bool:
    """What two looks say: files count once they have stayed the same from one to the next."""
    first, second = certificates.renewed(), certificates.renewed()
    assert not first
    return second


def test_without_https_there_is_nothing_to_watch(tmp_path: Path) -> None:
    certificates = Certificates(loaded(tmp_path, UPSTREAM + ROUTE))
    assert (certificates.ends, certificates.renewed()) == ({}, False)


def test_it_knows_until_when_each_certificate_is_valid(tmp_path: Path, authority: Authority, files: object) -> None:
    authority.sign("b")
    config = configured(tmp_path, ", certificates: [{certificate: b.pem, key: b.key}]")
    ends = Certificates(config).ends
    assert set(ends) == {str(tmp_path / "a.pem"), str(tmp_path / "b.pem")}
    assert all(abs(end - time.time() - SIGNED_FOR) < 60 for end in ends.values())


def test_the_certificate_for_operators_is_watched_like_the_others(tmp_path: Path, authority: Authority) -> None:
    authority.sign("a")
    authority.sign("b")
    https = "https: {address: '127.0.0.1:0', certificate: a.pem, key: a.key}"
    both = f"{https}, admin_tls: {{certificate: b.pem, key: b.key}}"
    certificates = Certificates(loaded(tmp_path, f"listen: {{{both}}}\n" + UPSTREAM + ROUTE))
    assert set(certificates.ends) == {str(tmp_path / "a.pem"), str(tmp_path / "b.pem")}
    authority.sign("b")
    assert renewed(certificates)


def test_files_that_stay_are_not_renewed(tmp_path: Path, files: object) -> None:
    certificates = Certificates(configured(tmp_path))
    assert not renewed(certificates)
    assert not renewed(certificates)


def test_a_renewed_pair_is_noticed_once(tmp_path: Path, authority: Authority, files: object) -> None:
    certificates = Certificates(configured(tmp_path))
    certificates.ends.clear()
    authority.sign("a")
    assert renewed(certificates)
    assert set(certificates.ends) == {str(tmp_path / "a.pem")}
    assert not renewed(certificates)


def test_a_renewal_of_authorities_for_clients_is_noticed(tmp_path: Path, authority: Authority, files: object) -> None:
    certificates = Certificates(configured(tmp_path, f", client_ca: {authority.file}"))
    write(authority.file, authority.file.read_bytes() + b"\n")
    assert renewed(certificates)


def test_a_pair_that_is_half_renewed_stays_out_of_use_until_it_is_whole(
    tmp_path: Path, authority: Authority, files: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = files
    old = certificate.read_bytes(), key.read_bytes()
    authority.sign("a")
    new = certificate.read_bytes(), key.read_bytes()
    write(certificate, old[0])
    write(key, old[1])
    certificates = Certificates(configured(tmp_path))
    write(certificate, new[0])
    assert not renewed(certificates)
    assert not renewed(certificates)
    reason = "is not a PEM certificate with `key` as its key (without a password)"
    assert said(caplog) == [f"{certificate} {reason}: the certificate in use stays"], "once, not at every look"
    write(key, new[1])
    assert renewed(certificates)


def test_a_certificate_that_vanishes_is_told_and_its_return_is_a_renewal(
    tmp_path: Path, files: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    certificate, _ = files
    content = certificate.read_bytes()
    certificates = Certificates(configured(tmp_path))
    ends = certificates.ends
    certificate.unlink()
    assert not renewed(certificates)
    assert len(said(caplog)) == 1
    assert certificates.ends is ends
    certificate.write_bytes(content)
    assert renewed(certificates)


def test_a_certificate_that_vanishes_while_the_gateway_starts_is_no_crash(
    tmp_path: Path, files: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    config = configured(tmp_path)
    files[0].unlink()
    assert Certificates(config).ends == {}
    assert "No such file" in said(caplog)[0]


def test_a_form_of_certificate_that_only_openssl_reads_stays_out_of_use(
    tmp_path: Path, files: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    certificates = Certificates(configured(tmp_path))
    write(files[0], files[0].read_bytes().replace(b" CERTIFICATE", b" TRUSTED CERTIFICATE"))
    ends = certificates.ends
    assert not renewed(certificates)
    assert certificates.ends is ends
    assert str(files[0]) in said(caplog)[0]


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (SOON + 60, None),
        (SOON - 60, "the certificate {} expires on {}"),
        (-60, "the certificate {} has expired on {}: clients will refuse it"),
    ],
)
def test_an_end_that_comes_soon_or_has_come_is_a_warning(
    tmp_path: Path, files: object, caplog: pytest.LogCaptureFixture, before: float, expected: str | None
) -> None:
    clock = Clock(time.time() + SIGNED_FOR - before)
    Certificates(configured(tmp_path), clock).warn()
    day = time.strftime("%Y-%m-%d", time.gmtime(clock.now + before))
    assert said(caplog) == ([expected.format(tmp_path / "a.pem", day)] if expected else [])


def test_it_warns_once_a_day_and_of_a_renewed_one_at_once(
    tmp_path: Path, authority: Authority, files: object, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock(time.time())
    certificates = Certificates(configured(tmp_path), clock)
    for _ in range(5):
        certificates.warn()
        clock.advance(60)
    assert len(said(caplog)) == 1
    clock.advance(DAY)
    certificates.warn()
    assert len(said(caplog)) == 1
    authority.sign("a")
    assert renewed(certificates)
    certificates.warn()
    assert len(said(caplog)) == 1, "the test authority signs for a day, which is soon"


def test_warnings_can_be_read_by_a_person(tmp_path: Path, files: object, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Certificates(configured(tmp_path), Clock(time.time())).warn()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_stamp_changes_with_whatever_happens_to_a_file(tmp_path: Path) -> None:
    file, missing = tmp_path / "file", tmp_path / "missing"
    file.write_text("one")
    first = stamps([file, missing])
    written = file.stat().st_mtime_ns
    assert first[missing] is None
    assert stamps([file, missing]) == first
    write(file, b"two")  # of the same length
    os.utime(file, ns=(written, written))
    assert stamps([file, missing]) != first, "even when the time is put back: it is another file"
    assert stamps([]) == {}


def test_a_secret_that_kubernetes_swaps_is_a_change(tmp_path: Path) -> None:
    """There a file is a link into a folder that is a link, too, and only the latter changes."""
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "tls.crt").write_text(version)
    (tmp_path / "data").symlink_to("1")
    (tmp_path / "tls.crt").symlink_to("data/tls.crt")
    before = stamps([tmp_path / "tls.crt"])
    (tmp_path / "new").symlink_to("2")
    os.replace(tmp_path / "new", tmp_path / "data")
    assert stamps([tmp_path / "tls.crt"]) != before
