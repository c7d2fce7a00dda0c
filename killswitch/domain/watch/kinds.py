"""What the kinds of rules differ in: what they measure, when that is a breach, how near it is, and the sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from killswitch.domain.settings import LimitRule, RateRule
from killswitch.domain.watch import limit

if TYPE_CHECKING:
    from decimal import Decimal

    from killswitch.domain.messages import Labels
    from killswitch.domain.settings import Rule
    from killswitch.domain.watch.readings import Series, SeriesKey
    from killswitch.domain.watch.windows import Windows


def measure(rule: Rule, key: SeriesKey, series: Series, windows: Windows, now: float) -> Decimal:
    """What the rule compares: the value, or what came within its window."""
    match rule:
        case LimitRule():
            return series.value
        case RateRule():
            return windows.measure(rule, key, now)
        case _:
            assert_never(rule)


def is_past(rule: Rule, measured: Decimal) -> bool:
    match rule:
        case LimitRule():
            return limit.is_past(rule, measured)
        case RateRule():
            return measured > rule.above
        case _:
            assert_never(rule)


def worse(rule: Rule, one: Decimal, other: Decimal) -> Decimal:
    """That of the two which is further past the limit, or nearer to it."""
    match rule:
        case LimitRule():
            return limit.worse(rule, one, other)
        case RateRule():
            return max(one, other)
        case _:
            assert_never(rule)


def headroom(rule: Rule, measured: Decimal) -> float | None:
    """1 at rest, 0 at the limit, below 0 in breach; None for a limit of 0."""
    match rule:
        case LimitRule():
            return limit.headroom(rule, measured)
        case RateRule():
            return limit.share_left(rule.above, measured)
        case _:
            assert_never(rule)


def window_s(rule: Rule) -> float:
    """How far back the rule looks; 0 for one that looks at the newest value only."""
    match rule:
        case LimitRule():
            return 0.0
        case RateRule():
            return rule.per_s
        case _:
            assert_never(rule)


def in_words(rule: Rule) -> str:
    """Its limit, such as "above 50.0" or "more than 100 readings in 10.0 s"."""
    match rule:
        case LimitRule():
            return limit.in_words(rule)
        case RateRule(sum=True):
            return f"above {limit.plain(rule.above)} in sum over {rule.per_s:.1f} s"
        case RateRule():
            return f"more than {limit.plain(rule.above)} readings in {rule.per_s:.1f} s"
        case _:
            assert_never(rule)


def sentence(rule: Rule, measured: Decimal, labels: Labels, age_s: float) -> str:
    """Why it is a breach: what was measured, the limit, the series, the age."""
    match rule:
        case LimitRule():
            return limit.sentence(rule, measured, labels, age_s)
        case RateRule(sum=True):
            said = f"{rule.reading} adds up to {limit.plain(measured)}, {in_words(rule)}"
        case RateRule():
            said = f"{rule.reading} came {limit.plain(measured)} times, {in_words(rule)}"
        case _:
            assert_never(rule)
    return f"{said} ({limit.named(labels, f'{age_s:.1f} s old')})"
