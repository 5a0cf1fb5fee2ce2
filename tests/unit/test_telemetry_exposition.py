import gc
import gzip
import sys

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gateway.telemetry.exposition import OPENMETRICS, TEXT, GivingWay, Scrape, asks_for_openmetrics
from gateway.telemetry.metrics import Metrics

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.fixture
def metrics():
    made = Metrics()
    made.auth.child("idp", "ok").inc(3)
    return made


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (PROMETHEUS_2, True),
        (PROMETHEUS_3, True),
        ("application/openmetrics-text", True),
        ("Application/OpenMetrics-Text; Version=1.0.0", True),
        ("application/openmetrics-text; version=0.0.1", False),
        ("text/plain;version=0.0.4, application/openmetrics-text;version=1.0.0", False),
        ("text/html,application/xhtml+xml,*/*;q=0.8", False),
        ("*/*", False),
        ("", False),
        (",;,=;version=x.y,application/openmetrics-text;version", True),
        ("application/openmetrics-textual", False),
    ],
)
def test_the_format_is_the_one_that_is_asked_for(accept, expected):
    assert asks_for_openmetrics(accept) is expected


def test_a_scrape_says_what_form_its_answer_has(metrics):
    scrape = Scrape(metrics.read)
    text, headers = scrape.answer("")
    assert headers["Content-Type"] == TEXT
    assert b'gateway_auth_total{provider="idp",result="ok"} 3.0\n' in text
    text, headers = scrape.answer(PROMETHEUS_2)
    assert headers["Content-Type"] == OPENMETRICS
    assert {family.name for family in text_string_to_metric_families(text.decode())} >= {"gateway_auth"}


@pytest.mark.parametrize("accept", ["", PROMETHEUS_2])
def test_it_is_compressed_for_who_asks_for_that(metrics, accept):
    scrape = Scrape(metrics.read)
    plain, headers = scrape.answer(accept)
    assert "Content-Encoding" not in headers
    short, headers = scrape.answer(accept, "gzip")
    assert headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(short) == plain


@pytest.mark.parametrize("encoding", ["", "identity", "gzip;q=0", "br, zstd", "gz\udcffip"])
def test_it_is_not_compressed_for_who_does_not(metrics, encoding):
    assert "Content-Encoding" not in Scrape(metrics.read).answer("", encoding)[1]


def test_it_is_as_before_when_the_last_of_several_scrapes_has_ended():
    before, giving_way = sys.getswitchinterval(), GivingWay()
    with giving_way():
        with giving_way():
            assert sys.getswitchinterval() < before
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert sys.getswitchinterval() == before
    assert gc.isenabled()


def test_a_scrape_that_fails_leaves_everything_as_it_was():
    def broken():
        raise OSError("no folder")

    before = sys.getswitchinterval()
    with pytest.raises(OSError, match="no folder"):
        Scrape(broken).answer("")
    assert (sys.getswitchinterval(), gc.isenabled()) == (before, True)
