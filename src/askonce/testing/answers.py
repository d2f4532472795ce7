"""What the scripted provider answers: one pure function from a request to an answer, for five protocols.

The same call of the same question gives the same answer in every run. The text depends only on the question. The ``id``
ends in the number of the call (``chatcmpl-<digest>-2``: the second paid call). So a test sees which call an answer came
from, and two answers are equal exactly if they come from one paid call.

A shape says what kind of answer it is: ``complete``, or one of those that a cache must return and must not keep.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

Protocol: TypeAlias = Literal[
    "openai.chat", "openai.responses", "openai.embeddings", "anthropic.messages", "gemini.generate", "plain"
]
Shape: TypeAlias = Literal["complete", "refused", "truncated", "filtered", "empty", "tool_call"]
Body: TypeAlias = dict[str, Any]

PATHS: Mapping[str, Protocol] = {
    "/chat/completions": "openai.chat",
    "/responses": "openai.responses",
    "/embeddings": "openai.embeddings",
    "/messages": "anthropic.messages",
    ":generateContent": "gemini.generate",
    ":streamGenerateContent": "gemini.generate",
}

BORN = 1_700_000_000  # a constant: a clock would make equal answers differ
WIDTH = 16  # numbers in an embedding, by default
NOT_TEXT: Mapping[Shape, str] = {"refused": "I cannot help with that.", "filtered": "", "empty": "", "tool_call": ""}
CHAT_FINISH: Mapping[Shape, str] = {"truncated": "length", "filtered": "content_filter", "tool_call": "tool_calls"}
STOP_REASON: Mapping[Shape, str] = {
    "refused": "refusal",
    "filtered": "refusal",
    "truncated": "max_tokens",
    "tool_call": "tool_use",
}
GEMINI_FINISH: Mapping[Shape, str] = {"truncated": "MAX_TOKENS", "filtered": "SAFETY", "refused": "PROHIBITED_CONTENT"}
GEMINI_STATUS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}
INCOMPLETE: Mapping[Shape, str] = {"truncated": "max_output_tokens", "filtered": "content_filter"}


def question_of(request: Any) -> str:
    """The question in a request: the text of the last user turn, of `input`, or else the request's JSON.

    `script` and `paid` use this name.
    """
    if isinstance(request, str):
        return request
    if isinstance(request, Mapping):
        for field in ("messages", "input", "contents"):
            if text := _last_text(request.get(field)):
                return text
    return canonical(request)


def _last_text(turns: Any) -> str:
    if isinstance(turns, str):
        return turns
    if not isinstance(turns, list):
        return ""
    if turns and all(isinstance(turn, str) for turn in turns):
        return canonical(turns) if len(turns) > 1 else str(turns[0])
    asked = [turn for turn in turns if isinstance(turn, Mapping) and turn.get("role") == "user"]
    return _text(asked[-1].get("content", asked[-1].get("parts"))) if asked else ""


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(str(part.get("text", "")) for part in parts if isinstance(part, Mapping))


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: the name of a question without text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)


def digest(text: str) -> str:
    """Twelve hex digits that identify `text`."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def protocol_of(request: Any) -> Protocol:
    """The likely protocol of a request without a path; ``plain`` if there is none."""
    if not isinstance(request, Mapping):
        return "plain"
    if "messages" in request:
        return "anthropic.messages" if str(request.get("model", "")).startswith("claude") else "openai.chat"
    if "input" in request:
        return "openai.embeddings" if "embedding" in str(request.get("model", "")) else "openai.responses"
    return "gemini.generate" if "contents" in request else "plain"


def answer(request: Any, protocol: Protocol | None = None, shape: Shape = "complete", nth: int = 1) -> Body:
    """The answer to the `nth` paid call of a request, as the JSON object of its provider.

    `nth`: the number of the call, from 1. `protocol`: None to guess it from the request.
    """
    return WRITERS[protocol or protocol_of(request)](request, shape, nth)


def error(status: int, protocol: Protocol = "openai.chat") -> Body:
    """The JSON body of an HTTP status of 400 or more."""
    kind = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}
    body = {"type": kind.get(status, "api_error"), "message": f"scripted {status}"}
    if protocol == "gemini.generate":
        return {"error": {"code": status, "message": body["message"], "status": GEMINI_STATUS.get(status, "INTERNAL")}}
    return {"type": "error", "error": body} if protocol == "anthropic.messages" else {"error": body}


