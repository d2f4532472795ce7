"""OpenAI's Responses API: output items, whose status says whether they ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from askonce.core.providers.answers import Answer, Part, a_dict, dicts, has_text, meaning_of, searches
from askonce.core.providers.api import STREAM, STREAM_OPTIONS, Api, Mark, Path, Repeated, Stream
from askonce.core.providers.exact import Inexact, a_list, an_int, exactly, sure
from askonce.core.providers.openai_chat import HOSTS, unmark_content
from askonce.core.providers.routes import STEP, Body, based, names_model, said
from askonce.core.providers.sse import named_event, typed
from askonce.core.providers.streamed import Read

# --- requests ----------------------------------------------------------------------------------------------------

_PATHS = (
    Path("/v1/responses", "openai"),
    Path(f"(?:/api/projects/{STEP})?/openai(?:/v1)?/responses", "azure"),
    Path("/responses", fits=based),
)


def _asks(body: Body, named: bool) -> bool:
    stored = isinstance(body.get("prompt"), dict)
    goes_on = any(isinstance(body.get(name), str | dict) for name in ("previous_response_id", "conversation"))
    return (stored or goes_on or said(body.get("input"))) and (stored or named or names_model(body))


# --- answers -----------------------------------------------------------------------------------------------------

_SAID = frozenset({"message", "reasoning", "compaction"})
_CALLS = {"function_call", "custom_tool_call", "computer_call", "local_shell_call", "shell_call", "apply_patch_call"}
# The asking program must act on these; the provider's own tools made the other items.
_ASKING = frozenset(_CALLS | {"mcp_approval_request"})


def _parts(value: Answer) -> Iterator[Part]:
    part = _items_part(dicts(value.get("output")))
    why = a_dict(value.get("incomplete_details")).get("reason") or value.get("status")
    finish = part.finish if meaning_of(why) == "" else why
    yield part._replace(finish=finish, failed=bool(value.get("error")))


def _items_part(items: list[Answer]) -> Part:
    kinds = [str(item.get("type")) for item in items]
    blocks = [block for item in items for block in dicts(item.get("content")) if item.get("type") == "message"]
    said = [block for block in blocks if block.get("type") != "refusal"]
    others = [kind for kind in kinds if kind not in _ASKING | _SAID]
    return Part(
        next((status for item in items if (status := item.get("status")) and meaning_of(status) != ""), "completed"),
        has_text(said),
        sum(kind in _ASKING for kind in kinds),
        not all(map(searches, others)),
        len(said) < len(blocks),
        searched=bool(others),
        said=said,
    )


def _fragment(value: Answer) -> Iterator[Part]:
    """The Part of an output item, or of a ModelResponse of OpenAI's agents: output items without their response."""
    items = dicts(value.get("output")) if "response_id" in value else []
    if _is_item(value):
        yield _items_part([value])
    elif items and all(map(_is_item, items)):
        yield _items_part(items)


def _is_item(value: Answer) -> bool:
    kind = str(value.get("type"))
    said = kind == "message" and value.get("role") == "assistant" and isinstance(value.get("content"), list)
    called = kind in _ASKING and isinstance(value.get("call_id", value.get("id")), str)
    return said or called or (kind in _RUN and {"id", "status"} <= value.keys())


_TOOLS = ("web_search", "file_search", "tool_search", "code_interpreter", "image_generation", "mcp")
_RUN = frozenset(f"{tool}_call" for tool in _TOOLS)


# --- streams -----------------------------------------------------------------------------------------------------

_STARTS = ("response.created", "response.output_", "response.completed", "response.in_progress")


def _gist(found: Read) -> Answer | None:
    last = next((value for value in reversed(found.values) if str(value.get("type")) in _CLOSING), None)
    if last is None:
        return None
    items = [value.get("item") for value in found.values if value.get("type") == "response.output_item.done"]
    response = a_dict(last.get("response"))
    # Some hosts close with an empty response, because they said everything before.
    return {**response, "output": response.get("output") or items}


_CLOSING = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})


# --- the two forms -----------------------------------------------------------------------------------------------


def _json(found: Read) -> Answer:
    last = [value for value in found.values if value.get("type") == "response.completed"]
    sure(len(last) == 1)
    response = exactly(last[0].get("response"))
    sure(response.get("usage") and response.get("output"))
    done = [value for value in found.values if value.get("type") == "response.output_item.done"]
    items = [exactly(value.get("item")) for value in sorted(done, key=lambda value: an_int(value.get("output_index")))]
    # The last event repeats everything, except at hosts that leave out what they streamed.
    sure(not items or list(map(_bare, items)) == list(map(_bare, a_list(response["output"]))))
    return response


def _bare(item: Answer) -> Answer:
    """An item without what hosts write anew each time."""
    return {name: value for name, value in item.items() if name not in ("id", "encrypted_content", "status")}


