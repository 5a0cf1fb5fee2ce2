"""From the configuration's consumers to the providers that know them, and to the callers that they become."""

from pathlib import Path

import pytest

from gateway.auth.consumers import Consumer
from gateway.auth.identity import provider
from gateway.auth.providers import Provider
from gateway.exchange import Hidden
from gateway.parts import Parts
from tests.configs import ROUTE, UPSTREAM, loaded

KEY = "sha256:" + "ab" * 32
PASSWORD = f"scrypt:16384:8:5:{'A' * 22}==:{'A' * 43}="


def config(settings: str, consumer: str = "", more: str = "") -> str:
    known = f"acme: {{keys: ['{KEY}']{consumer}}}"
    return f"auth:\n  providers: {{p: {{{settings}}}}}\n  consumers: {{{known}}}\n{more}{UPSTREAM}{ROUTE}"


@pytest.mark.parametrize("settings", ["type: basic", "type: api_key, header: X-Key"])
@pytest.mark.parametrize(
    ("consumer", "more", "same"),
    [
        ("", "wire: {connections: 5}\n", True),
        ("", "logging: {access: off}\n", True),
        (f", password: '{PASSWORD}'", "", False),
        (", scopes: [a]", "", False),
        (", roles: [a]", "", False),
        (", tier: gold", "", False),
        (", certificate: 'CN=acme'", "", False),
    ],
)
def test_a_provider_outlives_a_reload_while_what_it_knows_is_the_same(
    tmp_path: Path, settings: str, consumer: str, more: str, same: bool
) -> None:
    parts = Parts()

    def built(text: str) -> Provider:
        return provider(loaded(tmp_path, text), "p", parts)

    assert (built(config(settings)) is built(config(settings, consumer, more))) == same


def test_another_password_is_another_provider(tmp_path: Path) -> None:
    parts = Parts()
    one, other = (
        provider(loaded(tmp_path, config("type: basic", f", password: '{password}'")), "p", parts)
        for password in (PASSWORD, PASSWORD.replace(f"{'A' * 43}=", f"{'B' * 42}A="))
    )
    assert one is not other  # or else what it remembers of the old password would still count


def test_a_consumer_is_the_caller_of_the_provider_that_vouches() -> None:
    hidden = Hidden(frozenset({b"x-key"}), frozenset())
    caller = Consumer("acme", scopes=frozenset({"s"}), tier="gold").caller("partners", hidden, signed=True)
    assert (caller.consumer, caller.label, caller.provider) == ("acme", "acme", "partners")
    assert (caller.scopes, caller.tier, caller.hidden, caller.signed) == ({"s"}, "gold", hidden, True)


def test_without_a_word_nothing_is_hidden_and_nothing_signed() -> None:
    assert (Consumer("acme").caller("p").hidden, Consumer("acme").caller("p").signed) == (None, False)
