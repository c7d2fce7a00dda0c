"""Shadow trips: what a rule or a person would have cancelled, listed once and told, and never cancelled.

They live apart from the latched trips: no sweep, no state, no deadline, no outcome. So nothing that cancels can
come by one of them, and none of them can swallow a live trip. Each ends at its reset, or with the process.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from killswitch.domain.messages import (
    AnnounceEvent,
    CauseView,
    ClearTrip,
    ListOpenOrders,
    ShadowCause,
    ShadowEnded,
    ShadowFound,
    ShadowTripped,
    TripView,
    WouldCancel,
)
from killswitch.domain.paths import to_look
from killswitch.domain.scope import EVERY, Scope
from killswitch.domain.sweep import find
from killswitch.domain.trips import merged
from killswitch.domain.undo import Queue, Table

if TYPE_CHECKING:
    from killswitch.domain.book import Book, Session
    from killswitch.domain.messages import OpenOrders, ResetRequested
    from killswitch.domain.outbox import Outbox
    from killswitch.domain.settings import Settings
    from killswitch.domain.standing import Standing
    from killswitch.domain.trips import Trip
    from killswitch.domain.undo import Agenda, Undo

SHADOW: Final = "shadow"
"""The state of a shadow trip: none of those that a latched one has."""
CANCELS_NOTHING: Final = "shadow: nothing is cancelled"
IDS_TOLD: Final = 50
"""Order ids, and accounts, in an announcement; the journal has all."""
ACCOUNTS_TOLD: Final = 10
"""Accounts in a sentence."""
WAIT_S: Final = 30.0
"""A look waits so long for a session, then it is said that nothing could be looked at; and for calls to spare."""
LATE_PART: Final = 5
"""Every so many-th of the calls that come in is for looks that are late."""
AGAIN_S: Final = 1.0
TRIES: Final = 3
"""Rounds of lists; a later one asks only for what the ones before it didn't get."""
KEEP_SHARE: Final = 0.4
"""Of the burst of calls: what looks of shadow trips leave for sweeps, guards and snapshots."""
TURNS: Final = 10
"""So many looks in line may each be waiting for a sweep's list before the whole line waits a moment."""
STANDING_MAX: Final = 250
"""Shadow trips of rules that stand; a further one ends the oldest. A limit on trial that every account is past must
not cost the live rules their time. The journal has all of them."""

CAUSES_MAX: Final = 100
"""Lines of causes that a shadow trip of rules shows; what comes on top is one more line, and one record each."""
MORE_CAUSES: Final = "further series that breached: the journal has each"

