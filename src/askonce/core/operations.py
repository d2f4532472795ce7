"""What a request names: the operation, told by host, path and body together.

A provider's own host has exact paths. At any other host what stands before the operation's own path has to look like a
base URL: nothing, a version, or a word that gateways use for the protocol they speak. `/v1/surveys/7/responses` ends
like an operation, and what stands before is an item of a collection. The body has the last word (core.bodies); where
one path serves several protocols, as Bedrock's InvokeModel does, it also says which.

A path is taken as it is spelled: doubled or trailing slashes, parameters after a semicolon and dot segments name
something that only the server can tell, so they pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from askonce.core.bodies import asks
from askonce.core.bounded import lru_cache_of_short
from askonce.core.hosts import provider_of
from askonce.core.providers import PROTOCOLS, Protocol

__all__ = ["Operation", "agreed", "by_path", "model_of", "operation_at"]

_ROWS = {protocol.name: protocol for protocol in PROTOCOLS}
_SPOKEN = {"claude": "messages"}  # shapes of bodies that share a protocol


class Operation(NamedTuple):
    """What host and path name: protocol, whether it asks for a stream, the model (or empty), the path if it did not.

    `provider`: whose own host it is, "" for any other. `shapes`: what a body may look like, the likeliest first.
    """

    protocol: Protocol
    streamed_by_path: bool
    model: str
    path: str
    provider: str = ""
    shapes: tuple[str, ...] = ()

    @property
    def framed(self) -> bool:
        """Whether its streams are AWS event streams and not server-sent events."""
        return _FRAMED.search(self.path) is not None


def agreed(operation: Operation, body: dict[str, Any]) -> Operation | None:
    """The operation that the body says it is too; None where it is of no shape that this operation takes."""
    named = bool(operation.model or operation.provider)
    for shape in operation.shapes:
        if asks(shape, body, named=named):
            protocol = _ROWS[_SPOKEN.get(shape, shape)]
            return operation if protocol is operation.protocol else operation._replace(protocol=protocol)
    return None


def model_of(operation: Operation, body: object) -> str:
    """The model asked for, empty if unsaid: the URL's where it names one, since the server heeds no other."""
    named = operation.model or (body.get("model") if isinstance(body, dict) else None)
    return named if isinstance(named, str) else ""


# --- paths -------------------------------------------------------------------------------------------------------

_S = "[^/;]+"
_VERSION = r"v\d+[a-z]*\d*"
_MODEL = f"(?P<model>{_S})"
_CHAT, _COMPLETIONS, _RESPONSES, _EMBEDDINGS = ("/chat/completions", "/completions", "/responses", "/embeddings")
_GENERATE = r"(?P<model>[^/:;]+):(?:g|streamG)enerateContent"
_PREDICT = r"/publishers/(?:anthropic|mistralai)/models/(?!count-tokens)(?P<model>[^/:;]+):(?:stream)?[rR]awPredict"
_INVOKE = "/invoke(?:-with-response-stream)?"
_CONVERSE = "/converse(?:-stream)?"
# An id, or an ARN: older SDKs leave the slash in it as it is. Elsewhere than at Bedrock an id has to look like one.
_ARN = r"arn(?::|%3[aA])aws[^/;]*(?:/[^/;]+)?"
_BEDROCK = f"/model/(?P<model>{_ARN}|{_S})"
_BEDROCK_LIKE = rf"/model/(?P<model>{_ARN}|(?:[a-z][\w-]*\.)+[\w:%.-]+)"
_CLOUD = ("claude", "converse", "chat")  # what InvokeModel and rawPredict take, told apart by the body

