"""One universe from one seed: an OMS or two, gateways, traders, people, a broker, a disk, and our real core.

Virtual time only. A step is one event given to `handle`; its actions are carried out by the stand-ins. First
everything goes wrong that the seed's faults say; then comes the calm, in which all that is latched must come
to be confirmed.
"""

from __future__ import annotations

import heapq
import os
from collections import deque
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import count
from random import Random
from typing import TYPE_CHECKING

from killswitch.domain.dialects import Dialect
from killswitch.domain.messages import (
    Acknowledge,
    Action,
    Answer,
    AnswerKind,
    CancelAllOrders,
    CancelOrder,
    DropSession,
    EverythingTripped,
    FeedUp,
    ListAccounts,
    ListInstruments,
    ListOpenOrders,
    ListPositions,
    ListUserAccounts,
    LookRequested,
    LoopStood,
    OrderRejected,
    PositionRow,
    Preview,
    PriceSeen,
    Reading,
    Receipt,
    Record,
    Restored,
    Stopping,
    SubscribeAccount,
    SubscribePrice,
    Tick,
    TradeSeen,
    TripRequested,
    Withdraw,
)
from killswitch.domain.scope import EVERY, Every, Scope
from killswitch.domain.settings import (
    ConfirmPolicy,
    FeedSpec,
    Label,
    LimitRule,
    OnUnknown,
    RetryPolicy,
    ScopeTemplate,
    Settings,
    Site,
)
from killswitch.domain.switch import KillSwitch
from tests.sim.exchange import Exchange, Resting
from tests.sim.faults import Faults
from tests.sim.gateway import REFUSED
from tests.sim.judge import Broken, Judge, of, within
from tests.sim.link import HttpLink, Link
from tests.sim.notebook import Notebook
from tests.sim.senders import Command, Senders
from tests.sim.trouble import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from killswitch.domain.messages import Event
    from killswitch.domain.settings import Mode

BORN = 1_790_000_000.0
TROUBLE_S = 6.0
CALM_S = 75.0  # every latched scope must be confirmed within these; what was refused is tried again once a minute
TRACE = int(os.environ.get("TRACE", "60"))  # the last steps that are shown of a seed that failed
STEPS_MAX = 6_000
GAP_S = 1.0  # our loop notices that it stood for longer
RULE = "big-position"
TRIED = "tried"
WHOLE_ACCOUNT = ScopeTemplate(oms="prime", account=11)


@dataclass(frozen=True)
class Outcome:
    """One run. `why` is empty where everything held."""

    seed: int
    why: str
    trace: tuple[str, ...]
    injected: dict[str, int]
    trips: int
    verified: int  # trips that were confirmed at least once
    all_verified: bool  # at the end every latched trip was
    steps: int
    cancels: int


