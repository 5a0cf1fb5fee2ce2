from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from gateway.config.model import Address
from gateway.config.store_url import Host, StoreUrl, parse
from tests.configs import complaint, complaints, loaded
from tests.wire.certificates import Authority


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
    "url",
    [
        "memory",
        "embedded",
        "redis://localhost",
        "redis://localhost:6379/0",
        "rediss://:p%40ss@h:1/15",
        "redis://[::1]:6379",
        "redis+sentinel://h/main",
        "redis+sentinel://u:p%40ss@h1,h2:26380,[::1]:1/my-master.1/3?sentinel_password=x%26y&sentinel_username=w",
        "redis+cluster://h",
        "rediss+cluster://:p%40ss@h1:7000,h2/0",
    ],
)
def test_stores(tmp_path: Path, url: str) -> None:
    assert loaded(tmp_path, f"store: {{url: '{url}'}}\nroutes: []").store.url == url


FORM = "is not of the form redis+sentinel://[user:password@]host[:port],…/name[/database] (in a name or a password, "
OPTIONS = "may have only sentinel_username=… and sentinel_password=…, once behind a question mark"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("memry", "is neither memory, nor embedded, nor a URL such as redis://host:6379/0, redis+sentinel://host1,"),
        (
            "http://somewhere",
            "is neither memory, nor embedded, nor a URL such as redis://host:6379/0, redis+sentinel://host1,",
        ),
        ("redis+sentinels://h/n", "is neither memory, nor embedded, nor a URL such as redis://host:6379/0, redis+"),
        ("redis://", "is not of the form redis://[user:password@]host[:port][/database] ("),
        ("redis+cluster://p@ss@h", "is not of the form redis+cluster://[user:password@]host[:port],… ("),
        ("redis+sentinel://:pa/ss@h/n", FORM),
        ("redis://h:x", "has no valid host and port"),
        ("redis://h:99999/0", "has no valid host and port"),
        ("redis://a b", "has no valid host and port"),
        ("redis://h1,h2", "has no valid host and port"),
        ("redis+cluster://h1,,h2", "has no valid host and port as number 2 of its hosts"),
        ("redis+sentinel://h1,h2:x/n", "has no valid host and port as number 2 of its hosts"),
        ("redis+cluster://h1,h2:6379,h1:6379", "names a host twice"),
        ("redis://h/zero", "has a database that is not a number of up to five digits"),
        ("redis+sentinel://h/n/x", "has a database that is not a number of up to five digits"),
        ("redis+sentinel://h/n/1/2", "has a database that is not a number of up to five digits"),
        (
            "redis+sentinel://somewhere",
            "does not name the master as the sentinels do: redis+sentinel://host1,host2/name",
        ),
        ("redis+sentinel://h//0", "does not name the master as the sentinels do: redis+sentinel://host1,host2/name"),
        ("redis+cluster://h/1", "names a database or a master: a cluster has neither, so nothing follows its hosts"),
        ("redis://h/0?db=1", "may have nothing behind a question mark"),
        ("redis+cluster://h?ssl=true", "may have nothing behind a question mark"),
        ("redis+sentinel://h/n?password=x", OPTIONS),
        ("redis+sentinel://h/n?sentinel_password=", OPTIONS),
        ("redis+sentinel://h/n?sentinel_password=a&sentinel_password=b", OPTIONS),
        ("redis+sentinel://h/n?sentinel_username=w", "has a sentinel_username, but no sentinel_password"),
    ],
)
def test_stores_that_cannot_be_are_refused_without_being_quoted(tmp_path: Path, url: str, expected: str) -> None:
    said = complaint(tmp_path, f"store: {{url: '{url}'}}\nroutes: []")
    assert said.startswith(f"1:14: store.url: {expected}")
    rest = url.partition("://")[2]
    assert not rest or rest not in said.replace("redis://host:6379/0", "")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:hunter2@h:1/0", "redis://***@h:1/0"),
        ("redis+cluster://:hunter2@h1,h2", "redis+cluster://***@h1,h2"),
        (
            "redis+sentinel://:hunter2@h1,h2/n/0?sentinel_username=hunter2&sentinel_password=hunter2",
            "redis+sentinel://***@h1,h2/n/0?sentinel_username=***&sentinel_password=***",
        ),
    ],
)
def test_no_password_of_a_store_is_shown(tmp_path: Path, url: str, shown: str) -> None:
    config = loaded(tmp_path, f"store: {{url: '{url}'}}\nroutes: []")
    assert "hunter2" not in repr(config) + str(config) + config.model_dump_json()
    assert config.model_dump(mode="json")["store"]["url"] == shown
    assert "hunter2" not in repr(parse(url))


