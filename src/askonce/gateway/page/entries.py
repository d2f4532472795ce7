"""The pages of stored answers: a list with a search, and one answer. A body is shown only if it is asked for."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from askonce.core.why import Why
from askonce.gateway.page.site import Site
from askonce.gateway.results import Answer, Answers, Filter
from askonce.gateway.short_keys import NoSuchKey

LIMIT = 100
LONGEST = 200_000  # characters of a body on a page
NOBODY = {"unknown", "never-seen"}  # reasons of a question that nobody is known to have asked
WORDS = ("key", "scope", "model", "tag")
STATES = {
    "fresh": "fresh",
    "stale": "stale",
    "error": "only on error",
    "over": "expired",
    "invalidated": "invalidated",
}
FORMS = {"v": "Value", "j": "JSON answer", "s": "Stream"}


async def listing(site: Site, request: Request) -> Response:
    """``entries``: the answers that a search finds."""
    asked: dict[str, Any] = {word: request.query_params.get(word, "").strip() for word in WORDS}
    asked["dead"] = bool(request.query_params.get("dead"))
    scope, tag, model = (asked[word] or None for word in ("scope", "tag", "model"))
    rows = await site.view.entries(Filter(scope, tag, model, asked["key"].lower(), asked["dead"]), LIMIT)
    return site.page(
        request,
        "entries.html",
        here="entries",
        found=rows.entries,
        more=rows.more,
        now=rows.now,
        states=STATES,
        asked=asked,
        searched=any(asked.values()),
    )


async def single(site: Site, request: Request) -> Response:
    """``entries/{key}``: the forms of one answer, with ``?body=1`` their bodies, and what a lookup finds now."""
    opened = request.query_params.get("body") == "1"
    why = await site.view.why(request.path_params["key"])
    answers = await _stored(site, why, opened=opened)
    bodies = [shown(one) for one in answers.forms] if opened else []
    return site.page(
        request,
        "entry.html",
        here="entries",
        key=why.key,
        why=why.sentence,
        forms=answers.forms,
        bodies=[one[:LONGEST] for one in bodies],
        cut=[len(one) > LONGEST for one in bodies],
        opened=opened,
        now=answers.now,
        states=STATES,
        names=FORMS,
    )


async def _stored(site: Site, why: Why, *, opened: bool) -> Answers:
    """What is stored of a question: nothing, if it was only asked. NoSuchKey if it was not even that."""
    try:
        return await site.view.entry(why.key, body=opened)
    except NoSuchKey:
        if why.reason in NOBODY:
            raise
        return Answers([], await site.view.now())


def shown(one: Answer) -> str:
    """A body as text; of one that is longer than LONGEST, a little more than that."""
    if isinstance(one.body, str):
        return one.body
    parts, size = [], 0
    for part in json.JSONEncoder(indent=2, ensure_ascii=False).iterencode(one.body):  # a deep one is mostly indent
        parts.append(part)
        size += len(part)
        if size > LONGEST:
            break
    return "".join(parts)
