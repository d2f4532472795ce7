"""Requests: whether one may be looked up, and what it expects of its answer.

A request is judged before anything is looked up: what depends on more than its own words passes. In a request for a
model that is every field which is not known to be inert (core.inert), so that what nobody has thought of passes too,
and says which field it was. What is no request for a model is the user's own, and is looked up.

Content is taken for what names it. A file's id at a provider never names another file. A URL of an image or a document
may, and is taken to stand for what it showed: who asks about a picture that changes gives it another URL, or a tag.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

from askonce.core import inert as table
from askonce.core.answers import a_dict, dicts, snake
from askonce.core.bounded import lru_cache_of_short
from askonce.core.policy import Terms

Request = dict[str, Any]
_TCHAR = "!#$&'*+-.^_`|~:/"  # beside letters and digits, what may stand in a token of RFC 9110 and in a detail
_LONGEST = 80  # characters of a reason


class Expected(NamedTuple):
    """What a request expects of its answer: `json` and nothing else; citations of sources that it has `given`."""

    json: bool = False
    given: bool = False


PLAIN = Expected()


def judge_request(request: object, terms: Terms, *, known: bool = False, inert: Collection[str] = ()) -> str:
    """Empty if the request may be looked up, else why not.

    `known`: its path already said that it is for a model. `inert`: fields that the operator vouches for.
    """
    if not isinstance(request, dict):
        dump = getattr(request, "model_dump", None)
        request = dump(mode="json") if callable(dump) and not isinstance(request, type) else request
    if not isinstance(request, dict):
        return ""
    if known or _for_model(request):
        return _judged(request, terms, inert)
    inner = (value for value in request.values() if isinstance(value, dict) and _surely_for_model(value))
    return next(filter(None, (_judged(value, terms, inert) for value in inner)), "")


def _judged(request: Request, terms: Terms, inert: Collection[str]) -> str:
    if _QUICK.issuperset(request) and not (_model_word(str(request.get("model"))) or any(_brought(request))):
        return ""  # most requests: done with in one look
    found = [reason for reason in _reasons(request, terms) if reason.of not in inert]
    return min(found, key=lambda reason: _ORDER.index(reason.kind)).word if found else ""


class _Reason(NamedTuple):
    """Why a request passes: its `kind` (one of _ORDER), the word for it, the field that it is `of`."""

    kind: str
    word: str
    of: str


_ORDER = ("state", "served", "tools", "field")
_QUICK = table.NAMES - {"models"} | {"model"}


# --- which requests are for a model ------------------------------------------------------------------------------

_MODELLED = ("contents", "modelId", "anthropic_version")  # Gemini's, Converse's, Claude's on Bedrock and Vertex
_ASKING = ("messages", "input", "prompt", "system", "instructions")


def _for_model(request: Request) -> bool:
    if isinstance(request.get("model"), str) or not request.keys().isdisjoint(_MODELLED):
        return True
    if _talk(request.get("messages")) or _prompt_by_name(request.get("prompt")):
        return True
    # Without a model, tools beside something that is asked.
    return not request.keys().isdisjoint(_ASKING) and any(request.get(name) for name in ("tools", "functions"))


def _surely_for_model(request: Request) -> bool:
    return isinstance(request.get("model"), str) and any(request.get(name) for name in (*_ASKING, "contents"))


def _talk(messages: object) -> bool:
    """Whether these are the messages of a chat."""
    return (
        isinstance(messages, list) and bool(messages) and all(isinstance(a_dict(m).get("role"), str) for m in messages)
    )


def _prompt_by_name(prompt: object) -> bool:
    return isinstance(prompt, dict) and isinstance(prompt.get("id"), str)


# --- field by field ----------------------------------------------------------------------------------------------

_STATE = {
    "previous_response_id": "previous-response",
    "conversation": "conversation",
    "thread": "conversation",  # Anthropic's
    "background": "background",
}
# Fields that have the provider act, whatever the tools: MCP servers, skills and sandboxes, connectors.
_SERVED = frozenset({"mcp_servers", "container", "connectors"})
_SEARCHED = frozenset({"web_search_options", "search_parameters"})  # by OpenAI's preview models, by xAI
# What holds fields of the request one step further down: Google's SDK, OpenAI's, Bedrock's, Hugging Face's.
_HOLDERS = frozenset({"config", "extra_body", "additional_model_request_fields", "parameters", "model_kwargs"})
_SPECIAL = frozenset(
    {"model", "model_id", "prompt", "plugins", "guardrails", "guardrail_config", "context", "prompt_cache_options"}
)


def _reasons(request: Request, terms: Terms) -> Iterator[_Reason]:
    for name, value in request.items():
        if value is None or value is False:
            continue
        plain = snake(name)
        if plain not in table.NAMES and (value not in ([], {}) or plain in _SEARCHED):
            yield from _field(name, plain, value, request, terms)
    yield from _tools(request, terms)


def _field(name: str, plain: str, value: object, request: Request, terms: Terms) -> Iterator[_Reason]:
    """Why a field that is not plainly inert makes its request pass."""
    stores = terms.searched == "store"
    if plain in _STATE:
        yield _Reason("state", _STATE[plain], name)
    elif plain in _SERVED or (plain in _SEARCHED and not stores):
        yield _Reason("served", "server-tools", name)
    elif plain in _HOLDERS and isinstance(value, dict):
        yield from _reasons(value, terms)
    elif plain in _SPECIAL:
        yield from _special(name, plain, value, request, stores=stores)
    elif plain not in _OFFERED and _worldly(plain, value) and not (stores and table.of_a_search(plain)):
        yield _Reason("field", field_reason(name), name)


def _worldly(plain: str, value: object) -> bool:
    if isinstance(value, dict | list):
        return True
    off = not value or str(value).lower() in ("none", "off", "disabled", "false", "no", "never")
    return not off and table.of_the_world(plain)


def field_reason(name: str) -> str:
    """``field-data_sources``: the reason that names a field, a token whatever the name is."""
    return f"field-{quote(name, safe=_TCHAR, errors='replace')}"[:_LONGEST]


def _special(name: str, plain: str, value: object, request: Request, *, stores: bool) -> Iterator[_Reason]:
    """Of fields whose value says whether they are inert."""
    if plain in ("model", "model_id"):
        words = {_model_word(str(one)) for one in (value, *_each(request.get("models")))}
        if "searches" in words and not stores:
            yield _Reason("served", "server-tools", name)
        elif "republished" in words:
            yield _Reason("field", field_reason(name), name)
    elif plain == "plugins":
        yield from _plugins(name, value, stores=stores)
    elif not _INERT_VALUES[plain](value):
        yield _Reason("field", field_reason(name), name)


def _each(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


# Models that search, whatever they are asked: OpenRouter's suffix, OpenAI's previews, Perplexity, Groq, deep research.
_SEARCHING = re.compile(
    r":online$|-online$|-search-(?:preview|api)\b|(?:^|/)sonar(?:$|-)|(?:^|/)compound(?:$|-)|deep-?(?:research|search)"
    r"|(?:^|[/-])search-?gpt"
)
# A name that its owner may give to another prompt: OpenRouter's presets, Bedrock's prompts without a version.
_REPUBLISHED = re.compile(r"@preset/|:prompt/\w+$")


@lru_cache_of_short(1024)
def _model_word(model: str) -> str:
    """What is special about a model of this name: ``searches``, ``republished``, or ""."""
    return "searches" if _SEARCHING.search(model.lower()) else "republished" if _REPUBLISHED.search(model) else ""


# OpenRouter's plugins that look at nothing but the request and its answer.
_READING = frozenset({"file-parser", "response-healing", "context-compression", "moderation", "auto-router"})


def _plugins(name: str, value: object, *, stores: bool) -> Iterator[_Reason]:
    ids = {str(a_dict(one).get("id")) for one in value} if isinstance(value, list) else {"?"}
    if ids - _READING - ({"web"} if stores else set()):
        yield _Reason("served", "server-tools", name)


def _versioned_prompt(prompt: object) -> bool:
    """A prompt is its words; one by name is republished, but for a version of it."""
    return not isinstance(prompt, dict) or bool(prompt.get("version"))


def _versioned_guardrail(config: object) -> bool:
    config = a_dict(config)
    version = config.get("guardrailVersion") or config.get("guardrail_version")
    return str(version).isdecimal()


_INERT_VALUES: dict[str, Callable[[Any], bool]] = {
    "prompt": _versioned_prompt,
    "guardrails": lambda value: isinstance(value, list) and len(dicts(value)) == len(value),  # spelled out, not named
    "guardrail_config": _versioned_guardrail,
    "context": lambda value: (
        not isinstance(value, dict | list) or all(isinstance(one, int) for one in value)
    ),  # Ollama's
    # Diagnostics tell how the provider's cache stood when it answered.
    "prompt_cache_options": lambda value: not a_dict(value).get("comparison_response_id"),
}


# --- tools -------------------------------------------------------------------------------------------------------

# What the asking program runs itself. Anything else may be run by the provider, on a world that no key can hold.
_OWN_TYPES = re.compile(r"function|custom|namespace|local_shell|apply_patch|(?:bash|text_editor|memory)_\d+")
_OWN_KEYS = frozenset({"function", "functionDeclarations", "function_declarations", "toolSpec", "cachePoint"})
_OFFERED = frozenset({"tools", "functions", "tool_config"})
_SEARCH_TYPES = re.compile(
    r"(?!tool_)[\w.:-]*(?:search|fetch|live_search)(?:_preview)?(?:_\d+)*|google_?(?:search|maps)\w*|url_?context"
    r"|enterprise_?web_?search|retrieval",
    re.IGNORECASE,
)


def _tools(request: Request, terms: Terms) -> Iterator[_Reason]:
    """Of all tools on offer, wherever they stand."""
    tools = list(_offered(request))
    if terms.searched == "store":
        tools = [tool for tool in tools if not _searches(tool)]
    if not all(map(_own, tools)):
        yield _Reason("served", "server-tools", "tools")
    elif tools and (terms.tool_calls == "pass" or (terms.tool_calls == "structured" and not _forced(request, tools))):
        yield _Reason("tools", "tools", "tools")


def _offered(request: Request) -> Iterator[Any]:
    """Every tool: Converse has them in toolConfig, and a message may bring more of them along."""
    holders = (request, request.get("toolConfig"), request.get("tool_config"))
    for holder in (*map(a_dict, holders), *_brought(request)):
        for name in ("tools", "functions"):
            yield from _listed(holder.get(name))


def _brought(request: Request) -> Iterator[Request]:
    """The messages that bring tools along."""
    return (item for name in ("messages", "input") for item in dicts(request.get(name)) if "tools" in item)


def _listed(offered: object) -> Iterable[Any]:
    """Tools in whatever shape: a list, one of them, a dict by their names, or something else that is none of ours."""
    if isinstance(offered, list | tuple):
        return offered
    return _named(offered) if isinstance(offered, dict) else [offered] if offered else []


def _named(offered: Request) -> list[Any]:
    """Of a dict: the tools that it names, or the one that it is."""
    if all(not _DECLARED.isdisjoint(a_dict(one)) for one in offered.values()):
        return [{"name": name, **tool} for name, tool in offered.items()]
    return [offered]


_DECLARED = frozenset({"description", "parameters", "input_schema", "inputSchema"})


def _searches(tool: Any) -> bool:
    """Whether it is a tool of the provider's that searches and does nothing else."""
    if not isinstance(tool, dict):
        return isinstance(tool, str) and bool(_SEARCH_TYPES.fullmatch(tool))
    if (kind := tool.get("type")) is not None:
        return bool(_SEARCH_TYPES.fullmatch(str(kind)))
    keys = [key for key, value in tool.items() if value is not None]
    return bool(keys) and all(map(_SEARCH_TYPES.fullmatch, keys))


