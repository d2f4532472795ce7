"""No cache: what the upstream alone costs. And the smallest cache there is, for the tests."""

from __future__ import annotations

from typing import Any

from bench.peers.adapter import Adapter, Place, Upstream, key


class Threads(Adapter):
    """Every lookup is a paid call, in a thread."""

    def ask(self, prepared: Any) -> Any:
        return self.upstream.call(prepared)


class Tasks(Adapter):
    """Every lookup is a paid call, in a task."""

    async def ask(self, prepared: Any) -> Any:
        return await self.upstream.acall(prepared)


class Dict(Adapter):
    """A dict."""

    def __init__(self, place: Place, upstream: Upstream) -> None:
        super().__init__(place, upstream)
        self.answers: dict[str, Any] = {}

    def ask(self, prepared: Any) -> Any:
        name = key(prepared)
        if name not in self.answers:
            self.answers[name] = self.upstream.call(prepared)
        return self.answers[name]


class Broken(Adapter):
    """It opens, answers what is asked to warm it, and nothing else."""

    def ask(self, prepared: Any) -> Any:
        if prepared["messages"][-1]["content"].startswith("warm-"):
            return self.upstream.call(prepared)
        raise RuntimeError(f"it never answers {prepared['model']}")
