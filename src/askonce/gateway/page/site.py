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
from askonce.gateway.page.starts import Start
from askonce.gateway.page.templating import environment
from askonce.gateway.view import View

Starts = Callable[[str], Sequence[Start]]


def no_starts(_origin: str) -> Sequence[Start]:
    """Nothing is known of how a program begins."""
    return ()


@dataclass(frozen=True, slots=True)
class Site:
    """The pages of one view.

    `starts`: the lines that an empty page shows, by the origin at which it is seen. `stopping`: the server is about to
    end, so nobody may be kept waiting.
    """

    view: View
    sessions: Sessions
    starts: Starts = no_starts
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
            "starts": self.starts(f"{request.url.scheme}://{request.url.netloc}"),
            "here": "",
            "trouble": "",
        }
        return self.templates.get_template(name).render({**common, **told})

    def message(self, request: Request, status: int, title: str, said: str) -> Response:
        """A page that says why there is no other one."""
        return self.page(request, "message.html", status=status, title=title, said=said, here="-")
