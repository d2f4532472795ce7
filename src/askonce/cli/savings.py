"""``askonce savings``: what the calls of all processes cost, and what was saved."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from askonce.cli import say
from askonce.cli.columns import Column, lines, table
from askonce.cli.looking import looking
from askonce.cli.place import AsJson, Prefix, Url
from askonce.core.savings import By, Row, Savings
from askonce.core.spent import Balance, Spent
from askonce.runtime.drive import drive

DAYS = 30

ByWhat = Annotated[By | None, typer.Option("--by", help="One line for each of these.")]
Days = Annotated[
    int, typer.Option("--days", metavar="N", min=1, max=400, help="The last N days, today included (UTC).")
]

# What is shown of a balance, and what each is, in so few words that 80 columns have room for them beside the numbers.
LINES = (
    ("asked", "asked", "cost without the cache"),
    ("paid", "paid", "what went upstream"),
    ("hits", "saved by hits", ""),
    ("joined", "by joining", "another caller's call"),
    ("stale", "by old answers", "until refreshed, or at errors"),
    ("refreshes", "less refreshes", "paid in the background"),
    ("doubled", "less second calls", "a leader was silent or failed"),
    ("saved", "saved", "in all"),
)
SPENT = ("calls", "tokens_in", "tokens_out", "tokens_cached", "usd", "seconds", "unpriced")
# By importance: a narrow terminal leaves out the last ones.
GROUPS = (
    Column("", cut=True),
    Column("saved", right=True),
    Column("calls", right=True),
    Column("of", right=True),
    Column("tokens", right=True),
    Column("time", right=True),
    Column("paid", right=True),
)


def savings(
    url: Url = None, prefix: Prefix = None, by: ByWhat = None, days: Days = DAYS, as_json: AsJson = False
) -> None:
    """Show what all processes asked, paid and saved.

    Each answer is priced once, when it is stored, and a hit saves what its answer cost. The cost of refreshes and of
    second calls is subtracted; a first call is not, since it would have been paid anyway. A pipe gets tab-separated
    lines with all numbers: calls, tokens, dollars and seconds.
    """
    with looking(url, prefix) as view:
        found = drive(view.savings(days, by or ()))
    console = say.console()
    if as_json:
        say.as_json(found.as_dict())
    elif not console.is_terminal:
        say.raw(_lines(found))
    else:
        _print(console, found)


def _lines(found: Savings) -> str:
    if not found.by:
        columns = [Column(one) for one in ("kind", *SPENT)]
        return lines(columns, [[name, *_numbers(getattr(found.total, name))] for name, _, _ in LINES])
    numbers = [f"{kind}_{name}" for kind in ("asked", "paid", "saved") for name in SPENT]
    columns = [Column(one) for one in (*found.by, *numbers)]
    rows = [[*map(say.word, row.labels), *_whole(row.balance)] for row in found.rows]
    return lines(columns, rows)


def _whole(balance: Balance) -> list[str]:
    return [number for spent in (balance.asked, balance.paid, balance.saved) for number in _numbers(spent)]


def _numbers(spent: Spent) -> list[str]:
    return [_number(getattr(spent, name)) for name in SPENT]


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.9f}".rstrip("0").rstrip(".")


def _print(console: Console, found: Savings) -> None:
    saved, asked = found.total.saved, found.total.asked
    period = f"{found.since} to {found.until}" if found.since != found.until else f"{found.until}"
    if not asked.calls and not found.total.paid.calls:
        say.sentence(f"nothing was asked from {period} (UTC)")
        return
    said = f"{money(saved)} saved, {say.count(saved.calls, 'call')} of {asked.calls:,}"
    say.sentence(Text.assemble((said, "bold"), f", {period} (UTC)"))
    console.print(_groups(found, console.width) if found.by else _kinds(found.total, console.width))
    if unpriced := found.total.asked.unpriced + found.total.refreshes.unpriced:
        note = f"{say.count(unpriced, 'answer')} without a price: see docs/savings.md"
        say.sentence(Text(note, "dim"))


def _kinds(total: Balance, width: int) -> Table:
    columns = (
        Column(""),
        Column("calls", right=True),
        Column("money", right=True),
        Column("tokens", right=True),
        Column("time", right=True),
        Column(""),
    )
    rows = []
    for name, title, meaning in LINES:
        spent: Spent = getattr(total, name)
        if spent != Spent() or name in {"asked", "paid", "saved"}:
            rows.append(
                [title, f"{spent.calls:,}", money(spent), f"{spent.tokens:,}", say.time(spent.seconds), meaning]
            )
    return table(columns, rows, width)


def _groups(found: Savings, width: int) -> Table:
    heading = GROUPS[0]._replace(heading=" ".join(found.by))
    return table((heading, *GROUPS[1:]), [_group(row) for row in found.rows], width)


def _group(row: Row) -> list[str]:
    saved, asked, paid = row.balance.saved, row.balance.asked, row.balance.paid
    numbers = [money(saved), f"{saved.calls:,}", f"{asked.calls:,}", f"{saved.tokens:,}", say.time(saved.seconds)]
    return [" ".join(say.word(label) or "-" for label in row.labels), *numbers, money(paid)]


def money(spent: Spent) -> str:
    """Dollars, with as many digits as a small sum needs."""
    dollars = spent.usd
    digits = 2 if abs(dollars) >= 1 or not dollars else 4 if abs(dollars) >= 0.01 else 6
    return f"{'-' if dollars < 0 else ''}${abs(dollars):,.{digits}f}"
