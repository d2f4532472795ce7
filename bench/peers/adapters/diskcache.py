"""diskcache: an SQLite file in a folder."""

from __future__ import annotations

from typing import Any

import diskcache
import orjson

from bench.peers.adapter import LOCK, TTL, Adapter, Place, Upstream, key


class Diskcache(Adapter):
    """`get`, and a `Lock` of its recipes with a second `get` before the call; bytes of orjson, not pickles.

    That is what `memoize` with `barrier` does, without the time that their keys take. `memoize_stampede` guards an
    answer that is about to end, and not one that is missing.
    """

    def __init__(self, place: Place, upstream: Upstream) -> None:
        super().__init__(place, upstream)
        self.cache: Any = diskcache.Cache(place.folder)

    def ask(self, prepared: Any) -> Any:
        name = key(prepared)
        found = self.cache.get(name)
        if found is not None:
            return orjson.loads(found)
        with diskcache.Lock(self.cache, f"lock-{name}", expire=LOCK):
            found = self.cache.get(name)
            if found is not None:
                return orjson.loads(found)
            answer = self.upstream.call(prepared)
            self.cache.set(name, orjson.dumps(answer), expire=TTL)
        return answer
