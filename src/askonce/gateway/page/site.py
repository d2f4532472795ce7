"""What all pages share: the view, the sessions, the templates, and how a page is answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

import askonce
from askonce.gateway.page.assets import Assets, assets
from askonce.gateway.page.session import Sessions, path_of
from askonce.gateway.page.sight import Sight
from askonce.gateway.page.templating import environment


@dataclass(frozen=True, slots=True)
class Start:
    """How a program begins to use this cache: a title, and the one line to change. An empty page shows it."""

    title: str
    line: str


@dataclass(frozen=True, slots=True)
class Site:
    """The pages of one view. `stopping`: the server is about to end, so nobody may be kept waiting."""

    view: Sight
    sessions: Sessions
    starts: Sequence[Start] = ()
    stopping: Callable[[], bool] = lambda: False
    assets: Assets = field(default_factory=assets)
    templates: Environment = field(default_factory=environment)

    def page(self, request: Request, name: str, *, status: int = 200, **told: Any) -> Response:
        """A whole page for somebody who is logged in."""
        return HTMLResponse(self.text(request, name, **told), status)

    def text(self, request: Request, name: str, **told: Any) -> str:
        """A template as text; `told`: what only this page has."""
        base = path_of(request)
        place = {"store": self.view.address, "prefix": self.view.prefix}
        common = {
            "base": base,
            "asset": lambda file: f"{base}static/{self.assets.version}/{file}",
            "mark": self.sessions.mark(request),
            "place": place if self.sessions.opened(request) else None,
            "version": askonce.__version__,
            "starts": self.starts,
            "here": "",
            "trouble": "",
        }
        return self.templates.get_template(name).render({**common, **told})

    def message(self, request: Request, status: int, title: str, said: str) -> Response:
        """A page that says why there is no other one."""
        return self.page(request, "message.html", status=status, title=title, said=said, here="-")
