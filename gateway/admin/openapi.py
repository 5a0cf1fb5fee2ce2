"""The admin listener as an OpenAPI 3.1 document: `operations.py` and `schemas.py`, put together."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from gateway import __version__
from gateway.admin.access import CLIENT
from gateway.admin.operations import OPERATIONS, Operation
from gateway.admin.schemas import SCHEMAS, Schema, ref

API = "/api/"
PLACEHOLDER = re.compile(r"\{(\w+)\}")

USUAL = {401: "The token is missing or wrong.", 403: "Not from here, or not from a browser."}
WITH_BODY = (400, 408, 413, 422)
OTHERS = {
    400: "The body is not JSON.",
    408: "The body has not arrived in time.",
    404: "There is none with this name or id.",
    409: "It does not go together with what there is.",
    413: "The body is larger than 16 KiB.",
    422: "A member, a parameter or the configuration was refused.",
    500: "It failed; nothing has changed.",
    503: "It cannot be done now.",
}

DESCRIPTION = (
    "For operators, on the admin listener. Whatever changes something needs a header that no page of another site can "
    "send. Without a token in the configuration the API answers callers on its own machine."
)


@cache
def document() -> dict[str, Any]:
    """The whole of it; not to be changed."""
    paths: dict[str, dict[str, Any]] = {}
    for name, operation in OPERATIONS.items():
        method, path = name.split(" ")
        paths.setdefault(path, {})[method.lower()] = _operation(method, path, operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Resilient Gateway, admin API", "version": __version__, "description": DESCRIPTION},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": dict(SCHEMAS),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "listen.admin_token"},
                "certificate": {"type": "mutualTLS", "description": "Signed by listen.admin_tls.client_ca"},
            },
        },
    }


def _operation(method: str, path: str, operation: Operation) -> dict[str, Any]:
    guarded = path.startswith(API)
    said: dict[str, Any] = {
        "operationId": _id(method, path),
        "summary": operation.summary,
        "security": [{"token": []}, {"certificate": []}, {}] if guarded else [],
        "responses": _responses(operation, guarded),
    }
    parameters = [_parameter(name, "path", {"type": "string"}) for name in PLACEHOLDER.findall(path)]
    parameters += [_parameter(name, "query", schema) for name, schema in operation.query.items()]
    if method != "GET":
        parameters.append({**_parameter(CLIENT, "header", {"type": "string"}), "description": "Any value."})
    if parameters:
        said["parameters"] = parameters
    if operation.body is not None:
        needed = bool(operation.body.get("required"))
        said["requestBody"] = {"required": needed, "content": {"application/json": {"schema": operation.body}}}
    return said


def _id(method: str, path: str) -> str:
    words = re.findall(r"\w+", path.removeprefix("/api/v1"))
    return "_".join([method.lower(), *words]).replace(".", "_")


def _parameter(name: str, place: str, schema: Schema) -> dict[str, Any]:
    schema = dict(schema)
    about = schema.pop("description", None)
    said = {"name": name, "in": place, "required": place != "query", "schema": schema}
    return said if about is None else {**said, "description": about}


def _responses(operation: Operation, guarded: bool) -> dict[str, Any]:
    responses = {
        str(status): {"description": operation.summary, "content": {kind or "application/json": {"schema": schema}}}
        for status, (kind, schema) in operation.replies.items()
    }
    problems = dict(USUAL) if guarded else {}
    taken = WITH_BODY if operation.body is not None else ()
    problems |= {status: OTHERS[status] for status in (*taken, *operation.problems)}
    for status, about in sorted(problems.items()):
        content = {"application/problem+json": {"schema": ref("Problem")}}
        responses[str(status)] = {"description": about, "content": content}
    return responses
