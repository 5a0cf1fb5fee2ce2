from pathlib import Path

import pytest

from gateway.config.model import Address
from tests.configs import complaint, complaints, loaded


def test_listeners_are_one_or_several(tmp_path: Path) -> None:
    one = loaded(tmp_path, "listen: {http: '[::1]:80', admin: off}\nroutes: []").listen
    assert (one.http, one.admin) == ((Address("::1", 80),), None)
    several = loaded(tmp_path, "listen:\n  http: [127.0.0.1:0, 127.0.0.1:0, unix:a.sock]\nroutes: []").listen
    assert several.http == (Address("127.0.0.1", 0), Address("127.0.0.1", 0), Address("", 0, str(tmp_path / "a.sock")))


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("http: 127.0.0.1:80800", "1:16: listen.http: '80800' is not a port: a number up to 65535"),
        ("http: [127.0.0.1:80, nowhere]", "1:31: listen.http[1]: 'nowhere' has no port"),
        ("http: []", "1:16: listen.http: must have at least one entry"),
        ("http: [a:1, b:1, a:1]", "1:16: listen.http: an address is here twice"),
        ("http: {a: 1}", "1:16: listen.http: must be text, not a mapping"),
        ("admin: 127.0.0.1:8080", "1:17: listen.admin: clients and operators cannot be served at the same address"),
        ("http: 127.0.0.1:9901", "1:16: listen.http: clients and operators cannot be served at the same address"),
        ("admin: [a:1]", "1:17: listen.admin: must be text, not a list"),
    ],
)
def test_listeners_that_cannot_be(tmp_path: Path, listen: str, expected: str) -> None:
    assert complaint(tmp_path, f"listen: {{{listen}}}\nroutes: []").startswith(expected)


@pytest.mark.parametrize(
    "url", ["memory", "redis://localhost", "redis://localhost:6379/0", "rediss://:p%40ss@h:1/15", "redis://[::1]:6379"]
)
def test_stores(tmp_path: Path, url: str) -> None:
    assert loaded(tmp_path, f"store: {{url: '{url}'}}\nroutes: []").store.url == url


@pytest.mark.parametrize(
    "url",
    [
        "memry",
        "http://h",
        "redis://",
        "redis://h:x",
        "redis://h:99999/0",
        "redis://h/zero",
        "redis://h/0?db=1",
        "redis://a b",
    ],
)
def test_stores_that_cannot_be_are_refused_without_being_quoted(tmp_path: Path, url: str) -> None:
    said = complaint(tmp_path, f"store: {{url: '{url}'}}\nroutes: []")
    assert said.startswith("1:14: store.url: ")
    assert url not in said.replace("redis://host:6379/0", "").replace("rediss://user:password@host/0", "")


def test_the_store_may_not_wait_for_no_time(tmp_path: Path) -> None:
    assert (
        complaint(tmp_path, "store: {timeout: 0ms}\nroutes: []") == "1:18: store.timeout: must be longer than nothing"
    )


def test_words_are_from_a_list(tmp_path: Path) -> None:
    text = "store: {on_failure: close}\nlogging: {access: jsn, level: 5}\nroutes: []"
    assert complaints(tmp_path, text) == [
        "1:21: store.on_failure: must be one of local, open, closed, not 'close' (did you mean 'closed'?)",
        "2:19: logging.access: must be one of json, off, not 'jsn' (did you mean 'json'?)",
        "2:31: logging.level: must be one of debug, info, warning, error, not 5",
    ]


def test_trusted_proxies_are_networks(tmp_path: Path) -> None:
    config = loaded(tmp_path, "trusted_proxies: [10.0.0.0/8, '::1']\nroutes: []")
    assert [str(network) for network in config.trusted_proxies] == ["10.0.0.0/8", "::1/128"]
    assert complaint(tmp_path, "trusted_proxies: [10.0.0.1/8]\nroutes: []") == (
        "1:19: trusted_proxies[0]: '10.0.0.1/8' has bits outside its mask (did you mean '10.0.0.0/8'?)"
    )
