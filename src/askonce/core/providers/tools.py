"""The tools that a request offers, in any place and shape, and who runs them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from askonce.core.providers.answers import a_dict, dicts
from askonce.core.providers.patterns import pattern

Request = dict[str, Any]
OFFERED = frozenset({"tools", "functions", "tool_config"})


class ToolTerms(Protocol):
    """The fields of a policy that decide about requests with tools."""

    @property
    def tool_calls(self) -> str:
        """Policy.tool_calls."""
        ...

    @property
    def searched(self) -> str:
        """Policy.searched."""
        ...


def judge_tools(request: Request, terms: ToolTerms) -> str:
    """Why a request with these tools passes: ``server-tools``, ``tools``, or "" if it does not."""
    tools = list(_offered(request))
    if terms.searched == "store":
        tools = [tool for tool in tools if not _searches(tool)]
    if not all(map(_own, tools)):
        return "server-tools"
    free = not tools or terms.tool_calls in ("judge", "store")
    return "" if free or (terms.tool_calls == "structured" and _forced(request, tools)) else "tools"


# The asking program runs these itself. The provider may run any other, on data that no key can hold.
_OWN_TYPES = pattern(r"function|custom|namespace|local_shell|apply_patch|(?:bash|text_editor|memory)_\d+")
_OWN_KEYS = frozenset({"function", "functionDeclarations", "function_declarations", "toolSpec", "cachePoint"})
_SEARCH_TYPES = pattern(
    r"(?!tool_)[\w.:-]*(?:search|fetch|live_search)(?:_preview)?(?:_\d+)*|google_?(?:search|maps)\w*|url_?context"
    r"|enterprise_?web_?search|retrieval",
    re.IGNORECASE,
)


def _offered(request: Request) -> Iterator[Any]:
    """Every tool: Converse has them in toolConfig, and a message may bring more."""
    holders = (request, request.get("toolConfig"), request.get("tool_config"))
    for holder in (*map(a_dict, holders), *brought(request)):
        for name in ("tools", "functions"):
            yield from _listed(holder.get(name))


def brought(request: Request) -> Iterator[Request]:
    """The messages that bring tools."""
    return (item for name in ("messages", "input") for item in dicts(request.get(name)) if "tools" in item)


def _listed(offered: object) -> Iterable[Any]:
    """The tools in any shape: a list, a single one, a dict by their names, or something unknown."""
    if isinstance(offered, list | tuple):
        return offered
    return _named(offered) if isinstance(offered, dict) else [offered] if offered else []


def _named(offered: Request) -> list[Any]:
    if all(not _DECLARED.isdisjoint(a_dict(one)) for one in offered.values()):
        return [{"name": name, **tool} for name, tool in offered.items()]
    return [offered]


_DECLARED = frozenset({"description", "parameters", "input_schema", "inputSchema"})


def _searches(tool: Any) -> bool:
    """Whether it is a provider's tool that only searches."""
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
    """Whether the model must call one certain function, so that the call is a form for its answer."""
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
