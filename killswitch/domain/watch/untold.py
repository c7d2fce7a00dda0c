"""Series of an OMS that can't be told, and never could be: something that they rest on lacks.

Unless it can be told before, such a series counts as silent after stale_after_s. One that could be told before
ages by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from killswitch.domain.settings import OnUnknown
from killswitch.domain.watch import limit
from killswitch.domain.watch.findings import Found, unknown, warned
from killswitch.domain.watch.readings import Silence

if TYPE_CHECKING:
    from killswitch.domain.undo import Agenda
    from killswitch.domain.watch.readings import SeriesKey
    from killswitch.domain.watch.roster import Roster, Watched


class Untold:
    """Waits for what can't be told yet."""

    def __init__(self, roster: Roster, agenda: Agenda) -> None:
        self._roster: Final = roster
        self._agenda: Final = agenda

    def expect(self, key: SeriesKey, now: float) -> None:
        """Something lacks. Twice is harmless."""
        roster = self._roster
        if not roster.by_lane[key[:2]] or key in roster.awaited or roster.readings.get(key) is not None:
            return
        if key not in roster.watched:
            roster.watch(key)
        roster.awaited[key] = False
        self._agenda.set(("watch", "await", key), now + roster.feeds[key[0]].stale_after_s)

    def look(self, key: SeriesKey, now: float) -> list[Found]:
        """Its time is up, or may be."""
        roster, found = self._roster, list[Found]()
        if roster.awaited.get(key) is not False:
            return found
        if roster.readings.is_silent(key[:2], now):  # which is said of it as a whole, with whatever it lacks
            self._agenda.set(("watch", "await", key), now + roster.feeds[key[0]].stale_after_s)
            return found
        roster.awaited[key] = True
        text = roster.silence_text(Silence(key[:2], key[2], None), None, now)
        for rule, scope in roster.watched[key].rules:
            found += unknown(rule, scope, "stale", text, labels=key[2], feed=key[0])
        return found

    def known(self, key: SeriesKey, watched: Watched) -> list[Found]:
        """A series is known: what was said of its absence is over."""
        was_said = self._roster.awaited.pop(key)
        text = f"{key[1]} is heard ({limit.named(key[2], f'feed {key[0]}')})"
        return [
            warned("heard_again", rule, key[0], text)
            for rule, _ in watched.rules
            if (self._roster.missed.pop(rule.name) or was_said) and rule.on_stale is OnUnknown.WARN
        ]
