"""The page that invalidates: it first counts what would be reached, and does it after that was confirmed."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from askonce.errors import ConfigError, UsageError
from askonce.gateway.page.forms import fields
from askonce.gateway.page.session import FIELD
from askonce.gateway.page.site import Site

WAYS = {
    "scope": "a scope, and those below it",
    "tag": "a tag",
    "model": "a model",
    "key": "one answer, by its key",
    "everything": "everything",
}


async def ask(site: Site, request: Request) -> Response:
    """``GET invalidate``: the form; with ``by`` and ``value``, what this would reach."""
    by, value = request.query_params.get("by", ""), request.query_params.get("value", "").strip()
    if not by:
        return _page(site, request, "scope", "")
    try:
        reached = (await site.view.invalidate(aim_of(by, value), dry_run=True)).reached
    except (ConfigError, UsageError, LookupError) as wrong:
        return _page(site, request, by, value, wrong=str(wrong), status=400)
    return _page(site, request, by, value, reached=reached, aim=told(by, value))


async def confirmed(site: Site, request: Request) -> Response:
    """``POST invalidate``: do it. 403 unless the form is from a page of this session."""
    form = await fields(request)
    by, value, mark = (form.get(name, "") for name in ("by", "value", FIELD))
    if not site.sessions.ours(request, mark):
        return site.message(request, 403, "This form is out of date", "Open the page again and confirm once more.")
    try:
        await site.view.invalidate(aim_of(by, value.strip()))
    except (ConfigError, UsageError, LookupError) as wrong:
        return _page(site, request, by, value, wrong=str(wrong), status=400)
    return _page(site, request, by, "", done=told(by, value))


def aim_of(by: str, value: str) -> dict[str, Any]:
    """The arguments of an invalidation; UsageError for none."""
    if by not in WAYS:
        raise UsageError(f"say what to invalidate: {', '.join(WAYS)}")
    if by == "everything":
        return {"everything": True}
    if not value:
        raise UsageError(f"name {WAYS[by]}")
    return {by: [value]}


def told(by: str, value: str) -> str:
    """What is invalidated, for people."""
    return "everything" if by == "everything" else f"{by} {value}"


def _page(site: Site, request: Request, by: str, value: str, *, status: int = 200, **more: Any) -> Response:
    given = {"by": by, "value": value, "ways": WAYS, "reached": None, "aim": "", "done": "", "wrong": "", **more}
    return site.page(request, "invalidate.html", here="invalidate", status=status, **given)