Held = tuple[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Shadow:
    """One shadow trip. Its look: `todo`, accounts still to be asked for; `waiting`, how many lists are under way.

    `held`: (account, order ids) of each account that was listed; given up once `would` is made of it.
    """

    id: str
    scope: Scope
    causes: tuple[CauseView, ...]
    by: str
    tripped_wall: float
    wait_until: float
    button: str = ""
    todo: tuple[int, ...] = ()
    waiting: int = 0
    tries: int = 1
    held: tuple[Held, ...] = ()
    looked: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()
    unnamed: int = 0
    unreadable: int = 0
    complete: bool = True
    would: WouldCancel | None = None


class Shadows:
    """The shadow trips that stand, and their looks."""

    def __init__(
        self,
        book: Book,
        trips: Table[str, Trip],
        agenda: Agenda,
        outbox: Outbox,
        undo: Undo,
        *,
        status: Table[str, str],
        standing: Standing,
    ) -> None:
        self._book, self._trips, self._agenda, self._outbox = book, trips, agenda, outbox
        self._status, self._standing = status, standing
        self._held: Table[str, Shadow] = Table(undo)
        self._by_rule: Table[Scope, str] = Table(undo)
        """Scope -> the shadow trip that a rule began on it: a rule that is tried may be far off, and breach often."""
        self._undo = undo
        self._lines: dict[str, Queue[str]] = {}
        """OMS -> looks that still have accounts to ask for. An empty one left behind by a rollback says nothing."""
        self._in_line: Table[str, bool] = Table(undo)
        self._turns: Table[str, float] = Table(undo)
        """OMS -> when the next list of a late look may leave."""
        self._calls: Table[int, tuple[str, int]] = Table(undo)
        """A list under way -> its shadow trip and account."""

    def get(self, trip: str) -> Shadow | None:
        return self._held.get(trip)

    def values(self) -> tuple[Shadow, ...]:
        return self._held.values()

    # --- their life

    def trip(
        self,
        id_: str,
        scope: Scope,
        cause: CauseView,
        by: str,
        now: float,
        *,
        command_id: str = "",
        digest: str = "",
        button: str = "",
    ) -> int:
        """A shadow trip begins. Returns the number of its record."""
        wall = cause.first_wall
        if cause.rule:
            self._make_room(wall)
        n = self._outbox.record(ShadowTripped(id_, scope, cause, by, command_id, digest), wall, urgent=True)
        accounts, complete = self._book.seen_accounts_of(scope)
        self._held[id_] = Shadow(
            id_,
            scope,
            (cause,),
            by,
            wall,
            now + WAIT_S,
            button=button,
            todo=accounts,
            complete=complete,
        )
        if cause.rule:
            self._by_rule[scope] = id_
        self._tell("shadow_tripped", id_, f"{scope.in_words()}: {cause.text}; nothing is cancelled", wall, n)
        self._agenda.set(("shadow", id_), now)
        return n

    def press(self, shadow: Shadow, cause: CauseView, wall: float) -> int:
        """Pressed again, or another cause. Returns the number of its record."""
        self._held[shadow.id] = replace(shadow, causes=merged(shadow.causes, cause))
        self._status["announce"] = "yes"
        return self._outbox.record(ShadowCause(shadow.id, cause), wall, urgent=True)

    def of_rules(self, scope: Scope) -> Shadow | None:
        """The shadow trip that a rule began on exactly this scope."""
        return self._held.get(self._by_rule.get(scope) or "")

    def breached(self, shadow: Shadow, cause: CauseView, wall: float, *, repeated: bool) -> None:
        """Another breach by a rule, or a further value of one that is known: that one isn't told at a feed's pace."""
        if any((c.rule, c.labels) == (cause.rule, cause.labels) for c in shadow.causes):
            self._held[shadow.id] = replace(shadow, causes=merged(shadow.causes, cause))
        elif len(shadow.causes) < CAUSES_MAX:
            self.press(shadow, cause, wall)
        elif not repeated:
            self._outbox.record(ShadowCause(shadow.id, cause), wall, urgent=True)
            more = CauseView(MORE_CAUSES, "", cause.kind, (), wall, wall, 1)
            self._held[shadow.id] = replace(shadow, causes=merged(shadow.causes, more))
            if len(shadow.causes) == CAUSES_MAX:
                self._status["announce"] = "yes"

    def end(self, shadow: Shadow, event: ResetRequested) -> None:
        """A person ends it. It latched nothing, so nothing need be proven."""
        self._end(shadow, ShadowEnded(shadow.id, event.by, event.reason, event.id, event.digest), event.wall)

    def _make_room(self, wall: float) -> None:
        if len(self._by_rule) < STANDING_MAX:
            return
        oldest = self._held[next(iter(self._by_rule.values()))]
        looked = "" if oldest.would is not None else ", before it was looked at"
        reason = f"more than {STANDING_MAX} shadow trips of rules stand{looked}"
        self._end(oldest, ShadowEnded(oldest.id, "killswitch", reason, "", ""), wall)

    def _end(self, shadow: Shadow, body: ShadowEnded, wall: float) -> None:
        n = self._outbox.record(body, wall, urgent=True)
        self._held.pop(shadow.id)
        if self._by_rule.get(shadow.scope) == shadow.id:
            self._by_rule.pop(shadow.scope)
        for call, (trip, _) in self._calls.items():
            if trip == shadow.id:
                self._calls.pop(call)
        self._agenda.clear(("shadow", shadow.id))
        self._outbox.forget_trip(shadow.id)
        self._outbox.after(ClearTrip(shadow.id), n)
        text = f"{shadow.scope.in_words()}: reset by {body.by}: {body.reason}"
        self._tell("shadow_reset", shadow.id, text, wall, n)

    # --- the look

    def wake(self, trip: str, now: float, wall: float) -> None:
        """Go on with a look: it gets in line for its lists, or says what was found."""
        shadow = self._held.get(trip)
        if shadow is None or shadow.would is not None:
            return
        if not shadow.todo and not shadow.waiting:
            if not shadow.failed or shadow.tries >= TRIES:
                self._found(shadow, wall)
                return
            shadow = replace(shadow, todo=shadow.failed, failed=(), tries=shadow.tries + 1)
            self._held[trip] = shadow
            self._agenda.set(("shadow", trip), now + AGAIN_S)
            return
        if shadow.todo and trip not in self._in_line:
            self._in_line[trip] = True
            self._line(shadow.scope.oms).append(trip)
            self.serve(shadow.scope.oms, now, wall)

    def serve(self, oms: str, now: float, wall: float) -> None:
        """Ask for the lists of those in line, in turns, as far as the budget allows: only the first waits for it."""
        line, session = self._line(oms), to_look(self._book, oms)
        turns, again_at = TURNS, now + AGAIN_S
        while (trip := line.first()) is not None:
            shadow = self._held.get(trip)
            if shadow is None or not shadow.todo:
                self._leave(line)
            elif session is None:
                if now < shadow.wait_until:
                    self._agenda.set(("shadows", oms), min(now + AGAIN_S, shadow.wait_until))
                    return
                self._leave(line)
                self._found(replace(shadow, failed=(*shadow.failed, *shadow.todo), todo=()), wall)
            elif (not_before := self._not_before(shadow, shadow.todo[0], now)) is None:
                self._ask(shadow, session, now)
                self._leave(line, again=len(shadow.todo) > 1)
            else:
                turns, again_at = turns - 1, min(again_at, not_before)
                if turns == 0 or len(line) == 1 or not self._book.may_call(oms, now, KEEP_SHARE):
                    self._agenda.set(("shadows", oms), again_at)
                    return
                self._leave(line, again=True)

    def _line(self, oms: str) -> Queue[str]:
        return self._lines.setdefault(oms, Queue(self._undo))

    def _leave(self, line: Queue[str], *, again: bool = False) -> None:
        """The first in line has had its turn; `again`: it gets in line behind the others."""
        trip = line.popleft()
        if again:
            line.append(trip)
        else:
            self._in_line.pop(trip)

    def _ask(self, shadow: Shadow, session: Session, now: float) -> None:
        account, oms = shadow.todo[0], shadow.scope.oms
        look = Scope(oms=oms, account=account, user=EVERY, instrument=EVERY)
        call = self._book.new_call(session, "GetOpenOrders", look, now)
        self._outbox.put(ListOpenOrders(call.number, session.number, oms, account))
        self._agenda.set(("call", call.number), now + self._standing.retry.list_timeout_s)
        self._calls[call.number] = (shadow.id, account)
        self._held[shadow.id] = replace(shadow, todo=shadow.todo[1:], waiting=shadow.waiting + 1)

    def _not_before(self, shadow: Shadow, account: int, now: float) -> float | None:
        """When this account may be asked for; None: now."""
        oms = shadow.scope.oms
        late = now >= shadow.wait_until
        if not late and self._book.lists_under_way(oms, account):
            return now + AGAIN_S / 10  # a sweep must not wait for its list since ours is under way too
        if self._book.may_call(oms, now, KEEP_SHARE):
            return None
        if not late:
            return self._book.call_again_at(oms, now, KEEP_SHARE)
        # Guards take all that comes in, for as long as anything is latched: a part of it is for looks, or none ends.
        turn = self._turns.get(oms) or now
        if now < turn:
            return turn
        if not self._book.may_call(oms, now):
            return self._book.call_again_at(oms, now)
        self._turns[oms] = now + LATE_PART / self._book.calls_per_s(oms)
        return None

    def listed(self, event: OpenOrders, now: float) -> None:
        """An account's list came."""
        trip, account = self._calls.get(event.call) or ("", 0)
        if account != event.account:
            return
        self._calls.pop(event.call)
        shadow = self._held[trip]
        found = find(shadow.scope, event.orders, event.unreadable)
        orders = found.sure + found.maybe
        ids = tuple(sorted(o.order_id for o in orders if o.order_id is not None))
        self._held[trip] = replace(
            shadow,
            waiting=shadow.waiting - 1,
            held=(*shadow.held, (account, ids)),
            looked=(*shadow.looked, account),
            unnamed=shadow.unnamed + len(orders) - len(ids),
            unreadable=shadow.unreadable + found.unreadable,
        )
        self._agenda.set(("shadow", trip), now)

    def failed(self, call: int, now: float) -> None:
        """A list was lost, refused or took too long."""
        trip, account = self._calls.pop(call) or ("", 0)
        shadow = self._held.get(trip)
        if shadow is not None:
            self._held[trip] = replace(shadow, waiting=shadow.waiting - 1, failed=(*shadow.failed, account))
            self._agenda.set(("shadow", trip), now)

    def _found(self, shadow: Shadow, wall: float) -> None:
        """The look is over: all of it to the journal, what fits to people."""
        held = tuple(sorted(shadow.held))
        by_account = tuple((account, len(ids)) for account, ids in held if ids)
        swept_by = tuple(t.id for t in self._trips.values() if t.scope.meets(shadow.scope))
        unseen = tuple(sorted(shadow.failed))
        would = WouldCancel(
            orders=sum(count for _, count in by_account) + shadow.unnamed,
            accounts=len(by_account),
            by_account=by_account[:IDS_TOLD],
            order_ids=tuple(sorted(id_ for _, ids in held for id_ in ids)[:IDS_TOLD]),
            unreadable=shadow.unreadable,
            unseen=len(unseen),
            accounts_unseen=unseen[:IDS_TOLD],
            complete=shadow.complete,
            swept_by=swept_by[:IDS_TOLD],
        )
        body = ShadowFound(
            shadow.id, held, shadow.unnamed, shadow.unreadable, unseen, complete=shadow.complete, swept_by=swept_by
        )
        n = self._outbox.record(body, wall)
        self._held[shadow.id] = replace(shadow, would=would, held=(), failed=unseen, waiting=0)
        self._tell("shadow_found", shadow.id, f"{shadow.scope.in_words()}: {in_words(would)}", wall, n)

    def _tell(self, kind: str, trip: str, text: str, wall: float, n: int) -> None:
        self._outbox.after(AnnounceEvent(kind, f"SHADOW {text}", wall, trip, shadow=True), n)
        self._status["announce"] = "yes"


def notes_of(settings: Settings, latched: int) -> tuple[str, ...]:
    """What people must hear loudly of a daemon in shadow, with so many live trips latched, and of rules that are."""
    if settings.mode == "live":
        names = ", ".join(rule.name for rule in settings.rules if rule.mode == "shadow")
        return (f"rules in SHADOW, which cancel nothing: {names}",) if names else ()
    note = "this daemon is in SHADOW: whatever a rule or a person trips, nothing is cancelled"
    if not latched:
        return (note,)
    what = (
        "trip that was latched live before stays a promise: it is"
        if latched == 1
        else ("trips that were latched live before stay promises: they are")
    )
    return (note, f"{latched} {what} swept on until reset")


def in_words(would: WouldCancel) -> str:
    """Such as "would have cancelled 12 orders (account 14: 10, account 15: 2): 4711, 4712 and 10 more"."""
    least = "at least " if would.accounts_unseen or would.unreadable or not would.complete else ""
    text = f"would have cancelled {least}{would.orders} order{'' if would.orders == 1 else 's'}"
    if would.by_account:
        places = [f"account {account}: {count}" for account, count in would.by_account[:ACCOUNTS_TOLD]]
        more = would.accounts - len(places)
        text += f" ({', '.join(places)}{f' and {more} more accounts' if more else ''})"
    if would.order_ids:
        more = would.orders - len(would.order_ids)
        text += f": {', '.join(map(str, would.order_ids))}{f' and {more} more' if more else ''}"
    if would.accounts_unseen:
        shown = ", ".join(map(str, would.accounts_unseen[:ACCOUNTS_TOLD]))
        more = would.unseen - ACCOUNTS_TOLD
        text += f"; not looked at: account {shown}{f' and {more} more' if more > 0 else ''}"
    if would.unreadable:
        text += f"; rows that could not be read: {would.unreadable}"
    if not would.complete:
        text += "; there may be more accounts"
    if would.swept_by:
        text += f"; live trips swept there: {', '.join(would.swept_by[:ACCOUNTS_TOLD])}"
    return text


def view_of(shadow: Shadow, covers: str) -> TripView:
    """What the outside sees of it: no outcome and no calls, ever."""
    return TripView(
        trip=shadow.id,
        state=SHADOW,
        scope=shadow.scope,
        causes=shadow.causes,
        by=shadow.by,
        tripped_wall=shadow.tripped_wall,
        calls=0,
        orders_left=None if shadow.would is None else shadow.would.orders,
        outcome=None,
        covers=covers,
        verified_wall=None,
        accounts_looked_at=tuple(sorted(shadow.looked)),
        accounts_unseen=shadow.failed if shadow.would is not None else (),
        shadow=True,
        would_cancel=shadow.would,
    )
