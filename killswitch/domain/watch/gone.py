"""What a reload took away or replaced, for the tables that hold something under its names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from killswitch.domain.watch.readings import LaneKey, SeriesKey


@dataclass(frozen=True, slots=True)
class Gone:
    """Rules, feeds and OMSs that were removed or replaced: what tables hold under their names means nothing more.

    `heirs`: of a rule that went, those that take over what its windows hold: itself where its limit is another, and
    what is judged on for a trip.
    """

    rules: frozenset[str]
    feeds: frozenset[str]
    omses: frozenset[str]
    heirs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def rule(self, name: str) -> bool:
        return name in self.rules

    def feed(self, name: str) -> bool:
        return name in self.feeds

    def oms(self, name: str) -> bool:
        return name in self.omses

    def series(self, key: SeriesKey | LaneKey) -> bool:
        return key[0] in self.feeds

    def entry(self, what: Hashable) -> bool:
        """An entry of the agenda: left there it would keep the successor's own from being set, or wake it early."""
        match what:
            case ("watch", "settle", str(oms)):
                return oms in self.omses
            case ("watch", _, str(rule), (str(feed), *_)):
                return rule in self.rules or feed in self.feeds
            case ("watch", _, str(rule)):
                return rule in self.rules
            case ("watch", _, (str(feed), *_)):
                return feed in self.feeds
        return False

    def at(self, at: tuple[str, SeriesKey]) -> bool:
        """What is known of a rule and a series."""
        return at[0] in self.rules or at[1][0] in self.feeds

    def left_to(self, at: tuple[str, SeriesKey]) -> tuple[tuple[str, SeriesKey], ...]:
        """Who takes over what is held there."""
        heirs = () if at[1][0] in self.feeds else self.heirs.get(at[0], ())
        return tuple((heir, at[1]) for heir in heirs)
