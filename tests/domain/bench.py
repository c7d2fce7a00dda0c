"""A bench for the switch: the real core beside a small honest exchange, step by step and without any clock.

Nothing stands in for a part of ours; the exchange answers what it is told to, and when.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from killswitch.domain.messages import (
    AccountsFound,
    Action,
    Answer,
    Answered,
    AnswerKind,
    CancelAllOrders,
    CancelOrder,
    Event,
    Journalled,
    ListAccounts,
    ListOpenOrders,
    ListPositions,
    ListUserAccounts,
    OpenOrders,
    Order,
    OrderWorking,
    Positions,
    Record,
    ResetRequested,
    Restored,
    Sent,
    SessionDown,
    SessionUp,
    SetAside,
    SubscribeAccount,
    Tick,
    TripRequested,
)
from killswitch.domain.scope import EVERY, Every, Holds, Scope
from killswitch.domain.settings import Settings, Site
from killswitch.domain.switch import KillSwitch
from killswitch.wire.record import GENESIS, Row, encode, fold, link, read_row

OK = Answer(AnswerKind.RECEIVED, "ok")
ASKED = (CancelAllOrders, CancelOrder, ListOpenOrders, ListUserAccounts, ListPositions, ListAccounts, SubscribeAccount)
SITE = Site(name="prime", accounts=(14, 15), whole_oms=True, calls_per_minute=6000, gateways=("gw:1",))
SETTINGS = Settings(daemon="ks", boot="1", sites=(SITE,))


def scope(
    account: int | Every = EVERY, user: int | Every = EVERY, instrument: int | Every = EVERY, oms: str = "prime"
) -> Scope:
    return Scope(oms=oms, account=account, user=user, instrument=instrument)


def order(order_id: int, account: int = 14, instrument: int | None = 25, user: int | None = 37) -> Order:
    return Order(account, order_id, instrument, user)


class Bench:
    """`orders`: the exchange's table. `answers`: what to say to the next cancels, else OK."""

    served = ASKED

    def __init__(self, settings: Settings = SETTINGS, restored: Restored | None = None, now: float = 100.0) -> None:
        self.now = now
        self.switch = KillSwitch(settings, restored or Restored(), now)
        self.orders: dict[int, Order] = {}
        self.obeys = True
        self.answers: deque[Answer | None] = deque()
        self.actions: list[Action] = []
        self.waiting: deque[Action] = deque()
        self.records: list[Record] = []
        self.session = 0
        self.journal_works = True
        self.user_accounts: dict[int, tuple[int, ...]] = {}

    # --- facts in

    def tell(self, event: Event) -> tuple[Action, ...]:
        actions = self.switch.handle(event, self.now)
        for action in actions:
            if isinstance(action, Record):
                assert not isinstance(action.body, SetAside), action.body.traceback
                self.records.append(action)
        self.actions += actions
        self.waiting += [a for a in actions if isinstance(a, self.served)]
        if self.journal_works and any(isinstance(a, Record) for a in actions):
            more = self.tell(Journalled(wall=self.wall, n=self.records[-1].n))
            return actions + more
        return actions

    @property
    def wall(self) -> float:
        return 1_700_000_000 + self.now

    def connect(self) -> None:
        self.session += 1
        self.tell(SessionUp(wall=self.wall, oms="prime", gateway="gw:1", session=self.session))

    def disconnect(self) -> None:
        self.waiting = deque(a for a in self.waiting if a.session != self.session)
        self.tell(SessionDown(wall=self.wall, oms="prime", gateway="gw:1", session=self.session, why="cut"))

    def trip(self, covered: Scope, id_: str = "t1", **more: object) -> None:
        values = {"by": "ann", "reason": "test", "issued_at": None, "digest": str(covered), "via": "mqtt", "token": id_}
        self.tell(TripRequested(wall=self.wall, id=id_, scope=covered, **(values | more)))

    def reset(self, trip: str, id_: str = "r1", **more: object) -> None:
        values = {
            "by": "ann",
            "reason": "over",
            "issued_at": self.wall,
            "override": False,
            "digest": id_,
            "via": "mqtt",
            "token": id_,
        }
        self.tell(ResetRequested(wall=self.wall, id=id_, trip=trip, **(values | more)))

    def working(self, held: Order, *, place: bool = True) -> None:
        if place and held.order_id is not None:
            self.orders[held.order_id] = held
        self.tell(OrderWorking(wall=self.wall, oms="prime", session=self.session, order=held))

    def tick(self, to: float | None = None) -> None:
        """Time goes on to the next thing that is due, or to `to`, stopping at everything due in between."""
        while True:
            due = self.switch.due()
            if due is None or (to is not None and due > to):
                break
            self.now = max(self.now, due)
            self.tell(Tick(wall=self.wall))
            if to is None:
                return
        if to is not None:
            self.now = to

    # --- the exchange

    def step(self) -> Action | None:
        """Carry out the oldest request that waits: write it, do it, answer it."""
        if not self.waiting:
            return None
        action = self.waiting.popleft()
        if action.session != self.session:
            return action
        self.tell(Sent(wall=self.wall, call=action.call, session=action.session))
        self.answer(action)
        return action

    def answer(self, action: Action) -> None:
        call, session, wall = action.call, action.session, self.wall
        match action:
            case CancelAllOrders() | CancelOrder():
                said = self.answers.popleft() if self.answers else OK
                if said is None:
                    return
                if self.obeys and said.kind is AnswerKind.RECEIVED:
                    self._cancel(action)
                self.tell(Answered(wall=wall, call=call, session=session, answer=said))
            case ListOpenOrders():
                held = tuple(o for o in self.orders.values() if o.account == action.account)
                self.tell(OpenOrders(wall=wall, call=call, session=session, account=action.account, orders=held))
            case ListUserAccounts():
                found = self.user_accounts.get(action.user, ())
                self.tell(AccountsFound(wall=wall, call=call, session=session, accounts=found))
            case ListPositions():
                self.tell(Positions(wall=wall, call=call, session=session, account=action.account, rows=()))

    def _cancel(self, action: CancelAllOrders | CancelOrder) -> None:
        if isinstance(action, CancelOrder):
            self.orders.pop(action.order_id, None)
            return
        for id_, held in tuple(self.orders.items()):
            if action.scope.holds(held) is Holds.YES:
                del self.orders[id_]

    def settle(self, within_s: float = 60.0) -> None:
        """Answer everything and let time go on, until nothing is under way and every trip is confirmed."""
        end = self.now + within_s
        while self.now < end:
            while self.step():
                pass
            if all(t.state == "confirmed" for t in self.trips()):
                return
            if self.switch.due() is None:
                break
            self.tick()
        raise AssertionError(f"not confirmed: {[(t.trip, t.state, t.outcome) for t in self.trips()]}")

    def settle_but(self, not_these: set[str], within_s: float = 60.0) -> None:
        """Until every trip but these is confirmed."""
        end = self.now + within_s
        while self.now < end:
            while self.step():
                pass
            if all(t.state == "confirmed" for t in self.trips() if t.trip not in not_these):
                return
            self.tick()
        raise AssertionError(f"not confirmed: {[(t.trip, t.state, t.outcome) for t in self.trips()]}")

    # --- looking

    def trips(self):
        return self.switch.view(self.now).trips

    def state(self, trip: str = "t1") -> str:
        return next((t.state for t in self.trips() if t.trip == trip), "armed")

    def view(self, trip: str = "t1"):
        return next(t for t in self.trips() if t.trip == trip)

    def of(self, *kinds: type):
        return [a for a in self.actions if isinstance(a, kinds)]

    def cancels(self) -> list[Scope]:
        return [a.scope for a in self.of(CancelAllOrders)]

    def bodies(self, kind: type):
        return [r.body for r in self.records if isinstance(r.body, kind)]

    def forget_actions(self) -> None:
        self.actions.clear()


def fold_records(records: list[Record]) -> Restored:
    """What a restart would read: the journal's own encoding and fold."""
    rows: list[Row] = []
    before = GENESIS
    for record in records:
        data = encode(record)
        before = link(before, data)
        rows.append(replace(read_row(data), hash=before))
    return fold(rows)


def confirmed(covered: Scope | None = None, settings: Settings = SETTINGS, id_: str = "t1") -> Bench:
    bench = Bench(settings)
    bench.connect()
    bench.trip(covered or scope(account=14), id_)
    bench.settle()
    return bench