def test_a_url_is_taken_apart() -> None:
    url = "rediss+sentinel://me:p%40ss@h1,[::1]:7/main/3?sentinel_password=x%26y"
    assert parse(url) == StoreUrl(
        "sentinel", True, (Host("h1", 26379), Host("::1", 7)), "me", "p@ss", "main", 3, sentinel_password="x&y"
    )
    assert parse("redis+cluster://h1,h2:7") == StoreUrl("cluster", False, (Host("h1", 6379), Host("h2", 7)))
    assert parse("redis://:p@h") == StoreUrl("server", False, (Host("h", 6379),), password="p")


def test_the_store_may_not_wait_for_no_time(tmp_path: Path) -> None:
    assert (
        complaint(tmp_path, "store: {timeout: 0ms}\nroutes: []") == "1:18: store.timeout: must be longer than nothing"
    )


def test_words_are_from_a_list(tmp_path: Path) -> None:
    text = "store: {on_failure: close}\nlogging: {access: jsn, level: 5}\nroutes: []"
    assert complaints(tmp_path, text) == [
        "1:21: store.on_failure: must be one of local, open, closed, not 'close' (did you mean 'closed'?)",
        "2:19: logging.access: must be one of json, ecs, combined, off, not 'jsn' (did you mean 'json'?)",
        "2:31: logging.level: must be one of debug, info, warning, error, not 5",
    ]


def test_trusted_proxies_are_networks(tmp_path: Path) -> None:
    config = loaded(tmp_path, "trusted_proxies: [10.0.0.0/8, '::1']\nroutes: []")
    assert [str(network) for network in config.trusted_proxies] == ["10.0.0.0/8", "::1/128"]
    assert complaint(tmp_path, "trusted_proxies: [10.0.0.1/8]\nroutes: []") == (
        "1:19: trusted_proxies[0]: '10.0.0.1/8' has bits outside its mask (did you mean '10.0.0.0/8'?)"
    )


# -- TLS -----------------------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Signs a.pem with a.key, and b.pem with b.key."""
    authority = Authority(tmp_path, "ca")
    for name in "ab":
        authority.sign(name)
    return authority


def https(settings: str, more: str = "") -> str:
    """A configuration with a TLS listener; its settings begin at column 19."""
    return f"listen: {{https: {{address: '127.0.0.1:8443', {settings}}}{more}}}\nroutes: []"


PAIR = "certificate: a.pem, key: a.key"


def test_a_tls_listener_has_a_certificate_and_strict_defaults(tmp_path: Path, authority: Authority) -> None:
    listener = loaded(tmp_path, https(PAIR)).listen.https
    assert listener is not None
    assert listener.address == (Address("127.0.0.1", 8443),)
    assert (listener.certificate, listener.key) == (tmp_path / "a.pem", tmp_path / "a.key")
    assert (listener.client_ca, listener.client_certificate, listener.hsts) == (None, "required", None)
    assert list(listener.pairs) == [(tmp_path / "a.pem", tmp_path / "a.key")]


def test_a_tls_listener_may_have_several_certificates(tmp_path: Path, authority: Authority) -> None:
    settings = f"{PAIR}, certificates: [{{certificate: b.pem, key: b.key}}], client_ca: ca.pem, hsts: 180d"
    listener = loaded(tmp_path, https(settings + ", client_certificate: optional")).listen.https
    assert listener is not None
    assert [(certificate.name, key.name) for certificate, key in listener.pairs] == [
        ("a.pem", "a.key"),
        ("b.pem", "b.key"),
    ]
    assert (listener.client_ca, listener.client_certificate) == (tmp_path / "ca.pem", "optional")
    assert listener.hsts == 180 * 86400


UNUSABLE = "is not a PEM certificate with `key` as its key (without a password)"


