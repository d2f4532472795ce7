"""OpenAI's chat completions, and those of every host that speaks OpenAI's API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from askonce.core.providers.answers import CALL, Answer, Part, a_dict, dicts, first, message_part
from askonce.core.providers.api import STREAM, STREAM_OPTIONS, Api, Left, Mark, Path, Stream
from askonce.core.providers.assemble import USAGE
from askonce.core.providers.exact import a_list, an_int, exactly, joined, settle, sure
from askonce.core.providers.routes import (
    DEPLOYED,
    MODEL,
    STEP,
    VERSION,
    Body,
    mounted,
    names_model,
    turns,
    typed,
    without,
)
from askonce.core.providers.sse import begins, data_event
from askonce.core.providers.streamed import Read

__all__ = ["API", "HOSTS", "asks_chat", "chat_gist", "unmark_content"]

# --- requests ----------------------------------------------------------------------------------------------------

_CHAT = "/chat/completions"
_PATHS = (
    Path("/v1" + _CHAT, "openai"),
    Path(f"/openai/(?:deployments/{MODEL}|v1){_CHAT}|/models{_CHAT}", "azure"),
    Path("/v1" + _CHAT, "anthropic"),
    Path(f"/{VERSION}/openai{_CHAT}", "gemini"),
    Path(f"/{VERSION}/projects/{STEP}/locations/{STEP}/endpoints/{STEP}{_CHAT}", "vertex"),
    Path("/openai/v1" + _CHAT, "bedrock"),
    Path(DEPLOYED + _CHAT, fits=mounted),
    Path(f"/azure-openai/{STEP}/{MODEL}{_CHAT}"),  # Cloudflare's, by the names of a resource and a deployment
)


def asks_chat(body: Body, named: bool) -> bool:
    """Whether a body is a request for chat; `named`: its model is named elsewhere."""
    # OpenRouter takes a list of models instead of one.
    return turns(body, typed) and (named or names_model(body) or isinstance(body.get("models"), list))


HOSTS = ("openai", "azure")  # their own hosts are known to treat the fields so
# These count, although they look inert: metadata and store (a stored answer repeats its metadata), prompt_cache_options
# (may ask for diagnostics, or for no answer), service_tier and speed (answers name them, and cost differs), seed,
# moderation, OpenRouter's usage (they add to the answer).
_LEFT_OUT = (
    STREAM,
    STREAM_OPTIONS,
    Left("user", HOSTS, "an end user's id for abuse reports; not repeated"),
    Left("safety_identifier", HOSTS, "an end user's id for abuse reports; not repeated"),
    Left("prompt_cache_key", HOSTS, "which prompt cache is used: price and speed"),
    Left("prompt_cache_retention", HOSTS, "how long a prompt cache is kept: price and speed"),
)


def unmark_content(body: Body) -> None:
    """Remove the breakpoints of prompt caches from content, wherever OpenAI takes them."""
    options = body.get("prompt_cache_options") or {}
    if not isinstance(options, dict) or not options.keys() <= {"mode", "ttl"}:
        return  # with diagnostics, the answer tells of the marks
    for item in (*dicts(body.get("messages")), *dicts(body.get("input")), *dicts([body.get("prediction")])):
        for block in (*dicts(item.get("content")), *dicts(item.get("output"))):
            without(block, "prompt_cache_breakpoint")


# --- answers -----------------------------------------------------------------------------------------------------


def _parts(value: Answer) -> Iterator[Part]:
    for choice in dicts(value.get("choices")):
        message = a_dict(choice.get("message"))
        # Absent: the host never says it (Mistral's models on Bedrock call it stop_reason). Null: not ended.
        part = message_part(message, choice.get("finish_reason", choice.get("stop_reason", "stop")))
        yield part._replace(failed=True) if choice.get("error") else part


def _fragment(value: Answer) -> list[Part]:
    function = a_dict(value.get("function"))
    return [CALL] if {"name", "arguments"} <= function.keys() and "parameters" not in function else []


# --- streams -----------------------------------------------------------------------------------------------------

# Some hosts never send [DONE]. Their end must show twice: a finish reason for every choice, and the usage that comes
# last. Otherwise a stream that was cut before its [DONE] would count as whole.


def chat_gist(found: Read) -> Answer | None:
    """The gist of its chunks, and of old completions, whose choices have a text instead of a delta."""
    choices: dict[str, Answer] = {}
    pieces: list[object] = []
    for chunk in found.values:
        if isinstance(held := chunk.get("choices"), list):
            pieces += held
    for choice in dicts(pieces):
        into = choices.get(index := str(choice.get("index")))
        if into is None:
            into = choices[index] = {"finish_reason": None, "error": None, "message": {}, "text": []}
        _add_choice(choice, into)
    answer = {
        "object": "chat.completion",
        "choices": [_choice(choice) for choice in choices.values()],
        "usage": next(filter(None, map(_usage, reversed(found.values))), None),
    }
    finished = all(choice["finish_reason"] is not None for choice in choices.values())
    over = found.done or not found.framed or bool(found.values and _usage(found.values[-1]))
    return answer if over and finished else None


def _usage(chunk: Answer) -> Answer:
    if "usage" not in chunk and "x_groq" not in chunk:
        return {}
    usage = chunk.get("usage") or a_dict(chunk.get("x_groq")).get("usage")
    return usage if isinstance(usage, dict) else {}


def _add_choice(choice: Answer, into: Answer) -> None:
    # This runs for each part of an answer: a missing field costs one look.
    if ended := choice.get("finish_reason"):
        into["finish_reason"] = ended
    if error := choice.get("error"):
        into["error"] = error
    if text := choice.get("text"):
        into["text"].append(text)
    message = into["message"]
    for name, piece in a_dict(choice.get("delta") or choice.get("message")).items():
        if not piece:
            continue
        if (pieces := message.get(name)) is None:
            message[name] = [piece]
        else:
            pieces.append(piece)


def _choice(choice: Answer) -> Answer:
    message = choice["message"]
    joined = {name: _flat(message[name]) for name in ("content", "executed_tools") if name in message}
    pieces = [call for piece in message.get("tool_calls", ()) for call in dicts(piece)]
    # Some hosts give every call the index 0, others give none: then ids tell calls apart.
    ids, indices = ({str(call.get(name)) for call in pieces if call.get(name) is not None} for name in ("id", "index"))
    calls: list[Answer] = [{}] * max(len(ids), len(indices), bool(pieces))
    return {**choice, "message": {**message, **joined, "tool_calls": calls}}


def _flat(pieces: list[Any]) -> list[Any]:
    return [one for piece in pieces for one in (piece if isinstance(piece, list) else [piece])]


# --- the two forms -----------------------------------------------------------------------------------------------

_HEAD = ("id", "model", "provider", "service_tier", "system_fingerprint")
_TEXTS = ("content", "refusal", "reasoning", "reasoning_content")
_CHOICE = ("index", "finish_reason", "native_finish_reason", "logprobs")
_PADDING = ("obfuscation", "p")


def _json(found: Read) -> Answer:
    answer: Answer = {"object": "chat.completion"}
    usage: Answer = {}
    choices: dict[int, _Choice] = {}
    for chunk in found.values:
        exactly(chunk, ("object", "created", "choices", "usage", "x_groq", *_HEAD, *_PADDING))
        answer.setdefault("created", chunk.get("created"))  # some hosts write the time of each chunk
        settle(answer, chunk, _HEAD)
        if groq := exactly(chunk.get("x_groq") or {}, ("id", "seed", "usage")):
            settle(answer.setdefault("x_groq", {}), groq, ("id", "seed"))
        usage = chunk.get("usage") or groq.get("usage") or usage
        for choice in a_list(chunk.get("choices") or []):
            index = an_int(choice.get("index"))
            choices.setdefault(index, _Choice(index)).add(choice)
    sure(usage and choices)
    ordered = [choices[index].answer() for index in sorted(choices)]
    return answer | {"choices": ordered, "usage": usage}


class _Choice:
    def __init__(self, index: int) -> None:
        self._settled: Answer = {"index": index}
        self._role: Answer = {}
        self._said: dict[str, list[object]] = {}
        self._logprobs: list[object] = []
        self._calls: dict[int, _Call] = {}

    def add(self, choice: Answer) -> None:
        exactly(choice, (*_CHOICE, "delta"))
        settle(self._settled, choice, ("finish_reason", "native_finish_reason"))
        if "logprobs" in choice:
            self._logprobs.append(choice["logprobs"])
        # channel: Groq's, in deltas of reasoning; its answers in one piece lack it.
        delta = exactly(choice.get("delta") or {}, ("role", "channel", "tool_calls", *_TEXTS))
        settle(self._role, delta, ("role",))
        for name in _TEXTS:
            if name in delta:
                self._said.setdefault(name, []).append(delta[name])
        for call in a_list(delta.get("tool_calls") or []):
            self._calls.setdefault(an_int(call.get("index")), _Call()).add(call)

    def answer(self) -> Answer:
        sure(self._settled.get("finish_reason"))
        message: Answer = {"role": self._role.get("role"), "content": None}
        message |= {name: _text(pieces) for name, pieces in self._said.items()}
        if self._calls:
            message["content"] = message["content"] or None
            message["tool_calls"] = [self._calls[index].answer() for index in sorted(self._calls)]
        logprobs = {"logprobs": _logprobs(self._logprobs)} if self._logprobs else {}
        return self._settled | {"message": message} | logprobs


class _Call:
    def __init__(self) -> None:
        self._settled: Answer = {}
        self._name: Answer = {}
        self._arguments: list[object] = []

    def add(self, call: Answer) -> None:
        exactly(call, ("index", "id", "type", "function"))
        settle(self._settled, call, ("id", "type"))
        function = exactly(call.get("function") or {}, ("name", "arguments"))
        settle(self._name, function, ("name",))
        self._arguments.append(function.get("arguments") or "")

    def answer(self) -> Answer:
        sure(self._settled.get("id") and self._name.get("name"))
        return self._settled | {"function": self._name | {"arguments": joined(self._arguments)}}


def _text(pieces: list[object]) -> str | None:
    texts = [piece for piece in pieces if piece is not None]
    return joined(texts) if texts else None


def _logprobs(pieces: list[object]) -> Answer | None:
    entries = [exactly(one, ("content", "refusal")) for one in pieces if one is not None]
    names = {name: None for one in entries for name in one}
    tokens = {name: [token for one in entries for token in a_list(one.get(name) or [])] or None for name in names}
    return tokens if entries else None


def _stream(answer: Answer, asked: frozenset[str]) -> Iterable[bytes]:
    exactly(answer, ("object", "choices", "usage", *_EVERY))
    head = {"object": "chat.completion.chunk"} | {name: answer[name] for name in _EVERY if name in answer}
    usage, choices = exactly(answer.get("usage")), a_list(answer.get("choices"))
    sure(usage and choices)
    apart = USAGE in asked
    chunks = [chunk for choice in choices for chunk in _chunks(choice)]
    for number, chunk in enumerate(chunks, 1):
        # If requested, it comes last and alone; else with the last choice, as hosts send it that always do.
        ended = {"usage": None} if apart else {"usage": usage} if number == len(chunks) else {}
        yield data_event(head | {"choices": [chunk]} | ended)
    if apart:
        yield data_event(head | {"choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


_EVERY = (*_HEAD, "created", "x_groq")  # in every chunk


def _chunks(choice: Answer) -> Iterable[Answer]:
    """One choice as its chunks: the role, what was said, the calls, the end."""
    exactly(choice, (*_CHOICE, "message"))
    message = exactly(choice.get("message"), ("role", "tool_calls", *_TEXTS))
    spoken = {name: message[name] for name in _TEXTS if name in message}
    sure(choice.get("finish_reason") and all(isinstance(text, str | None) for text in spoken.values()))
    calls = a_list(message.get("tool_calls") or [])
    for call in calls:
        exactly(exactly(call, ("index", "id", "type", "function")).get("function"), ("name", "arguments"))
    deltas: list[Answer] = [{"role": message.get("role")} | {name: text and "" for name, text in spoken.items()}]
    deltas += [{name: spoken[name]} for name in reversed(_TEXTS) if spoken.get(name)]  # thoughts come first
    deltas += [{"tool_calls": [call | {"index": index}]} for index, call in enumerate(calls)]
    head = {"index": choice.get("index"), "finish_reason": None}
    silent = {name: None for name in ("native_finish_reason", "logprobs") if name in choice}
    for number, delta in enumerate(deltas, 1):
        logprobs = {"logprobs": choice["logprobs"]} if "logprobs" in choice and number == len(deltas) else {}
        yield head | {"delta": delta} | silent | logprobs
    ends = {name: choice[name] for name in ("finish_reason", "native_finish_reason") if name in choice}
    yield head | {"delta": {}} | silent | ends


API = Api(
    "chat",
    paths=_PATHS,
    asks=asks_chat,
    left_out=_LEFT_OUT,
    marks=(Mark("prompt_cache_breakpoint", HOSTS, "content parts of `messages` and `prediction`", unmark_content),),
    shape=lambda v: v.get("object") == "chat.completion" or isinstance(first(v.get("choices")).get("message"), dict),
    signs=("object", "choices", "message", "content", "function", "function_call"),
    parts=_parts,
    fragment=_fragment,
    tokens=(("usage",), ("prompt_tokens",), ("completion_tokens",)),
    stream=Stream(
        chat_gist,
        begins("data", "[DONE]"),
        opens=lambda v: v.get("object") == "chat.completion.chunk" or "delta" in first(v.get("choices")),
        # A stream requested without usage never says everything, but hosts send the usage all the same.
        full=(f"#{USAGE}", ""),
    ),
    to_json=_json,
    to_stream=_stream,
)