class World:
    """Build it, then `run` it once."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = Random(seed)
        self.shade = Random(f"shadow {seed}")  # of its own: what else happens in a seed doesn't hang on it
        self.tried = TRIED if self.shade.random() < 0.4 else None  # a rule in shadow, beside the live one
        self.dark_lives = self.shade.random() < 0.25
        self.dark = False  # the daemon that lives now is in shadow
        self.faults = Faults(self.rng)
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._orders = count()
        self.inbox: deque[Event] = deque()
        self.trace: deque[tuple[float, Event, tuple[Action, ...]]] = deque(maxlen=TRACE)
        self.steps = 0
        self.sessions = 0
        self.lives = 0
        self.running = False
        self.stepped_s = 0.0
        self.frozen_until = 0.0
        self.woke_at = -1.0  # when it stood still last, it was until then
        self.stood = False  # it froze so long that the loop must notice
        self.hot: set[int] = set()  # accounts whose position is over its limit
        self.requested: set[Scope] = set()
        self.asked_users: dict[int, tuple[str, int]] = {}
        self.previews: dict[object, int] = {}
        self.ids_made = count(1)
        self._build()

    # --- building

    def _build(self) -> None:
        rng = self.rng
        self.says_absent = rng.random() < 0.3
        self.quiet_traders = rng.random() < 0.2
        self.forbidden = rng.choice(("", "", "", "whole", "user rows", "instrument rows", "all rows", "single"))
        self.no_enumeration = rng.random() < 0.1
        self.lag_s = 0.0
        self.discovers: set[str] = set()  # of the OMSs: their accounts are nobody's word
        self.asked_pages: dict[int, ListAccounts] = {}
        self.exchanges: dict[str, Exchange] = {}
        self.links: list[Link] = []
        sites = []
        self.configured: dict[str, tuple[int, ...]] = {}
        for oms in ("prime", "second") if rng.random() < 0.15 else ("prime",):
            users, accounts = rng.randint(1, 2), rng.randint(1, 3)
            access = {
                31 + u: tuple(sorted(rng.sample(range(11, 11 + accounts), rng.randint(1, accounts))))
                for u in range(users)
            }
            age = rng.choice(("v2", "v2", "v3", "v4"))
            configured, tells = rng.random() < 0.6, rng.random() < 0.8
            instruments = (21, 22)[: rng.randint(1, 2)]
            exchange = Exchange(oms, access, instruments, self._working, self._ended, lambda: self.now)
            self.exchanges[oms] = exchange
            names = tuple(f"{oms}-{n}" for n in range(rng.choice((1, 1, 2, 2, 3))))
            for name in names:
                share = 1.0 if len(names) == 1 else rng.choice((0.0, 1.0, 1.0, 4.0))
                self.links.append(Link(self, exchange, name, age, configured=configured, tells=tells, share=share))
            if rng.random() < 0.3:
                names = (*names, f"{oms}-http")
                self.links.append(HttpLink(self, exchange, names[-1], age, configured=configured, tells=tells))
            known = exchange.accounts
            if len(known) > 1 and self.faults.hit("unlisted account"):
                known = known[:-1]
            discover = rng.random() < 0.15
            if discover:
                known = ()
                self.discovers.add(oms)
            self.configured[oms] = known
            minute = rng.choice((400, 6000))
            whole = rng.random() < 0.7
            sites.append(
                Site(
                    name=oms, accounts=known, whole_oms=whole, calls_per_minute=minute, gateways=names,
                    dialect=Dialect(age) if configured else None, discover=discover,
                )
            )  # fmt: skip
        self.ids = {11, 12, 13, 21, 22, 31, 32}
        self.settings = self._settings(tuple(sites))
        self.judge = Judge(self)
        self.journal = Notebook(self)
        self.senders = Senders(self)
        self.trouble = Trouble(self)
        if self.settings.confirm.empties > 1 and self.faults.has("stale list"):
            self.lag_s = 0.9 * self.settings.confirm.settle_s

    def _settings(self, sites: tuple[Site, ...]) -> Settings:
        rule = LimitRule(
            name=RULE, owner="risk desk", reading="size", where=(), above=Decimal(50), below=None,
            absolute=False, for_s=0.0, on_stale=OnUnknown.WARN, on_bad=OnUnknown.WARN, fallback=None,
            scope=ScopeTemplate(oms="prime", account=Label("account")),
        )  # fmt: skip
        feeds = [FeedSpec(name="sizes", kind="mqtt", stale_after_s=10_000.0, reading="size")]
        rules = [rule]
        if self.rng.random() < 0.3:
            feeds.append(FeedSpec(name="oms", kind="oms", stale_after_s=1000.0, oms="prime", snapshot_every_s=5.0))
            # Never past its limit: it makes the core ask for instruments and prices while it has more urgent things.
            rules.append(replace(rule, name="price", reading="price", above=Decimal(10**9), scope=WHOLE_ACCOUNT))
        if self.tried:
            rules.append(replace(rule, name=TRIED, above=Decimal(40), mode="shadow"))
        return Settings(
            daemon="ks", boot="b0", sites=sites, feeds=tuple(feeds), rules=tuple(rules),
            confirm=ConfirmPolicy(
                empties=self.rng.choice((1, 2, 2, 3)), settle_s=0.05, deadline_s=1.5, guard_every_s=1.0
            ),
            retry=RetryPolicy(timeout_s=0.5, hedge_after_s=0.15, list_timeout_s=1.5, first_s=0.05, max_s=1.0),
        )  # fmt: skip

    # --- time

    @property
    def wall(self) -> float:
        """What our own clock shows; the others' are right."""
        return BORN + self.now + self.stepped_s

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (max(when, self.now), next(self._orders), what))

    def after(self, delay: float, what: Callable[[], None]) -> None:
        self.at(self.now + delay, what)

    def post(self, event: Event) -> None:
        if self.running:
            self.inbox.append(event)

    def run(self) -> Outcome:
        why = ""
        try:
            self._live()
        except Broken as broken:
            why = str(broken)
        except Exception as error:  # ours or the core's: a seed to look at, not the end of the whole run
            why = f"{type(error).__name__}: {error}"
            if self.seed == self.watched:
                raise
        trace = tuple(_line(*step) for step in self.trace)
        tripped = self.judge.confirmed_once | set(self.judge.latched) | self.judge.over
        return Outcome(
            seed=self.seed,
            why=why,
            trace=trace,
            injected=dict(self.faults.injected),
            trips=len(tripped),
            verified=len(self.judge.confirmed_once),
            all_verified=not why and set(self.judge.states.values()) <= {"confirmed"},
            steps=self.steps,
            cancels=self.judge.cancels_written,
        )

    watched: int | None = None  # a seed whose foreign exceptions are shown whole

    def _live(self) -> None:
        self._start(Restored(fresh=True))
        self._plan()
        self._until(TROUBLE_S, lambda: False)
        self._calm()
        self._until(TROUBLE_S + CALM_S, self._settled)
        if not self._settled():
            left = {t: (s, self._left(self.judge.latched[t])) for t, s in self.judge.states.items()}
            self.judge.broken(f"not at rest {CALM_S:.0f} s after all faults ended: {left}")
        self._at_rest()

    def _until(self, end: float, done: Callable[[], bool]) -> None:
        idle = 0
        while True:
            self._thaw()
            while self.inbox and self.running and self.now >= self.frozen_until:
                self._turn(self.inbox.popleft())
                idle = 0
            if done():
                return
            due = self.core.due() if self.running else None
            if due is not None:
                due = max(due, self.now, self.frozen_until)
                if self.faults.hit("tick late"):
                    due += self.rng.uniform(0.0, 0.2)
            when = self._heap[0][0] if self._heap else None
            if self.inbox and self.running:
                when = min(when if when is not None else end, self.frozen_until)
            if (when is None or when > end) and (due is None or due > end):
                self.now = end
                return
            if due is not None and (when is None or due <= when):
                self.now = max(self.now, due)
                idle += 1
                if idle > 1000:
                    self.judge.broken("a thousand ticks without anything else: due() doesn't move on")
                self._thaw()
                self._turn(Tick(wall=self.wall))
                if self.faults.hit("tick twice"):
                    self._turn(Tick(wall=self.wall))
                continue
            self.now = max(self.now, when or 0.0)
            if self._heap and self._heap[0][0] <= self.now:
                heapq.heappop(self._heap)[2]()

    # --- one step

    def _turn(self, event: Event) -> None:
        if not self.running:
            return  # a crash came before it
        self.steps += 1
        if self.steps > STEPS_MAX:
            self.judge.broken(f"{STEPS_MAX} steps: a storm")
        before = dict(self.judge.latched | self.judge.shadows)
        if isinstance(event, TripRequested):
            self.senders.deliveries[event.token].over = event.id in self.judge.over_commands
        quiet = self._quiet_for(event)
        self.judge.event(event)
        actions = self.core.handle(event, self.now)
        self.trace.append((self.now, event, actions))
        keep = len(actions)
        if actions and self.faults.hit("crash in a pass"):
            keep = self.rng.randrange(len(actions) + 1)
        for action in actions:
            self.judge.claim(action)  # a cancel leaves before the record of its trip, in one pass
        for action in actions[:keep]:
            self._carry_out(action)
        if keep < len(actions):
            self._crash()
            return
        self._check_press(event, actions, before, quiet=quiet)
        self.judge.hedged()
        if self.steps % 16 == 0:
            self._check_view()

    def _pass(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            self.judge.claim(action)  # a cancel leaves before the record of its trip, in one pass
        for action in actions:
            self._carry_out(action)

    def _carry_out(self, action: Action) -> None:
        self.judge.action(action)
        match action:
            case ListAccounts() | SubscribeAccount():
                if isinstance(action, ListAccounts):
                    self.asked_pages[action.call] = action
                self._link(action.session).submit(action)
            case CancelAllOrders() | CancelOrder() | ListOpenOrders() | ListUserAccounts() | ListPositions():
                if isinstance(action, ListUserAccounts):
                    self.asked_users[action.call] = (action.oms, action.user)
                self._link(action.session).submit(action)
            case ListInstruments() | SubscribePrice():
                self._link(action.session).submit(action)
            case Withdraw():
                for link in self.links:
                    if link.exchange.oms == action.oms:
                        link.withdraw(action.calls)
            case DropSession():
                for link in self.links:
                    if link.connection is not None and link.connection.session == action.session:
                        link.go_down(action.why, self.rng.uniform(0.05, 0.5))
            case Record():
                self.journal.take(action)
            case Receipt():
                self.senders.receipt(action)
            case Acknowledge():
                self.senders.acknowledge(action)
            case Preview():
                self.previews[action.token] = self.previews.get(action.token, 0) + 1
                if self.previews[action.token] != 1:
                    self.judge.broken("a preview that nobody waits for")
            case _:
                pass

    def _link(self, session: int) -> Link:
        for link in self.links:
            if link.connection is not None and link.connection.session == session:
                return link
        return self.links[0]

    # --- checks of a step

    def _quiet_for(self, event: Event) -> bool:
        """No cancel that meets the pressed scope is unanswered, and the OMS can be reached: one must leave."""
        scope = getattr(event, "scope", None)
        if scope is None or self.judge.life.refused:
            return False
        under_way = [oms for oms, _, what in self.judge.life.unanswered.values() if oms == scope.oms]
        known = {s.session for s in self.core.view(self.now).omses if s.oms == scope.oms for s in s.sessions if s.up}
        return bool(known) and not under_way

    def _check_press(self, event: Event, actions: tuple[Action, ...], before: dict[str, Scope], *, quiet: bool) -> None:
        if isinstance(event, TripRequested):
            delivery = self.senders.deliveries[event.token]
            tripped = (set(self.judge.latched) | set(self.judge.shadows)) - set(before)
            known = event.id in self.known_ids
            if not known and delivery.command.permitted and len(tripped) != 1:
                self.judge.broken(f"command {event.id} tripped {len(tripped)} trips")
            if tripped:
                self.known_ids.add(event.id)
            if not tripped or self.dark:
                return
            said = self.judge.life.sayable(event.scope, over_http=True)
            if (
                quiet
                and said
                and not any(isinstance(a, CancelAllOrders) and within(of(event.scope), of(a.scope)) for a in actions)
            ):
                self.judge.broken(f"no cancel left in the pass of command {event.id}")
        if isinstance(event, Reading) and float(event.value) > 50 and event.labels[0][1] not in self.breached:
            self.breached.add(event.labels[0][1])
            scope = Scope(oms="prime", account=int(event.labels[0][1]), user=EVERY, instrument=EVERY)
            if scope not in (self.judge.shadows if self.dark else self.judge.latched).values():
                self.judge.broken(f"{event} tripped nothing")
        elif isinstance(event, Reading) and float(event.value) <= 50:
            self.breached.discard(event.labels[0][1])

    def _check_view(self) -> None:
        if not self.running:
            return
        view = self.core.view(self.now)
        if {t.trip for t in view.shadows} != self.judge.shadows.keys():
            self.judge.broken(f"the view shows other shadow trips than the records: {view.shadows}")
        if not view.trips and view.state != "armed":
            self.judge.broken(f"{view.state} without a trip")
        shown = {t.trip: t.state for t in view.trips}
        if shown != self.judge.states:
            self.judge.broken(f"the view shows {shown}, the records say {self.judge.states}")

    # --- our process

    def _start(self, restored: Restored) -> None:
        self.lives += 1
        self.running = True
        self.frozen_until = 0.0
        self.inbox.clear()
        self.dark = self.dark_lives and self.shade.random() < 0.6
        mode: Mode = "shadow" if self.dark else "live"
        settings = replace(self.settings, boot=f"b{self.lives}", mode=mode)
        self.judge.began(restored)
        self.known_ids = set(self.judge.tripped_commands) | {c.id for c in restored.commands}
        self.breached: set[str] = set()
        self.previews = {}
        self.core = KillSwitch(settings, restored, self.now)
        self._pass(self.core.begin("0.1.0", "fingerprint", self.wall))
        self.post(Tick(wall=self.wall))
        self.post(FeedUp(wall=self.wall, feed="sizes"))
        for account in self.exchanges["prime"].accounts:
            self.post(self._reading(account, "60" if account in self.hot else "1"))
        for link in self.links:
            link.connect_in(self.rng.uniform(0.001, 0.1))
        self.after(self.rng.uniform(0.001, 0.2), self.senders.up)

    def _stop(self) -> None:
        """SIGTERM: the last records are written, then it is as after a crash."""
        if not self.running:
            return
        self._turn(Stopping(wall=self.wall))
        if self.running:
            self._pass(self.core.end(self.now, self.wall))
            self.journal.flush()
            self._crash()

    def _crash(self) -> None:
        if not self.running:
            return
        self.running = False
        self.inbox.clear()
        acknowledged = {
            (c.id, r.trip) for c, r in self.senders.receipts if r.accepted and r.durable and c.kind == "trip"
        }
        for link in self.links:
            link.vanish()
        self.senders.crashed()
        restored = self.journal.crashed()
        held = {t.trip for t in restored.trips}
        for command, trip in acknowledged:
            if trip not in held and trip not in restored.ended:
                self.judge.broken(f"{command}'s trip {trip} was acknowledged and is gone after a crash")
        self.after(self.rng.uniform(0.05, 0.5), lambda: self._start(restored))

    # --- trouble

    def _plan(self) -> None:
        rng, faults = self.rng, self.faults
        for exchange in self.exchanges.values():
            many = exchange.oms == "prime" and faults.hit("big book")
            for _ in range(rng.randint(25, 45) if many else rng.randint(0, 6)):
                self.place(exchange)
        for when in sorted(rng.uniform(0.0, TROUBLE_S * 0.8) for _ in range(rng.randint(1, 3))):
            self.at(when, self._press)
        self.after(0.1, self._trade)
        self.trouble.begin(TROUBLE_S)
        ticks = [n * 0.1 for n in range(1, int(TROUBLE_S * 10))]
        for name, what in (
            ("crash", self._crash),
            ("stopped in order", self._stop),
            ("broker away", self.senders.down),
            ("market noise", self._market),
        ):
            if faults.has(name):
                for when in ticks:
                    self.at(when, lambda n=name, w=what: w() if faults.hit(n) else None)
        for name, what in (
            ("second press", self._press_again),
            ("reset", self._reset),
            ("reset of anything", self._reset_anything),
            ("junk command", self._junk),
            ("press by button", self._button),
            ("preview", self._look),
            ("rule breach", self._breach),
        ):
            if faults.has(name):
                for _ in range(4):
                    when = rng.uniform(0.2, TROUBLE_S)
                    self.at(when, lambda n=name, w=what: w() if faults.hit(n) else None)
        for _ in range(3 if self.tried else 0):
            self.at(self.shade.uniform(0.2, TROUBLE_S), self._breach_in_shadow)
        if faults.has("hasty reset"):
            self.after(0.3, self._hasty)

    def _calm(self) -> None:
        self.faults.over = True
        self.trouble.end()
        self.hot.clear()
        if self.running:
            for account in self.exchanges["prime"].accounts:
                self.post(self._reading(account, "1"))
        for exchange in self.exchanges.values():
            for order in exchange.working():
                if self._beyond_us(exchange, order):
                    exchange.end(order, "Canceled")  # its owner takes it away: we may not, or can't

    def _beyond_us(self, exchange: Exchange, order: Resting) -> bool:
        """Newer servers need an order's id, and can't be told of users, so that single cancels must be allowed."""
        spoken = {age for oms, age in self.judge.life.spoken.values() if oms == exchange.oms}
        beside = [link for link in self.links if link.exchange is exchange]
        spoken |= {link.speaks().value for link in beside}
        spoken |= {link.connection.dialect.value for link in beside if link.connection is not None}
        if (spoken != {"v2"} or exchange.oms in self.judge.life.narrowed) and (
            not order.numbered or self.forbidden == "single"
        ):
            return True
        return not order.named or (order.tough and self.forbidden == "single")

    def _settled(self) -> bool:
        if not self.running or self.now < TROUBLE_S + 0.7 or self.inbox or self.journal.waiting():
            return False
        if not all(self.previews.values()) or not self.senders.all_delivered():
            return False
        if any(shadow.would_cancel is None for shadow in self.core.view(self.now).shadows):
            return False
        impossible = self._can_not_be_known()
        return all(
            scope in impossible or (self.judge.states[trip] == "confirmed" and not self._left(scope))
            for trip, scope in self.judge.latched.items()
        )

    def _left(self, scope: Scope) -> list[int]:
        """The orders that are open in a scope, by the exchange's own table."""
        working = self.exchanges[scope.oms].working()
        return [o.order_id for o in working if within((o.account, o.user, o.instrument), of(scope))]

    def _can_not_be_known(self) -> set[Scope]:
        """Scopes over accounts that nobody can enumerate: the configuration lacks one, and it was seen."""
        return {
            s for s in self.judge.latched.values()
            if s.account is EVERY and (
                self.no_enumeration
                if s.oms in self.discovers
                else set(self.exchanges[s.oms].accounts) != set(self.configured[s.oms])
            )
        }  # fmt: skip

    def _at_rest(self) -> None:
        """Everything is quiet: what is latched is empty, and everybody was answered."""
        self._check_view()
        self.senders.check_all_answered()

    # --- people, traders, and what breaks

    def _scope(self) -> tuple[Scope, bool]:
        rng = self.rng
        oms = rng.choice(list(self.exchanges))
        exchange = self.exchanges[oms]

        def part(ids: tuple[int, ...], share: float) -> int | Every:
            return rng.choice(ids) if rng.random() < share else EVERY

        scope = Scope(
            oms=oms,
            account=part(exchange.accounts, 0.7),
            user=part(tuple(exchange.access), 0.4),
            instrument=part(exchange.instruments, 0.3),
        )
        site = next(s for s in self.settings.sites if s.name == oms)
        return scope, site.whole_oms or not scope.whole

    def _press(self) -> None:
        scope, permitted = self._scope()
        self._command("trip", scope=scope, permitted=permitted)

    def _press_again(self) -> None:
        """A second press: the same command once more, or another one for the same scope."""
        earlier = [c for c in self.senders.commands if c.kind == "trip"]
        if not earlier:
            return
        chosen = self.rng.choice(earlier)
        if self.rng.random() < 0.5:
            self._command("trip", scope=chosen.scope, permitted=chosen.permitted)
        else:
            again = Command("trip", chosen.id, "mqtt", chosen.scope, permitted=chosen.permitted)
            self.senders.send(again)

    def _command(self, kind: str, *, scope: Scope | None = None, trip: str = "", permitted: bool = True) -> None:
        via = "http" if self.rng.random() < 0.2 else "mqtt"
        name = f"{kind}-{next(self.ids_made)}"
        if scope is not None and permitted:
            self.requested.add(scope)
        command = Command(kind, name, via, scope, trip, permitted, issued_at=BORN + self.now)
        command.retained = kind == "trip" and via == "mqtt" and self.faults.hit("command retained")
        self.senders.send(command)

    def _reset(self) -> None:
        if self.judge.latched:
            self._command("reset", trip=self.rng.choice(sorted(self.judge.latched)))

    def _reset_anything(self) -> None:
        self._command("reset", trip=self.rng.choice(("nope", *sorted(self.judge.over))))

    def _hasty(self) -> None:
        """Somebody who resets as soon as a trip is confirmed, while others go on trading."""
        for trip, state in sorted(self.judge.states.items()):
            if state == "confirmed" and self.faults.hit("hasty reset"):
                self._command("reset", trip=trip)
        if not self.faults.over:
            self.after(self.rng.uniform(0.05, 0.5), self._hasty)

    def _junk(self) -> None:
        command = Command("junk", self.rng.choice((None, f"junk-{next(self.ids_made)}")), "mqtt")
        self.senders.send(command)

    def _button(self) -> None:
        scope, permitted = self._scope()
        if permitted:
            self.requested.add(scope)
            self.senders.send(Command("button", None, "mqtt", scope))

    def _look(self) -> None:
        scope, permitted = self._scope()
        if permitted and self.running:
            token = ("look", next(self.ids_made))
            self.previews[token] = 0
            self.post(LookRequested(wall=self.wall, scope=scope, token=token))

    def _breach(self) -> None:
        if self.rng.random() < 0.1:
            self._everything()
            return
        account = self.rng.choice(self.exchanges["prime"].accounts)
        self.requested.add(Scope(oms="prime", account=account, user=EVERY, instrument=EVERY))
        self.hot.add(account)
        self.post(self._reading(account, "60"))
        self.after(self.rng.uniform(0.1, 2.0), lambda: self._cool(account))

    def _breach_in_shadow(self) -> None:
        """Over the limit of the rule that is tried only; sometimes somebody ends one of its trips."""
        account = self.shade.choice(self.exchanges["prime"].accounts)
        if account not in self.hot:
            self.post(self._reading(account, "45"))
            self.after(self.shade.uniform(0.1, 2.0), lambda: self._cool(account) if account not in self.hot else None)
        if self.judge.shadows and self.shade.random() < 0.5:
            self._command("reset", trip=self.shade.choice(sorted(self.judge.shadows)))

    def _cool(self, account: int) -> None:
        self.hot.discard(account)
        self.post(self._reading(account, "1"))

    def _everything(self) -> None:
        for site in self.settings.sites:
            if site.whole_oms:
                self.requested.add(Scope(oms=site.name, account=EVERY, user=EVERY, instrument=EVERY))
            for account in self.exchanges[site.name].accounts:
                self.requested.add(Scope(oms=site.name, account=account, user=EVERY, instrument=EVERY))
        self.post(EverythingTripped(wall=self.wall, by="root", reason="SIGUSR1"))

    def _reading(self, account: int, size: str) -> Reading:
        labels = (("account", str(account)),)
        return Reading(wall=self.wall, feed="sizes", name="size", labels=labels, value=Decimal(size))

    def _trade(self) -> None:
        if self.now >= TROUBLE_S:
            return
        exchange = self.rng.choice(list(self.exchanges.values()))
        working = exchange.working()
        if working and self.rng.random() < 0.4:
            exchange.end(self.rng.choice(working), "FullyExecuted")
        elif len(working) < 12:
            self.place(exchange)
        self.after(self.rng.expovariate(0.5 if self.quiet_traders else 3.0), self._trade)

    def place(self, exchange: Exchange, account: int | None = None) -> None:
        if self.now >= TROUBLE_S:
            return
        pairs = [(u, a) for u, accounts in exchange.access.items() for a in accounts if account in (None, a)]
        if not pairs:
            return
        user, where = self.rng.choice(pairs)
        named = not self.faults.hit("nobody's order")
        tough = self.faults.hit("straggler")
        numbered = not self.faults.hit("no order id")
        exchange.enter(where, user, self.rng.choice(exchange.instruments), named=named, tough=tough, numbered=numbered)

    def price(self, session: int, oms: str, instrument: int, *, call: int | None = None) -> PriceSeen:
        """Prices as they may come: 0 on the wire is None here."""
        bid, ask, last = (
            None if self.rng.random() < 0.2 else Decimal(self.rng.randint(1, 10**6)) / 100 for _ in range(3)
        )
        return PriceSeen(
            wall=self.wall, oms=oms, session=session, instrument=instrument, bid=bid, ask=ask, last=last, call=call
        )

    def _market(self) -> None:
        """What the market tells means nothing to what is latched."""
        rng = self.rng
        link = rng.choice(self.links)
        held, exchange = link.connection, link.exchange
        if held is None or held.silent or isinstance(link, HttpLink):
            return
        account, instrument = (
            rng.choice(self.configured[exchange.oms] or exchange.accounts),
            rng.choice(exchange.instruments),
        )
        number = rng.choice((None, rng.randint(1, 50)))
        event = rng.choice((
            self.price(held.session, exchange.oms, instrument),
            TradeSeen(
                wall=self.wall, oms=exchange.oms, session=held.session, account=account,
                instrument=rng.choice((None, instrument)), user=rng.choice((None, 31)), trade_id=number,
                order_id=number, quantity=rng.choice((None, Decimal(1))), price=rng.choice((None, Decimal(100))),
            ),
            OrderRejected(
                wall=self.wall, oms=exchange.oms, session=held.session, account=account, instrument=None, user=None,
                order_id=None, client_order_id=number, reason="Not_Enough_Funds",
            ),
        ))  # fmt: skip
        self.after(rng.uniform(0.0005, 0.01), lambda: self.post(event) if held.alive and not held.silent else None)

    def freeze(self, seconds: float) -> bool:
        """Our process stands still; its sockets fill."""
        if not self.running or self.now < self.frozen_until:
            return False
        self.frozen_until = self.woke_at = self.now + seconds
        self.stood = seconds > GAP_S
        return True

    def _thaw(self) -> None:
        """After a stop our loop reads what has arrived before it judges what is late."""
        if not self.stood or not self.running or self.now < self.frozen_until:
            return
        self.stood = False
        self._turn(LoopStood(wall=self.wall, over=False))
        while self.inbox and self.running and self.now >= self.frozen_until:
            self._turn(self.inbox.popleft())
        if self.running:
            self._turn(LoopStood(wall=self.wall, over=True))

    # --- what the stand-ins ask

    def denied(self, call: CancelAllOrders | CancelOrder) -> Answer | None:
        """What this credential or this version may not do, whatever the weather."""
        if isinstance(call, CancelOrder):
            return REFUSED[0] if self.forbidden == "single" else None
        scope = call.scope
        refused = {
            "whole": scope.whole,
            "user rows": scope.user is not EVERY,
            "instrument rows": scope.instrument is not EVERY,
            "all rows": True,
        }.get(self.forbidden, False)
        return Answer(AnswerKind.REFUSED, "106", 106, "Not Supported") if refused else None

    def position_rows(self, account: int) -> tuple[PositionRow, ...]:
        return (PositionRow(account, "BTC", Decimal(1), Decimal(0)),)

    def subscribed(self, oms: str) -> tuple[int, ...]:
        return () if oms in self.discovers else self.exchanges[oms].accounts

    def _working(self, order: Resting) -> None:
        for link in self.links:
            if link.exchange.oms == order.oms:
                link.order_event(order, None)

    def _ended(self, order: Resting, state: str) -> None:
        for link in self.links:
            if link.exchange.oms == order.oms:
                link.order_event(order, state)


def _line(now: float, event: Event, actions: tuple[Action, ...]) -> str:
    said = "".join(f"\n            -> {_short(action)}" for action in actions)
    return f"{now:9.4f}  {_short(event)}{said}"


def _short(thing: object) -> str:
    text = repr(thing).replace("<Every.EVERY: 'every'>", "*")
    return text if len(text) <= 260 else text[:257] + "..."
