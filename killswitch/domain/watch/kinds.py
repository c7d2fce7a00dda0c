"""What the kinds of rules differ in: what they measure, when that is a breach, how near it is, and the sentence."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Final, assert_never

from killswitch.domain.settings import DrawdownRule, LimitRule, RateRule, RatioRule, StaleRule
from killswitch.domain.watch import ages, limit, windows

if TYPE_CHECKING:
    from killswitch.domain.messages import Labels
    from killswitch.domain.settings import LeveledRule, ReadingRule
    from killswitch.domain.watch.readings import SeriesKey
    from killswitch.domain.watch.roster import Roster

_SHARE: Final = Context(prec=6, traps=[])  # for people: compared are the counts


@dataclass(frozen=True, slots=True)
class Measured:
    """What a rule compares: the value, what came within its window, how far it fell, a share, or how long it wasn't
    heard.

    `made_of`: a fall's value and highest; the counts that a share is of. A share of too few is 0.
    """

    amount: Decimal
    made_of: tuple[Decimal, Decimal] = (limit.ZERO, limit.ZERO)


NOTHING: Final = Measured(limit.ZERO)
"""What a series that was never heard measures, where it is known that there is none of it."""


def measure(rule: ReadingRule, key: SeriesKey, roster: Roster, now: float) -> Measured:
    """Of a series as the rule keeps it (Roster.home)."""
    match rule:
        case LimitRule():
            series = roster.readings.get(key)
            return NOTHING if series is None else Measured(series.value)
        case RateRule():
            return Measured(roster.windows.measure(rule, key, now))
        case DrawdownRule():
            value, highest = roster.peaks.measure(rule, key, now)
            return Measured(limit.EXACT.subtract(highest, value), (value, highest))
        case RatioRule():
            counts = (
                roster.windows.measure(rule, key, now),
                roster.windows.measure(rule, windows.over(rule, key), now),
            )
            return Measured(_SHARE.divide(*counts) if counts[1] >= rule.at_least else limit.ZERO, counts)
        case StaleRule():
            series = roster.readings.get(key)
            if series is None:
                return NOTHING
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
        case RatioRule():
            count, over = measured.made_of
            return over >= rule.at_least and count > limit.EXACT.multiply(rule.above, over)
        case StaleRule():
            return ages.is_past(rule.older_than_s, measured.amount)
        case _:
            assert_never(rule)


def reaches(rule: LeveledRule, measured: Measured, value: Decimal) -> bool:
    """Whether it is at that value, or past it in the direction of the limit."""
    match rule:
        case LimitRule():
            size = limit.measured(rule, measured.amount)
            return size >= value if rule.above is not None else size <= value
        case RateRule() | DrawdownRule():
            return measured.amount >= value
        case RatioRule():
            count, over = measured.made_of
            return over >= rule.at_least and count >= limit.EXACT.multiply(value, over)
        case _:
            assert_never(rule)


def worse(rule: ReadingRule, one: Measured, other: Measured) -> Measured:
    """That of the two which is further past the limit, or nearer to it."""
    match rule:
        case LimitRule():
            return one if limit.worse(rule, one.amount, other.amount) is one.amount else other
        case RateRule() | DrawdownRule() | StaleRule():
            return other if other.amount > one.amount else one
        case RatioRule():
            (count, over), (others, its_over) = one.made_of, other.made_of
            return other if limit.EXACT.multiply(others, over) > limit.EXACT.multiply(count, its_over) else one
        case _:
            assert_never(rule)


def headroom(rule: ReadingRule, measured: Measured) -> float | None:
    """1 at rest, 0 at the limit, below 0 in breach; None for a limit of 0."""
    match rule:
        case LimitRule():
            return limit.headroom(rule, measured.amount)
        case RateRule() | RatioRule():
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
        case DrawdownRule() | RatioRule():
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
        case RatioRule():
            return repr((rule.kind, rule.reads, rule.where, rule.window_s))
        case _:
            assert_never(rule)


def subject(rule: ReadingRule) -> str:
    """What the rule is about, such as "position" or "reject over order"."""
    return " over ".join(rule.reads)


def in_words(rule: ReadingRule) -> str:
    """Its limit, such as "above 50.0" or "more than 100 readings in 10 s"."""
    match rule:
        case LimitRule():
            return limit.in_words(rule)
        case RateRule(sum=True):
            return f"above {limit.plain(rule.above)} in sum over {limit.seconds(rule.per_s)}"
        case RateRule():
            return f"more than {limit.plain(rule.above)} readings in {limit.seconds(rule.per_s)}"
        case DrawdownRule():
            return f"{limit.plain(rule.fall)} or more under its highest in {limit.seconds(rule.window_s)}"
        case RatioRule():
            enough = f" with {rule.at_least} or more" if rule.at_least > 1 else ""
            return f"above {limit.plain(rule.above)} of {rule.over} in {limit.seconds(rule.window_s)}{enough}"
        case StaleRule():
            return f"not heard for {limit.seconds(rule.older_than_s)}"
        case _:
            assert_never(rule)


def sentence(rule: ReadingRule, measured: Measured, labels: Labels, age_s: float) -> str:
    """Why it is a breach: what was measured, the limit, the series, the age."""
    match rule:
        case LimitRule():
            return limit.sentence(rule, measured.amount, labels, age_s)
        case RateRule() | DrawdownRule() | RatioRule():
            said = f"{told(rule, measured)}, {in_words(rule)}"
        case StaleRule():
            most = limit.seconds(rule.older_than_s)
            said = f"{rule.reading} was not heard for {measured.amount:.1f} s, the limit is {most}"
        case _:
            assert_never(rule)
    return f"{said} ({limit.named(labels, f'{age_s:.1f} s old')})"


def told(rule: LeveledRule, measured: Measured) -> str:
    """What was measured, such as "position 50.0" or "reject came 3 times to 4 of order, a share of 0.75"."""
    amount = limit.plain(measured.amount)
    match rule:
        case LimitRule():
            return f"{rule.reading} {amount}"
        case RateRule(sum=True):
            return f"{rule.reading} adds up to {amount}"
        case RateRule():
            return f"{rule.reading} came {amount} times"
        case DrawdownRule():
            value, highest = map(limit.plain, measured.made_of)
            return f"{rule.reading} {value} is {amount} under {highest}"
        case RatioRule():
            count, over = map(limit.plain, measured.made_of)
            return f"{rule.reading} came {count} times to {over} of {rule.over}, a share of {amount}"
        case _:
            assert_never(rule)


def drawn(rule: ReadingRule, measured: Measured) -> tuple[Decimal, tuple[Decimal, ...]]:
    """For a picture: the line that people know the series by, and the limits that it must not pass."""
    match rule:
        case LimitRule():
            edge = rule.above if rule.above is not None else rule.below or limit.ZERO
            return measured.amount, (edge, -edge) if rule.absolute and rule.above is not None else (edge,)
        case RateRule() | RatioRule():
            return measured.amount, (rule.above,)
        case DrawdownRule():
            value, highest = measured.made_of
            return value, (limit.EXACT.subtract(highest, rule.fall),)
        case StaleRule():
            return measured.amount, (Decimal(str(rule.older_than_s)),)
        case _:
            assert_never(rule)
