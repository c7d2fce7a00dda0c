"""Warnings before the limit: the levels that a rule names, and which of them a value has come to.

A level is said once on its way up, and again only after the value fell back by a margin below it: a value that
trembles on a level would else be told at feed rate. Exact, in decimals, as the limit itself. What is compared is what
the rule measures: the value, how many came, how far it fell, or a share.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Final, assert_never

from killswitch.domain.settings import DrawdownRule, LimitRule, RateRule, RatioRule
from killswitch.domain.watch import kinds, limit

if TYPE_CHECKING:
    from killswitch.domain.messages import Labels
    from killswitch.domain.settings import LeveledRule
    from killswitch.domain.watch.kinds import Measured

MARGIN: Final = Decimal("0.05")
"""Of the limit. A level under twice that has half of itself: a value at rest must let go of every level."""

# Wide enough for the product of two numbers of 64 digits; no signal may become an exception.
_WIDE: Final = Context(prec=200, traps=[])


@dataclass(frozen=True, slots=True)
class Level:
    """`at`: the value that reaches it; `back`: the value past which it is let go."""

    fraction: Decimal
    at: Decimal
    back: Decimal


def levels_of(rule: LeveledRule) -> tuple[Level, ...]:
    """The rule's levels, nearest to rest first. A fraction is of the limit used: 1 - headroom."""
    bound = _bound(rule)
    if not bound:
        return ()
    towards = Decimal(-1) if isinstance(rule, LimitRule) and rule.above is None else Decimal(1)

    def value(used: Decimal) -> Decimal:
        left = _WIDE.multiply(_WIDE.subtract(Decimal(1), used), bound.copy_abs())
        return _WIDE.subtract(bound, _WIDE.multiply(towards, left))

    return tuple(
        Level(part, value(part), value(_WIDE.subtract(part, min(MARGIN, _WIDE.divide(part, Decimal(2))))))
        for part in rule.warn_at
    )


def _bound(rule: LeveledRule) -> Decimal | None:
    match rule:
        case LimitRule():
            return rule.above if rule.above is not None else rule.below
        case RateRule() | RatioRule():
            return rule.above
        case DrawdownRule():
            return rule.fall
        case _:
            assert_never(rule)


def reached(rule: LeveledRule, levels: tuple[Level, ...], held: int, measured: Measured) -> int:
    """How many levels hold at what was measured, when `held` did before it. At a level is reached."""
    now_at = sum(kinds.reaches(rule, measured, level.at) for level in levels)
    kept = sum(kinds.reaches(rule, measured, level.back) for level in levels)
    return max(now_at, min(held, kept))


def sentence(rule: LeveledRule, level: Level, measured: Measured, labels: Labels, age_s: float) -> str:
    """Such as "var 45.0 has used 90 % of its limit, above 50.0 (account 14; 0.0 s old)"."""
    percent = limit.plain(_WIDE.multiply(level.fraction, Decimal(100)).normalize(_WIDE))
    told = kinds.told(rule, measured) + ("" if isinstance(rule, LimitRule) else " and")
    said = f"{told} has used {percent} % of its limit, {kinds.in_words(rule)}"
    return f"{said} ({limit.named(labels, f'{age_s:.1f} s old')})"
