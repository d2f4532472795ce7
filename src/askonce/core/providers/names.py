"""Names of models: whether two may name one model, and whether a provider's own host may answer under a name."""

from __future__ import annotations

import re

from askonce.core.providers.bounded import kept_by_text, lru_cache_of_short
from askonce.core.providers.patterns import pattern

_VENDORS = {
    "openai": "gpt chatgpt davinci babbage curie codex whisper openai",
    "anthropic": "claude anthropic",
    "google": "gemini gemma learnlm palm bison",
    "meta": "llama codellama",
    "mistral": "mistral mixtral ministral codestral pixtral magistral devstral voxtral mistralai",
    "cohere": "cohere",
    "xai": "grok",
    "deepseek": "deepseek",
    "alibaba": "qwen qwq",
    "moonshot": "kimi moonshot moonshotai",
    "zhipu": "glm chatglm",
    "microsoft": "phi",
    "ai21": "jamba",
    "ibm": "granite",
    "nvidia": "nemotron",
    "perplexity": "sonar",
    "voyage": "voyage voyageai",
    "minimax": "minimax",
    "baidu": "ernie",
    "tencent": "hunyuan",
    "tii": "falcon",
}
_VENDOR_OF = {word: vendor for vendor, words in _VENDORS.items() for word in words.split()}
_WORD = pattern(r"[a-z]+")
_REASONING = pattern(r"(?:^|[^a-z0-9])o\d")  # o1, o3-mini

# Providers whose own host serves only their models. Azure's and Bedrock's deployments have names of their owners'.
OWN_NAMES = {
    "openai": "openai",
    "anthropic": "anthropic",
    "gemini": "google",
    "mistral": "mistral",
    "voyage": "voyage",
}
_IDS = frozenset({"bedrock", "vertex"})  # their ids name the vendor; only that one answers
# Words that tell apart a vendor's current models. Others (turbo, preview, latest) come and go with an alias.
_SIZES = {
    "openai": frozenset({"mini", "nano"}),
    "anthropic": frozenset({"haiku", "sonnet", "opus"}),
    "gemini": frozenset({"flash", "pro"}),
}
_WHOLE = frozenset({"openai"})  # a name without such a word is a size, too
# Providers whose hosts never answer with another generation; others move the names of retired models. 4.1 is one number
# for OpenAI; 4-1 is two for Anthropic, where claude-2 became claude-2.1.
_COUNTS = {"openai": pattern(r"[a-z]*\d+(?:\.\d+)*[a-z]*"), "anthropic": pattern(r"[a-z]*\d+[a-z]*")}


@kept_by_text(1024)
def vendors(name: str) -> frozenset[str]:
    """The vendors that the words of a name suggest; two for a model made from another vendor's."""
    name = name.lower()
    found = {_VENDOR_OF[word] for word in _WORD.findall(name) if word in _VENDOR_OF}
    return frozenset(found | {"openai"} if _REASONING.search(name) else found)


def disjoint(one: str, other: str) -> bool:
    """Whether two names certainly belong to two vendors."""
    mine, theirs = vendors(one), vendors(other)
    return bool(mine and theirs) and mine.isdisjoint(theirs)


@lru_cache_of_short(1024)
def akin(asked: str, got: str) -> bool:
    """Whether `got` is the name asked for, or what an alias of that name plainly becomes: with a date, a vendor."""
    return _core(asked) == _core(got)


# What an alias gains or loses: a date, a build, a path before it, an offer behind it.
_PATH = pattern(r"^.*/")
_BEHIND = pattern(r"(?::free|:latest|:nitro|:floor|:beta|:thinking|:extended|-latest|-v\d+(?::\d+)?)$")
_DATE = pattern(r"[-@:](?:\d{4}-\d{2}-\d{2}|\d{8}|\d{6}|\d{4}|\d{3}|\d{2}-\d{4}|\d{2}-\d{2})(?=$|[-:])")


@kept_by_text(1024)
def _core(name: str) -> frozenset[str]:
    name = _PATH.sub("", name.lower().removeprefix("models/"))
    if not name.startswith("ft:"):
        name = _DATE.sub("", _BEHIND.sub("", name))
    return frozenset(filter(None, re.split(r"[^a-z0-9:]+", name)))


@lru_cache_of_short(1024)
def of_a_stranger(provider: str, asked: str, got: str) -> bool:
    """Whether a provider's own host certainly does not answer to the one name under the other."""
    if asked == got:
        return False
    if provider in _IDS:
        return disjoint(asked, got)
    own = OWN_NAMES.get(provider)
    if own is None:
        return False
    answered = vendors(got)
    if answered and own not in answered:
        return True
    if own not in answered or own not in vendors(asked):
        return False
    return _another_size(provider, asked, got) or (provider in _COUNTS and _another_generation(provider, asked, got))


def _another_size(provider: str, asked: str, got: str) -> bool:
    mine, theirs = (_SIZES.get(provider, frozenset()) & {*_WORD.findall(_base(one))} for one in (asked, got))
    return mine != theirs if provider in _WHOLE else bool(mine and theirs) and mine.isdisjoint(theirs)


def _base(name: str) -> str:
    """The name of the tuned model without its owner's words, or the name itself."""
    name = name.lower().replace("gpt-35", "gpt-3.5")
    return name.split(":")[1] if name.startswith("ft:") else name


def _another_generation(provider: str, asked: str, got: str) -> bool:
    (mine, dated), (theirs, other) = _generation(provider, asked), _generation(provider, got)
    return (bool(theirs) and not mine <= theirs) or (bool(dated and other) and dated.isdisjoint(other))


_DATED = pattern(r"\d{4}-\d{2}-\d{2}|\b\d{8}\b")
_UNCOUNTED = pattern(r"\b\d{3,}\b|\b\d+k\b|\bv\d+\b|\b0\b|\b\d{2}-\d{4}\b")


def _generation(provider: str, name: str) -> tuple[frozenset[str], frozenset[str]]:
    """The numbers of a vendor's generations (4 and 1, 4o, o3), and the dates."""
    name = _base(name)
    counts = _COUNTS[provider].findall(_UNCOUNTED.sub(" ", _DATED.sub(" ", name)))
    return frozenset(counts), frozenset(_DATED.findall(name))