def said(question: str, shape: Shape = "complete", choice: int = 0) -> str:
    """The text of an answer: half of it if truncated, empty if there is nothing to say."""
    if shape in NOT_TEXT:
        return NOT_TEXT[shape]
    words = f"Answer {digest(f'{question}#{choice}')} to: {question[:200]}"
    return words[: len(words) // 2] if shape == "truncated" else words


def _model(request: Any, default: str) -> str:
    return str(request.get("model", default)) if isinstance(request, Mapping) else default


def _arguments(question: str) -> Body:
    return {"question": question[:200]}


def _tokens(text: str) -> int:
    return len(text) // 4 + 1


def _chat(request: Any, shape: Shape, nth: int) -> Body:
    question = question_of(request)
    choices = [_choice(question, shape, index) for index in range(int(request.get("n") or 1))]
    tokens_in, tokens_out = _tokens(question), sum(_tokens(choice["message"]["content"] or "") for choice in choices)
    return {
        "id": f"chatcmpl-{digest(question)}-{nth}",
        "object": "chat.completion",
        "created": BORN,
        "model": _model(request, "gpt-4.1-mini"),
        "choices": choices,
        "usage": {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out},
    }


def _choice(question: str, shape: Shape, index: int) -> Body:
    text = said(question, shape, index)
    message: Body = {"role": "assistant", "content": text, "refusal": None}
    if shape == "refused":
        message |= {"content": None, "refusal": text}
    if shape == "tool_call":
        function = {"name": "look_up", "arguments": json.dumps(_arguments(question))}
        call = {"id": f"call_{digest(question)}", "type": "function", "function": function}
        message |= {"content": None, "tool_calls": [call]}
    return {"index": index, "message": message, "logprobs": None, "finish_reason": CHAT_FINISH.get(shape, "stop")}


def _responses(request: Any, shape: Shape, nth: int) -> Body:
    question = question_of(request)
    reason = INCOMPLETE.get(shape)
    tokens_in, tokens_out = _tokens(question), _tokens(said(question, shape))
    return {
        "id": f"resp_{digest(question)}_{nth}",
        "object": "response",
        "created_at": BORN,
        "status": "incomplete" if reason else "completed",
        "incomplete_details": {"reason": reason} if reason else None,
        "error": None,
        "model": _model(request, "gpt-4.1-mini"),
        "output": [_item(question, shape)] if shape != "empty" else [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": tokens_in,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": tokens_out,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": tokens_in + tokens_out,
        },
    }


def _item(question: str, shape: Shape) -> Body:
    name = digest(question)
    if shape == "tool_call":
        arguments = json.dumps(_arguments(question))
        call = {"id": f"fc_{name}", "call_id": f"call_{name}", "name": "look_up", "arguments": arguments}
        return {"type": "function_call", "status": "completed", **call}
    text = said(question, shape)
    refusal = {"type": "refusal", "refusal": text}
    part = refusal if shape == "refused" else {"type": "output_text", "text": text, "annotations": []}
    status = "incomplete" if shape in INCOMPLETE else "completed"
    return {"type": "message", "id": f"msg_{name}", "role": "assistant", "status": status, "content": [part]}


def _messages(request: Any, shape: Shape, nth: int) -> Body:
    question = question_of(request)
    text = said(question, shape)
    content: list[Body] = [{"type": "text", "text": text}] if text else []
    if shape == "tool_call":
        use = {"id": f"toolu_{digest(question)}", "name": "look_up", "input": _arguments(question)}
        content = [{"type": "tool_use", **use}]
    return {
        "id": f"msg_{digest(question)}_{nth}",
        "type": "message",
        "role": "assistant",
        "model": _model(request, "claude-sonnet-4-5"),
        "content": content,
        "stop_reason": STOP_REASON.get(shape, "end_turn"),
        "stop_sequence": None,
        "usage": {"input_tokens": _tokens(question), "output_tokens": _tokens(text)},
    }


def _gemini(request: Any, shape: Shape, nth: int) -> Body:
    question = question_of(request)
    text = said(question, shape) if shape not in GEMINI_FINISH or shape == "truncated" else ""
    parts: list[Body] = [{"text": text}] if text else []
    if shape == "tool_call":
        parts = [{"functionCall": {"name": "look_up", "args": _arguments(question)}}]
    tokens_in, tokens_out = _tokens(question), _tokens(text)
    counts = {"promptTokenCount": tokens_in, "candidatesTokenCount": tokens_out}
    finish = GEMINI_FINISH.get(shape, "STOP")
    return {
        "candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": finish, "index": 0}],
        "usageMetadata": counts | {"totalTokenCount": tokens_in + tokens_out},
        "modelVersion": _model(request, "gemini-2.5-flash"),
        "responseId": f"{digest(question)}-{nth}",
    }


def _embeddings(request: Any, shape: Shape, nth: int) -> Body:
    del shape, nth  # a vector is never refused or cut, and has no id for the number of the call
    texts = request["input"] if isinstance(request.get("input"), list) else [request.get("input", "")]
    width = int(request.get("dimensions") or WIDTH)
    vectors = [_vector(canonical(text), width) for text in texts]
    if request.get("encoding_format") == "base64":
        packed = [base64.b64encode(struct.pack(f"<{width}f", *vector)).decode() for vector in vectors]
        data = [{"object": "embedding", "index": i, "embedding": text} for i, text in enumerate(packed)]
    else:
        data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
    asked = sum(_tokens(canonical(text)) for text in texts)
    usage = {"prompt_tokens": asked, "total_tokens": asked}
    return {"object": "list", "data": data, "model": _model(request, "text-embedding-3-small"), "usage": usage}


def _vector(text: str, width: int) -> list[float]:
    """`width` numbers in [-1, 1] that are exact as float32, so that both encodings decode to the same."""
    noise = hashlib.shake_256(text.encode("utf-8", "surrogatepass")).digest(2 * width)
    return [number / 32768 for number in struct.unpack(f"<{width}h", noise)]


def _plain(request: Any, shape: Shape, nth: int) -> Body:
    question = question_of(request)
    return {"id": f"{digest(question)}-{nth}", "question": question, "answer": said(question, shape), "shape": shape}


WRITERS: Mapping[Protocol, Callable[[Any, Shape, int], Body]] = {
    "openai.chat": _chat,
    "openai.responses": _responses,
    "openai.embeddings": _embeddings,
    "anthropic.messages": _messages,
    "gemini.generate": _gemini,
    "plain": _plain,
}
