"""Where a shared store is: its URL, taken apart. One server, a master that sentinels watch over, or a cluster.

    redis://[user:password@]host[:6379][/DB]
    redis+sentinel://[user:password@]host[:26379],…/NAME[/DB][?sentinel_username=…&sentinel_password=…]
    redis+cluster://[user:password@]host[:6379],…

`rediss` in place of `redis` means TLS, to sentinels too. User and password are for the servers; sentinels have their
own, or none. A URL may be secret, so no message quotes it.
"""

import re
from dataclasses import dataclass, field
from typing import Literal, NamedTuple
from urllib.parse import unquote

from gateway.config.syntax import split_authority

Kind = Literal["server", "sentinel", "cluster"]

FORMS: dict[str, tuple[Kind, str, int]] = {
    "": ("server", "host[:port][/database]", 6379),
    "+sentinel": ("sentinel", "host[:port],…/name[/database]", 26379),
    "+cluster": ("cluster", "host[:port],…", 6379),
}
"""By what follows `redis` or `rediss`: the kind, the form, the port of a host that names none."""

SCHEME = re.compile(r"(rediss?)(\+sentinel|\+cluster)?://")
REST = re.compile(r"(?:([^@/?#]*)@)?([^@/?#]+)(?:/([^@?#]*))?(?:\?([^@/?#]*))?")
MASTER_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
"""What Redis itself takes for the name of a master."""
DATABASE = re.compile(r"[0-9]{1,5}", re.ASCII)
OPTION = re.compile(r"(sentinel_username|sentinel_password)=([^=]+)")

EXAMPLES = "redis://host:6379/0, redis+sentinel://host1,host2/name or redis+cluster://host1,host2"


class Host(NamedTuple):
    name: str
    """IPv6 without brackets."""
    port: int


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """What a URL says; "" where it says nothing."""

    kind: Kind
    tls: bool
    hosts: tuple[Host, ...]
    """Of the servers, or of the sentinels."""
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    name: str = ""
    """Of the master that the sentinels watch."""
    database: int = 0
    sentinel_username: str = field(default="", repr=False)
    sentinel_password: str = field(default="", repr=False)


def parse(url: str) -> StoreUrl:
    """Raises ValueError, to be read behind the name of what holds the URL."""
    scheme = SCHEME.match(url)
    if not scheme:
        raise ValueError(f"is neither memory, nor embedded, nor a URL such as {EXAMPLES}")
    kind, form, port = FORMS[scheme[2] or ""]
    rest = REST.fullmatch(url, scheme.end())
    if not rest:
        raise ValueError(
            f"is not of the form {scheme[0]}[user:password@]{form} "
            "(in a name or a password, @ / ? # are written %40 %2F %3F %23)"
        )
    user, _, password = (rest[1] or "").partition(":")
    name, database = _path(kind, rest[3] or "")
    options = _options(kind, rest[4])
    return StoreUrl(
        kind,
        scheme[1] == "rediss",
        _hosts(rest[2].split(",") if kind != "server" else [rest[2]], port),
        unquote(user),
        unquote(password),
        name,
        database,
        options.get("sentinel_username", ""),
        options.get("sentinel_password", ""),
    )


def masked(url: str) -> str:
    """The URL for eyes: without users and passwords."""
    return re.sub(r"(sentinel_(?:username|password)=)[^&]*", r"\1***", re.sub("//.*@", "//***@", url))


def _hosts(written: list[str], port: int) -> tuple[Host, ...]:
    hosts: list[Host] = []
    for number, each in enumerate(written, 1):
        try:
            name, own_port = split_authority(each)
        except ValueError:
            which = f" as number {number} of its hosts" if len(written) > 1 else ""
            raise ValueError(f"has no valid host and port{which}") from None
        hosts.append(Host(name, port if own_port is None else own_port))
    if len(set(hosts)) != len(hosts):
        raise ValueError("names a host twice")
    return tuple(hosts)


def _path(kind: Kind, path: str) -> tuple[str, int]:
    """The master's name, and the database."""
    if kind == "cluster":
        if path not in ("", "0"):
            raise ValueError("names a database or a master: a cluster has neither, so nothing follows its hosts")
        return "", 0
    name, database = "", path
    if kind == "sentinel":
        name, _, database = path.partition("/")
        if not MASTER_NAME.fullmatch(name):
            raise ValueError("does not name the master as the sentinels do: redis+sentinel://host1,host2/name")
    if database and not DATABASE.fullmatch(database):
        raise ValueError("has a database that is not a number of up to five digits")
    return name, int(database or 0)


def _options(kind: Kind, query: str | None) -> dict[str, str]:
    """What stands behind the question mark."""
    if query is None:
        return {}
    found = [OPTION.fullmatch(option) for option in query.split("&")]
    options = {option[1]: unquote(option[2]) for option in found if option}
    if kind != "sentinel" or len(options) < len(found):
        known = "only sentinel_username=… and sentinel_password=…, once" if kind == "sentinel" else "nothing"
        raise ValueError(f"may have {known} behind a question mark")
    if "sentinel_username" in options and "sentinel_password" not in options:
        raise ValueError("has a sentinel_username, but no sentinel_password")
    return options
