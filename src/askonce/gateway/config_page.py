"""The page of the documentation about the configuration, written from the sections themselves.

    python -m askonce.gateway.config_page > docs/gateway-config.md

A test holds the page to it, so that neither can say what the other does not.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from typing import Any

from askonce.core.policy import Policy, resolve
from askonce.gateway.operator_rules import POLICY_WORDS, Rule
from askonce.gateway.sections import BYTES, SECONDS
from askonce.gateway.settings import SECTIONS
from askonce.gateway.upstreams import Upstream

OPENING = """\
# Configuration of the gateway

<!-- written by: python -m askonce.gateway.config_page > docs/gateway-config.md -->

*One TOML file, environment variables and flags say everything; whatever is wrong is found before the first request.*

```toml
[server]
host = "0.0.0.0"
workers = 2

[store]
url = "redis://localhost:6379/0"

[[upstream]]
path = "/openai"
url = "https://api.openai.com"

[[upstream]]
path = "/anthropic"
url = "https://api.anthropic.com"

[[rule]]                    # all requests
ttl = 86400

[[rule]]                    # and these, over the rule above
path = "/openai/*"
model = ["gpt-4o-mini*", "text-embedding-*"]
ttl = 604800
```

`askonce serve --config askonce.toml` reads it, or `$ASKONCE_CONFIG` names it. A flag goes before a variable, and a
variable before the file. The names of files in it (`file`, `token_file`, `ca`, `cert`, `cert_key`, and
`encryption = "file:keys"`) are relative to its folder. More examples: `examples/gateway/`.

**Reload.** SIGHUP reads everything again, with the files that it names: keys that were rotated, a certificate that was
renewed, other prices, other tenants. A configuration with a mistake changes nothing, and the log says what is wrong.
Otherwise the next request is served by it, and those under way end as they began. `[server]` needs a restart.

**Mistakes** are found together, a line for each, with the file's line and what to write. None of them repeats a
secret:

```console
$ askonce serve --config askonce.toml
askonce: askonce.toml:2: 'prot' is unknown: write port
askonce: askonce.toml:14: ttl='1h' is not a number: write seconds, ttl=3600
```

Durations are numbers of seconds. Sizes are numbers of bytes, or texts such as `"64MB"` (B, KB, MB, GB, KiB, MiB,
GiB). A list of one text may be written as the text.
"""

RULES = """
**Which rules hold.** All rules that match a request hold together, in the order of the file: of each key, the last
one that is set counts, and tags add up. So write the general rule first. A rule matches if its `path`, `model` and
`tenant` all match; a condition that is not set always does. Globs are those of a shell: `*` is any text, slashes
included, `?` one character, `[ab]` one of these. A path is the gateway's own: with the upstream's `path`, without the
query. Its escapes are read, so that `%67pt` is `gpt`. Models are compared without case.

**Modes.** `off`: such requests go upstream uncached. `opt-in`: so do those that do not ask for the cache. A request
asks with `askonce-mode: on`, or with any other header of askonce. `askonce-mode: off` leaves the cache out for one
request.

**What counts in a key.** `ignore_fields` and `ignore_headers` leave out what cannot change an answer; the request
still goes upstream as it came. A field is named by its path: `metadata.trace_id`, `messages.*.id`. What is asked
(`model`, `messages`, `input` and the like) cannot be left out as a whole. `same = ["api.openai.com",
"eu.api.openai.com"]`: hosts of one upstream, whose answers may serve each other. It cannot depend on a model.

**Callers may only tighten.** `askonce-ttl` can shorten a ttl. `askonce-scope` names a scope within the rule's.
`askonce-tags` are added. `askonce-variant` asks for another answer. Of `Cache-Control`, `no-cache`, `no-store`,
`max-age`, `min-fresh` and `only-if-cached` hold as everywhere; `max-stale` and `stale-if-error` reach no further than
`grace` and `stale_if_error`. Nothing that a caller says turns on what is off, lengthens a ttl, or leaves its tenant.
All headers that begin with `askonce-` are taken off on the way upstream.

**Replayed usage.** `hit_usage = "zero"` sets the numbers of `usage` in stored answers to zero, for meters downstream
that add them up. The rest of the answer keeps every byte.

The keys of a policy ([lifetimes](lifetimes.md), [judging](judging.md)) are keys of a rule, too:
"""


def page() -> str:
    """The whole page, in Markdown."""
    return "\n".join([OPENING, *_sections(), *_upstream(), *_rule(), ""])


def _sections() -> Iterator[str]:
    for name, kind in SECTIONS.items():
        said = (kind.__doc__ or "").partition(": ")[2].rstrip(".")
        yield f"## [{name}]\n\n{said[0].upper()}{said[1:]}.\n"
        yield from _table(kind, variables=True)
        yield ""


def _upstream() -> Iterator[str]:
    yield "## [[upstream]]\n\nA base URL, and the path of the gateway that stands for it. At least one is needed.\n"
    yield from _table(Upstream)
    yield (
        "\n`--upstream URL`, `--upstream /PATH=URL` (repeated), or several in `$ASKONCE_UPSTREAM` with spaces between,"
        " replace those of the file.\n"
    )


def _rule() -> Iterator[str]:
    yield "## [[rule]]\n\nWhat holds for which requests.\n"
    yield from _table(Rule)
    yield RULES
    yield "| key | default |"
    yield "|---|---|"
    for word in POLICY_WORDS:
        yield f"| `{word}` | {_default_of_policy(word)} |"


def _table(kind: type[Any], *, variables: bool = False) -> Iterator[str]:
    yield "| key | default | |" + (" variable |" if variables else "")
    yield "|---|---|---|" + ("---|" if variables else "")
    for one in fields(kind):
        if "says" in one.metadata:
            variable = f" {_variable(one)} |" if variables else ""
            yield f"| `{one.name}` | {_default(one)} | {_says(one)} |{variable}"


def _says(one: Field[Any]) -> str:
    unit = {SECONDS: " (s)", BYTES: " (bytes)"}.get(one.metadata["unit"], "")
    said: str = one.metadata["says"]
    return f"{said[0].upper()}{said[1:]}{unit}."


def _variable(one: Field[Any]) -> str:
    return f"`${one.metadata['env']}`" if one.metadata["env"] else ""


def _default(one: Field[Any]) -> str:
    value = one.default
    if value is MISSING or value in (None, "", ()):
        return ""
    if one.metadata["unit"] == BYTES and value and not value % 1024:
        return f"`{_size(value)}`"
    return f"`{_toml(value)}`"


def _size(value: int) -> str:
    unit, word = next(
        (unit, word) for unit, word in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")) if not value % unit
    )
    return f'"{value // unit}{word}"'


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


_OF_TTL = {
    "hot_ttl": "ttl / 4",
    "grace": "ttl / 24",
    "stale_if_error": "ttl",
    "max_age": "7 x ttl, or what `hot_ttl`, `grace` and `stale_if_error` need",
}


def _default_of_policy(word: str) -> str:
    return _OF_TTL.get(word) or f"`{_toml(getattr(resolve(Policy()), word))}`"


if __name__ == "__main__":
    sys.stdout.write(page())
