"""What must hold at every step, judged from outside: by the exchange's own table and what crossed the wire.

The judge believes records and announcements only as claims to be checked. `Broken` ends a run.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from killswitch.domain.messages import (
    AccountsFound,
    AccountsListed,
    Action,
    AnnounceState,
    AnnounceTrip,
    Answered,
    AnswerKind,
    Called,
    CancelAllOrders,
    CancelOrder,
    CauseAdded,
    HttpDown,
    HttpUp,
    ListAccounts,
    ListInstruments,
    ListOpenOrders,
    ListPositions,
    ListUserAccounts,
    Lost,
    Moved,
    Narrowed,
    OpenOrders,
    OrderEnded,
    OrderWorking,
    Record,
    SessionDown,
    SessionUp,
    SetAside,
    ShadowEnded,
    ShadowFound,
    ShadowTripped,
    SubscribePrice,
    Tripped,
    WasReset,
)
from killswitch.domain.scope import EVERY
from tests.sim.exchange import READ, heeds, reads

if TYPE_CHECKING:
    from killswitch.domain.messages import Event, Restored
    from killswitch.domain.scope import Scope
    from tests.sim.exchange import Resting
    from tests.sim.gateway import Call, Gateway
    from tests.sim.world import World


HEDGE_LATE_S = 0.25
AGAIN = "again, which has no answer"
STORM = 30  # of the same cancel within a second; one each retry.first_s is 20, and a person may press
Parts = tuple[int | None, int | None, int | None]

WORSE = ("sweeping", "confirmed", "escalated")

# The design's table, as the moves that it allows.
MOVES = {
    ("sweeping", "confirmed"),
    ("sweeping", "escalated"),
    ("confirmed", "sweeping"),
    ("escalated", "confirmed"),
    ("confirmed", "armed"),
}


class Broken(AssertionError):  # noqa: N818 - a broken invariant is the word for it
    """Something that must hold didn't."""


def of(scope: Scope) -> Parts:
    """A scope with None for every."""
    return tuple(None if p is EVERY else p for p in (scope.account, scope.user, scope.instrument))  # type: ignore[return-value]


def within(inner: Parts, outer: Parts) -> bool:
    return all(o is None or i == o for i, o in zip(inner, outer, strict=True))


def meet(one: Parts, other: Parts) -> bool:
    return all(a is None or b is None or a == b for a, b in zip(one, other, strict=True))


def could_hold(scope: Parts, account: int, user: int | None, instrument: int | None) -> bool:
    """In scope, or nobody can say that it isn't."""
    return all(s is None or v is None or s == v for s, v in zip(scope, (account, user, instrument), strict=True))


@dataclass(slots=True)
class Look:
    """One list of open orders, from asking to hearing. `order`s are of the judge's own counting."""

    call: ListOpenOrders
    written_order: int
    written_at: float
    truth: tuple[Resting, ...] | None = None
    heard: OpenOrders | None = None
    heard_order: int = 0
    heard_at: float = 0.0


@dataclass(slots=True)
class Cancelled:
    """One cancel that was written. `what`: the parts it can touch."""

    call: int
    order: int
    oms: str
    session: int
    what: Parts  # as the server reads it, whatever was meant
    latched: tuple[Parts, ...]  # the scopes that were latched when it was written


@dataclass(slots=True)
class Hanging:
    """A cancel that was handed over, and may have to go over another session too."""

    oms: str
    session: int
    what: Parts
    at: float
    checked: bool = False


