"""Decides whether the claims of a caller are those that a route requires: certain values, a recent authentication.

Where another authentication of the same user can help (`acr`, `amr`, `auth_time`) the refusal is the step-up challenge
of RFC 9470, a 401; elsewhere, and for callers without claims (a key, a password, a certificate), it is 403.
"""

from collections.abc import Callable, Collection, Mapping

from gateway.auth.claims import find
from gateway.auth.permissions import SCOPE, Permit, forbidden
from gateway.auth.providers import REALM
from gateway.errors import Refused
from gateway.exchange import Caller

LEVEL, METHOD, TIME = "acr", "amr", "auth_time"
STEP_UP = frozenset((LEVEL, METHOD, TIME))
"""What another authentication changes; by exact name, which is what RFC 9470 and OpenID Connect Core speak of."""

AHEAD = 60.0
"""Seconds that the issuer's clock may be ahead: not leeway for the age, but a time in milliseconds is never recent."""

Value = str | int | float | bool
SINGLE = (str, int, float)
Accepted = frozenset[tuple[bool, Value]]
"""Values, each with whether it is a boolean: to Python True is 1, to JSON it is not."""


def by_claims(
    rules: Mapping[str, Collection[Value]], max_age: float | None = None, *, clock: Callable[[], float]
) -> Permit:
    """Each claim in `rules` (a dotted path) must be, or as a list hold, one of its values.

    With `max_age`, in seconds, `auth_time` must be no older. Raises ValueError for an `acr` that no header could carry.
    """
    asked = [(name, frozenset((isinstance(value, bool), value) for value in values)) for name, values in rules.items()]
    challenge = _challenge(rules.get(LEVEL, ()), max_age)

    def permit(method: str, caller: Caller) -> None:
        claims = caller.claims
        for name, accepted in asked:
            if not _holds(find(claims, name), accepted):
                break
        else:
            if max_age is None or _recent(claims.get(TIME), clock(), max_age):
                return
        raise refusal(caller)

    def refusal(caller: Caller) -> Refused:
        missing = {
            name: f"{name} {' or '.join(map(value_text, rules[name]))}"
            for name, accepted in asked
            if not _holds(find(caller.claims, name), accepted)
        }
        if max_age is not None and not _recent(caller.claims.get(TIME), clock(), max_age):
            missing[TIME] = f"{TIME} of the last {max_age:.0f} s"
        detail = f"Missing claim{'s' if len(missing) > 1 else ''}: {', '.join(missing.values())}"
        # What no authentication brings goes first: nobody shall log in again only to be refused for something else.
        if not caller.claims or missing.keys() - STEP_UP:
            return forbidden(detail, caller)
        return Refused("unauthenticated", 401, detail, headers=[(b"www-authenticate", challenge(missing))])

    return permit


def value_text(value: Value) -> str:
    """As JSON and YAML write it, without quotes."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _challenge(levels: Collection[Value], max_age: float | None) -> Callable[[Collection[str]], bytes]:
    """RFC 9470 section 3, by what is missing; the levels in the order of the configuration, which is of preference."""
    if not all(isinstance(level, str) and SCOPE.fullmatch(level) for level in levels):
        raise ValueError("a value of acr has a character that acr_values cannot carry")
    acr_values = b', acr_values="%b"' % " ".join(map(str, levels)).encode()
    age = b', max_age="%d"' % max_age if max_age is not None else b""

    def challenge(missing: Collection[str]) -> bytes:
        otherwise = LEVEL in missing or METHOD in missing
        return b'Bearer %b, error="insufficient_user_authentication", error_description="%b"%b%b' % (
            REALM,
            b"The user has to authenticate in another way" if otherwise else b"The user has to authenticate again",
            acr_values if LEVEL in missing else b"",
            age,
        )

    return challenge


def _holds(value: object, accepted: Accepted) -> bool:
    for one in value if isinstance(value, list) else (value,):
        if isinstance(one, SINGLE) and (isinstance(one, bool), one) in accepted:
            return True
    return False


def _recent(authenticated: object, now: float, max_age: float) -> bool:
    if isinstance(authenticated, bool) or not isinstance(authenticated, int | float):
        return False
    return now - max_age <= authenticated <= now + AHEAD  # compared, not subtracted: a huge integer is no float
