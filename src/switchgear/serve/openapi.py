"""The OpenAPI document of what is served, and a page to read it.

The page is plain HTML without scripts, images or any address outside: it works offline, and behind
any prefix.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final

import msgspec

from switchgear.contract.export import openapi
from switchgear.contract.service import ServiceContract

__all__ = ["document", "page", "written"]

Json = Mapping[str, Any]

_METHODS: Final = ("get", "post", "put", "patch", "delete")
_STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --key: #0a58ca; }
@media (prefers-color-scheme: dark) { :root { --key: #7db3ff; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
nav ul { columns: 2; padding-left: 1.2rem; } a { color: var(--key); }
section { border: 1px solid var(--line); border-radius: 6px; padding: .5rem 1rem; margin: 1rem 0; }
section h3 { margin: .3rem 0; font-size: 1.05rem; }
code, h3 { font-family: ui-monospace, monospace; }
.method { display: inline-block; min-width: 4.5rem; color: var(--key); text-transform: uppercase; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; font-size: .92rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem .25rem 0;
         border-bottom: 1px solid var(--soft); }
p { white-space: pre-line; } .quiet { opacity: .7; }
"""


def document(contracts: Sequence[ServiceContract], *, title: str, version: str) -> Json:
    """Return the OpenAPI 3.1 document of `contracts`."""
    names = ", ".join(contract.name for contract in contracts)
    return openapi(*contracts, title=title or names or "Service", version=version or "0")


def written(document: Json, prefix: str) -> bytes:
    """Return an OpenAPI document as JSON, as it is served under `prefix`."""
    # where nothing is said, the paths begin at the root
    return msgspec.json.encode({**document, "servers": [{"url": prefix}]} if prefix else document)


def page(document: Json, prefix: str) -> bytes:
    """Return the page for an OpenAPI document that is served under `prefix`."""
    return "".join(_page(document, prefix)).encode()


def _page(document: Json, prefix: str) -> Iterator[str]:
    info: Json = document.get("info", {})
    title = _text(info.get("title"))
    yield '<!doctype html><html lang="en"><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{title}</title><style>{_STYLE}</style>"
    yield f'<h1>{title}</h1><p class="quiet">Version {_text(info.get("version"))}, '
    yield f'<a href="{_text(prefix)}/openapi.json">OpenAPI {_text(document.get("openapi"))}</a></p>'
    yield f"<p>{_text(info.get('description'))}</p>"
    operations = [
        (method, path, item[method])
        for path, item in document.get("paths", {}).items()
        for method in _METHODS
        if method in item
    ]
    yield "<nav><ul>"
    for method, path, operation in operations:
        yield f'<li><a href="#{_anchor(operation, method, path)}">{_text(method.upper())} '
        yield f"{_text(path)}</a></li>"
    yield "</ul></nav>"
    group: object = None
    for method, path, operation in operations:
        tags = operation.get("tags") or ["Operations"]
        if tags[0] != group:
            group = tags[0]
            yield f"<h2>{_text(group)}</h2>"
        yield from _operation(method, path, operation)
    schemas: Json = document.get("components", {}).get("schemas", {})
    if schemas:
        yield "<h2>Messages</h2>"
    for name, schema in schemas.items():
        yield f'<section id="schema-{_text(name)}"><h3>{_text(name)}</h3>'
        yield from _schema(schema)
        yield "</section>"
    yield "</html>"


def _operation(method: str, path: str, operation: Json) -> Iterator[str]:
    yield f'<section id="{_anchor(operation, method, path)}"><h3><span class="method">'
    yield f"{_text(method)}</span> {_text(path)}</h3>"
    summary, told = operation.get("summary", ""), operation.get("description", "")
    yield f"<p>{_text(told or summary)}</p>"
    parameters = operation.get("parameters", ())
    if parameters:
        yield "<table><tr><th>Parameter</th><th>In</th><th>Type</th><th></th></tr>"
        for one in parameters:
            needed = "required" if one.get("required") else ""
            yield f"<tr><td><code>{_text(one.get('name'))}</code></td>"
            yield f"<td>{_text(one.get('in'))}</td>"
            yield f"<td>{_type(one.get('schema', {}))}</td>"
            yield f"<td>{_text(one.get('description'))} {needed}</td></tr>"
        yield "</table>"
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f'<p>Body: {_type(content.get("schema", {}))} <span class="quiet">{_text(media)}'
        yield "</span></p>"
    yield "<table><tr><th>Answer</th><th>Body</th><th></th></tr>"
    for status, answer in operation.get("responses", {}).items():
        bodies = " or ".join(
            _type(content.get("schema", {})) for content in answer.get("content", {}).values()
        )
        yield f"<tr><td><code>{_text(status)}</code></td><td>{bodies}</td>"
        yield f"<td>{_text(answer.get('description'))}</td></tr>"
    yield "</table></section>"


def _schema(schema: Json) -> Iterator[str]:
    if "description" in schema:
        yield f"<p>{_text(schema['description'])}</p>"
    for part in schema.get("allOf", ()):
        if "$ref" in part:
            yield f"<p>All of {_type(part)}, and:</p>"
        else:
            yield from _schema(part)
    if "allOf" in schema:
        return
    properties: Json = schema.get("properties", {})
    if not properties:
        yield f"<p>{_type(schema)}</p>"
        return
    required = schema.get("required", ())
    yield "<table><tr><th>Field</th><th>Type</th><th></th></tr>"
    for name, value in properties.items():
        needed = "required" if name in required else ""
        yield f"<tr><td><code>{_text(name)}</code></td><td>{_type(value)}</td>"
        yield f"<td>{_text(value.get('description'))} {needed}</td></tr>"
    yield "</table>"


def _type(schema: Json) -> str:
    """Return a schema in one line of HTML."""
    if "$ref" in schema:
        name = str(schema["$ref"]).rsplit("/", 1)[-1]
        return f'<a href="#schema-{_text(name)}">{_text(name)}</a>'
    for many in ("anyOf", "oneOf"):
        if many in schema:
            return " or ".join(_type(one) for one in schema[many])
    values = schema.get("enum") or ([schema["const"]] if "const" in schema else ())
    if values:
        return " | ".join(f"<code>{_text(one)}</code>" for one in values)
    kind = schema.get("type", "")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"map to {_type(schema['additionalProperties'])}"
    if isinstance(kind, list):
        kind = " or ".join(str(one) for one in kind)
    shape = schema.get("format")
    return f"{_text(kind)} ({_text(shape)})" if shape else _text(kind)


def _anchor(operation: Json, method: str, path: str) -> str:
    return _text(operation.get("operationId") or f"{method}-{path}")


def _text(value: object) -> str:
    return "" if value is None else escape(str(value))