@dataclass(slots=True)
class Life:
    """What this process of ours has asked and heard; a crash ends it."""

    calls: set[int] = field(default_factory=set)
    looks: dict[int, Look] = field(default_factory=dict)
    cancels: list[Cancelled] = field(default_factory=list)
    unanswered: dict[int, tuple[str, int, Parts]] = field(default_factory=dict)  # cancels: oms, session, parts
    seen: dict[tuple[str, int], int] = field(default_factory=dict)  # orders that events showed -> when
    ended: set[tuple[str, int]] = field(default_factory=set)
    shown: set[tuple[str, int]] = field(default_factory=set)  # accounts
    enumerated: set[tuple[str, int]] = field(default_factory=set)  # users
    census: dict[str, tuple[int, set[int]]] = field(default_factory=dict)  # OMS -> a list of all accounts: begun, found
    listed_all: dict[str, tuple[int, set[int]]] = field(default_factory=dict)  # the last that came to its end
    refused: bool = False
    times: dict[object, deque[float]] = field(default_factory=dict)  # of each cancel, the last ones
    handed: dict[int, Hanging] = field(default_factory=dict)  # every cancel, by its call
    up_at: dict[int, float] = field(default_factory=dict)  # live sessions
    narrowed: set[str] = field(default_factory=set)  # OMSs that took more than they were asked to, for all that shows
    http: dict[int, tuple[str, str]] = field(default_factory=dict)  # as `spoken`
    spoken: dict[int, tuple[str, str]] = field(default_factory=dict)  # live sessions: OMS, and what is said on them

    def signed_in(self, event: SessionUp) -> None:
        """What a session shows to be ignored is said on none of the others either: behind all of them is one OMS."""
        assert event.dialect is not None
        age = event.dialect.value
        for number, (oms, other) in self.spoken.items():
            if oms == event.oms and len(READ[age]) < len(READ[other]):
                self.spoken[number] = (oms, age)
        self.spoken[event.session] = (event.oms, age)

    def sayable(self, scope: Scope, *, over_http: bool = False) -> bool:
        """One call can say this on every session; `over_http`: over HTTP too."""
        spoken = [*self.spoken.values(), *(self.http.values() if over_http else ())]
        spoken += [(oms, "v3") for oms in self.narrowed]
        return all(heeds(age, of(scope)) for oms, age in spoken if oms == scope.oms)


