"""What Watch finds: breaches, and what people should hear of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from killswitch.domain.settings import OnUnknown

if TYPE_CHECKING:
    from killswitch.domain.messages import Labels
    from killswitch.domain.scope import Scope
    from killswitch.domain.settings import ReadingRule, Rule


@dataclass(frozen=True, slots=True)
class Breach:
    """A rule's breach. `repeated` False: the edge, a trip. True: still in breach, with another value.

    `labels` name the series; () for what concerns the rule as a whole (its feed fell silent, or a bad reading
    belongs to no known series): then `scope` is as a rule its fallback. `worst`: the worst value since the edge.
    """

    rule: str
    kind: str
    scope: Scope
    labels: Labels
    text: str
    value: str
    repeated: bool
    worst: str = ""


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that people should hear of and that trips nothing.

    `rule` None: it concerns the feed; else the text begins with the rule's name, for on the way out nothing
    else tells two rules of one reading apart.
    """

    kind: Literal["stale", "heard_again", "bad_reading", "unknown_series", "near_limit"]
    rule: str | None
    feed: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Armed:
    """The first beat that a rule ever heard of this feed: from now on, over restarts too, its silence counts."""

    rule: str
    feed: str


Found: TypeAlias = Breach | Warned | Armed


def warned(
    kind: Literal["stale", "heard_again", "unknown_series", "near_limit"], rule: Rule, feed: str | None, text: str
) -> Warned:
    """A rule's warning."""
    return Warned(kind, rule.name, feed, f"rule {rule.name}: {text}")


def unknown(
    rule: ReadingRule,
    scope: Scope | None,
    kind: Literal["stale", "unknown_series"],
    text: str,
    *,
    labels: Labels = (),
    value: str = "",
    feed: str | None = None,
) -> list[Found]:
    """What silence means to a rule: on_stale."""
    if rule.on_stale is OnUnknown.IGNORE:
        return []
    if rule.on_stale is OnUnknown.TRIP and scope is not None:
        return [Breach(rule.name, rule.kind, scope, labels, text, value, repeated=False)]
    return [warned(kind, rule, feed, text)]
