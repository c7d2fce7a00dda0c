"""What bad readings mean to the rules: nothing of them is a value, and a rule that asks for it trips (on_bad)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from killswitch.domain.settings import OnUnknown
from killswitch.domain.watch import limit
from killswitch.domain.watch.findings import Breach, Found, Warned
from killswitch.domain.watch.roster import bad_text, concerns, scope_of

if TYPE_CHECKING:
    from killswitch.domain.messages import Labels
    from killswitch.domain.settings import ReadingRule
    from killswitch.domain.watch.readings import LaneKey, SeriesKey
    from killswitch.domain.watch.roster import Roster


class Bad:
    """Counts them, says each kind once, and finds whom they leave in the dark."""

    def __init__(self, roster: Roster) -> None:
        self._roster: Final = roster

    def read(self, lane: LaneKey, labels: Labels | None, reason: str, now: float) -> list[Found]:
        """A bad reading came."""
        key = None if labels is None else (*lane, labels)
        series = None if key is None else self._roster.readings.get(key)
        if key is None or series is None:
            if key is not None:
                self._roster.readings.doubt_idle(key, reason)
            rules = [rule for rule in self._roster.by_lane.get(lane, ()) if concerns(rule, labels or ())]
            return self.stray(lane, labels, reason, rules, now)
        reason = self._roster.doubts.count(lane[0], reason)
        found = self._say(lane, labels, reason, key, now)
        if self._roster.readings.doubt(key, reason):
            text = bad_text(lane, labels, reason)
            found += [
                Breach(rule.name, rule.kind, scope, key[2], text, limit.plain(series.value), repeated=False)
                for rule, scope in self._roster.watched[key].rules
                if rule.on_bad is OnUnknown.TRIP
            ]
        return found

    def stray(
        self,
        lane: LaneKey,
        labels: Labels | None,
        reason: str,
        rules: list[ReadingRule] | tuple[ReadingRule, ...],
        now: float,
    ) -> list[Found]:
        """A bad reading of no known series: each rule that it may belong to is left in the dark."""
        reason = self._roster.doubts.count(lane[0], reason)
        found = self._say(lane, labels, reason, None, now)
        text = bad_text(lane, labels, reason)
        for rule in rules:
            own = scope_of(rule, labels) if labels is not None else None
            scope = own if own is not None else rule.fallback
            if rule.on_bad is not OnUnknown.TRIP or scope is None:
                continue
            if self._roster.doubts.trips(rule.name, lane[0], reason, scope, now):
                found.append(Breach(rule.name, rule.kind, scope, (), text, "", repeated=False))
        return found

    def _say(self, lane: LaneKey, labels: Labels | None, reason: str, key: SeriesKey | None, now: float) -> list[Found]:
        if not self._roster.doubts.is_news(lane[0], reason, key, now):
            return []
        return [Warned("bad_reading", None, lane[0], bad_text(lane, labels, reason))]