_EXACT: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "openai": (
        ("/v1" + _CHAT, ("chat",)),
        ("/v1" + _COMPLETIONS, ("completions",)),
        ("/v1" + _RESPONSES, ("responses",)),
        ("/v1" + _EMBEDDINGS, ("embeddings",)),
    ),
    "azure": (
        (f"/openai/(?:deployments/{_MODEL}|v1){_CHAT}|/models{_CHAT}", ("chat",)),
        (f"/openai/(?:deployments/{_MODEL}|v1){_COMPLETIONS}", ("completions",)),
        (f"/openai/(?:deployments/{_MODEL}|v1){_EMBEDDINGS}|/models{_EMBEDDINGS}", ("embeddings",)),
        (f"(?:/api/projects/{_S})?/openai(?:/v1)?{_RESPONSES}", ("responses",)),
        ("/anthropic/v1/messages", ("messages",)),
    ),
    "anthropic": (("/v1/messages", ("messages",)), ("/v1" + _CHAT, ("chat",))),
    "gemini": (
        (f"/{_VERSION}/(?:models|tunedModels)/{_GENERATE}", ("gemini",)),
        (f"/{_VERSION}/openai{_CHAT}", ("chat",)),
        (f"/{_VERSION}/openai{_EMBEDDINGS}", ("embeddings",)),
    ),
    "vertex": (
        (f"/{_VERSION}/projects/{_S}/locations/{_S}/(?:publishers/{_S}/models|endpoints)/{_GENERATE}", ("gemini",)),
        (f"/{_VERSION}/(?:publishers/{_S}/models|endpoints)/{_GENERATE}", ("gemini",)),
        (f"/{_VERSION}/projects/{_S}/locations/{_S}{_PREDICT}", _CLOUD),
        (f"/{_VERSION}/projects/{_S}/locations/{_S}/endpoints/{_S}{_CHAT}", ("chat",)),
    ),
    "bedrock": (
        (_BEDROCK + _CONVERSE, ("converse",)),
        (_BEDROCK + _INVOKE, _CLOUD),
        ("/openai/v1" + _CHAT, ("chat",)),
    ),
}

# --- what may stand before an operation at a host that is nobody's own -----------------------------------------------

# The last word of a base URL whose host speaks OpenAI's protocol under it, at gateways and at those who sell models;
# also as a part of a name: azure-openai-eu. custom-... is what Cloudflare calls an upstream of one's own.
_WORDS = frozenset(
    {
        *("openai", "openapi", "compat", "compatible", "inference", "serving-endpoints", "models", "llm", "ai"),
        *("gateway", "proxy", "beta", "custom", "azure", "groq", "mistral", "deepseek", "openrouter", "grok", "xai"),
        *("cerebras", "together", "fireworks", "perplexity", "huggingface", "nvidia", "litellm", "vllm", "ollama"),
    }
)
_ID = re.compile(
    r"\d+|[0-9a-f-]*\d[0-9a-f-]{7,}|[a-z]+_(?=\w*\d)\w{6,}|.*%.*", re.IGNORECASE
)  # of an item of a collection


def _base(steps: Sequence[str]) -> bool:
    """Nothing, or what ends in a version or such a word."""
    last = steps[-1] if steps else "v1"
    if re.fullmatch(_VERSION, last) or last in _WORDS:
        return True
    return not _ID.fullmatch(last) and not _WORDS.isdisjoint(re.split("[-_.]", last))


def _mounted(steps: Sequence[str]) -> bool:
    """A base, or names without a number: where somebody mounted a server, as in /team-a/proxy or /v1/solar."""
    versions = [at for at, step in enumerate(steps) if re.fullmatch(_VERSION, step)]
    after = steps[versions[-1] + 1 :] if versions else steps
    return _base(steps) or (len(after) <= (1 if versions else 4) and not any(map(_ID.fullmatch, after)))


def _listed(steps: Sequence[str]) -> bool:
    """A base, or what Vertex lists its models under."""
    return _base(steps) or steps[-2:-1] in (["publishers"], ["locations"])


def _any(_: Sequence[str]) -> bool:
    return True


