"""The dashboard: pages that a browser shows of a cache, rendered here and updated while they are looked at.

`app` has the routes, `overview`, `entries` and `invalidate` the pages behind them, `live` what is told while something
runs. `words` writes numbers for people, `charts` the data of a chart and its table. `session` lets people in by the
admin token, `headers` says what a browser may do with a page, `assets` serves scripts and styles from the package.

Everything that is shown comes from `gateway.view`: nothing here reads a store, counts or decides. Nothing from a store
is ever markup, and no page asks another host for anything.
"""

from __future__ import annotations

from askonce.gateway.page.app import page_app

__all__ = ["page_app"]
