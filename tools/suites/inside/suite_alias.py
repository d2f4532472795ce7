"""A pytest plugin: httpx is httpx2."""

import httpx2

httpx2.alias_httpx()
