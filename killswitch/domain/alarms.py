"""What the rules found: warnings are told, breaches trip on their edge."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from killswitch.domain.messages import (
    CauseAdded,
    CauseView,
    Event,
    HeartArmed,
    Noted,
)
from killswitch.domain.trips import Input, State, again
from killswitch.domain.watch import rules

if TYPE_CHECKING:
    from killswitch.domain.life import Life
    from killswitch.domain.parts import Parts
    from killswitch.domain.settings import Settings
    from killswitch.domain.trips import Trip


def _tried(settings: Settings) -> frozenset[str]:
    return frozenset(rule.name for rule in settings.rules if rule.mode == "shadow")


class Alarms:
    """Gives events to the rules and acts on what they find."""

    def __init__(self, parts: Parts, life: Life) -> None:
        self._parts = parts
        self._life = life
        self._tried = (parts.settings, _tried(parts.settings))
        """Settings, and which of their rules are in shadow: looked up anew when they are others."""

    def watched(self, event: Event, now: float) -> None:
        self.believe(self._parts.watch.handle(event, now), now, event.wall)

    def believe(self, findings: tuple[rules.Found, ...], now: float, wall: float) -> None:
        for finding in findings:
            match finding:
                case rules.Breach():
                    self._breached(finding, now, wall)
                case rules.Warned():
                    n = self._parts.outbox.record(Noted(finding.kind, finding.text, rule=finding.rule), wall)
                    detail = None if finding.rule is None else {"rule": finding.rule}
                    shadow = finding.rule is not None and self._in_shadow(finding.rule)
                    self._parts.outbox.event(finding.kind, finding.text, wall, detail=detail, n=n, shadow=shadow)
                case rules.Armed():
                    # Written in this pass: a killed process must not forget that the heart once beat.
                    self._parts.outbox.record(HeartArmed(finding.rule, finding.feed), wall, urgent=True)
                case _:
                    assert_never(finding)

    def _breached(self, breach: rules.Breach, now: float, wall: float) -> None:
        """A rule trips on the edge of its breach; while it lasts its cause is brought up to date."""
        worst = breach.worst or breach.value
        cause = CauseView(breach.text, breach.rule, breach.kind, breach.labels, wall, wall, 1, breach.value, worst)
        if self._in_shadow(breach.rule):
            self._breached_in_shadow(breach, cause, now, wall)
            return
        held = [t for t in self._parts.trips.values() if t.scope == breach.scope and t.by_rule]
        if not held:
            if not breach.repeated:
                id_ = self._life.new_id(breach.rule, wall)
                self._life.latch(self._life.trip(id_, breach.scope, cause, f"rule {breach.rule}", now), now)
            return
        trip = held[0]
        if self._again(trip, cause):
            return
        self._parts.trips[trip.id] = trip.with_cause(cause)
        self._parts.outbox.record(CauseAdded(trip.id, cause), wall, urgent=True)
        if trip.state is State.CONFIRMED:
            self._life.change(trip.id, Input.TRIP, breach.text, now, wall)

    def _again(self, trip: Trip, cause: CauseView) -> bool:
        """Bring a cause up to date that the trip has; False where it has none for this rule and series."""
        at = (trip.id, cause.rule, cause.labels)
        held = self._parts.again.get(at)
        if held is None:
            held = next((c for c in trip.causes if (c.rule, c.labels) == at[1:]), None)
        if held is None:
            return False
        worst = self._parts.watch.worse(cause.rule, held.worst, cause.worst)
        self._parts.again[at] = again(held, replace(cause, worst=worst))
        self._parts.repeats[trip.id] = (self._parts.repeats.get(trip.id) or 0) + 1
        return True

    def _in_shadow(self, rule: str) -> bool:
        settings = self._parts.settings
        if self._tried[0] is not settings:
            self._tried = (settings, _tried(settings))
        return settings.mode == "shadow" or rule in self._tried[1]

    def _breached_in_shadow(self, breach: rules.Breach, cause: CauseView, now: float, wall: float) -> None:
        """Beside all that is live: it folds with what other rules began in shadow on the same scope only."""
        held = self._parts.shadows.of_rules(breach.scope)
        if held is not None:
            self._parts.shadows.breached(held, cause, wall, repeated=breach.repeated)
        elif not breach.repeated:
            id_ = self._life.new_id(breach.rule, wall)
            self._life.shadow(id_, breach.scope, cause, f"rule {breach.rule}", now)
