"""Rules on a feed as a whole: whether anything of it is heard at all.

Cost: a message looks at the rules of its own feed and leaves the agenda alone. Entries move lazily: each looks
again when it comes due.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from killswitch.domain.undo import Table
from killswitch.domain.view import RuleView
from killswitch.domain.watch import ages, limit
from killswitch.domain.watch.findings import Breach, Found

if TYPE_CHECKING:
    from decimal import Decimal

    from killswitch.domain.settings import FeedRule, SilenceRule
    from killswitch.domain.undo import Agenda, Undo
    from killswitch.domain.watch.readings import Readings


def in_words(rule: FeedRule) -> str:
    """Its limit."""
    return f"not heard for {rule.older_than_s:g} s"


class Hearts:
    """How every such rule stands. Its findings have no labels: they concern the feed as a whole."""

    def __init__(
        self, rules: tuple[FeedRule, ...], readings: Readings, undo: Undo, agenda: Agenda, started_at: float
    ) -> None:
        self._rules: Final = {rule.name: rule for rule in rules}
        self._readings: Final = readings
        self._agenda: Final = agenda
        self._started_at: Final = started_at
        self._of_feed: Final[dict[str, tuple[FeedRule, ...]]] = {}
        for rule in rules:
            self._of_feed[rule.feed] = (*self._of_feed.get(rule.feed, ()), rule)
        self._silent: Final[Table[str, bool]] = Table(undo)  # rules in breach
        for rule in rules:
            agenda.set(("watch", "heart", rule.name), started_at + rule.older_than_s)

    def __contains__(self, rule: str) -> bool:
        return rule in self._rules

    def heard(self, feed: str, now: float) -> list[Found]:
        """Something of that feed arrived, whether or not it says anything about the present."""
        return [found for rule in self._of_feed.get(feed, ()) for found in self._look(rule, now)]

    def wake(self, name: str, now: float) -> list[Found]:
        """A rule's entry of the agenda is due, or may be."""
        rule = self._rules.get(name)
        return [] if rule is None else self._look(rule, now)

    def _look(self, rule: SilenceRule, now: float) -> list[Found]:
        due, entry = self._last(rule) + rule.older_than_s, ("watch", "heart", rule.name)
        if now < due:
            self._silent.pop(rule.name)
            if self._agenda.when(entry) is None:
                self._agenda.set(entry, due)
            return []
        if rule.name in self._silent:
            return []
        self._silent[rule.name] = True
        silent = self._silent_s(rule, now)
        value = limit.plain(silent)
        scope = rule.scope.fill(())
        return [Breach(rule.name, rule.kind, scope, (), self._sentence(rule, silent), value, repeated=False)]

    def _heard_at(self, feed: str) -> float | None:
        """The newest look at anything of the feed."""
        looks = [self._readings.lane(lane).as_of for lane in self._readings.lanes(feed)]
        return max((as_of for as_of in looks if as_of is not None), default=None)

    def _last(self, rule: SilenceRule) -> float:
        heard_at = self._heard_at(rule.feed)
        return self._started_at if heard_at is None else heard_at

    def _silent_s(self, rule: SilenceRule, now: float) -> Decimal:
        return ages.silent_s(self._last(rule), rule.older_than_s, now)

    def _sentence(self, rule: SilenceRule, silent: Decimal) -> str:
        since = "was never heard" if self._heard_at(rule.feed) is None else "was not heard"
        began = " since the start" if self._heard_at(rule.feed) is None else ""
        said = f"feed {rule.feed} {since} for {silent:.1f} s{began}"
        return f"{said}, the limit is {rule.older_than_s:g} s"

    # --- looking from outside ------------------------------------------------------------------------------

    def uncalm(self, name: str, now: float) -> str | None:
        """Why a rule isn't calm, for a reset; None when its feed is heard. Never heard isn't calm."""
        rule = self._rules[name]
        silent = self._silent_s(rule, now)
        if ages.is_past(rule.older_than_s, silent) or self._heard_at(rule.feed) is None:
            return self._sentence(rule, silent)
        return None

    def view(self, now: float) -> tuple[RuleView, ...]:
        """The rules in the order of the configuration."""
        return tuple(self._view_of(rule, now) for rule in self._rules.values())

    def _view_of(self, rule: SilenceRule, now: float) -> RuleView:
        silent = self._silent_s(rule, now)
        return RuleView(
            rule=rule.name,
            owner=rule.owner,
            kind=rule.kind,
            limit=in_words(rule),
            series=1,
            headroom=ages.share_left(rule.older_than_s, silent),
            worst=(),
            breaching=((),) if ages.is_past(rule.older_than_s, silent) else (),
            unknown=(),
        )
