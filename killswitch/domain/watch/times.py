"""A reading's own time: how old it is, and whether it is late, out of order, the same again, or from the future.

Rules run on arrival; a source's time is for age, order and duplicates only. It is compared with our wall clock,
which may be stepped, by an hour as well as by a second. So a series remembers how our wall clock stood to the
monotonic one. When that changed from one of its readings to the next our clock was stepped: the reading is judged
by the new clock where that makes it young, or else by the old one, and so are those after it until the next step.
Whether a clock was put right or wrong needn't be known for that, nor whether the source's was stepped with ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from decimal import Decimal

    from killswitch.domain.messages import Reading

Odd: TypeAlias = Literal["late", "out_of_order", "duplicate", "frozen", "future"]

FUTURE_S: Final = 1.0
"""Clocks that are kept by NTP differ by less; beyond it a source's clock is ahead and people should know."""
STEP_S: Final = 1.0
"""Our clock against the monotonic one: less than this is slewing, or a reading that waited for us."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the newest reading of a series told of its time.

    `said_at`: its source's time as it was written; `newest_at`: the same, never after our clock, for the order.
    `level`: our wall clock less the monotonic one, by which it was judged; `seen`: the same as it was just then.
    `repeats`: how often the same time and value came again; `frozen`: also after it was too old, which is said once.
    """

    said_at: float
    newest_at: float
    level: float
    seen: float
    repeats: int = 0
    frozen: bool = False


@dataclass(frozen=True, slots=True)
class Timing:
    """A reading's time, judged. `odd` None: nothing is. `as_of` None: nobody knows when it was made."""

    odd: Odd | None
    as_of: float | None
    told: Told | None = None

    @property
    def counts(self) -> bool:
        """Whether it is a value of its own: what is older or the same again says nothing of the present."""
        return self.odd in (None, "late", "future")


@dataclass(frozen=True, slots=True)
class Before:
    """The series as it was: its value, its age's beginning, and what it told of its time."""

    value: Decimal
    as_of: float
    told: Told | None


def judge(
    event: Reading,
    value: Decimal,
    before: Before | None,
    now: float,
    *,
    clocks: tuple[float, float] | None,
    stale_after_s: float,
) -> Timing:
    """A reading's time. `clocks`: level and seen of its feed, for a series of which nothing is known yet."""
    if event.source_at is None:
        # A lag below 0 makes nothing younger: a source whose clock is ahead isn't fresh for longer.
        return Timing(None, now - max(0.0, event.lag_s) if event.fresh else None)
    said, told = event.source_at, before.told if before is not None else None
    merged_before = event.merged is not None and event.merged.count > 0  # something else came in between
    same = before is not None and told is not None and (said, value) == (told.said_at, before.value)
    if before is not None and same and not merged_before:
        # By the monotonic clock: it was new at `as_of`, whatever our wall clock did since.
        return Timing("frozen" if now >= before.as_of + stale_after_s else "duplicate", before.as_of, told)
    seen = event.wall - now
    lag_s = event.lag_s if event.lag_s > 0 else min(0.0, event.wall - said)
    held = clocks if told is None else (told.level, told.seen)
    level, newest_at = seen, None if told is None else told.newest_at
    if held is not None:
        stepped = abs(seen - held[1]) > STEP_S
        old_level = held[0] if stepped else seen - (held[1] - held[0])
        old_lag_s = lag_s - (seen - old_level)
        is_young, was_young = (-FUTURE_S <= lag < stale_after_s for lag in (lag_s, old_lag_s))
        if not stepped or not is_young or (was_young and old_lag_s < lag_s):
            level, lag_s = old_level, old_lag_s
        elif not was_young:
            newest_at = None  # a source that was stepped with us, as one on our own host is, starts anew
    if newest_at is not None and said < newest_at:
        return Timing("out_of_order", None)
    made_at = min(said, now + level)
    told = Told(said, made_at if newest_at is None else max(newest_at, made_at), level, seen)
    odd: Odd | None = "future" if lag_s < -FUTURE_S else "late" if lag_s >= stale_after_s else None
    return Timing(odd, now - max(0.0, lag_s) if event.fresh else None, told)