@pytest.mark.parametrize(
    ("settings", "at", "expected"),
    [
        ("certificate: a.pem, key: b.key", "a.pem", f"certificate: {UNUSABLE}"),
        ("certificate: a.key, key: a.key", "a.key", f"certificate: {UNUSABLE}"),
        ("certificate: a.pem, key: locked.key", "a.pem", f"certificate: {UNUSABLE}"),
        (
            f"{PAIR}, certificates: [{{certificate: b.pem, key: a.key}}]",
            "b.pem",
            f"certificates[0].certificate: {UNUSABLE}",
        ),
        ("certificate: c.pem, key: a.key", "c.pem", "certificate: cannot read 'c.pem': No such file or directory"),
        (f"{PAIR}, client_ca: b.key", "b.key", "client_ca: is not a PEM file with certificates"),
        (f"{PAIR}, client_certificate: optional", "optional", "client_certificate: has no effect without client_ca"),
        (
            f"{PAIR}, client_ca: ca.pem, client_certificate: maybe",
            "maybe",
            "client_certificate: must be one of optional, required, not 'maybe'",
        ),
        (f"{PAIR}, hsts: 0s", "0s", "hsts: must be longer than nothing"),
        (f"{PAIR}, protocols: [TLSv1]", "protocols", "protocols: unknown key"),
        ("certificate: a.pem", "{address", "key: is required"),
    ],
)
def test_tls_that_cannot_work_is_refused_where_it_is_written(
    tmp_path: Path, authority: Authority, settings: str, at: str, expected: str
) -> None:
    key = load_pem_private_key((tmp_path / "a.key").read_bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (tmp_path / "locked.key").write_bytes(locked)
    text = https(settings)
    assert complaint(tmp_path, text) == f"1:{text.index(at) + 1}: listen.https.{expected}"


BOTH = "clients and operators cannot be served at the same address"


@pytest.mark.parametrize(
    ("listen", "at", "expected"),
    [
        ("http: '127.0.0.1:8443', ", "'127.0.0.1:8443', c", "https.address: is the address of listen.http, too"),
        ("admin: '127.0.0.1:8443', ", "'127.0.0.1:8443', h", f"admin: {BOTH}"),
        ("admin: '127.0.0.1:9443', http: '127.0.0.1:9443', ", "'127.0.0.1:9443', http", f"admin: {BOTH}"),
    ],
)
def test_nobody_listens_where_another_does(
    tmp_path: Path, authority: Authority, listen: str, at: str, expected: str
) -> None:
    text = https(PAIR).replace("{https", "{" + listen + "https")
    assert complaint(tmp_path, text) == f"1:{text.index(at) + 1}: listen.{expected}"


def test_an_address_for_tls_may_not_be_that_of_the_operators_by_default(tmp_path: Path, authority: Authority) -> None:
    text = https(PAIR).replace("8443", "9901")
    assert complaint(tmp_path, text) == f"1:{text.index(chr(39)) + 1}: listen.https.address: {BOTH}"


def test_plain_http_can_be_off_when_there_is_tls(tmp_path: Path, authority: Authority) -> None:
    for off in ("off", "'off'", "false"):
        assert loaded(tmp_path, https(PAIR, f", http: {off}")).listen.http is None
        assert complaint(tmp_path, f"listen: {{http: {off}}}\nroutes: []") == (
            "1:16: listen.http: is off, and there is no listen.https: nobody could be served"
        )


def test_every_address_for_clients_says_whether_it_speaks_tls(tmp_path: Path, authority: Authority) -> None:
    text = https(PAIR, ", http: [127.0.0.1:80, unix:a.sock]").replace(
        "'127.0.0.1:8443'", "['[::1]:443', 127.0.0.1:443]"
    )
    clients = [(str(address), secure) for address, secure in loaded(tmp_path, text).listen.clients]
    plain = [("127.0.0.1:80", False), (f"unix:{tmp_path}/a.sock", False)]
    assert clients == [*plain, ("[::1]:443", True), ("127.0.0.1:443", True)]
    alone = loaded(tmp_path, https(PAIR, ", http: off")).listen
    assert [secure for _, secure in alone.clients] == [True]


@pytest.mark.parametrize(
    ("value", "expected"),
    [("true", 0), ("'true'", 0), ("false", None), ("'false'", None), ("443", 443), ("'8443'", 8443)],
)
def test_plain_requests_can_be_redirected(
    tmp_path: Path, authority: Authority, value: str, expected: int | None
) -> None:
    assert loaded(tmp_path, https(PAIR, f", redirect_to_https: {value}")).listen.redirect_to_https == expected


def test_a_redirect_is_off_unless_asked_for(tmp_path: Path, authority: Authority) -> None:
    assert loaded(tmp_path, https(PAIR)).listen.redirect_to_https is None
    assert loaded(tmp_path, "listen: {redirect_to_https: false}\nroutes: []").listen.redirect_to_https is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("yes", "must be a whole number, not 'yes'"),
        ("65536", "65536 is not a port: a number up to 65535"),
        ("1.5", "must be a whole number, not 1.5"),
        ("[443]", "must be a whole number, not a list"),
    ],
)
def test_a_redirect_goes_to_a_port(tmp_path: Path, authority: Authority, value: str, expected: str) -> None:
    assert complaint(tmp_path, https(PAIR, f", redirect_to_https: {value}")).endswith(f"redirect_to_https: {expected}")


