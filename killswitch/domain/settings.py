"""What a configuration says, as the core reads it: frozen values, checked before they come here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from killswitch.domain.dialects import Dialect
from killswitch.domain.scope import EVERY, Every, Scope, ScopeError

if TYPE_CHECKING:
    from decimal import Decimal

    from killswitch.domain.messages import Labels


class TemplateError(ValueError):
    """A reading's labels don't make a scope: a sentence. Such a reading is bad for that rule, never EVERY."""


@dataclass(frozen=True, slots=True)
class Label:
    """A part like "{name}" of a rule's scope: the id that the reading's label of that name holds."""

    name: str


TemplatePart: TypeAlias = int | Every | Label
Mode: TypeAlias = Literal["live", "shadow"]
"""shadow: decide, journal, announce, and send no cancel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeTemplate:
    """A rule's scope, whose parts may be labels of the reading that breached."""

    oms: str
    account: TemplatePart = EVERY
    user: TemplatePart = EVERY
    instrument: TemplatePart = EVERY

    def fill(self, labels: Labels) -> Scope:
        """The scope for a series. Raises TemplateError where a label lacks or is no id above 0."""
        held = dict(labels)

        def part(value: TemplatePart) -> int | Every:
            if not isinstance(value, Label):
                return value
            text = held.get(value.name)
            if text is None:
                raise TemplateError(f"the reading has no label {value.name}")
            if not (text.isascii() and text.isdigit()) or (text.startswith("0")) or len(text) > 19:
                raise TemplateError(f"its label {value.name} is no id above 0")
            return int(text)

        try:
            return Scope(
                oms=self.oms,
                account=part(self.account),
                user=part(self.user),
                instrument=part(self.instrument),
            )
        except ScopeError as error:
            raise TemplateError(str(error)) from None


