"""From the configuration to what changes requests and replies, or answers them."""

from collections.abc import Iterable, Iterator

from gateway.config.compress import Compress
from gateway.config.transform import HeaderEdit, Redirect, Respond, Transform
from gateway.config.transform_checks import params_of
from gateway.config.upstream import Upstream
from gateway.pipe import Layer, Send
from gateway.routing.host import authority_key
from gateway.transform.answer import content
from gateway.transform.compress import compress
from gateway.transform.fields import CallFields
from gateway.transform.paths import Edit, Rewrite, add_prefix, strip_prefix
from gateway.transform.public_address import Authority, PublicAddress
from gateway.transform.query import query_edit
from gateway.transform.redirect import compile_url, locator, redirect
from gateway.transform.request import transformed
from gateway.transform.request_headers import request_headers
from gateway.transform.respond import respond
from gateway.transform.response_headers import response_headers
from gateway.transform.template import PATH, compile_text


def request_layer(path: str, settings: Transform | None, upstreams: Iterable[Upstream]) -> Layer | None:
    """For a route with this path, whose requests may go to `upstreams`."""
    if settings is None:
        return None
    edits = [*_edits(settings, CallFields(params_of(path)))]
    undo = _undo(settings, upstreams)
    return transformed(edits, undo) if edits or undo is not None else None


def response_layer(path: str, settings: Transform | None) -> Layer | None:
    """For a route with this path."""
    edit = settings.response_headers if settings is not None else None
    if edit is None or not _does_something(edit):
        return None
    return response_headers(edit.set, edit.add, edit.remove, CallFields(params_of(path)))


def redirect_end(path: str, settings: Redirect) -> Send:
    """The end of a route with this path."""
    return redirect(locator(compile_url(settings.to, params_of(path)), settings.keep_query), settings.status)


def respond_end(path: str, settings: Respond) -> Send:
    """The end of a route with this path. Raises OSError."""
    return respond(settings.status, content(settings, CallFields(params_of(path))))


def compressed(settings: Compress) -> Layer:
    """For a route."""
    return compress(settings.encodings, min_size=settings.min_size, types=settings.types, level=settings.level)


def _edits(settings: Transform, fields: CallFields) -> Iterator[Edit]:
    """Headers and query first: what they tell of the path is what was matched."""
    headers, query = settings.request_headers, settings.query
    if headers is not None and _does_something(headers):
        yield request_headers(headers.set, headers.add, headers.remove, fields)
    if query is not None and (query.set or query.add or query.remove):
        yield query_edit(query.set, query.add, query.remove, fields)
    if settings.strip_prefix is not None:
        yield strip_prefix(settings.strip_prefix)
    if settings.rewrite is not None:
        yield Rewrite(settings.rewrite.from_, settings.rewrite.to, fields)
    if settings.add_prefix is not None:
        yield add_prefix(compile_text(settings.add_prefix, fields, PATH))


def _does_something(edit: HeaderEdit) -> bool:
    return bool(edit.set or edit.add or edit.remove)


def _undo(settings: Transform, upstreams: Iterable[Upstream]) -> PublicAddress | None:
    cookies = settings.cookies
    domain = cookies.domain if cookies is not None else None
    path = cookies is not None and cookies.path
    if not settings.location and domain is None and not path:
        return None
    asked = [*upstreams]
    return PublicAddress(
        (address for upstream in asked for address in _addresses(upstream)),
        client_host=any(upstream.host == "client" for upstream in asked),
        location=settings.location,
        cookie_domain="" if domain == "none" else domain,
        cookie_path=path,
    )


def _addresses(upstream: Upstream) -> Iterator[Authority]:
    """Where it is, and what it is told that it is."""
    written = [target.url for target in upstream.targets]
    if upstream.host not in ("upstream", "client"):
        written += [f"{scheme}://{upstream.host}" for scheme in ("http", "https")]
    for url in written:
        scheme, _, authority = url.partition("://")
        named = authority_key(authority.encode(), b"443" if scheme == "https" else b"80")
        if named is not None:
            yield named
    if upstream.discover is not None:
        yield upstream.discover.dns.rstrip(".").encode(), b""
