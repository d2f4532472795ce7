"""Horizontal bars as SVG, written by hand: one chart, few elements, readable on a light and on a dark page.

The chart has a background of its own, because a page's dark theme and the system's, which SVG knows, may differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import accumulate
from typing import NamedTuple

FAMILY = "system-ui,-apple-system,Segoe UI,Helvetica,Arial,sans-serif"
WIDTH, LEFT, RIGHT, ROW, TOP, FONT = 760, 270, 130, 26, 68, 13
GAP = 10  # above the first bar of a group
STYLE = """
.page{fill:#fff;stroke:#d0d7de}.title{fill:#1f2328;font-weight:600;font-size:15px}.text{fill:#1f2328}
.note{fill:#59636e}.ours{fill:#0969da}.theirs{fill:#8c959f}
@media (prefers-color-scheme:dark){.page{fill:#0d1117;stroke:#3d444d}.title,.text{fill:#f0f6fc}.note{fill:#9198a1}
.ours{fill:#4493f8}.theirs{fill:#656c76}}
"""


class Bar(NamedTuple):
    """A bar; `said`: the words behind it; `ours`: it begins a group."""

    label: str
    value: float
    said: str
    ours: bool


def bars(title: str, note: str, shown: Sequence[Bar]) -> str:
    """The chart, as a whole SVG document."""
    most = max((bar.value for bar in shown), default=0.0) or 1.0
    gaps = list(accumulate((GAP if bar.ours and number else 0 for number, bar in enumerate(shown)), initial=0))[1:]
    height = TOP + ROW * len(shown) + (gaps[-1] if gaps else 0) + 14
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"',
        f'role="img" aria-label="{escape(title)}" font-family="{FAMILY}" font-size="{FONT}">',
        f"<style>{STYLE.strip()}</style>",
        f'<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="6"/>',
        f'<text class="title" x="16" y="28">{escape(title)}</text>',
        f'<text class="note" x="16" y="48">{escape(note)}</text>',
        *[_bar(bar, TOP + ROW * number + gap, most) for number, (bar, gap) in enumerate(zip(shown, gaps, strict=True))],
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _bar(bar: Bar, y: int, most: float) -> str:
    length = max(1.0, (WIDTH - LEFT - RIGHT) * bar.value / most)
    middle, height, kind = y + ROW // 2 + 2, ROW - 8, "ours" if bar.ours else "theirs"
    return (
        f'<text class="text" x="{LEFT - 10}" y="{middle}" text-anchor="end">{escape(bar.label)}</text>'
        f'<rect class="{kind}" x="{LEFT}" y="{y + 2}" width="{length:.1f}" height="{height}" rx="2"/>'
        f'<text class="text" x="{LEFT + length + 8:.1f}" y="{middle}">{escape(bar.said)}</text>'
    )