def _stream(answer: Answer, _asked: frozenset[str]) -> Iterable[bytes]:
    sure(answer.get("object") == "response" and answer.get("status") == "completed" and answer.get("usage"))
    cleared = {name: None for name in ("usage", "completed_at") if name in answer}
    begun = answer | cleared | {"status": "in_progress", "output": []}
    events = [{"type": f"response.{step}", "response": begun} for step in ("created", "in_progress")]
    for place, item in enumerate(a_list(answer.get("output"))):
        events += _item_events(item, {"output_index": place, "item_id": item.get("id")})
    events.append({"type": "response.completed", "response": answer})
    return [named_event(event | {"sequence_number": number}) for number, event in enumerate(events)]


def _item_events(item: Answer, where: Answer) -> Iterable[Answer]:
    say = _ITEMS.get(str(item.get("type")))
    if say is None:
        raise Inexact
    opened, events = say(item)
    place = {"output_index": where["output_index"]}
    yield {"type": "response.output_item.added", "item": item | opened} | place
    for event in events:
        yield event | where
    yield {"type": "response.output_item.done", "item": item} | place


def _message_events(item: Answer) -> tuple[Answer, list[Answer]]:
    parts = a_list(item.get("content"))
    events = [event for place, part in enumerate(parts) for event in _part_events(part, {"content_index": place})]
    return {"status": "in_progress", "content": []}, events


def _part_events(part: Answer, where: Answer) -> list[Answer]:
    exactly(part, ("type", "text", "annotations", "logprobs"))
    sure(part.get("type") == "output_text" and isinstance(part.get("text"), str))
    empty = part | {"text": ""} | {name: [] for name in ("annotations", "logprobs") if name in part}
    logprobs = {"logprobs": part.get("logprobs") or []}
    notes = enumerate(a_list(part.get("annotations") or []))
    return [
        {"type": "response.content_part.added", "part": empty} | where,
        {"type": "response.output_text.delta", "delta": part["text"]} | logprobs | where,
        *(_annotation_event(index, note) | where for index, note in notes),
        {"type": "response.output_text.done", "text": part["text"]} | logprobs | where,
        {"type": "response.content_part.done", "part": part} | where,
    ]


def _annotation_event(index: int, note: Answer) -> Answer:
    return {"type": "response.output_text.annotation.added", "annotation_index": index, "annotation": note}


def _reasoning_events(item: Answer) -> tuple[Answer, list[Answer]]:
    sure(not item.get("content"))
    events: list[Answer] = []
    for place, part in enumerate(a_list(item.get("summary"))):
        sure(part.get("type") == "summary_text" and isinstance(part.get("text"), str))
        steps = (
            ("part.added", {"part": part | {"text": ""}}),
            ("text.delta", {"delta": part["text"]}),
            ("text.done", {"text": part["text"]}),
            ("part.done", {"part": part}),
        )
        events += [
            {"type": f"response.reasoning_summary_{step}", "summary_index": place} | what for step, what in steps
        ]
    return {"summary": []}, events


def _call_events(item: Answer) -> tuple[Answer, list[Answer]]:
    arguments = item.get("arguments")
    sure(isinstance(arguments, str))
    kind = "response.function_call_arguments"
    said = [{"type": f"{kind}.delta", "delta": arguments}, {"type": f"{kind}.done", "arguments": arguments}]
    return {"status": "in_progress", "arguments": ""}, said


_ITEMS = {"message": _message_events, "reasoning": _reasoning_events, "function_call": _call_events}


_REPEATED = (
    *("instructions", "previous_response_id", "max_output_tokens", "temperature", "top_p"),
    *("user", "safety_identifier", "prompt_cache_key"),
)

API = Api(
    "responses",
    paths=_PATHS,
    asks=_asks,
    # Without metadata, user, safety_identifier, store, prompt_cache_key, prompt_cache_retention: it repeats them all.
    left_out=(STREAM, STREAM_OPTIONS),
    marks=(Mark("prompt_cache_breakpoint", HOSTS, "content parts and outputs of `input`", unmark_content),),
    shape=lambda v: v.get("object") == "response" and "output" in v,
    signs=("object", "output", "type", "content", "response_id"),
    parts=_parts,
    fragment=_fragment,
    tokens=(("usage",), ("input_tokens",), ("output_tokens",)),
    stream=Stream(
        _gist,
        typed(*sorted(_CLOSING)),
        opens=lambda v: v.get("type") == "response.created",
        shows=lambda v: str(v.get("type")).startswith(_STARTS),
    ),
    repeated=Repeated(
        lambda v: v.get("object") == "response",
        frozenset({"openai", "azure"}),
        _REPEATED,
        elsewhere=("previous_response_id",),
        maps=("metadata",),
    ),
    to_json=_json,
    to_stream=_stream,
)
