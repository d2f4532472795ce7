"""Numbers and dates for people: the filters of the templates. Pure functions; the time is an argument."""

from __future__ import annotations

from datetime import UTC, datetime

from askonce.core.why import moment
from askonce.gateway import amounts

MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NO-BREAK SPACE}"  # between a number and its unit
SPANS = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))


def money(micros: int | None) -> str:
    """Micro-dollars as dollars: ``$12.84``, ``$1,204``, ``$0.0042``; None is an unknown price."""
    if micros is None:
        return "unknown"
    if micros < 0:
        return MINUS + money(-micros)
    dollars = micros / 1_000_000
    if dollars >= 9_999.5:
        return f"${dollars:,.0f}"
    if micros == 0 or dollars >= 0.0995:
        return f"${dollars:,.2f}"
    return f"${dollars:.3f}" if dollars >= 0.00995 else f"${micros / 1_000_000:.{_digits(micros)}f}"


def _digits(micros: int) -> int:
    """Decimals that show two digits of an amount below a cent."""
    return 8 - len(str(micros)) if micros >= 10 else 6


def count(number: int) -> str:
    """``88,120``, and ``12.3 M`` from ten millions."""
    if abs(number) < 10_000_000:
        return f"{number:,}".replace("-", MINUS)
    return f"{number / 1_000_000:,.1f}{SPACE}M".replace("-", MINUS)


def things(number: int, one: str, several: str = "") -> str:
    """``1 entry``, ``2,100 entries``."""
    return f"{count(number)} {one if number == 1 else several or one + 's'}"


def span(seconds: float) -> str:
    """A span in its two largest units: ``2 h 14 min``, ``41 s``, ``850 ms``."""
    if seconds < 0:
        return MINUS + span(-seconds)
    for unit, name, small, less in SPANS:
        if seconds >= unit:
            rest = int(seconds % unit // small)
            return f"{int(seconds // unit):,}{SPACE}{name}" + (f" {rest}{SPACE}{less}" if rest else "")
    if seconds == int(seconds) or seconds >= 9.95:
        return f"{seconds:.0f}{SPACE}s"
    return latency(seconds)


def latency(seconds: float | None) -> str:
    """A duration with the digits that matter: ``0.42 ms``, ``18 ms``, ``1.9 s``."""
    if seconds is None:
        return "\N{EN DASH}"
    if seconds >= 0.9995:
        return f"{seconds:.1f}{SPACE}s"
    ms = seconds * 1000
    return f"{ms:.0f}{SPACE}ms" if ms >= 9.95 else f"{ms:.1f}{SPACE}ms" if ms >= 0.995 else f"{ms:.2g}{SPACE}ms"


def size(octets: int) -> str:
    """``812 bytes``, ``3.4 KiB``."""
    return SPACE.join(amounts.size(octets))


def percent(share: float | None) -> str:
    """A share of 1 as per cent: ``68 %``, ``99.7 %``."""
    if share is None:
        return "\N{EN DASH}"
    return f"{amounts.percent(share)}{SPACE}%"


def ago(seconds: float) -> str:
    """``just now``, ``12 s ago``, ``in 3 h``: a moment so many seconds before now, in its largest unit."""
    if abs(seconds) < 1:
        return "just now"
    told = span(float(int(abs(seconds)))).partition(" ")[0]
    return f"{told} ago" if seconds > 0 else f"in {told}"


def when(at: float) -> str:
    """A moment, s since 1970, in UTC."""
    return moment(int(at * 1000))


def machine(at: float) -> str:
    """The same for the attribute of a `time` element."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


FILTERS = {one.__name__: one for one in (money, count, things, span, latency, size, percent, ago, when, machine)}
