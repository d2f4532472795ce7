"""The page about the API, for people: its operations, what they take and what they answer. It needs no script."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

STYLE = (
    ":root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;"
    "padding:0 1rem}h2{font:600 1.1rem ui-monospace,monospace;margin-top:2.5rem}table{border-collapse:collapse;"
    "width:100%}td,th{text-align:left;vertical-align:top;padding:.25rem 1rem .25rem 0;border-top:1px solid #8884}"
    "code{font-family:ui-monospace,monospace}"
)
_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
PLAIN = f"default-src 'none'; style-src 'sha256-{_HASH}'; frame-ancestors 'none'; base-uri 'none'"


def page(document: Mapping[str, Any]) -> str:
    """The page of an OpenAPI document."""
    return "".join(_page(document))


def _page(document: Mapping[str, Any]) -> Iterator[str]:
    info = document["info"]
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width">'
    yield f"<title>{_text(info['title'])}: admin API</title><style>{STYLE}</style></head><body><main>"
    yield f"<h1>{_text(info['title'])} {_text(info['version'])}: admin API</h1><p>{_text(info['description'])}</p>"
    yield '<p>The same for programs: <a href="openapi.json">openapi.json</a>.</p>'
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            yield from _operation(path, method, told)
    yield "</main></body></html>"


def _operation(path: str, method: str, told: Mapping[str, Any]) -> Iterator[str]:
    yield f'<section id="{_text(told["operationId"])}"><h2>{method.upper()} {_text(path)}</h2>'
    yield f"<p>{_text(told['summary'])}</p>"
    rows = [(one["name"], one["in"], one["description"], one["schema"]) for one in told.get("parameters", ())]
    rows += [(name, "body", one.get("description", ""), one) for name, one in _members(told)]
    if rows:
        yield "<table><thead><tr><th>name</th><th>in</th><th>meaning</th><th>form</th></tr></thead><tbody>"
        for name, place, said, schema in rows:
            yield f"<tr><td><code>{_text(name)}</code></td><td>{place}</td><td>{_text(said)}</td>"
            yield f"<td>{_text(_form(schema))}</td></tr>"
        yield "</tbody></table>"
    answers = ", ".join(f"{status} {_text(one['description'])}" for status, one in told["responses"].items())
    yield f"<p>Answers: {answers}</p></section>"


def _members(told: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The members of a body, those of all its kinds."""
    content = told.get("requestBody", {}).get("content", {}).get("application/json", {})
    kinds = content.get("schema", {}).get("oneOf", ())
    return list({name: one for kind in kinds for name, one in kind["properties"].items()}.items())


def _form(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type", "any JSON")
    items = f" of {schema['items']['type']}" if "items" in schema else ""
    bounds = f", {schema['minimum']} to {schema['maximum']}" if "minimum" in schema else ""
    words = f": {', '.join(schema['enum'])}" if "enum" in schema else ""
    default = f", {schema['default']} unless given" if "default" in schema else ""
    return f"{kind}{items}{words}{bounds}{default}"


def _text(said: object) -> str:
    return escape(str(said))
