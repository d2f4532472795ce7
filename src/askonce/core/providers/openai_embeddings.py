"""OpenAI's embeddings, and those of Mistral, Voyage and others: a vector for each input."""

from __future__ import annotations

from collections.abc import Iterator

from askonce.core.providers.answers import Answer, Part, dicts, first
from askonce.core.providers.api import Api, Left, Path
from askonce.core.providers.openai_chat import HOSTS
from askonce.core.providers.routes import DEPLOYED, MODEL, STEP, VERSION, based, names_model, said

_EMBEDDINGS = "/embeddings"
_PATHS = (
    Path("/v1" + _EMBEDDINGS, "openai"),
    Path(f"/openai/(?:deployments/{MODEL}|v1){_EMBEDDINGS}|/models{_EMBEDDINGS}", "azure"),
    Path(f"/{VERSION}/openai{_EMBEDDINGS}", "gemini"),
    Path(DEPLOYED + _EMBEDDINGS, fits=based),  # not Ollama's /api/embeddings
    Path(f"/azure-openai/{STEP}/{MODEL}{_EMBEDDINGS}"),  # Cloudflare's
)
# Not Jina's late_chunking, which reads all inputs as one text, and no field that is unknown at that host.
_EACH = frozenset({"model", "input", "encoding_format", "dimensions"})
_PER_INPUT = {
    "": _EACH,
    "openai": _EACH | {"user"},
    "azure": _EACH | {"user", "input_type"},
    "mistral": _EACH | {"output_dimension", "output_dtype"},
    "voyage": _EACH | {"input_type", "truncation", "output_dimension", "output_dtype"},
}


def _parts(value: Answer) -> Iterator[Part]:
    for item in dicts(value.get("data")):
        yield Part("stop", _whole(item.get("embedding")))


def _whole(vector: object) -> bool:
    """Whether there is a vector, and each number in it is one: servers write NaN as null."""
    if not isinstance(vector, list) or not vector or not isinstance(vector[0], int | float | None):
        return bool(vector)
    try:
        sum(vector)  # a search for None takes eight times as long
    except TypeError:
        return False
    return True


API = Api(
    "embeddings",
    paths=_PATHS,
    asks=lambda body, named: said(body.get("input")) and (named or names_model(body)),
    left_out=(Left("user", HOSTS, "an end user's id for abuse reports; not repeated"),),
    per_input=_PER_INPUT,
    shape=lambda v: v.get("object") in ("list", None) and "embedding" in first(v.get("data")),
    signs=("object", "data"),
    parts=_parts,
    tokens=(("usage",), ("prompt_tokens",), ("completion_tokens",)),
)
