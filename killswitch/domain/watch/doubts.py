"""Bad readings: each is counted, each kind is said once until a good one came, and none is a value.

A bad reading of a known series is that series' own matter. One that belongs to no known series (nothing of it
could be read, or a label lacks) is a stray: it ends once a good reading came and stale_after_s went by without
another stray, for good readings of a thousand other series prove nothing about it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from killswitch.domain.undo import Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from killswitch.domain.scope import Scope
    from killswitch.domain.undo import Undo
    from killswitch.domain.watch.gone import Gone
    from killswitch.domain.watch.readings import SeriesKey

LATE: Final = "late"
OUT_OF_ORDER: Final = "out_of_order"
DUPLICATE: Final = "duplicate"
FROZEN: Final = "frozen"
FUTURE: Final = "future"
ODD: Final = (LATE, OUT_OF_ORDER, DUPLICATE, FROZEN, FUTURE)
"""What only a source that gives its own time can be (times.py). Counted; of these FROZEN alone is said as well: the
others are a network's everyday, or make the series stale, which is said."""
LACKS_LABEL: Final = "lacks_label"
NOT_FINITE: Final = "not_finite"

IN_WORDS: Final = {
    "too_long": "its message is longer than readings are",
    "not_json": "its payload is no JSON, which NaN and infinities aren't either",
    "repeated_key": "a key stands twice in its payload",
    "no_value": "its payload holds nothing where the value should be",
    "not_a_number": "its value is no number",
    "out_of_range": "its value has more digits, or a larger power of ten, than any reading",
    "no_label": "one of its labels isn't there",
    "bad_label": "one of its labels is neither text of bounded length nor a whole number",
    "bad_time": "its time is neither RFC 3339 with a zone nor milliseconds since 1970",
    LACKS_LABEL: "it lacks a label that a rule's scope or where needs, or that is no id above 0",
    NOT_FINITE: "its value is NaN or infinite",
    "unreadable_row": "a row of the list, or of the event, lacks what it needs",
}
"""Reason -> the sentence for people; a reason without one is shown as it is."""

REASONS: Final = 32
"""So many reasons are told apart for one feed; what comes after them is OTHER."""

OTHER: Final = "other"

SAY_AGAIN_S: Final = 1.0
"""A source that is good and bad by turns, a thousand times a second, is said so often and not more."""


@dataclass(frozen=True, slots=True)
class Stray:
    """A rule's strays of one feed: when the last one came, why, and the scopes that were tripped for them."""

    at: float
    reason: str
    scopes: frozenset[Scope]


class Doubts:
    """What was bad, for all feeds."""

    def __init__(self, undo: Undo) -> None:
        self._counts: Table[tuple[str, str], int] = Table(undo)  # (feed, reason)
        self._reasons: Table[str, tuple[str, ...]] = Table(undo)  # feed -> its reasons
        self._said: Table[tuple[str, str], SeriesKey | None] = Table(undo)  # None: of a stray
        self._said_at: Table[tuple[str, str], float] = Table(undo)
        self._strayed_at: Table[str, float] = Table(undo)  # feed -> its last stray
        self._strays: Table[tuple[str, str], Stray] = Table(undo)  # (rule, feed)

    def count(self, feed: str, reason: str) -> str:
        """Count one more; the reason as it is told."""
        return self.add(feed, reason, 1)

    def add(self, feed: str, reason: str, more: int) -> str:
        """Count so many more; the reason as it is told."""
        if not more:
            return reason
        reasons = self._reasons.get(feed) or ()
        if reason not in reasons:
            if len(reasons) >= REASONS:
                reason = OTHER
            if reason not in reasons:
                self._reasons[feed] = (*reasons, reason)
        self._counts[feed, reason] = (self._counts.get((feed, reason)) or 0) + more
        return reason

    def is_news(self, feed: str, reason: str, key: SeriesKey | None, now: float) -> bool:
        """Whether people should be told: once for (feed, reason). `key` None: a stray."""
        if key is None:
            self._strayed_at[feed] = now
        said_at = self._said_at.get((feed, reason))
        if (feed, reason) in self._said or (said_at is not None and now < said_at + SAY_AGAIN_S):
            return False
        self._said[feed, reason] = key
        self._said_at[feed, reason] = now
        return True

    def trips(self, rule: str, feed: str, reason: str, scope: Scope, now: float) -> bool:
        """Whether a stray is the edge for that rule and scope."""
        stray = self._strays.get((rule, feed))
        scopes = stray.scopes if stray else frozenset()
        self._strays[rule, feed] = Stray(now, reason, scopes | {scope})
        return scope not in scopes

    def stray(self, rule: str, feed: str) -> Stray | None:
        return self._strays.get((rule, feed))

    def good(self, key: SeriesKey, *, was_bad: bool, rules: Iterable[str], now: float, quiet_s: float) -> None:
        """A good reading of a series that these rules watch; `was_bad`: the one before it was not."""
        feed = key[0]
        if was_bad:
            self._forget(feed, key)
        strayed_at = self._strayed_at.get(feed)
        if strayed_at is not None and now >= strayed_at + quiet_s:
            del self._strayed_at[feed]
            self._forget(feed, None)
        for rule in rules:
            stray = self._strays.get((rule, feed))
            if stray is not None and now >= stray.at + quiet_s:
                del self._strays[rule, feed]

    def _forget(self, feed: str, key: SeriesKey | None) -> None:
        for reason in self._reasons.get(feed) or ():
            if (feed, reason) in self._said and self._said[feed, reason] == key:
                del self._said[feed, reason]

    def forget(self, gone: Gone) -> None:
        """Rules and feeds went."""
        for of_feed in (self._counts, self._said, self._said_at):
            of_feed.drop(gone.series)
        for whole in (self._reasons, self._strayed_at):
            whole.drop(gone.feed)
        self._strays.drop(lambda at: gone.rule(at[0]) or gone.feed(at[1]))

    def of(self, feed: str) -> tuple[tuple[str, int], ...]:
        return tuple((r, self._counts.get((feed, r)) or 0) for r in sorted(self._reasons.get(feed) or ()))