@pytest.mark.parametrize("value", ["0", "1"])
def test_a_redirect_to_a_number_is_not_taken_for_yes_or_no(tmp_path: Path, authority: Authority, value: str) -> None:
    text = https(PAIR, f", redirect_to_https: {value}")
    if value == "0":
        assert complaint(tmp_path, text).endswith("0 is not a port: a number up to 65535")
    else:
        assert loaded(tmp_path, text).listen.redirect_to_https == 1


def test_a_redirect_needs_both_ends(tmp_path: Path, authority: Authority) -> None:
    assert complaint(tmp_path, "listen: {redirect_to_https: true}\nroutes: []") == (
        "1:29: listen.redirect_to_https: has no effect without listen.https"
    )
    assert complaint(tmp_path, https(PAIR, ", http: off, redirect_to_https: true")).endswith(
        "listen.redirect_to_https: has no effect without listen.http"
    )


# -- PROXY protocol, admin token, limits of the wire -----------------------------------------------------


def test_the_proxy_protocol_needs_somebody_to_trust(tmp_path: Path) -> None:
    assert loaded(tmp_path, "routes: []").listen.proxy_protocol is False
    trusting = "listen: {proxy_protocol: true}\ntrusted_proxies: [10.0.0.0/8]\nroutes: []"
    assert loaded(tmp_path, trusting).listen.proxy_protocol is True
    for nobody in ("", "trusted_proxies: []\n"):
        assert complaint(tmp_path, f"listen: {{proxy_protocol: true}}\n{nobody}routes: []") == (
            "1:26: listen.proxy_protocol: has no effect: trusted_proxies names nobody"
        )


def test_the_admin_token_is_kept_secret(tmp_path: Path) -> None:
    assert loaded(tmp_path, "routes: []").listen.admin_token is None
    (tmp_path / "token").write_text("hunter2hunter2\n")
    for text in ("${TOKEN}", "${file:token}"):
        config = loaded(tmp_path, f"listen: {{admin_token: '{text}'}}\nroutes: []", {"TOKEN": "hunter2hunter2"})
        assert config.listen.admin_token is not None
        assert config.listen.admin_token.get_secret_value() == "hunter2hunter2"
        assert "hunter2" not in repr(config) + config.model_dump_json()
    assert "hunter2" not in complaint(tmp_path, "listen: {admin_token: [hunter2]}\nroutes: []")


def test_the_pace_of_bodies_and_the_lame_duck_may_be_nothing(tmp_path: Path) -> None:
    wire = loaded(tmp_path, "routes: []").wire
    assert (wire.body_rate, wire.lame_duck) == (240, 1.0)
    wire = loaded(tmp_path, "wire: {body_rate: 0B, lame_duck: 0s}\nroutes: []").wire
    assert (wire.body_rate, wire.lame_duck) == (0, 0.0)
    wire = loaded(tmp_path, "wire: {body_rate: 1KiB, lame_duck: 15s}\nroutes: []").wire
    assert (wire.body_rate, wire.lame_duck) == (1024, 15.0)
    said = complaints(tmp_path, "wire: {body_rate: fast, lame_duck: -1s}\nroutes: []")
    assert [line.split(": ")[1] for line in said] == ["wire.body_rate", "wire.lame_duck"]


# -- TLS for operators -------------------------------------------------------------------------------


def test_operators_may_be_served_over_tls(tmp_path: Path, authority: Authority) -> None:
    authority.sign("localhost", file="a")
    text = f"listen: {{admin_tls: {{certificate: a.pem, key: a.key, client_ca: {authority.file.name}}}}}\nroutes: []"
    tls = loaded(tmp_path, text).listen.admin_tls
    assert tls is not None
    assert (tls.certificate, tls.key, tls.client_ca) == (tmp_path / "a.pem", tmp_path / "a.key", authority.file)
    assert loaded(tmp_path, "routes: []").listen.admin_tls is None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("admin_tls: {certificate: a.pem}", "listen.admin_tls.key: is required"),
        ("admin_tls: {certificate: a.key, key: a.key}", "listen.admin_tls.certificate: is not a PEM certificate"),
        ("admin_tls: {certificate: a.pem, key: a.key, client_ca: a.key}", "listen.admin_tls.client_ca: is not a PEM"),
        ("admin: off, admin_tls: {certificate: a.pem, key: a.key}", "listen.admin_tls: has no effect without"),
    ],
)
def test_tls_for_operators_that_cannot_be(tmp_path: Path, authority: Authority, settings: str, expected: str) -> None:
    authority.sign("localhost", file="a")
    assert f": {expected}" in complaint(tmp_path, f"listen: {{{settings}}}\nroutes: []")
