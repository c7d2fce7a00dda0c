"""One gateway and our adapter before it, in virtual time: what the core may rely on, and all that may go wrong.

The adapter's side keeps its contract: calls leave in order, `Sent` comes once the frame is written, an answer
comes later or never, each unanswered call is `Lost` before its session is down, nothing is carried over, and
no session number comes twice. The gateway's side lies, is late, refuses and is lost as the faults say.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from killswitch.domain.messages import (
    AccountsFound,
    Answer,
    Answered,
    AnswerKind,
    CancelAllOrders,
    CancelOrder,
    CancelRejected,
    InstrumentRow,
    Instruments,
    ListInstruments,
    ListOpenOrders,
    ListPositions,
    ListUserAccounts,
    Lost,
    OpenOrders,
    Order,
    OrderEnded,
    OrderWorking,
    Positions,
    PriceSeen,
    Sent,
    SessionDown,
    SessionUp,
    SignInRefused,
    SubscribePrice,
)
from killswitch.domain.scope import EVERY
from tests.sim.exchange import hits

if TYPE_CHECKING:
    from killswitch.domain.messages import Event
    from tests.sim.exchange import Exchange, Resting
    from tests.sim.world import World

Listing = ListOpenOrders | ListUserAccounts | ListPositions | ListInstruments | SubscribePrice
Call = CancelAllOrders | CancelOrder | Listing

RECEIVED = Answer(AnswerKind.RECEIVED, "ok")
UNCLEAR = (
    Answer(AnswerKind.UNCLEAR, "101", 101, "Operation Failed"),
    Answer(AnswerKind.UNCLEAR, "102", 102, "Server Error"),
    Answer(AnswerKind.UNCLEAR, "107", 107, "Operation In Process"),
    Answer(AnswerKind.UNCLEAR, "other", 999, "?"),
    Answer(AnswerKind.ABSENT, "104", 104, "Resource Not Found"),
)
REFUSED = (
    Answer(AnswerKind.REFUSED, "20", 20, "Not Authorized"),
    Answer(AnswerKind.REFUSED, "100", 100, "Invalid Request"),
    Answer(AnswerKind.REFUSED, "106", 106, "Not Supported"),
)
AGAIN = Answer(AnswerKind.RECEIVED, "909", 909, "Already Subscribed.")
ABSENT = Answer(AnswerKind.ABSENT, "104", 104, "Resource Not Found")


def shown(order: Resting) -> Order:
    """A row of a list, or an event, of this order."""
    number = order.order_id if order.numbered else None
    user = order.user if order.named else None
    return Order(order.account, number, order.instrument, user, order.client_order_id)


@dataclass(slots=True, eq=False)
class Connection:
    """One signed-in connection: our number for it, what waits to be written, what waits for an answer."""

    session: int
    unsent: deque[Call] = field(default_factory=deque)
    pending: dict[int, Call] = field(default_factory=dict)
    writing: bool = False
    alive: bool = True
    silent: bool = False  # nothing comes back any more
    prices: set[int] = field(default_factory=set)  # the instruments that were subscribed to
    last_arrival: float = 0.0


class Link:
    """A gateway of one OMS. `connection` None: not signed in."""

    def __init__(self, world: World, exchange: Exchange, gateway: str) -> None:
        self.world, self.exchange, self.gateway = world, exchange, gateway
        self.connection: Connection | None = None
        self.attempt = 0

    # --- our adapter's side

    def connect_in(self, delay: float) -> None:
        self.attempt += 1
        attempt = self.attempt
        self.world.after(delay, lambda: self._connect(attempt))

    def _connect(self, attempt: int) -> None:
        world = self.world
        if attempt != self.attempt or self.connection is not None or not world.running:
            return
        oms = self.exchange.oms
        if world.faults.hit("sign-in refused"):
            world.post(SignInRefused(wall=world.wall, oms=oms, gateway=self.gateway, why="Invalid credentials"))
            self.connect_in(world.rng.uniform(0.1, 0.6))
            return
        world.sessions += 1
        self.connection = Connection(world.sessions)
        world.post(SessionUp(wall=world.wall, oms=oms, gateway=self.gateway, session=world.sessions))

    def submit(self, call: Call) -> None:
        """An action of the core for this session, or for one that this link no longer has."""
        held = self.connection
        if held is None or held.session != call.session:
            lost = Lost(wall=self.world.wall, call=call.call, session=call.session, why="the session is gone")
            self.world.post(lost)
            return
        held.pending[call.call] = call
        held.unsent.append(call)
        self._write_soon(held)

    def withdraw(self, calls: tuple[int, ...]) -> None:
        held = self.connection
        if held is None:
            return
        for call in [c for c in held.unsent if c.call in calls]:
            held.unsent.remove(call)
            del held.pending[call.call]
            lost = Lost(wall=self.world.wall, call=call.call, session=held.session, why="withdrawn")
            self.world.post(lost)

    def _write_soon(self, held: Connection) -> None:
        if held.writing or not held.unsent:
            return
        held.writing = True
        late = self.world.faults.hit("write late")
        delay = self.world.rng.uniform(0.02, 0.4) if late else self.world.rng.uniform(0.0, 0.001)
        self.world.after(delay, lambda: self._write(held))

    def _write(self, held: Connection) -> None:
        held.writing = False
        if not held.alive or self.connection is not held or not held.unsent:
            return
        world = self.world
        call = held.unsent.popleft()
        world.judge.written(call, self.exchange)
        world.post(Sent(wall=world.wall, call=call.call, session=held.session))
        held.last_arrival = max(held.last_arrival, world.now + world.rng.uniform(0.0005, 0.004))
        if not held.silent:
            world.at(held.last_arrival, lambda: self._arrive(held, call))
        self._write_soon(held)

    def go_down(self, why: str, back_in: float) -> None:
        """The connection ends: every unanswered call is lost, then the session is down."""
        held = self.connection
        if held is None:
            return
        self._end(held)
        wall = self.world.wall
        for number in sorted(held.pending):
            self.world.post(Lost(wall=wall, call=number, session=held.session, why=why))
        down = SessionDown(wall=wall, oms=self.exchange.oms, gateway=self.gateway, session=held.session, why=why)
        self.world.post(down)
        self.connect_in(back_in)

    def vanish(self) -> None:
        """Our process died: nobody is there to be told."""
        self.attempt += 1
        if self.connection is not None:
            self._end(self.connection)

    def _end(self, held: Connection) -> None:
        held.alive = False
        self.connection = None

    def _tell(self, held: Connection, call: Call, event: Event) -> None:
        """An answer reaches us, unless the connection or the call is over."""
        if not held.alive or held.silent or call.call not in held.pending:
            return
        del held.pending[call.call]
        self.world.post(event)
        if self.world.faults.hit("heard twice"):
            again = self.world.rng.uniform(0.0, 0.3)
            self.world.after(again, lambda: self.world.post(event) if held.alive else None)

    # --- the gateway's side

    def _arrive(self, held: Connection, call: Call) -> None:
        if not held.alive and self.world.rng.random() < 0.5:
            return  # the frame died with the connection; else it is still carried out
        match call:
            case CancelAllOrders() | CancelOrder():
                self._cancel(held, call)
            case ListOpenOrders():
                self._list(held, call)
            case ListUserAccounts():
                self._list_accounts(held, call)
            case ListPositions():
                event = Positions(
                    wall=self.world.wall,
                    call=call.call,
                    session=call.session,
                    account=call.account,
                    rows=self.world.position_rows(call.account),
                )
                self._answer(held, call, event)
            case ListInstruments():
                rows = tuple(InstrumentRow(i, f"C{i}USD", f"C{i}", "USD") for i in self.exchange.instruments)
                listed = Instruments(wall=self.world.wall, call=call.call, session=call.session, rows=rows)
                self._market(held, call, listed)
            case SubscribePrice():
                again = call.instrument in held.prices
                held.prices.add(call.instrument)
                known = call.instrument in self.exchange.instruments
                refusal = self._generic(call, AGAIN if again else ABSENT)
                price = self.world.price(held.session, call.oms, call.instrument, call=call.call)
                self._market(held, call, refusal if again or not known else price)

    def _market(self, held: Connection, call: Call, event: Instruments | PriceSeen | Answered) -> None:
        faults, rng = self.world.faults, self.world.rng
        if faults.hit("list lost"):
            return
        told = self._generic(call, rng.choice((*UNCLEAR, *REFUSED))) if faults.hit("list refused") else event
        self._answer(held, call, told, rng.uniform(0.05, 2.0) if faults.hit("list late") else None)

    def _answer(self, held: Connection, call: Call, event: Event, delay: float | None = None) -> None:
        wait = self.world.rng.uniform(0.0005, 0.01) if delay is None else delay
        self.world.after(wait, lambda: self._tell(held, call, event))

    def _generic(self, call: Call, answer: Answer) -> Answered:
        return Answered(wall=self.world.wall, call=call.call, session=call.session, answer=answer)

    def _cancel(self, held: Connection, call: CancelAllOrders | CancelOrder) -> None:
        faults, rng = self.world.faults, self.world.rng
        denied = self.world.denied(call)
        if denied is not None:
            self._answer(held, call, self._generic(call, denied))
            return
        if faults.hit("refusal"):
            self._answer(held, call, self._generic(call, rng.choice(REFUSED)))
            return
        answer, share = RECEIVED, 1.0
        if faults.hit("error code"):
            answer, share = rng.choice(UNCLEAR), rng.choice((0.0, 0.0, 1.0))
        elif faults.hit("lie"):
            share = 0.0
        elif faults.hit("half a lie"):
            share = 0.5
        absent = not self._any(call)
        if absent and self.world.says_absent:
            answer = ABSENT
        account = call.account if isinstance(call, CancelOrder) else parts(call)[0]
        if share == 0.0 and account is not None and faults.hit("cancel rejected later"):
            event = CancelRejected(
                wall=self.world.wall,
                oms=self.exchange.oms,
                session=call.session,
                account=account,
                order_id=None,
                reason="Market_Closed",
            )
            self.world.after(
                rng.uniform(0.001, 0.2), lambda: self.world.post(event) if held.alive and not held.silent else None
            )
        if share:
            self.world.after(rng.uniform(0.0, 0.02), lambda: self._carry_out(call, share))
        if faults.hit("answer lost"):
            return
        delay = rng.uniform(0.1, 2.5) if faults.hit("answer late") else None
        self._answer(held, call, self._generic(call, answer), delay)

    def _any(self, call: CancelAllOrders | CancelOrder) -> bool:
        if isinstance(call, CancelOrder):
            order = self.exchange.find(call.account, call.order_id, call.client_order_id)
            return order is not None and order.open
        return True

    def _carry_out(self, call: CancelAllOrders | CancelOrder, share: float) -> None:
        rng = self.world.rng
        if isinstance(call, CancelOrder):
            order = self.exchange.find(call.account, call.order_id, call.client_order_id)
            if order is not None:
                self.exchange.end(order, "Canceled")
            return
        account, user, instrument = parts(call)
        if share == 1.0:
            self.exchange.cancel_all(account, user, instrument)
            return
        for order in self.exchange.working():
            if rng.random() < share and not order.tough and hits(order, account, user, instrument):
                self.exchange.end(order, "Canceled")

    def _list(self, held: Connection, call: ListOpenOrders) -> None:
        faults, rng = self.world.faults, self.world.rng
        if faults.hit("list lost"):
            return
        if faults.hit("list refused"):
            self._answer(held, call, self._generic(call, rng.choice((*UNCLEAR, *REFUSED))))
            return
        wait = rng.uniform(0.05, 2.0) if faults.hit("list late") else rng.uniform(0.0, 0.005)
        self.world.after(wait, lambda: self._read_table(held, call))

    def _read_table(self, held: Connection, call: ListOpenOrders) -> None:
        """The list is true at this instant, and travels from here."""
        faults, rng = self.world.faults, self.world.rng
        truth = self.exchange.listed(call.account)
        unreadable = 1 if truth and faults.hit("unreadable row") else 0
        event = OpenOrders(
            wall=self.world.wall,
            call=call.call,
            session=call.session,
            account=call.account,
            orders=tuple(shown(order) for order in truth[unreadable:]),
            unreadable=unreadable,
        )
        self.world.judge.read(call, truth)
        if not truth and faults.hit("order at the confirm"):
            self.world.after(rng.uniform(0.0, 0.004), lambda: self.world.place(self.exchange, call.account))
        self._answer(held, call, event, rng.uniform(0.05, 2.0) if faults.hit("list slow") else None)

    def _list_accounts(self, held: Connection, call: ListUserAccounts) -> None:
        faults, rng = self.world.faults, self.world.rng
        if faults.hit("list lost"):
            return
        event: Event = AccountsFound(
            wall=self.world.wall,
            call=call.call,
            session=call.session,
            accounts=self.exchange.access.get(call.user, ()),
        )
        if faults.hit("list refused"):
            event = self._generic(call, rng.choice((*UNCLEAR, *REFUSED)))
        self._answer(held, call, event, rng.uniform(0.05, 2.0) if faults.hit("list late") else None)

    # --- events of the subscription

    def order_event(self, order: Resting, state: str | None) -> None:
        """`state` None: working. May be lost, late and twice; never on a later session."""
        held, world = self.connection, self.world
        if held is None or held.silent or order.account not in world.subscribed(order.oms):
            return
        if world.faults.hit("event lost"):
            return
        late = world.faults.hit("event late")
        delay = world.rng.uniform(0.05, 1.0) if late else world.rng.uniform(0.0005, 0.01)
        for _ in range(2 if world.faults.hit("event twice") else 1):
            world.after(delay, lambda: self._tell_order(held, order, state))

    def _tell_order(self, held: Connection, order: Resting, state: str | None) -> None:
        if not held.alive or held.silent:
            return
        world = self.world
        event: Event
        if state is None:
            event = OrderWorking(wall=world.wall, oms=order.oms, session=held.session, order=shown(order))
        else:
            event = OrderEnded(wall=world.wall, oms=order.oms, session=held.session, order=shown(order), state=state)
        world.post(event)


def parts(call: CancelAllOrders) -> tuple[int | None, int | None, int | None]:
    """A cancel as the exchange takes it: None where the key is left out."""
    scope = call.scope
    account, user, instrument = (
        None if part is EVERY else int(part) for part in (scope.account, scope.user, scope.instrument)
    )
    return account, user, instrument
