"""The tables of docs/keys.md: which headers are in the key, and why the others are not."""

from __future__ import annotations

import os
from pathlib import Path

from askonce.core.headers import BALANCER_COOKIES, MEMBERS, TABLE, VALUED
from askonce.http.credentials import LASTING

PAGE = Path(__file__).parents[2] / "docs" / "keys.md"
BEGIN, END = "tests/core/test_header_tables.py -->\n", "<!-- end of the tables -->\n"


def quoted(names: object) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))  # type: ignore[call-overload]


def tables() -> str:
    lines = ["", "| headers | in the key | because |", "|---|---|---|"]
    lines += [f"| {quoted(one.names)} | {'yes' if one.counts else 'no'} | {one.reason} |" for one in TABLE.values()]
    lines += [
        "",
        "These count unless their value is the usual one:",
        "",
        "| header | the usual value | because |",
        "|---|---|---|",
    ]
    lines += [f"| `{name}` | {one.plain} | {one.reason} |" for name, one in sorted(VALUED.items())]
    lines += [
        "",
        "Of these, members count; a tracer's own do not:",
        "",
        "| header | the tracer's own members |",
        "|---|---|",
    ]
    lines += [f"| `{name}` | {quoted(one.names)} |" for name, one in sorted(MEMBERS.items())]
    lines += [
        "",
        "Schemes of `Authorization` that last: " + quoted(one.decode() for one in LASTING) + ", or a key alone.",
    ]
    lines += ["", "Cookies of balancers and bot filters (`#` is a number): " + quoted(BALANCER_COOKIES) + ".", ""]
    return "\n".join(lines) + "\n"


def test_the_tables_in_the_docs_are_those_of_the_code():
    start, mark, rest = PAGE.read_text("utf-8").partition(BEGIN)
    shown, end, tail = rest.partition(END)
    if os.environ.get("ASKONCE_WRITE_DOCS"):
        PAGE.write_text(start + mark + tables() + end + tail, "utf-8")
    else:
        assert shown == tables()
