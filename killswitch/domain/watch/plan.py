"""What Watch goes by: the feeds and rules that stand, which rule reads what, and what a reload takes away.

A reload puts another plan in the place of this one. Rules and feeds that say the same as before stay the same
objects, and what was learnt under their names stays with them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from killswitch.domain.settings import FeedRule, Label, LeveledRule, RatioRule
from killswitch.domain.watch import kinds
from killswitch.domain.watch.gone import Gone
from killswitch.domain.watch.levels import levels_of
from killswitch.domain.watch.readings import lanes_of
from killswitch.domain.watch.shown import ALWAYS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from killswitch.domain.settings import FeedSpec, ReadingRule, Rule
    from killswitch.domain.watch.levels import Level
    from killswitch.domain.watch.readings import LaneKey

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """`rules`: those on readings; `hearts`: those on feeds as a whole; `order`: all of them, as the
    configuration has them. `told`: what a feed's age and silence are told of: the readings that rules watch, else
    those it always has. `paired_by`: the labels by which a ratio pairs events of an OMS; None: by all.

    `retired`: rules that are in the configuration no more, or not so any more, and are still judged for a reset:
    the name that each goes by here, and the name that it had.
    """

    feeds: Mapping[str, FeedSpec]
    rules: Mapping[str, ReadingRule]
    hearts: Mapping[str, FeedRule]
    order: tuple[str, ...]
    retired: Mapping[str, str]
    by_lane: Mapping[LaneKey, tuple[ReadingRule, ...]]
    lanes_of: Mapping[str, tuple[LaneKey, ...]]
    levels: Mapping[str, tuple[Level, ...]]
    told: Mapping[str, tuple[LaneKey, ...]]
    paired_by: Mapping[str, frozenset[str] | None]

    def every_rule(self) -> dict[str, Rule]:
        """By the names that they go by here, those that are only judged among them."""
        return {**self.rules, **self.hearts}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The feeds and rules of another configuration.

    `replaced`: feeds that are not the same though they look so: they read from elsewhere, or otherwise. `omses`:
    OMSs that are gone. `bound`: rules, by the names that they had, that a latched trip waits for: removed or
    changed they are judged on as they were, for as long as something of what they read is there, and trip nothing.
    """

    feeds: tuple[FeedSpec, ...]
    rules: tuple[Rule, ...]
    replaced: frozenset[str] = frozenset()
    omses: frozenset[str] = frozenset()
    bound: frozenset[str] = frozenset()


def plan_of(feeds: Iterable[FeedSpec], rules: Iterable[Rule], retired: Mapping[str, str] | None = None) -> Plan:
    """`retired`: see Plan."""
    named = {feed.name: feed for feed in feeds}
    rules = tuple(rules)
    hearts = {rule.name: rule for rule in rules if isinstance(rule, FeedRule)}
    watching = {rule.name: rule for rule in rules if not isinstance(rule, FeedRule)}
    by_lane = {
        lane: tuple(rule for rule in watching.values() if _reads(rule, feed, lane))
        for feed in named.values()
        for lane in lanes_of(feed)
    }
    lanes_by_rule = {
        name: tuple(lane for lane, its in by_lane.items() if rule in its) for name, rule in watching.items()
    }
    return Plan(
        feeds=named,
        rules=watching,
        hearts=hearts,
        order=tuple(rule.name for rule in rules if rule.name not in (retired or {})),
        retired=retired or {},
        by_lane=by_lane,
        lanes_of=lanes_by_rule,
        levels={name: levels_of(rule) for name, rule in watching.items() if isinstance(rule, LeveledRule)},
        told={feed.name: _told(feed, by_lane) for feed in named.values()},
        paired_by={
            name: _paired_by(rule) if any(named[feed].oms for feed, _ in lanes_by_rule[name]) else None
            for name, rule in watching.items()
            if isinstance(rule, RatioRule)
        },
    )


def _told(feed: FeedSpec, by_lane: Mapping[LaneKey, tuple[ReadingRule, ...]]) -> tuple[LaneKey, ...]:
    lanes = lanes_of(feed)
    watched = tuple(lane for lane in lanes if by_lane[lane])
    return watched or tuple(lane for lane in lanes if feed.kind != "oms" or lane[1] in ALWAYS)


def _paired_by(rule: RatioRule) -> frozenset[str]:
    """The labels by which events of an OMS are paired: a rejection often says no more than its account, and would
    find no order that has the same labels.
    """
    scope = rule.scope
    parts = (scope.account, scope.user, scope.instrument)
    return frozenset(("account", *dict(rule.where), *(part.name for part in parts if isinstance(part, Label))))


