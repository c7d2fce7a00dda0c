"""One gateway of an OMS, in virtual time: it answers, lies, is late, refuses and loses, as the faults say.

What it is told crosses the wire in the very bytes that leave our adapter; a server of its age reads of them what
such a server reads.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from killswitch.domain.messages import (
    AccountsFound,
    AccountsListed,
    Answer,
    Answered,
    AnswerKind,
    CancelAllOrders,
    CancelOrder,
    CancelRejected,
    InstrumentRow,
    Instruments,
    ListAccounts,
    ListInstruments,
    ListOpenOrders,
    ListPositions,
    ListUserAccounts,
    OpenOrders,
    Order,
    OrderEnded,
    OrderWorking,
    Positions,
    PriceSeen,
    SubscribeAccount,
    SubscribePrice,
)
from tests.sim.exchange import reads

if TYPE_CHECKING:
    from killswitch.domain.dialects import Dialect
    from killswitch.domain.messages import Event
    from tests.sim.exchange import Exchange, Resting
    from tests.sim.world import World

Listing = (
    ListAccounts
    | SubscribeAccount
    | ListOpenOrders
    | ListUserAccounts
    | ListPositions
    | ListInstruments
    | SubscribePrice
)
Call = CancelAllOrders | CancelOrder | Listing

RECEIVED = Answer(AnswerKind.RECEIVED, "ok")
UNCLEAR = (
    Answer(AnswerKind.UNCLEAR, "101", 101, "Operation Failed"),
    Answer(AnswerKind.UNCLEAR, "102", 102, "Server Error"),
    Answer(AnswerKind.UNCLEAR, "107", 107, "Operation In Process"),
    Answer(AnswerKind.UNCLEAR, "other", 999, "?"),
    Answer(AnswerKind.UNCLEAR, "other", text="Endpoint Not Found"),
    Answer(AnswerKind.ABSENT, "104", 104, "Resource Not Found"),
)
REFUSED = (
    Answer(AnswerKind.REFUSED, "20", 20, "Not Authorized"),
    Answer(AnswerKind.REFUSED, "100", 100, "Invalid Request"),
    Answer(AnswerKind.REFUSED, "106", 106, "Not Supported"),
)
AGAIN = Answer(AnswerKind.RECEIVED, "909", 909, "Already Subscribed.")
ABSENT = Answer(AnswerKind.ABSENT, "104", 104, "Resource Not Found")
TOO_MANY = Answer(AnswerKind.UNCLEAR, "other", text="TOO MANY REQUESTS", limited=True)
SECOND_FACTOR = Answer(AnswerKind.REFUSED, "other", text="This endpoint requires 2FACode along with the payload")
CUT_OFF = Answer(AnswerKind.UNCLEAR, "other", text="no JSON")


def code_of(answer: Answer) -> str:
    """The name under which an error is counted."""
    return f"code {answer.code}" if answer.code not in (0, 999) else "code unknown" if answer.code else "bare text"


def shown(order: Resting) -> Order:
    """A row of a list, or an event, of this order."""
    number = order.order_id if order.numbered else None
    user = order.user if order.named else None
    return Order(order.account, number, order.instrument, user, order.client_order_id)


@dataclass(slots=True, eq=False)
class Connection:
    """One signed-in connection: our number for it, what waits to be written, what waits for an answer."""

    session: int
    dialect: Dialect  # what its calls are said in
    unsent: deque[Call] = field(default_factory=deque)
    pending: dict[int, Call] = field(default_factory=dict)
    writing: bool = False
    alive: bool = True
    silent: bool = False  # nothing comes back any more
    upgraded: bool = False  # its gateway started anew as another version: what was under way is gone
    expired: bool = False  # its token is: every private call is refused
    prices: set[int] = field(default_factory=set)  # the instruments that were subscribed to
    heard: set[int] = field(default_factory=set)  # the accounts whose events were subscribed to, beside those named
    last_arrival: float = 0.0


class Gateway:
    """The far side of one link. `share`: how much worse, or better, than the seed's its own weather is.

    Until `deaf_until` it takes calls and does nothing; until `limited_until` it has had enough of us; until
    `strict_until` it wants a second factor for each cancel.
    """

    def __init__(self, world: World, exchange: Exchange, gateway: str, age: str, share: float) -> None:
        self.world, self.exchange, self.gateway, self.age, self.share = world, exchange, gateway, age, share
        self.connection: Connection | None = None
        self.deaf_until = self.limited_until = self.strict_until = 0.0

    def hit(self, name: str) -> bool:
        return self.world.faults.hit(name, self.share)

    def _answer(self, held: Connection, call: Call, event: Event, delay: float | None = None) -> None:
        wait = self.world.rng.uniform(0.0005, 0.01) if delay is None else delay
        self.world.after(wait, lambda: self._tell(held, call, event))

    def _tell(self, held: Connection, call: Call, event: Event) -> None:
        """An answer reaches us, unless the connection or the call is over."""
        if not held.alive or held.silent or call.call not in held.pending:
            return
        del held.pending[call.call]
        self.world.post(event)
        if self.hit("heard twice"):
            again = self.world.rng.uniform(0.0, 0.3)
            self.world.after(again, lambda: self.world.post(event) if held.alive else None)

    def _generic(self, call: Call, answer: Answer) -> Answered:
        return Answered(wall=self.world.wall, call=call.call, session=call.session, answer=answer)

    def _error(self, *among: Answer) -> Answer:
        answer = self.world.rng.choice(among)
        self.world.faults.note(code_of(answer))
        return answer

    # --- calls

    def _arrive(self, held: Connection, call: Call, body: str) -> None:
        if held.upgraded or (not held.alive and self.world.rng.random() < 0.5):
            return  # the frame died with the connection; else it is still carried out
        if self.world.now < self.deaf_until:
            return
        if held.expired:
            self._answer(held, call, self._generic(call, REFUSED[0]))
            return
        if self.world.now < self.limited_until:
            self._answer(held, call, self._generic(call, TOO_MANY))
            return
        match call:
            case CancelAllOrders() | CancelOrder():
                self._cancel(held, call, json.loads(body))
            case ListOpenOrders():
                self._list(held, call)
            case ListUserAccounts() | ListAccounts():
                self._list_accounts(held, call)
            case SubscribeAccount():
                held.heard.add(call.account)
                self._answer(held, call, self._generic(call, RECEIVED))
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
        if self.hit("list lost"):
            return
        told = self._generic(call, self._error(*UNCLEAR, *REFUSED)) if self.hit("list refused") else event
        self._answer(held, call, told, self.world.rng.uniform(0.05, 2.0) if self.hit("list late") else None)

    # --- cancels

    def _cancel(self, held: Connection, call: CancelAllOrders | CancelOrder, body: dict[str, Any]) -> None:
        rng = self.world.rng
        denied = SECOND_FACTOR if self.world.now < self.strict_until else self.world.denied(call)
        if denied is not None:
            self._answer(held, call, self._generic(call, denied))
            return
        if self.hit("refusal"):
            self._answer(held, call, self._generic(call, self._error(*REFUSED)))
            return
        answer, share = RECEIVED, 1.0
        if self.hit("error code"):
            answer, share = self._error(*UNCLEAR), rng.choice((0.0, 0.0, 1.0))
        elif self.hit("lie"):
            share = 0.0
        elif self.hit("half a lie"):
            share = 0.5
        if isinstance(call, CancelOrder) and self.world.says_absent:
            order = self.exchange.named(self.age, body)
            answer = answer if order is not None and order.open else ABSENT
        account = call.account if isinstance(call, CancelOrder) else reads(self.age, body)[0]
        if share == 0.0 and account is not None and self.hit("cancel rejected later"):
            self._reject_later(held, account)
        if share:
            self.world.after(rng.uniform(0.0, 0.02), lambda: self._carry_out(call, body, share))
        if self.hit("answer lost"):
            return
        delay = rng.uniform(0.1, 2.5) if self.hit("answer late") else None
        self._answer(held, call, self._generic(call, answer), delay)

    def _reject_later(self, held: Connection, account: int) -> None:
        world = self.world
        event = CancelRejected(
            wall=world.wall,
            oms=self.exchange.oms,
            session=held.session,
            account=account,
            order_id=None,
            reason="Market_Closed",
        )
        wait = world.rng.uniform(0.001, 0.2)
        world.after(wait, lambda: world.post(event) if held.alive and not held.silent else None)

    def _carry_out(self, call: CancelAllOrders | CancelOrder, body: dict[str, Any], share: float) -> None:
        rng = self.world.rng
        if isinstance(call, CancelOrder):
            order = self.exchange.named(self.age, body)
            taken = [] if order is None or not order.open else [order]
        else:
            taken = self.exchange.hit(reads(self.age, body))
            if share != 1.0:
                taken = [order for order in taken if rng.random() < share]
        for order in taken:
            self.world.judge.cancelled(call, order)
            self.exchange.end(order, "Canceled")

    # --- lists

    def _list(self, held: Connection, call: ListOpenOrders) -> None:
        rng = self.world.rng
        if self.hit("list lost"):
            return
        if self.hit("list refused"):
            self._answer(held, call, self._generic(call, self._error(*UNCLEAR, *REFUSED)))
            return
        wait = rng.uniform(0.05, 2.0) if self.hit("list late") else rng.uniform(0.0, 0.005)
        self.world.after(wait, lambda: self._read_table(held, call))

    def _read_table(self, held: Connection, call: ListOpenOrders) -> None:
        """The list is true at this instant, unless it is stale, and travels from here."""
        rng, behind = self.world.rng, 0.0
        if self.world.lag_s and self.hit("stale list"):
            behind = rng.uniform(0.0, self.world.lag_s)
        truth = self.exchange.listed(call.account, self.world.now - behind)
        unreadable = 1 if truth and self.hit("unreadable row") else 0
        event: Event = OpenOrders(
            wall=self.world.wall,
            call=call.call,
            session=call.session,
            account=call.account,
            orders=tuple(shown(order) for order in truth[unreadable:]),
            unreadable=unreadable,
        )
        if self.hit("list cut off"):
            event = self._generic(call, CUT_OFF)
        self.world.judge.read(call, truth)
        if not truth and self.hit("order at the confirm"):
            self.world.after(rng.uniform(0.0, 0.004), lambda: self.world.place(self.exchange, call.account))
        self._answer(held, call, event, rng.uniform(0.05, 2.0) if self.hit("list slow") else None)

    def _list_accounts(self, held: Connection, call: ListUserAccounts | ListAccounts) -> None:
        rng = self.world.rng
        if self.hit("list lost"):
            return
        event: Event
        if isinstance(call, ListAccounts):
            page = self.exchange.accounts[call.start : call.start + call.limit]
            event = AccountsListed(
                wall=self.world.wall, call=call.call, session=call.session, accounts=page, rows=len(page)
            )
        else:
            found = self.exchange.access.get(call.user, ())
            event = AccountsFound(wall=self.world.wall, call=call.call, session=call.session, accounts=found)
        if self.hit("enumeration refused") or self.world.no_enumeration:
            event = self._generic(call, REFUSED[0])
        elif self.hit("list refused"):
            event = self._generic(call, self._error(*UNCLEAR, *REFUSED))
        self._answer(held, call, event, rng.uniform(0.05, 2.0) if self.hit("list late") else None)

    # --- events of the subscription

    def order_event(self, order: Resting, state: str | None) -> None:
        """`state` None: working. May be lost, late and twice; never on a later session."""
        held, world = self.connection, self.world
        if held is None or held.silent or order.account not in {*world.subscribed(order.oms), *held.heard}:
            return
        if self.hit("event lost"):
            return
        late = self.hit("event late")
        delay = world.rng.uniform(0.05, 1.0) if late else world.rng.uniform(0.0005, 0.01)
        for _ in range(2 if self.hit("event twice") else 1):
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
