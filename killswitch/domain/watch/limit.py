"""A limit: when a value is past it, how near it is, and the sentences that say so. Exact, in decimals."""

from __future__ import annotations

from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from killswitch.domain.messages import Labels, Number
    from killswitch.domain.settings import LimitRule

# A value may have any exponent: no signal of the arithmetic may become an exception.
_WIDE: Final = Context(prec=60, traps=[])

ZERO: Final = Decimal(0)

EXACT: Final = Context(prec=1000, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])
"""Readings have at most 64 digits and powers of ten to 300 (wire/feed.py): their sums and differences are exact in
this. No signal becomes an exception."""


def exact(value: Number) -> Decimal | None:
    """The number that was written: 0.1 as a float is 0.1 here. None for NaN and infinities."""
    held = value if isinstance(value, Decimal) else Decimal(repr(value))
    return held if held.is_finite() else None


def is_past(rule: LimitRule, value: Decimal) -> bool:
    """At the limit is inside."""
    held = measured(rule, value)
    if rule.above is not None:
        return held > rule.above
    return rule.below is not None and held < rule.below


def worse(rule: LimitRule, one: Decimal, other: Decimal) -> Decimal:
    """That of the two which is further past the limit, or nearer to it."""
    further = measured(rule, other) > measured(rule, one)
    return other if further is (rule.above is not None) else one


def headroom(rule: LimitRule, value: Decimal) -> float | None:
    """1 at rest, 0 at the limit, below 0 in breach; None for a limit of 0."""
    limit = rule.above if rule.above is not None else rule.below
    left = None if limit is None else share_left(limit, measured(rule, value))
    return left if left is None or rule.above is not None else -left


def share_left(limit: Decimal, value: Decimal) -> float | None:
    """How much of the limit is left above the value; None for a limit of 0."""
    if not limit:
        return None
    return float(_WIDE.divide(_WIDE.subtract(limit, value), limit.copy_abs()))


def in_words(rule: LimitRule) -> str:
    """Such as "above 50.0", "above 50.0 in size for 3 s"."""
    held = f" for {seconds(rule.for_s)}" if rule.for_s > 0 else ""
    return f"{_side(rule)}{held}"


def sentence(rule: LimitRule, value: Decimal, labels: Labels, age_s: float) -> str:
    """Why it is a breach: value, limit, series, age."""
    said = f"has been {in_words(rule)}" if rule.for_s > 0 else f"is {_side(rule)}"
    return f"{rule.reading} {plain(value)} {said} ({named(labels, f'{age_s:.1f} s old')})"


def named(labels: Labels, *more: str) -> str:
    """Such as "account 14, product BTC; 0.0 s old"."""
    return "; ".join(part for part in (", ".join(f"{n} {text}" for n, text in labels), *more) if part)


def plain(value: Decimal) -> str:
    """As a person writes it; with an exponent where the zeros would fill the page."""
    sign_and_digits = value.as_tuple()
    if abs(value.adjusted()) < 40 and len(sign_and_digits.digits) <= 60:
        return f"{value:f}"
    return f"{value:.20E}"


def seconds(given: float) -> str:
    """A configured time as it was meant, such as "10 s", "0.25 s", "2592000 s"."""
    return f"{plain(Decimal(repr(given)).normalize())} s"


def _side(rule: LimitRule) -> str:
    side = f"above {plain(rule.above)}" if rule.above is not None else f"below {plain(rule.below or Decimal(0))}"
    return f"{side} in size" if rule.absolute else side


def measured(rule: LimitRule, value: Decimal) -> Decimal:
    """The value, or its size: what the rule compares."""
    # copy_abs doesn't round, as abs() does to the context's digits: v4 gives 28 of them.
    return value.copy_abs() if rule.absolute else value