_BASE = r"(?P<base>(?:/[^/;]+)*?)"
_DEPLOYED = f"(?:/(?:deployments|engines)/{_MODEL})?"
_CLOUDFLARES = f"/azure-openai/{_S}/{_MODEL}"  # by the names of a resource and a deployment
_ANYWHERE: tuple[tuple[str, Callable[[Sequence[str]], bool], tuple[str, ...]], ...] = (
    (_DEPLOYED + _CHAT, _mounted, ("chat",)),
    (_DEPLOYED + _COMPLETIONS, _base, ("completions",)),  # not Mistral's /v1/fim/completions, of another shape
    (_DEPLOYED + _EMBEDDINGS, _base, ("embeddings",)),  # not Ollama's /api/embeddings
    (_CLOUDFLARES + _CHAT, _any, ("chat",)),
    (_CLOUDFLARES + _EMBEDDINGS, _any, ("embeddings",)),
    (_RESPONSES, _base, ("responses",)),
    ("/v1/messages", _any, ("messages",)),
    ("/v2/chat", _any, ("message",)),  # Cohere's; Ollama streams unless it is told not to, in a form of its own
    (f"/(?:models|tunedModels|endpoints)/{_GENERATE}", _listed, ("gemini",)),
    (_PREDICT, _any, _CLOUD),
    (_BEDROCK_LIKE + _CONVERSE, _any, ("converse",)),
    (_BEDROCK_LIKE + _INVOKE, _any, _CLOUD),
)

_PLACES = {name: tuple((re.compile(p), shapes) for p, shapes in rows) for name, rows in _EXACT.items()}
_SUFFIXES = {name: tuple((re.compile(f"(?:{p})$"), shapes) for p, shapes in rows) for name, rows in _EXACT.items()}
_STRUCTURE = tuple((re.compile(_BASE + path), fits, shapes) for path, fits, shapes in _ANYWHERE)
_ODD = re.compile(r"//|/\.{1,2}(?:/|$)|%2e", re.IGNORECASE)
_DRAFT = re.compile(r":prompt/[^:]+$")  # of Bedrock's prompts without a version: edited any time
_FRAMED = re.compile(rf"{_BEDROCK}(?:{_CONVERSE}|{_INVOKE})$")

_Found = tuple[re.Match[str], tuple[str, ...]]


def by_path(method: str, path: str, host: str = "") -> Operation | None:
    """The operation of a request line at a host; None for what is not ours."""
    return operation_at(method, path, provider_of(host))


@lru_cache_of_short(1024)
def operation_at(method: str, path: str, provider: str, *, mirrored: bool = False) -> Operation | None:
    """The operation of a request line; `mirrored`: at a host that stands for the provider's, under any base URL."""
    from urllib.parse import unquote  # only HTTP asks for it

    path = path.partition("?")[0]
    if method != "POST" or _ODD.search(path):
        return None
    found = _exactly(path, provider, mirrored=mirrored)
    if found is None and (mirrored or provider not in _PLACES):
        found = _somewhere(path)
    if found is None:
        return None
    match, shapes = found
    streamed = match.string if match.re.groupindex.get("base") else match[0]
    plain = _STREAMED.sub(lambda word: _PLAIN[word[0]], streamed)
    model = unquote(match.groupdict().get("model") or "")
    if _DRAFT.search(model):
        return None
    protocol = _ROWS[_SPOKEN.get(shapes[0], shapes[0])]
    return Operation(protocol, plain != streamed, model, plain, provider, shapes)


def _exactly(path: str, provider: str, *, mirrored: bool) -> _Found | None:
    """At a provider's own host: the whole path; at a mirror of it: what the path ends in."""
    for pattern, shapes in (_SUFFIXES if mirrored else _PLACES).get(provider, ()):
        if match := pattern.search(path) if mirrored else pattern.fullmatch(path):
            return match, shapes
    return None


def _somewhere(path: str) -> _Found | None:
    for pattern, fits, shapes in _STRUCTURE:
        if (match := pattern.fullmatch(path)) and fits(match["base"].split("/")[1:]):
            return match, shapes
    return None


_PLAIN = {
    ":streamGenerateContent": ":generateContent",
    ":streamRawPredict": ":rawPredict",
    "/invoke-with-response-stream": "/invoke",
    "/converse-stream": "/converse",
}
_STREAMED = re.compile("|".join(map(re.escape, _PLAIN)) + "$")
