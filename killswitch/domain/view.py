"""What can be seen from outside: frozen pictures that /state, status, the metrics and people are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from decimal import Decimal

    from killswitch.domain.messages import Labels, TripView
    from killswitch.domain.settings import Mode


@dataclass(frozen=True, slots=True)
class RuleView:
    """A rule and how near its limit is. `headroom` is 1 at rest, 0 at the limit, below 0 in breach.

    It is that of the worst series; (limit - value) / |limit|, for below (value - limit) / |limit|;
    None where the limit is 0 or nothing was read. `breaching` and `unknown` name series by their labels.
    `armed`: of a dead-man, whether its silence counts yet; None for other kinds.
    `warming`: of how many series the window isn't whole yet, so that a breach could hide in what came before.
    """

    rule: str
    owner: str
    kind: str
    limit: str
    series: int
    headroom: float | None
    worst: Labels | None
    breaching: tuple[Labels, ...]
    unknown: tuple[Labels, ...]
    warming: int = 0
    mode: Mode = "live"
    armed: bool | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a series stands to a rule: what a picture shows of it. `headroom` as in RuleView.

    `value` is what people know the series by; `limits` what it must not pass, in the same unit. A feed as a whole
    has no labels, and its value is how many seconds it wasn't heard.
    """

    rule: str
    labels: Labels
    value: Decimal
    limits: tuple[Decimal, ...]
    headroom: float | None


@dataclass(frozen=True, slots=True)
class FeedView:
    """A feed. `age_s`: since the last look at whichever of its readings was looked at longest ago.

    Where one was never looked at (`heard` False), since the start. `watched`: its readings that rules watch, or that it
    always has; `unheard`: those that never were looked at; `silent`: those that make it stale.
    """

    feed: str
    up: bool
    heard: bool
    age_s: float
    stale: bool
    readings: int
    bad: tuple[tuple[str, int], ...]  # (reason, how many)
    watched: tuple[str, ...] = ()
    unheard: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SessionView:
    """One gateway's session. `why`: why it is down. `dialect`: what its calls are said in; "" while it is down.

    `may_cancel`: our credential there; None: not known. `credential`: why not, or why it isn't known.
    `watching`: rules read what comes over this one.
    """

    oms: str
    gateway: str
    up: bool
    session: int | None
    since_s: float
    why: str
    dialect: str = ""
    may_cancel: bool | None = None
    credential: str = ""
    watching: bool = False


@dataclass(frozen=True, slots=True)
class OmsView:
    """One OMS. `orders_left`: over the latched scopes; None before a list, 0 if nothing is latched.

    `accounts`: how many are known; `accounts_complete`: by a person's word, or by the OMS's own list, these are all.
    """

    oms: str
    sessions: tuple[SessionView, ...]
    orders_left: int | None
    proof_age_s: float | None
    guard_every_s: float
    uncovered_accounts: tuple[int, ...]
    accounts: int = 0
    accounts_complete: bool = False


@dataclass(frozen=True, slots=True)
class BrokerView:
    """An MQTT broker. `up` only once the command topics are subscribed."""

    broker: str
    up: bool
    why: str


@dataclass(frozen=True, slots=True)
class View:
    """The whole. `state` is the worst of the trips' states, or armed. `missing`: why it isn't ready.

    `shadows`: shadow trips; they are no part of `state` and `trips`. `mode`: the daemon's. `untold`: how much waits
    for the journal before people may hear it.
    """

    daemon: str
    state: str
    trips: tuple[TripView, ...]
    rules: tuple[RuleView, ...]
    feeds: tuple[FeedView, ...]
    omses: tuple[OmsView, ...]
    brokers: tuple[BrokerView, ...]
    journal_error: str | None
    commands_waiting: int
    ready: bool
    missing: tuple[str, ...]
    notes: tuple[str, ...]
    shadows: tuple[TripView, ...] = ()
    mode: Mode = "live"
    untold: int = 0
