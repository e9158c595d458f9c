"""Numbers as people read them: thousands separators, three digits that matter, a real minus sign."""

import math
from collections.abc import Iterable

NOTHING = "–"


def number(value: float) -> str:
    """``-1234.5 -> −1,234``, ``12.34 -> 12.3``, ``0.01234 -> 0.0123``, ``1e-7 -> 1.00e−07``; NaN: a dash."""
    if not math.isfinite(value):
        return NOTHING
    size = abs(value)
    if size >= 100 or value == round(value):
        text = f"{value:,.0f}" if size < 1e12 else f"{value:.2e}"
    elif size >= 10:
        text = f"{value:.1f}"
    elif size >= 1:
        text = f"{value:.2f}"
    else:
        text = f"{value:#.3g}" if size >= 1e-4 else f"{value:.2e}"
    return "0" if text in ("-0", "0") else text.replace("-", "−")


def short(value: float) -> str:
    """``number`` without trailing zeros, for round values such as ticks and settings: ``-0.5 -> −0.5``."""
    return f"{value:,g}".replace("-", "−") if abs(value) < 1 else number(value)


def percent(share: float) -> str:
    """``0.1234 -> 12.3 %``."""
    return f"{100 * share:.1f} %" if math.isfinite(share) else NOTHING


def duration(minutes: float) -> str:
    """``0.5 -> 30 s``, ``42.3 -> 42 min``, ``150 -> 2.5 h``."""
    if not math.isfinite(minutes):
        return NOTHING
    if minutes < 1:
        return f"{60 * minutes:.0f} s"
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"


def listing(parts: Iterable[str]) -> str:
    """``a, b and c``."""
    items = list(parts)
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1] if items else ""


def span(values: Iterable[int]) -> str:
    """``8``, or ``8 to 10`` where they differ; empty for none."""
    ends = sorted(set(values))
    return "" if not ends else f"{ends[0]:,}" if len(ends) == 1 else f"{ends[0]:,} to {ends[-1]:,}"


def count(amount: int, noun: str) -> str:
    """``1 seed``, ``3 seeds``."""
    return f"{amount:,} {noun}{'' if amount == 1 else 's'}"