def next_plan(old: Plan, wanted: Wanted) -> tuple[Plan, Gone]:
    """The plan that takes the place of `old`, and what goes with that one."""
    replaced, omses, bound = wanted.replaced, wanted.omses, wanted.bound
    kept_feeds = {
        name: feed
        for name, feed in old.feeds.items()
        if name not in replaced and (feed.oms is None or feed.oms not in omses)
    }
    feeds = tuple(_same(feed, kept_feeds.get(feed.name)) for feed in wanted.feeds)
    held = old.every_rule()
    rules = tuple(_same(rule, held.get(rule.name)) for rule in wanted.rules)
    names = {rule.name: rule for rule in rules}
    retired: dict[str, str] = {}
    judged: list[Rule] = []
    revived: dict[str, str] = {}
    aliases: dict[str, str] = {}
    for name, rule in held.items():
        origin = old.retired.get(name, name)
        if origin not in bound or (name == origin and names.get(name) is rule):
            continue
        if name != origin and not isinstance(rule, FeedRule) and names.get(origin) == replace(rule, name=origin):
            revived[origin] = name  # it is back as it was, and judged under its own name
            continue
        if name == origin and _was_so(rule, old):
            continue  # a heart that went before stands for it: it is asked since when that was there
        alias = name if name != origin else _alias(origin, {*held, *retired})
        judge = rule if alias == name else replace(rule, name=alias)
        if any(_hears(judge, feed) for feed in feeds):
            retired[alias] = origin
            judged.append(judge)
            aliases[alias] = name
    plan = plan_of(feeds, (*rules, *judged), retired)
    now_held = plan.every_rule()
    feeds_gone = frozenset(n for n, feed in old.feeds.items() if n not in kept_feeds or plan.feeds.get(n) is not feed)
    rules_gone = frozenset(
        name for name, rule in held.items() if now_held.get(name) is not rule or _is_torn(rule, old, plan, feeds_gone)
    )
    sources = {**{name: name for name in plan.rules}, **revived, **aliases}
    heirs: dict[str, tuple[str, ...]] = {}
    for heir, source in sources.items():
        if source in rules_gone and _takes_over(plan.rules.get(heir), old.rules.get(source), old, plan, feeds_gone):
            heirs[source] = (*heirs.get(source, ()), heir)
    return plan, Gone(rules=rules_gone, feeds=feeds_gone, omses=omses, heirs=heirs)


def _was_so(rule: Rule, plan: Plan) -> bool:
    """One that said the same went under its name before, and is still judged."""
    if not isinstance(rule, FeedRule):
        return False
    before = (plan.hearts.get(alias) for alias, origin in plan.retired.items() if origin == rule.name)
    return any(one is not None and replace(one, name=rule.name) == rule for one in before)


def _takes_over(
    heir: ReadingRule | None, rule: ReadingRule | None, old: Plan, new: Plan, feeds_gone: frozenset[str]
) -> bool:
    """The windows of the one are what those of the other would be: the limit may differ, or the scope."""
    if heir is None or rule is None or kinds.definition(rule) != kinds.definition(heir) or not kinds.definition(rule):
        return False
    if not isinstance(heir, RatioRule):
        return True
    lanes = old.lanes_of[rule.name], new.lanes_of[heir.name]
    torn = frozenset(lanes[0]) != frozenset(lanes[1]) or any(feed in feeds_gone for feed, _ in lanes[0])
    return not torn and old.paired_by[rule.name] == new.paired_by[heir.name]


def _is_torn(rule: Rule, old: Plan, new: Plan, feeds_gone: frozenset[str]) -> bool:
    """What a ratio counted comes from all its feeds: with others in their place it begins anew."""
    if not isinstance(rule, RatioRule):
        return False
    lanes = frozenset(old.lanes_of[rule.name])
    return lanes != frozenset(new.lanes_of.get(rule.name, ())) or any(feed in feeds_gone for feed, _ in lanes)


def _same(new: T, old: T | None) -> T:
    """The object that is there already, if it says the same: rules are told apart as objects."""
    return old if old is not None and old == new else new


def _alias(name: str, taken: set[str]) -> str:
    """A name that no configuration can give: `~` is no letter of theirs."""
    return next(alias for k in itertools.count(1) if (alias := f"{name}~{k}") not in taken)


def _hears(rule: Rule, feed: FeedSpec) -> bool:
    if isinstance(rule, FeedRule):
        return rule.feed == feed.name
    return any(_reads(rule, feed, lane) for lane in lanes_of(feed))


def _reads(rule: ReadingRule, feed: FeedSpec, lane: LaneKey) -> bool:
    """An OMS feed's accounts are those of its OMS: its readings never fill another OMS's scope."""
    return lane[1] in rule.reads and (feed.kind != "oms" or rule.scope.oms == feed.oms)
