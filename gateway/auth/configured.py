"""From `auth` of the configuration to the providers of known callers, and to what a route asks of its callers."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from gateway.auth import passwords
from gateway.auth.api_keys import ApiKeyProvider, without
from gateway.auth.asking import Issuer
from gateway.auth.basic import BasicProvider
from gateway.auth.bearer import Bearer, Places
from gateway.auth.by_issuer import Issuers
from gateway.auth.certificates import CertificateProvider
from gateway.auth.claim_rules import by_claims
from gateway.auth.consumers import Consumer
from gateway.auth.door import Identify
from gateway.auth.keyset import KeySet
from gateway.auth.permissions import Permit, anyone, by_roles, by_scopes, in_turn, or_ask_who
from gateway.auth.places import OtherPlaces
from gateway.auth.providers import Provider
from gateway.auth.records import Records
from gateway.auth.roles import Matrix
from gateway.auth.throttle import FailureLimit
from gateway.auth.tokens import JwtProvider
from gateway.config import providers as settings
from gateway.config.consumers import Consumer as ConsumerSettings
from gateway.config.model import Config, RouteAuth
from gateway.config.route_auth import AllOf, AnyOf
from gateway.exchange import Hidden
from gateway.limits.gcra import rate
from gateway.limits.store import RateStore
from gateway.parts import Parts

OfConsumers = settings.ApiKeyProvider | settings.BasicProvider | settings.CertificateProvider
"""The settings of providers that vouch for the configuration's own consumers."""

InQuery = settings.ApiKeyProvider | settings.BearerProvider
"""The settings of providers whose credentials may stand in the query: none of them is forwarded there."""


def by_issuer(given: Mapping[str, settings.Provider], providers: Mapping[str, Provider]) -> list[Provider]:
    """The providers in their order; those of JWTs in the same places as one, where the first of them stands."""
    groups: dict[object, list[Provider]] = {}
    for name, each in given.items():
        same = (each.header, each.cookie, each.query, each.origins) if isinstance(each, settings.JwtProvider) else name
        groups.setdefault(same, []).append(providers[name])
    return [_as_one(group) for group in groups.values()]


def _as_one(group: Sequence[Provider]) -> Provider:
    issuers = [each for each in group if isinstance(each, JwtProvider)]
    return Issuers(issuers) if len(issuers) > 1 else group[0]


def permit(
    auth: RouteAuth | None,
    roles: Matrix,
    providers: Mapping[str, Provider],
    clock: Callable[[], float] = time.time,
) -> Permit:
    """Whether the caller may, on a route with these settings."""
    if auth is None:
        return anyone
    asked = []
    if auth.scopes:
        lists = {method: [_scope(entry) for entry in entries] for method, entries in auth.scopes.items()}
        asked.append(by_scopes(lists, roles))
    if isinstance(auth.roles, AllOf):
        asked.append(by_roles(auth.roles.all, roles, every=True))
    elif auth.roles:
        asked.append(by_roles(auth.roles, roles))
    if auth.claims or auth.max_age is not None:
        asked.append(by_claims(auth.claims, auth.max_age, clock=clock))
    if auth.optional and asked:
        return or_ask_who(in_turn(*asked), [providers[name].challenge for name in auth.providers])
    return in_turn(*asked)


def without_parameters(identify: Identify, given: Iterable[settings.Provider]) -> Identify:
    """`identify`, after which no credential stands in the query any more."""
    parameters = [each.query.encode() for each in given if isinstance(each, InQuery) and each.query]
    return without(identify, parameters) if parameters else identify


def withheld(config: Config) -> Iterator[bytes]:
    """Headers that no client sends through to an upstream: identity, which is the gateway's to tell, and API keys."""
    for each in config.auth.providers.values():
        if isinstance(each, settings.BearerProvider):
            yield from (name.lower().encode() for name in each.forward)
        elif isinstance(each, settings.ApiKeyProvider) and each.header:
            yield each.header.lower().encode()


def consumers(config: Config) -> tuple[Consumer, ...]:
    """The known callers."""
    return tuple(_consumer(name, each) for name, each in config.auth.consumers.items())


def places(given: settings.BearerProvider) -> Places:
    """Where the tokens of a provider stand."""
    if given.header is None and given.cookie is None and given.query is None:
        return Bearer()
    return OtherPlaces(
        header=given.header.lower().encode() if given.header else None,
        cookie=given.cookie.encode() if given.cookie else None,
        query=given.query.encode() if given.query else None,
        origins=[origin.encode() for origin in given.origins],
    )


def hidden_of(given: settings.BearerProvider | settings.BasicProvider) -> tuple[Hidden | None, bool]:
    """What of these credentials ends at the gateway, and whether the upstream gets a signed token instead."""
    if given.credential == "forward":
        return None, False
    headers, cookies = {b"authorization"}, set()
    if isinstance(given, settings.BearerProvider):
        headers |= {given.header.lower().encode()} if given.header else set()
        cookies |= {given.cookie.encode()} if given.cookie else set()
    return Hidden(frozenset(headers), frozenset(cookies)), given.credential == "sign"


def provider(name: str, given: OfConsumers, known: Sequence[Consumer], records: Records) -> Provider:
    """A provider that vouches for `known`."""
    signed = given.credential == "sign"
    match given:
        case settings.ApiKeyProvider(header=header, query=query):
            return ApiKeyProvider(
                name,
                consumers=known,
                header=header.lower().encode() if header else None,
                query=query.encode() if query else None,
                signed=signed,
                stored=records.consumer_of,
            )
        case settings.BasicProvider():
            return BasicProvider(name, consumers=known, hidden=hidden_of(given)[0], signed=signed)
        case settings.CertificateProvider():
            return CertificateProvider(name, consumers=known, signed=signed)


def failure_limit(config: Config, store: RateStore, clock: Callable[[], float], parts: Parts) -> FailureLimit | None:
    """Counts wrong credentials where the limits are counted, for all routes together."""
    allowed = config.auth.failure_limit
    if allowed is None:
        return None
    counted = rate("auth.failure_limit", allowed.limit, allowed.window)
    return parts.get(("failures", counted, store), lambda: FailureLimit(counted, store, clock))


def observe_issuers(parts: Parts, asked: Callable[[str, str, str, float], None]) -> None:
    """Tell `asked` how long those are waited for that publish keys, or are asked about tokens."""
    for keys in parts.of(KeySet):
        keys.observe = partial(asked, keys.name, "keys")
    for issuer in parts.of(Issuer):
        issuer.observe = partial(asked, issuer.name, "introspection")


def _consumer(name: str, given: ConsumerSettings) -> Consumer:
    return Consumer(
        name,
        keys=tuple(bytes.fromhex(key.removeprefix("sha256:")) for key in given.keys),
        password=passwords.read(given.password.get_secret_value()) if given.password else None,
        certificate=given.certificate or "",
        scopes=frozenset(given.scopes),
        roles=frozenset(given.roles),
        tier=given.tier or "",
    )


def _scope(entry: str | AnyOf) -> str | tuple[str, ...]:
    return entry if isinstance(entry, str) else entry.any
