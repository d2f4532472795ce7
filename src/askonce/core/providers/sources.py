"""Whether an answer carries sources. If it does, something was searched for, and it depends on more than its question.

Providers show sources in many places and under many names: citations of URLs and files, search results, grounding, the
context of a retrieval, counts of searches. So the whole answer is walked, and the name of a field with content is
recognised. Texts are not searched, nor what belongs to the caller: its metadata, its schemas, the arguments of calls,
its own parsed type.

A citation of the question's own material is no source: the pages of a document, or, if the question is known to have
`given` them, search results and Cohere's documents. Gemini's citationMetadata describes text that the model knew by
heart.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from askonce.core.providers.answers import Answer, a_dict, field_names, snake
from askonce.core.providers.bounded import kept_by_text
from askonce.core.providers.patterns import pattern

LONGEST_NAME = 100  # characters; a longer field name is ignored

_CITING = pattern(r"(?:\w+_)?(?:citations?|annotations?)")
_FOUND = pattern(
    r"(?:\w+_)?search_(?:results?|info|quer(?:y|ies)|entry_point|requests|calls)|web_(?:search\w*|results|pages)"
    r"|(?:\w+_)?(?:sources|references|passages)|source_(?:documents|nodes|chunks|attributions)|documents"
    r"|(?:retriev(?:al|ed)|rag)_\w+|all_retrieved_documents|grounding_(?:metadata|chunks|supports|attributions?)"
    r"|url_(?:context|retrieval)_metadata|num_(?:sources|search)\w*|(?:\w+_)?fetch_requests"
)
# Repeated words of the caller, and the words of filters, which inspect sources and have none.
CALLERS = frozenset(
    {
        *("metadata", "labels", "tools", "tool_choice", "instructions", "prompt", "response_format", "parsed"),
        *("output_parsed", "arguments", "args", "input", "schema", "trace", "moderation", "content_filters"),
        "citation_metadata",
    }
)
_PAGES = frozenset({"char_location", "page_location", "content_block_location"})
_PAGE_FIELDS = frozenset({"documentChar", "documentPage", "documentChunk"})
_SOURCELESS = frozenset({"plain", "callers"})
_NO_CITATIONS = frozenset({"file", "file_path"})  # read by a parser, or written by a program


def names_sources(names: Iterable[str]) -> bool:
    """Whether a field of one of these names may hold a source; if not, the answer needs no walk."""
    return not _SOURCELESS.issuperset(map(_kind, names))


def carries_sources(answer: object, names: AbstractSet[str] | None = None, *, given: bool = False) -> bool:
    """Whether an answer, or an event of a stream, used a search; `given`: the question brought sources.

    `names`: those of its fields, at every depth, if they are known.
    """
    if not names_sources(field_names([answer]) if names is None else names):
        return False
    queue = [answer]
    for value in queue:
        if isinstance(value, list):
            if not (value and isinstance(value[0], int | float)):  # a vector is long and holds none
                queue += [item for item in value if isinstance(item, dict | list)]
        elif isinstance(value, dict):
            for name, held in value.items():
                kind = _kind(name) if held else "plain"
                if kind == "found" and _holds(held):
                    return True
                if kind == "citing" and any(_outside_question(one, given=given) for one in _each(held)):
                    return True
                if kind == "context" and not {"citations", "intent"}.isdisjoint(a_dict(held)):
                    return True
                if kind == "plain" and isinstance(held, dict | list):
                    queue.append(held)
    return False


@kept_by_text(4096)
def _kind(name: str) -> str:
    if len(name) > LONGEST_NAME:
        return "plain"
    name = snake(name)
    if name in CALLERS:
        return "callers"
    if _CITING.fullmatch(name):
        return "citing"
    return "found" if _FOUND.fullmatch(name) else "context" if name == "context" else "plain"


def _holds(value: object) -> bool:
    """Whether it has content: a text, or a count above 0."""
    queue = [value]
    for one in queue:
        if isinstance(one, dict | list):
            queue += one.values() if isinstance(one, dict) else one
        elif one:
            return True
    return False


def _each(held: object) -> Iterable[object]:
    return held if isinstance(held, list) else [held]


def _outside_question(citation: object, *, given: bool) -> bool:
    """Whether something outside of the question is cited."""
    if not isinstance(citation, dict):
        return bool(citation)
    kind, location = str(citation.get("type")), a_dict(citation.get("location"))
    if kind in _PAGES or kind in _NO_CITATIONS or not _PAGE_FIELDS.isdisjoint(location):
        return False
    return not given or not _cites_material(citation, kind, location)


def _cites_material(citation: Answer, kind: str, location: Answer) -> bool:
    """Whether it cites what a question can bring: search results, documents, the results of its own tools."""
    if kind == "search_result_location" or "searchResultLocation" in location or "document_ids" in citation:
        return True
    kinds = {str(a_dict(source).get("type")) for source in _each(citation.get("sources"))}
    return kinds <= {"document", "tool"}
