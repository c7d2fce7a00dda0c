"""What the kinds of rules differ in: what they measure, when that is a breach, how near it is, and the sentence."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, assert_never

from killswitch.domain.settings import DrawdownRule, LimitRule, RateRule, StaleRule
from killswitch.domain.watch import ages, limit

if TYPE_CHECKING:
    from killswitch.domain.messages import Labels
    from killswitch.domain.settings import ReadingRule
    from killswitch.domain.watch.readings import Series, SeriesKey
    from killswitch.domain.watch.roster import Roster


@dataclass(frozen=True, slots=True)
class Measured:
    """What a rule compares: the value, what came within its window, how far it fell, or how long it wasn't heard.

    `value` and `highest`: what a fall was measured from.
    """

    amount: Decimal
    value: Decimal = limit.ZERO
    highest: Decimal = limit.ZERO


NOTHING = Measured(limit.ZERO)
"""What a series that was never heard measures, where it is known that there is none of it."""


def measure(rule: ReadingRule, key: SeriesKey, series: Series, roster: Roster, now: float) -> Measured:
    match rule:
        case LimitRule():
            return Measured(series.value)
        case RateRule():
            return Measured(roster.windows.measure(rule, key, now))
        case DrawdownRule():
            value, highest = roster.peaks.measure(rule, key, now)
            return Measured(limit.EXACT.subtract(highest, value), value, highest)
        case StaleRule():
            looked_at = roster.readings.last_look(key, series)
            return Measured(ages.silent_s(looked_at, rule.older_than_s, now))
        case _:
            assert_never(rule)


def is_past(rule: ReadingRule, measured: Measured) -> bool:
    match rule:
        case LimitRule():
            return limit.is_past(rule, measured.amount)
        case RateRule():
            return measured.amount > rule.above
        case DrawdownRule():
            return measured.amount >= rule.fall
        case StaleRule():
            return ages.is_past(rule.older_than_s, measured.amount)
        case _:
            assert_never(rule)


def worse(rule: ReadingRule, one: Measured, other: Measured) -> Measured:
    """That of the two which is further past the limit, or nearer to it."""
    match rule:
        case LimitRule():
            return one if limit.worse(rule, one.amount, other.amount) is one.amount else other
        case RateRule() | DrawdownRule() | StaleRule():
            return other if other.amount > one.amount else one
        case _:
            assert_never(rule)


def headroom(rule: ReadingRule, measured: Measured) -> float | None:
    """1 at rest, 0 at the limit, below 0 in breach; None for a limit of 0."""
    match rule:
        case LimitRule():
            return limit.headroom(rule, measured.amount)
        case RateRule():
            return limit.share_left(rule.above, measured.amount)
        case DrawdownRule():
            return limit.share_left(rule.fall, measured.amount)
        case StaleRule():
            return ages.share_left(rule.older_than_s, measured.amount)
        case _:
            assert_never(rule)


def window_s(rule: ReadingRule) -> float:
    """How far back the rule looks; 0 for one that looks at the newest value only."""
    match rule:
        case LimitRule() | StaleRule():
            return 0.0
        case RateRule():
            return rule.per_s
        case DrawdownRule():
            return rule.window_s
        case _:
            assert_never(rule)


def definition(rule: ReadingRule) -> str:
    """The rule as far as the content of its windows hangs on it; "" for one that has none."""
    match rule:
        case LimitRule() | StaleRule():
            return ""
        case RateRule():
            return repr((rule.kind, rule.reading, rule.where, rule.per_s, rule.sum))
        case DrawdownRule():
            return repr((rule.kind, rule.reading, rule.where, rule.window_s))
        case _:
            assert_never(rule)


def in_words(rule: ReadingRule) -> str:
    """Its limit, such as "above 50.0" or "more than 100 readings in 10.0 s"."""
    match rule:
        case LimitRule():
            return limit.in_words(rule)
        case RateRule(sum=True):
            return f"above {limit.plain(rule.above)} in sum over {rule.per_s:.1f} s"
        case RateRule():
            return f"more than {limit.plain(rule.above)} readings in {rule.per_s:.1f} s"
        case DrawdownRule():
            return f"{limit.plain(rule.fall)} or more under its highest in {rule.window_s:.1f} s"
        case StaleRule():
            return f"not heard for {rule.older_than_s:g} s"
        case _:
            assert_never(rule)


def sentence(rule: ReadingRule, measured: Measured, labels: Labels, age_s: float) -> str:
    """Why it is a breach: what was measured, the limit, the series, the age."""
    match rule:
        case LimitRule():
            return limit.sentence(rule, measured.amount, labels, age_s)
        case RateRule(sum=True):
            said = f"{rule.reading} adds up to {limit.plain(measured.amount)}"
        case RateRule():
            said = f"{rule.reading} came {limit.plain(measured.amount)} times"
        case DrawdownRule():
            fell = f"{limit.plain(measured.amount)} under {limit.plain(measured.highest)}"
            said = f"{rule.reading} {limit.plain(measured.value)} is {fell}"
        case StaleRule():
            held = f"{rule.reading} was not heard for {measured.amount:.1f} s, the limit is {rule.older_than_s:g} s"
            return f"{held} ({limit.named(labels, f'{age_s:.1f} s old')})"
        case _:
            assert_never(rule)
    return f"{said}, {in_words(rule)} ({limit.named(labels, f'{age_s:.1f} s old')})"


def drawn(rule: ReadingRule, measured: Measured) -> tuple[Decimal, tuple[Decimal, ...]]:
    """For a picture: the line that people know the series by, and the limits that it must not pass."""
    match rule:
        case LimitRule():
            edge = rule.above if rule.above is not None else rule.below or limit.ZERO
            return measured.amount, (edge, -edge) if rule.absolute and rule.above is not None else (edge,)
        case RateRule():
            return measured.amount, (rule.above,)
        case DrawdownRule():
            return measured.value, (limit.EXACT.subtract(measured.highest, rule.fall),)
        case StaleRule():
            return measured.amount, (Decimal(str(rule.older_than_s)),)
        case _:
            assert_never(rule)
