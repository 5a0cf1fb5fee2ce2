"""Sends clients away, to another address that the configuration names. Pure, but for its place in the pipe."""

from collections.abc import Callable, Mapping

from gateway.errors import Refused
from gateway.exchange import Call, Reply
from gateway.pipe import Send
from gateway.transform.fields import CallFields, Reader
from gateway.transform.template import URL, Template, Written, compile_text, filled


def _host(call: Call) -> bytes:
    if not call.host:
        raise Refused("bad_request", 400, "This address is elsewhere: a Host header is needed to tell where.")
    return call.host


IN_URLS: Mapping[str, Reader] = {
    # Both were checked when they came in, and an escape or a port stays what it is.
    "host": Written(_host),
    "path": Written(lambda call: call.path),
}


def compile_url(to: str, params: frozenset[str] | None) -> Template[Call]:
    """Raises ValueError for braces that are no field."""
    return compile_text(to, CallFields(params, IN_URLS), URL)


def locator(to: Template[Call], keep_query: bool) -> Callable[[Call], bytes]:
    """Where a call is sent; `keep_query` hands the query on, behind one that `to` has itself."""

    def locate(call: Call) -> bytes:
        location = filled(to, call)
        if location.startswith(b"//"):  # a field has come out empty: this would be another host
            location = b"/" + location.lstrip(b"/")
        if keep_query and call.query:
            url, mark, fragment = location.partition(b"#")
            location = url + (b"&" if b"?" in url else b"?") + call.query[1:] + mark + fragment
        return location

    return locate


def redirect(locate: Callable[[Call], bytes], status: int) -> Send:
    async def send_away(call: Call) -> Reply:
        call.reason = "redirect"
        return Reply(status, [(b"location", locate(call))])

    return send_away
