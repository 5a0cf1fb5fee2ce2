"""Versions, transformations and the gateway's own answers in words."""

from collections.abc import Iterator

from gateway.config.compress import WORTHWHILE, Compress
from gateway.config.cors import ANY, Cors
from gateway.config.effective import duration_text, size_text
from gateway.config.model import Route
from gateway.config.transform import HeaderEdit, QueryEdit, Redirect, Respond, Transform
from gateway.config.versions import Version, Versions
from gateway.transform.security import FOR_UPSTREAMS


def cors_text(cors: Cors) -> str:
    methods = " ".join(cors.methods) if cors.methods is not None else "all its methods"
    headers = "any header" if ANY in cors.headers else f"headers {' '.join(cors.headers) or 'none'}"
    said = [f"pages of {' '.join(cors.origins)} may use it with {methods} and {headers}"]
    said += ["with credentials"] if cors.credentials else []
    said += [f"may read {' '.join(cors.expose)}"] if cors.expose else []
    said += [f"may remember it for {duration_text(cors.max_age)}"] if cors.max_age is not None else []
    said += ["also in a private network"] if cors.private_network else []
    return ", ".join(said)


def addresses_text(route: Route) -> str:
    said = [f"only from {' '.join(map(str, route.allow_ip))}"] if route.allow_ip else []
    said += [f"not from {' '.join(map(str, route.deny_ip))}"] if route.deny_ip else []
    return ", ".join(said)


def versions_text(versions: Versions) -> str:
    named = {
        "path": "path",
        "header": f"header {versions.header}",
        "query": f"query {versions.query}",
        "media_type": f"media type {versions.media_type}",
    }
    said = [f"by {', '.join(named[place] for place in versions.from_)}"]
    said += [f"{name} → {_ways_text(each)}{_life_text(each)}" for name, each in versions.available.items()]
    said += [f"{alias} is {name}" for alias, name in versions.aliases.items()]
    said.append(f"otherwise {versions.default}" if versions.default is not None else "refused without one")
    if "path" in versions.from_ and not versions.strip:
        said.append("the path keeps it")
    return "; ".join(said)


def _ways_text(version: Version) -> str:
    if version.split is None:
        return str(version.upstream)
    by = f" by {version.split_by}" if version.split_by is not None else ""
    return " ".join(f"{name} {weight}" for name, weight in version.split.items()) + by


def _life_text(version: Version) -> str:
    said = [f"deprecated {_day(version.deprecated)}"] if version.deprecated is not None else []
    if version.sunset is not None:
        said.append(f"{'ends' if version.after_sunset == 'gone' else 'should end'} {_day(version.sunset)}")
    said += [f"{len(version.brownouts)} brown-out{'s' * (len(version.brownouts) > 1)}"] if version.brownouts else []
    said += [f"successor {version.successor}"] if version.successor is not None else []
    return f" ({', '.join(said)})" if said else ""


def _day(moment: str) -> str:
    return moment.removesuffix("T00:00:00Z")


def compress_text(compress: Compress) -> str:
    kinds = "text, JSON, XML and the like" if compress.types == WORTHWHILE else " ".join(compress.types)
    encodings = " or ".join(compress.encodings)
    return f"{encodings}, as the client accepts, for {kinds} of {size_text(compress.min_size)} or more"


def security_text() -> str:
    fields = ", ".join(f"{name.decode()} {value.decode()}" for name, value in FOR_UPSTREAMS.items())
    return f"{fields}; what the upstream says of it stands"


def edit_text(edit: HeaderEdit | QueryEdit) -> str:
    """`set X-A, add X-B, remove X-C`; "" for one that does nothing."""
    kinds = {"set": edit.set, "add": edit.add, "remove": edit.remove}
    return ", ".join(f"{kind} {' '.join(names)}" for kind, names in kinds.items() if names)


def transform_texts(transform: Transform) -> Iterator[str]:
    """What becomes of requests, in this order; and of the addresses in replies."""
    for kind, edit in (("headers", transform.request_headers), ("query", transform.query)):
        if edit is not None and (said := edit_text(edit)):
            yield f"{kind}: {said}"
    if transform.strip_prefix is not None:
        yield f"path: without {transform.strip_prefix}"
    if transform.rewrite is not None:
        yield f"path: {transform.rewrite.from_} becomes {transform.rewrite.to}"
    if transform.add_prefix is not None:
        yield f"path: {transform.add_prefix} in front"
    if transform.location:
        yield "replies: Location leads back to the public address"
    if (cookies := transform.cookies) is not None and (cookies.domain is not None or cookies.path):
        said = ", ".join(
            [
                *([f"with Domain {cookies.domain}"] if cookies.domain is not None else []),
                *(["with Path of the public address"] if cookies.path else []),
            ]
        )
        yield f"replies: cookies {said}"


def redirect_text(redirect: Redirect) -> str:
    return f"{redirect.status} to {redirect.to}{', with the query' if redirect.keep_query else ''}"


def respond_text(respond: Respond) -> str:
    kind = f"file {respond.file.name}" if respond.file is not None else "json" if respond.text is None else "text"
    return f"status {respond.status}{'' if respond.text == '' else f', {kind}'}"
