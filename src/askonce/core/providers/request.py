"""Whether a request may be looked up.

A request is judged before any lookup, and passes if its answer depends on more than its own words. In a request for a
model, every field that is not known to be inert (inert.py) makes it pass and is named as the reason, so unknown fields
pass too. Any other request is the user's own and is looked up.

Content is identified by what names it. A provider's file id never names another file. A URL of an image or document
may, and is assumed to stand for what it showed; a caller whose picture changes gives it another URL, or a tag.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

from askonce.core.providers import inert as table
from askonce.core.providers.answers import a_dict, dicts, snake
from askonce.core.providers.bounded import kept_by_text
from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.providers.patterns import pattern
from askonce.core.providers.tools import OFFERED, ToolTerms, brought, judge_tools

Request = dict[str, Any]
_TCHAR = "!#$&'*+-.^_`|~:/"  # allowed in a token of RFC 9110 and in a detail, with letters and digits
_LONGEST = 80  # characters of a reason
FIELD = "field-"  # before the name of the field that makes a request pass


def judge_request(request: object, terms: ToolTerms, *, known: bool = False, inert: Collection[str] = ()) -> str:
    """Why a request may not be looked up, "" if it may. `known`: is for a model by its path; `inert`: as in Rules."""
    if not isinstance(request, dict):
        dump = getattr(request, "model_dump", None)
        request = dump(mode="json") if callable(dump) and not isinstance(request, type) else request
    if not isinstance(request, dict):
        return ""
    if known or _for_model(request):
        return _judged(request, terms, inert)
    inner = (value for value in request.values() if isinstance(value, dict) and _surely_for_model(value))
    return next(filter(None, (_judged(value, terms, inert) for value in inner)), "")


def _judged(request: Request, terms: ToolTerms, inert: Collection[str]) -> str:
    if _QUICK.issuperset(request) and not (_model_word(str(request.get("model"))) or any(brought(request))):
        return ""  # the usual case, decided in one look
    found = [reason for reason in _reasons(request, terms) if reason.of not in inert]
    return min(found, key=lambda reason: _ORDER.index(reason.kind)).word if found else ""


class _Reason(NamedTuple):
    """Why a request passes: its `kind` (one of _ORDER), its `word`, the field that it is `of`."""

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
    if _is_chat(request.get("messages")) or _prompt_by_name(request.get("prompt")):
        return True
    # Without a model: tools, beside a field that asks something.
    return not request.keys().isdisjoint(_ASKING) and any(request.get(name) for name in ("tools", "functions"))


def _surely_for_model(request: Request) -> bool:
    return isinstance(request.get("model"), str) and any(request.get(name) for name in (*_ASKING, "contents"))


def _is_chat(messages: object) -> bool:
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
# With these fields the provider acts, whatever the tools: MCP servers, skills and sandboxes, connectors.
_SERVED = frozenset({"mcp_servers", "container", "connectors"})
_SEARCHED = frozenset({"web_search_options", "search_parameters"})  # by OpenAI's preview models, by xAI
# These hold fields of the request one level down: Google's SDK, OpenAI's, Bedrock's, Hugging Face's.
_HOLDERS = frozenset({"config", "extra_body", "additional_model_request_fields", "parameters", "model_kwargs"})
_SPECIAL = frozenset(
    {"model", "model_id", "prompt", "plugins", "guardrails", "guardrail_config", "context", "prompt_cache_options"}
)


def _reasons(request: Request, terms: ToolTerms) -> Iterator[_Reason]:
    for name, value in request.items():
        if value is None or value is False:
            continue
        plain = snake(name)
        if plain not in table.NAMES and (value not in ([], {}) or plain in _SEARCHED):
            yield from _field(name, plain, value, request, terms)
    if word := judge_tools(request, terms):
        yield _Reason("served" if word == "server-tools" else "tools", word, "tools")


def _field(name: str, plain: str, value: object, request: Request, terms: ToolTerms) -> Iterator[_Reason]:
    stores = terms.searched == "store"
    if plain in _STATE:
        yield _Reason("state", _STATE[plain], name)
    elif plain in _SERVED or (plain in _SEARCHED and not stores):
        yield _Reason("served", "server-tools", name)
    elif plain in _HOLDERS and isinstance(value, dict):
        yield from _reasons(value, terms)
    elif plain in _SPECIAL:
        yield from _special(name, plain, value, request, stores=stores)
    elif plain not in OFFERED and _worldly(plain, value) and not (stores and table.of_a_search(plain)):
        yield _Reason("field", field_reason(name), name)


def _worldly(plain: str, value: object) -> bool:
    if isinstance(value, dict | list):
        return True
    off = not value or str(value).lower() in ("none", "off", "disable", "disabled", "false", "no", "never", "0")
    return not off and table.of_the_world(plain)


def field_reason(name: str) -> str:
    """``field-data_sources``: a reason that names a field, and is a token whatever the name is."""
    from urllib.parse import quote  # late: few requests have an unknown field

    return f"{FIELD}{quote(name, safe=_TCHAR, errors='replace')}"[:_LONGEST]


def _special(name: str, plain: str, value: object, request: Request, *, stores: bool) -> Iterator[_Reason]:
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


# These models always search: OpenRouter's suffix, OpenAI's previews, Perplexity, Groq, deep research.
_SEARCHING = pattern(
    r":online$|-online$|-search-(?:preview|api)\b|(?:^|/)sonar(?:$|-)|(?:^|/)compound(?:$|-)|deep-?(?:research|search)"
    r"|(?:^|[/-])search-?gpt"
)
# The owner may give such a name to another prompt: OpenRouter's presets, Bedrock's prompts without a version.
_REPUBLISHED = pattern(r"@preset/|:prompt/\w+$")


@kept_by_text(1024)
def _model_word(model: str) -> str:
    """How a model of this name differs: ``searches``, ``republished``, or ""."""
    return "searches" if _SEARCHING.search(model.lower()) else "republished" if _REPUBLISHED.search(model) else ""


# OpenRouter's plugins that read only the request and its answer.
_READING = frozenset({"file-parser", "response-healing", "context-compression", "moderation", "auto-router"})


def _plugins(name: str, value: object, *, stores: bool) -> Iterator[_Reason]:
    ids = {str(a_dict(one).get("id")) for one in value} if isinstance(value, list) else {"?"}
    if ids - _READING - ({"web"} if stores else set()):
        yield _Reason("served", "server-tools", name)


def _versioned_prompt(prompt: object) -> bool:
    """Whether a prompt is its own words, or names a fixed version."""
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
    # Diagnostics tell the state of the provider's cache when it answered.
    "prompt_cache_options": lambda value: not a_dict(value).get("comparison_response_id"),
}
