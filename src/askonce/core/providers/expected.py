"""What a request expects of its answer, as far as that decides whether the answer may be stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from askonce.core.providers.answers import a_dict, dicts
from askonce.core.providers.named_tuples import NamedTuple

Request = dict[str, Any]


class Expected(NamedTuple):
    """What a request expects of its answer: only `json`; citations of sources that it has `given`."""

    json: bool = False
    given: bool = False


PLAIN = Expected()


def expected_of(request: object) -> Expected:
    """What a request expects of its answer."""
    if not isinstance(request, dict):
        return PLAIN
    return Expected(_wants_json(request), _gives_sources(request))


def _wants_json(request: Request) -> bool:
    """Whether its answer has to be JSON and nothing else. If the request begins the answer, only the rest comes."""
    if _FORMED.isdisjoint(request) or _begun(request):
        return False
    return any(_json_in(holder) for holder in _holders(request))


def _holders(request: Request) -> Iterator[Request]:
    """The places where a format may be requested."""
    yield request
    for name in _FORMING:
        yield a_dict(request.get(name))
    for name in _HOLDING:
        if inner := a_dict(request.get(name)):
            yield from _holders(inner)


_FORMING = ("text", "output_config", "outputConfig", "generationConfig", "generation_config", "nvext")
_HOLDING = ("config", "extra_body", "additionalModelRequestFields", "parameters")
_FORMATS = ("response_format", "format", "output_format", "textFormat", "structured_outputs", "grammar")
_SCHEMAS = ("responseSchema", "response_schema", "responseJsonSchema", "response_json_schema", "guided_json")
_MIMES = ("responseMimeType", "response_mime_type")
_FORMED = frozenset((*_FORMING, *_HOLDING, *_FORMATS, *_SCHEMAS, *_MIMES, "json_schema"))
_TYPES = ("json", "json_object", "json_schema")


def _json_in(holder: Request) -> bool:
    mime = next((holder[name] for name in _MIMES if holder.get(name)), None)
    if isinstance(mime, str):
        return mime.partition(";")[0].strip().lower() == "application/json"
    return any(holder.get(name) for name in (*_SCHEMAS, "json_schema")) or any(
        _json_format(holder.get(name)) for name in _FORMATS
    )


def _json_format(form: object) -> bool:
    if not isinstance(form, dict):
        return form == "json"  # Ollama's
    if "type" not in form:  # vLLM's
        return any(form.get(name) for name in ("json", "json_object"))
    return form["type"] in _TYPES or (form["type"] == "object" and "properties" in form)  # a schema, as Ollama takes it


def _begun(request: Request) -> bool:
    talk = dicts(request.get("messages")) or dicts(request.get("contents"))
    return bool(talk) and talk[-1].get("role") in ("assistant", "model")


_MATERIAL = frozenset({"document", "search_result", "tool_result", "function_call_output", "document_url", "file"})
_MATERIAL_KEYS = frozenset({"document", "searchResult", "toolResult"})


def _gives_sources(request: Request) -> bool:
    """Whether it brings what its answer may cite: documents, search results, results of its own tools."""
    if request.get("documents"):
        return True
    return any(map(_brings, dicts(request.get("messages")))) or any(map(_brings, dicts(request.get("input"))))


def _brings(item: Request) -> bool:
    if item.get("role") == "tool" or item.get("type") in _MATERIAL:
        return True
    content = item.get("content")
    return isinstance(content, list) and any(map(_material, dicts(content)))


def _material(block: Request) -> bool:
    return block.get("type") in _MATERIAL or not _MATERIAL_KEYS.isdisjoint(block)