def _own(tool: Any) -> bool:
    if not isinstance(tool, dict):
        return callable(tool)  # a Python function
    if (kind := tool.get("type")) is not None:
        return bool(_OWN_TYPES.fullmatch(str(kind)))
    return "name" in tool or _OWN_KEYS.issuperset(key for key, value in tool.items() if value is not None)


def _forced(request: Request, tools: list[Any]) -> bool:
    """Whether the model must call one function and no other, so that the call is a form for its answer."""
    bound = _bound(request)
    return bound == "one" or (bound == "any" and sum(map(_functions, tools)) == 1)


def _functions(tool: Any) -> int:
    declared = tool.get("functionDeclarations") if isinstance(tool, dict) else None
    return len(declared) if isinstance(declared, list) else 1


def _bound(request: Request) -> str:
    choice = request.get("tool_choice") or request.get("function_call")
    if isinstance(choice, str):
        return "any" if choice.lower() in {"required", "any"} else ""
    if isinstance(choice, dict):
        return "one" if "name" in choice or "function" in choice else "any" if choice.get("type") == "any" else ""
    config = request.get("toolConfig")
    return _bound_by(config) if isinstance(config, dict) else ""


def _bound_by(config: Request) -> str:
    """Converse's toolChoice, Gemini's functionCallingConfig."""
    choice, calling = config.get("toolChoice"), config.get("functionCallingConfig")
    if isinstance(choice, dict):
        return "one" if "tool" in choice else "any" if "any" in choice else ""
    if not isinstance(calling, dict) or str(calling.get("mode")).lower() != "any":
        return ""
    names = calling.get("allowedFunctionNames") or ()
    return {0: "any", 1: "one"}.get(len(names), "")


# --- what is expected of the answer ------------------------------------------------------------------------------


def expected_of(request: object) -> Expected:
    """What a request expects of its answer."""
    if not isinstance(request, dict):
        return PLAIN
    return Expected(_wants_json(request), _gives_sources(request))


def _wants_json(request: Request) -> bool:
    """Whether its answer has to be JSON and nothing else. An answer that is begun in the request is only its rest."""
    if _FORMED.isdisjoint(request) or _begun(request):
        return False
    return any(_json_in(holder) for holder in _holders(request))


def _holders(request: Request) -> Iterator[Request]:
    """The places where a format may be asked for."""
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
    return form["type"] in _TYPES or (form["type"] == "object" and "properties" in form)  # a schema, Ollama's


def _begun(request: Request) -> bool:
    talk = dicts(request.get("messages")) or dicts(request.get("contents"))
    return bool(talk) and talk[-1].get("role") in ("assistant", "model")


_MATERIAL = frozenset({"document", "search_result", "tool_result", "function_call_output", "document_url", "file"})
_MATERIAL_KEYS = frozenset({"document", "searchResult", "toolResult"})


def _gives_sources(request: Request) -> bool:
    """Whether it brings along what its answer may cite: documents, search results, results of its own tools."""
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