class Judge:
    """Watches every event, action and frame of one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.order = 0
        self.latched: dict[str, Scope] = {}
        self.states: dict[str, str] = {}
        self.swept_since: dict[str, int] = {}
        self.shadows: dict[str, Scope] = {}
        self.over: set[str] = set()
        self.over_commands: set[str] = set()  # of trips that were reset
        self.shadowy: set[str] = set()  # every shadow trip that ever was
        self.commands: dict[str, str] = {}  # trip -> the command that made it
        self.confirmed_once: set[str] = set()
        self.tripped_commands: set[str] = set()
        self.reset_commands: set[str] = set()  # of this life
        self.life = Life()
        self.sent: dict[tuple[int, int], Cancelled] = {}  # by session and call, in whichever life it left
        self.last_n = 0
        self.cancels_written = 0

    def broken(self, why: str) -> None:
        raise Broken(why)

    # --- lives

    def began(self, restored: Restored) -> None:
        self.life = Life(narrowed={oms for oms, _ in restored.narrowed})
        self.reset_commands = set()
        self.last_n = restored.next_n - 1
        self.latched = {t.trip: t.scope for t in restored.trips}
        self.states = dict.fromkeys(self.latched, "sweeping")
        self.swept_since = dict.fromkeys(self.latched, self.order)
        if self.latched.keys() & self.shadowy:
            self.broken(f"a start latches what was a shadow trip: {self.latched.keys() & self.shadowy}")
        self.shadows = {}
        self.shadowy &= restored.ended  # the others never reached the disk: their commands come again
        self.over = set(restored.ended)
        self.tripped_commands = {t.command_id for t in restored.trips if t.command_id}
        self.tripped_commands |= {c.id for c in restored.commands if c.accepted}
        self.over_commands = {self.commands[t] for t in self.over if t in self.commands}
        # Its trip was, and ended; that a later delivery of it was refused takes nothing back.
        self.tripped_commands |= self.over_commands

    # --- what our process hears

    def event(self, event: Event) -> None:
        self.order += 1
        life = self.life
        match event:
            case OpenOrders():
                look = life.looks.get(event.call)
                if look is not None and look.heard is None:
                    look.heard, look.heard_order, look.heard_at = event, self.order, self.world.now
                    oms = look.call.oms
                    life.shown |= {(oms, o.account) for o in event.orders}
            case OrderWorking():
                key = (event.oms, (event.order.client_order_id or 0) - 1000)
                life.shown.add((event.oms, event.order.account))
                if key not in life.ended:
                    life.seen[key] = self.order
            case OrderEnded():
                key = (event.oms, (event.order.client_order_id or 0) - 1000)
                life.shown.add((event.oms, event.order.account))
                life.ended.add(key)
                life.seen.pop(key, None)
            case AccountsFound():
                asked = self.world.asked_users.get(event.call)
                if asked is not None:
                    life.enumerated.add(asked)
                    life.shown |= {(asked[0], a) for a in event.accounts}
            case AccountsListed():
                self._page(event)
            case Answered():
                life.unanswered.pop(event.call, None)
                life.refused |= event.answer.kind is AnswerKind.REFUSED
            case SessionUp():
                life.signed_in(event)
                life.up_at[event.session] = self.world.now
            case SessionDown():
                life.spoken.pop(event.session, None)
                life.up_at.pop(event.session, None)
            case HttpUp():
                life.http[event.session] = (event.oms, event.dialect.value)
            case HttpDown():
                life.http.pop(event.session, None)
            case Lost():
                life.unanswered.pop(event.call, None)
            case _:
                pass

    def _page(self, event: AccountsListed) -> None:
        """A page of all accounts; an empty one ends the list."""
        asked = self.world.asked_pages.get(event.call)
        if asked is None or asked.oms not in self.life.census:
            return
        began, found = self.life.census[asked.oms]
        if event.rows:
            self.life.census[asked.oms] = (began, found | set(event.accounts))
            self.life.shown |= {(asked.oms, account) for account in event.accounts}
        else:
            self.life.listed_all[asked.oms] = (began, found)

    # --- what our process says

    def claim(self, action: Action) -> None:
        """What the records of a pass say, before anything of it is carried out."""
        if isinstance(action, Record):
            if action.n != self.last_n + 1:
                self.broken(f"record {action.n} after {self.last_n}")
            self.last_n = action.n
            self._record(action)

    def action(self, action: Action) -> None:
        match action:
            case CancelAllOrders() | CancelOrder():
                self._number(action)
                oms, what = self._reach(action)
                self._in_a_latch(oms, what, action)
                self.life.unanswered[action.call] = (oms, action.session, what)
                self.life.handed[action.call] = Hanging(oms, action.session, what, self.world.now)
            case ListAccounts():
                self._number(action)
                if not action.start:
                    self.life.census[action.oms] = (self.order, set())
            case ListOpenOrders() | ListUserAccounts() | ListPositions() | ListInstruments() | SubscribePrice():
                self._number(action)
            case AnnounceTrip():
                view = action.trip
                if view.outcome == "VERIFIED" and view.state != "confirmed":
                    self.broken(f"trip {view.trip} is announced VERIFIED while {view.state}")
                if view.shadow and (view.outcome is not None or view.calls or view.state in WORSE):
                    self.broken(f"shadow trip {view.trip} is announced as if it cancelled: {view}")
                if view.shadow is not (view.trip in self.shadowy):
                    self.broken(f"trip {view.trip} is announced with shadow {view.shadow}")
                if view.trip in self.over:
                    self.broken(f"trip {view.trip} is announced after its reset")
            case AnnounceState():
                if action.state == "armed" and any(not view.shadow for view in action.trips):
                    self.broken("announced armed with trips")
            case _:
                pass

    def hedged(self) -> None:
        """A cancel that hangs, for a scope that is still swept, went out over another session that stood all the time.

        Looked at once for each cancel, after hedge_after_s and as much as our clock may be late.
        """
        life, world = self.life, self.world
        wait = world.settings.retry.hedge_after_s + HEDGE_LATE_S
        young = world.settings.retry.timeout_s + HEDGE_LATE_S  # it may itself be the hedge of one that old
        for call in life.unanswered:
            mine = life.handed[call]
            if mine.checked or mine.at + wait >= world.now:
                continue
            mine.checked = True
            others = {s for s, up in life.up_at.items() if s != mine.session and up <= mine.at}
            others &= {s for s, (oms, _) in life.spoken.items() if oms == mine.oms}
            wanted = any(
                self.states[trip] != "confirmed" and scope.oms == mine.oms and within(mine.what, of(scope))
                for trip, scope in self.latched.items()
            )
            if not others or not wanted or world.woke_at >= mine.at or mine.session not in life.up_at:
                continue
            if not any(
                h.oms == mine.oms and h.session != mine.session and within(mine.what, h.what) and h.at > mine.at - young
                for h in life.handed.values()
            ):
                self.broken(f"cancel {call} hangs on session {mine.session}, and none left on {sorted(others)}")

    def _number(self, call: Call) -> None:
        if call.call in self.life.calls:
            self.broken(f"call number {call.call} comes twice")
        self.life.calls.add(call.call)

    def _record(self, record: Record) -> None:
        body = record.body
        match body:
            case Called(what="sent") if AGAIN in body.text:
                first = int(body.text.removeprefix("call ").split()[0])
                if self.life.handed[first].session == body.session:
                    self.broken(f"cancel {first} goes out again as {body.call} on the same session {body.session}")
            case Narrowed():
                self.life.narrowed.add(body.oms)
            case SetAside():
                self.broken(f"set aside: {body.event}\n{body.traceback}")
            case Tripped():
                self._tripped(body)
            case ShadowTripped():
                self._shadow(body)
            case ShadowFound() if body.trip not in self.shadows:
                self.broken(f"{body.trip} found something and is no shadow trip")
            case ShadowEnded():
                if self.shadows.pop(body.trip, None) is None:
                    self.broken(f"{body.trip} ended and is no shadow trip")
                self.over.add(body.trip)
                if body.trip in self.commands:
                    self.over_commands.add(self.commands[body.trip])
            case CauseAdded() if body.trip not in self.latched:
                self.broken(f"a cause for {body.trip}, which isn't latched")
            case Moved():
                self._moved(body)
            case WasReset():
                self._reset(body)
            case _:
                pass

    def _shadow(self, body: ShadowTripped) -> None:
        world = self.world
        if not world.dark and body.cause.rule != world.tried:
            self.broken(f"{body.trip} is a shadow trip, and nothing says that it should be")
        if body.trip in self.shadowy or body.trip in self.latched or body.trip in self.over:
            self.broken(f"trip id {body.trip} comes twice")
        if body.command_id:
            self.tripped_commands.add(body.command_id)
            self.commands[body.trip] = body.command_id
        self.shadows[body.trip] = body.scope
        self.shadowy.add(body.trip)

    def _tripped(self, body: Tripped) -> None:
        if self.world.dark or body.cause.rule == self.world.tried:
            self.broken(f"{body.trip} is latched, though it is to be a shadow trip")
        if body.trip in self.latched or body.trip in self.over:
            self.broken(f"trip id {body.trip} comes twice")
        if body.scope not in self.world.requested:
            self.broken(f"nobody asked for {body.scope}")
        if body.command_id:
            if body.command_id in self.tripped_commands:
                self.broken(f"command {body.command_id} trips twice")
            self.tripped_commands.add(body.command_id)
            self.commands[body.trip] = body.command_id
        self.latched[body.trip] = body.scope
        self.states[body.trip] = "sweeping"
        self.swept_since[body.trip] = self.order

    def _moved(self, body: Moved) -> None:
        source = self.states.get(body.trip)
        if body.source != source:
            self.broken(f"trip {body.trip} moves from {body.source}, but it was {source}")
        if (body.source, body.target) not in MOVES:
            self.broken(f"trip {body.trip} moves from {body.source} to {body.target}")
        if body.trip not in self.latched:
            self.broken(f"trip {body.trip} moves but isn't latched")
        if body.target == "confirmed":
            self._confirmed(body.trip)
            self.confirmed_once.add(body.trip)
        elif body.outcome == "VERIFIED":
            self.broken(f"trip {body.trip} is VERIFIED on its way to {body.target}")
        self.states[body.trip] = body.target
        if body.target == "sweeping":
            self.swept_since[body.trip] = self.order

    def _reset(self, body: WasReset) -> None:
        state = self.states.get(body.trip)
        if body.trip not in self.latched or state != "confirmed":
            self.broken(f"trip {body.trip} is reset while {state}")
        self.reset_commands.add(body.command_id)
        scope = self.latched.pop(body.trip)
        self.states.pop(body.trip)
        self.over.add(body.trip)
        if body.trip in self.commands:
            self.over_commands.add(self.commands[body.trip])
        live = {link.connection.session for link in self.world.links if link.connection is not None}
        for call, (oms, session, what) in self.life.unanswered.items():
            still = any(s.oms == oms and within(what, of(s)) for s in self.latched.values())
            if oms == scope.oms and session in live and within(what, of(scope)) and not still:
                self.broken(f"trip {body.trip} is reset while its cancel {call} is unanswered on a live session")

    # --- frames

    def written(self, call: Call, gateway: Gateway, body: str) -> None:
        """A frame leaves for a gateway. `body`: its JSON, to be read as a server of that age does."""
        self.order += 1
        if isinstance(call, ListOpenOrders):
            self.life.looks[call.call] = Look(call, self.order, self.world.now)
        elif isinstance(call, CancelAllOrders | CancelOrder):
            self.cancels_written += 1
            oms, what = self._reach(call)
            if isinstance(call, CancelAllOrders):
                said = json.loads(body)
                if not all(said.values()):
                    self.broken(f"{call} holds a 0 or nothing, which is everybody's to newer servers: {body}")
                read = reads(gateway.age, said)
                if read != what:
                    self.broken(f"{call} is read as {read} by a {gateway.age} server: {body}")
            self._in_a_latch(oms, what, call)
            latched = tuple(of(s) for s in self.latched.values() if s.oms == oms)
            self.life.cancels.append(Cancelled(call.call, self.order, oms, call.session, what, latched))
            self.sent[call.session, call.call] = self.life.cancels[-1]
            self._no_storm(call)
            assert oms == gateway.exchange.oms

    def cancelled(self, call: CancelAllOrders | CancelOrder, order: Resting) -> None:
        """The exchange is about to end an order, as a call of ours had it: by its own table it was in scope."""
        held = self.sent[call.session, call.call].latched
        if not any(within((order.account, order.user, order.instrument), scope) for scope in held):
            self.broken(f"order {order.order_id} is cancelled by {call}, and no latched scope held it")

    def _no_storm(self, call: CancelAllOrders | CancelOrder) -> None:
        """The same cancel over and over, as fast as answers come, helps nobody: the venue cuts us off."""
        key = call.scope if isinstance(call, CancelAllOrders) else (call.oms, call.order_id, call.client_order_id)
        times = self.life.times.setdefault(key, deque(maxlen=STORM))
        times.append(self.world.now)
        if len(times) == STORM and times[-1] - times[0] < 1.0:
            self.broken(f"a storm: {STORM} times within {times[-1] - times[0]:.2f} s: {call}")

    def read(self, call: ListOpenOrders, truth: tuple[Resting, ...]) -> None:
        """The exchange's own table at the instant at which the answer is made."""
        look = self.life.looks.get(call.call)
        if look is not None and look.call is call:
            look.truth = truth

    def _reach(self, call: CancelAllOrders | CancelOrder) -> tuple[str, Parts]:
        if isinstance(call, CancelAllOrders):
            what = of(call.scope)
            known = self.world.ids
            for part in what:
                # EVERY is left out on the wire; an id that nobody has, or a 0, would be one.
                if part is not None and part not in known:
                    self.broken(f"{call} names the id {part}")
            return call.scope.oms, what
        if call.order_id is None and call.client_order_id is None:
            self.broken(f"{call} names no order")
        order = self.world.exchanges[call.oms].find(call.account, call.order_id, call.client_order_id)
        if order is None:
            self.broken(f"{call} names an order that never was")
            raise AssertionError
        return call.oms, (order.account, order.user if order.named else 0, order.instrument)

    def _in_a_latch(self, oms: str, what: Parts, call: Call) -> None:
        if not any(scope.oms == oms and within(what, of(scope)) for scope in self.latched.values()):
            self.broken(f"{call} is in no latched scope")

    # --- proof

    def _confirmed(self, trip: str) -> None:
        scope = self.latched[trip]
        world, life, held = self.world, self.life, of(scope)
        exchange = world.exchanges[scope.oms]
        for oms, number in life.seen:
            order = exchange.orders.get(number)
            if oms == scope.oms and order is not None and order.open and self._holds(held, order):
                self.broken(f"trip {trip} is VERIFIED while order {number}, shown by an event, is open")
        extra = {a for oms, a in life.shown if oms == scope.oms} - set(world.configured[scope.oms])
        if (
            extra
            and held[0] is None
            and scope.oms not in world.discovers
            and (held[1] is None or (scope.oms, held[1]) not in life.enumerated)
        ):
            self.broken(f"trip {trip} is VERIFIED though accounts {extra} turned up and nobody listed all")
        accounts = {held[0]} if held[0] is not None else set(world.configured[scope.oms]) | extra
        if scope.oms in world.discovers and held[0] is None:
            accounts = set(exchange.accounts)
            began, found = life.listed_all.get(scope.oms, (-1, set()))
            by_user = held[1] is not None and (scope.oms, held[1]) in life.enumerated
            if not by_user and (began < self.swept_since[trip] or found != accounts):
                self.broken(f"trip {trip} is VERIFIED, and no list of all accounts was asked for in its sweep")
        if held[0] is None and held[1] is not None:
            accounts &= set(exchange.access.get(held[1], ()))
        self._rounds(trip, scope, {a for a in accounts if a is not None})

    def _holds(self, scope: Parts, order: Resting) -> bool:
        return could_hold(scope, order.account, order.user if order.named else None, order.instrument)

    def _shows(self, scope: Parts, look: Look) -> bool:
        assert look.heard is not None
        return look.heard.unreadable > 0 or any(
            could_hold(scope, o.account, o.entered_by, o.instrument) for o in look.heard.orders
        )

    def _rounds(self, trip: str, scope: Scope, accounts: set[int]) -> None:
        """As many rounds in a row as the policy asks for, each of every account, from lists that count."""
        held, policy, sayable = of(scope), self.world.settings.confirm, self.life.sayable(scope)
        meeting = [c for c in self.life.cancels if c.oms == scope.oms and meet(c.what, held)]
        last_cancel = max((c.order for c in meeting), default=0)
        looks: dict[int, list[Look]] = {account: [] for account in accounts}
        for look in self.life.looks.values():
            asked = look.call.oms == scope.oms and look.call.account in accounts
            if asked and look.heard is not None and look.written_order > last_cancel:
                looks[look.call.account].append(look)
        for account, mine in looks.items():
            newest = max(mine, key=lambda look: look.written_order, default=None)
            if newest is not None and any(self._holds(held, order) for order in newest.truth or ()):
                self.broken(f"trip {trip} is VERIFIED; the last list of account {account} had orders in scope")
        sighted = max((self._sighted(held, mine) for mine in looks.values()), default=0)
        ended_at, begin = 0.0, -1.0
        for number in range(policy.empties):
            for account, mine in looks.items():
                times = [
                    look.heard_at
                    for look in mine
                    if look.written_at >= begin - 1e-9
                    and look.heard_order > sighted
                    and not self._shows(held, look)
                    and self._carried(look, held, meeting, sayable=sayable)
                ]
                if not times:
                    self.broken(
                        f"trip {trip} is VERIFIED without list {number + 1} of {policy.empties} of account"
                        f" {account} asked after the last cancel (or the last sight of an order)"
                    )
                ended_at = max(ended_at, min(times))
            begin = ended_at + policy.settle_s

    def _sighted(self, scope: Parts, looks: list[Look]) -> int:
        """When the last list that showed an order in scope was heard; one that a younger overtook is past."""
        return max(
            (
                look.heard_order
                for look in looks
                if self._shows(scope, look)
                and not any(o.written_order > look.written_order and o.heard_order < look.heard_order for o in looks)
            ),
            default=0,
        )

    def _carried(self, look: Look, held: Parts, cancels: list[Cancelled], *, sayable: bool) -> bool:
        """The list's own session carried a cancel of all of the scope on that account before it.

        Where no call can say it, or it was refused, it goes by single orders, and needs none.
        """
        wanted = (look.call.account, held[1], held[2])
        return (
            self.life.refused
            or not sayable
            or any(
                c.session == look.call.session and c.order < look.written_order and within(wanted, c.what)
                for c in cancels
            )
        )