class OnUnknown(Enum):
    """What a stale, bad or never heard series means to a rule."""

    WARN = "warn"
    TRIP = "trip"
    IGNORE = "ignore"  # for stale only


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleShape:
    """What rules of every kind say.

    `where`: labels that must be equal; () on a feed as a whole, which has none. `mode`: a rule in shadow cancels
    nothing on a live daemon either.
    """

    name: str
    owner: str
    where: Labels = ()
    scope: ScopeTemplate
    mode: Mode = "live"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingShape(RuleShape):
    """What rules say that watch the series of a reading, each by itself.

    `fallback`: what to trip when no series is known, or the feed failed as a whole; required where on_stale or
    on_bad is TRIP.
    """

    reading: str
    on_stale: OnUnknown
    on_bad: OnUnknown
    fallback: Scope | None

    @property
    def reads(self) -> tuple[str, ...]:
        """The readings that the rule watches."""
        return (self.reading,)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRule(ReadingShape):
    """Breaches when a reading is past the limit, and stays so for `for_s` seconds.

    Exactly one of above (breach: value > above) and below (breach: value < below) is set. `absolute`
    compares the value's size. `warn_at`: fractions of the limit used (1 - headroom), ascending, each between
    0 and 1; none where the limit is 0.
    """

    kind: ClassVar[str] = "limit"
    above: Decimal | None
    below: Decimal | None
    absolute: bool
    for_s: float
    warn_at: tuple[Decimal, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RateRule(ReadingShape):
    """Breaches when more than `above` readings arrived within the last `per_s` seconds.

    `sum`: when their values add up to more than that. `above` is 0 or more. What a broker retained is no arrival.
    """

    kind: ClassVar[str] = "rate"
    above: Decimal
    per_s: float
    sum: bool = False
    warn_at: tuple[Decimal, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawdownRule(ReadingShape):
    """Breaches when the value is `fall` (above 0) or more under its highest in the last `window_s` seconds.

    A value holds until the next reading of its series, so what stood when the window began counts as well.
    """

    kind: ClassVar[str] = "drawdown"
    fall: Decimal
    window_s: float
    warn_at: tuple[Decimal, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioRule(ReadingShape):
    """Breaches when of the last `window_s` seconds the readings of `reading` are more than `above` times those of
    `over`, of which there are `at_least` or more.

    They are counted as those of a rate are, and over equal labels, whichever feeds they come from.
    """

    kind: ClassVar[str] = "ratio"
    over: str
    above: Decimal
    window_s: float
    at_least: int = 1
    warn_at: tuple[Decimal, ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """The readings that the rule watches."""
        return (self.reading, self.over)


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleRule(ReadingShape):
    """Breaches when a series that was heard before isn't any more for `older_than_s` (above 0) seconds.

    on_stale is for what was never heard; the feed's own stale_after_s means nothing to a series that was.
    """

    kind: ClassVar[str] = "stale"
    older_than_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceRule(RuleShape):
    """Breaches when nothing of a feed as a whole is heard for `older_than_s` seconds: since the start, until the first.

    Its scope has no labels, for a feed has none.
    """

    kind: ClassVar[str] = "stale"
    feed: str
    older_than_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadmanRule(RuleShape):
    """Breaches when the heart of a feed doesn't beat for `silent_s` (above 0) seconds, while our link to it is up.

    `arm`: whether silence counts from the start, or from the first beat there ever was. `on_stale`: what it means
    that our own link is down, so that nobody knows; it trips `fallback`, where there is one, else the scope. The
    scope has no labels.
    """

    kind: ClassVar[str] = "deadman"
    feed: str
    silent_s: float
    arm: Literal["start", "first"] = "start"
    on_stale: OnUnknown = OnUnknown.WARN
    fallback: Scope | None = None


ReadingRule: TypeAlias = LimitRule | RateRule | DrawdownRule | RatioRule | StaleRule
"""Closed: what differs between kinds is told apart in watch/kinds.py and watch/judge.py."""

LeveledRule: TypeAlias = LimitRule | RateRule | DrawdownRule | RatioRule
"""Rules that warn before their limit, at `warn_at`: fractions of it, as LimitRule says."""

FeedRule: TypeAlias = SilenceRule | DeadmanRule
"""Closed: rules on a feed as a whole, in watch/hearts.py."""

Rule: TypeAlias = ReadingRule | FeedRule


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedSpec:
    """A source of readings. `reading`: the name of an MQTT or WebSocket feed's; an OMS feed has built-in ones.

    `timed`: its readings carry the source's own time. An MQTT or WebSocket feed without a reading is a heart: each of
    its messages is a beat, whatever it says.
    """

    name: str
    kind: Literal["oms", "mqtt", "websocket"]
    stale_after_s: float
    oms: str | None = None
    reading: str | None = None
    snapshot_every_s: float = 60.0
    timed: bool = False
    numeraire: str | None = None  # the product that an OMS feed tells equity and notionals in


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One OMS as the core knows it. `accounts`: all of them, on a person's word. `oms_id`: the vendor's number.

    `discover`: no word was given, the OMS is asked for its accounts. `dialect`: None where each session's is found at
    its sign-in.
    """

    name: str
    accounts: tuple[int, ...]
    whole_oms: bool
    calls_per_minute: int
    gateways: tuple[str, ...]  # as host:port, for people and metrics; the one over HTTP with its path, as the last
    contact: str = ""
    oms_id: int = 0
    dialect: Dialect | None = Dialect.V2
    discover: bool = False
    quotes: bool = False  # listed too, for proof
    block_trades: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmPolicy:
    """When a scope counts as proven empty. All above 0."""

    empties: int = 2
    settle_s: float = 0.05
    deadline_s: float = 5.0
    guard_every_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How long to wait for answers, and between tries. All above 0."""

    timeout_s: float = 0.5
    hedge_after_s: float = 0.15
    list_timeout_s: float = 30.0
    first_s: float = 0.05
    max_s: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that the core is told. `boot`: unlike any earlier start's, so that ids made in it are new.

    `mode`: "shadow" lets no rule, command, button or signal cancel anything; what was latched before goes on.
    `fingerprint`: changes when any setting of the configuration does.
    """

    daemon: str
    boot: str
    sites: tuple[Site, ...]
    feeds: tuple[FeedSpec, ...] = ()
    rules: tuple[Rule, ...] = ()
    confirm: ConfirmPolicy = ConfirmPolicy()
    retry: RetryPolicy = RetryPolicy()
    reset_max_age_s: float = 30.0
    fingerprint: str = ""
    panics: tuple[Scope, ...] = ()  # what the buttons trip, where a broker is heard
    mode: Mode = "live"

    @property
    def watched(self) -> tuple[Rule, ...]:
        """The rules as they act: in a daemon in shadow all are. So one that becomes live is another rule, and a series
        that is past its limit then is judged anew, though its edge was the shadow's.
        """
        if self.mode == "live":
            return self.rules
        return tuple(replace(rule, mode=self.mode) for rule in self.rules)
