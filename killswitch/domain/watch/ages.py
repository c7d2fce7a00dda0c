"""How long something wasn't heard, against how long that may be: exact at the limit, in seconds."""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal
from typing import Final

from killswitch.domain.watch import limit

_MS: Final = Decimal("0.001")


def silent_s(last: float, most_s: float, now: float) -> Decimal:
    """How long it is since `last`, to the millisecond; `most_s` or more exactly from `last + most_s` on.

    Counted from there, since that sum is what the agenda waits for: `now - last` may round to a hair less.
    """
    past = Decimal(now) - Decimal(last + most_s)
    return _exact(most_s) + past.quantize(_MS, ROUND_FLOOR)


def is_past(most_s: float, silent: Decimal) -> bool:
    """At the limit is a breach."""
    return silent >= _exact(most_s)


def share_left(most_s: float, silent: Decimal) -> float | None:
    return limit.share_left(_exact(most_s), silent)


def _exact(seconds: float) -> Decimal:
    return Decimal(repr(seconds))
