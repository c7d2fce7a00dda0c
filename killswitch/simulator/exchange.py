"""The simulated OMS: users, accounts, instruments, orders, positions. Pure; time is an argument, in seconds.

An accepted cancel is carried out later, see cancels.py. The orders that a CancelAllOrders takes are those
open when it comes in; what enters afterwards stays. Everything that happens ends up in the order table and in
the log.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from killswitch.simulator import events
from killswitch.simulator.answers import Refused
from killswitch.simulator.cancel_rows import row_for
from killswitch.simulator.cancels import CancelQueue
from killswitch.simulator.dialects import DIALECTS
from killswitch.simulator.faults import Faults, Lie, Reject, Stragglers
from killswitch.simulator.log import Ending, Log
from killswitch.simulator.market import Market
from killswitch.simulator.orders import Order, OrderState, OrderType, Side
from killswitch.simulator.positions import ZERO, Instrument, Positions
from killswitch.simulator.quotes import Quotes
from killswitch.simulator.traders import Placement, Traders

if TYPE_CHECKING:
    from collections.abc import Callable

    from killswitch.simulator.cancels import Cancel
    from killswitch.simulator.dialects import Dialect
    from killswitch.simulator.users import User

FIRST_ORDER_ID: Final = 23_092_280_996
"""Live ids exceed 2**31, so ours do too."""
_ENDED_KEPT: Final = 500_000
"""Ended orders beyond these are forgotten, oldest first: GetOrderStatus then says 104."""


class Exchange:
    """One OMS. Methods that a request can reach raise Refused with the vendor's error code."""

    def __init__(
        self,
        *,
        oms_id: int = 1,
        first_order_id: int = FIRST_ORDER_ID,
        cancel_rate: float | None = None,
        cancel_latency_s: float = 0.0,
        wall_at_zero_ms: int = 1_700_000_000_000,
        short_rows: bool = False,
        short_events: bool = False,
        two_factor_calls: tuple[str, ...] = (),
        faults: Faults | None = None,
        dialect: Dialect = DIALECTS["v2"],
        version: str | None = None,
        nameless_every: int = 0,
        spares_quotes: bool | None = None,
    ) -> None:
        """`cancel_rate` in orders a second, None for no limit; `wall_at_zero_ms`: wall clock at time 0.

        `version`: what GetOMSVersion says, "" for a server without that call; None: the dialect's own.
        `nameless_every`: each so many-th order is shown as entered by user 0 with no name; 0: none is.
        `two_factor_calls`: calls that are refused without a code. `spares_quotes`: CancelAllOrders leaves quotes and
        block trades alone; None: as the dialect does, which spares what it doesn't list.
        """
        self.oms_id = oms_id
        self.dialect = dialect
        self.version = dialect.version if version is None else version
        self.nameless_every = nameless_every
        self.two_factor_calls = tuple(name.lower() for name in two_factor_calls)
        self.spares_quotes = dialect.hides_quotes if spares_quotes is None else spares_quotes
        self.cancels = CancelQueue(cancel_rate, cancel_latency_s)
        self.wall_at_zero_ms = wall_at_zero_ms
        self.short_rows = short_rows
        self.short_events = short_events or dialect.short_events
        self.faults = faults or Faults()
        self.users: dict[int, User] = {}
        self.accounts: dict[int, str] = {}
        self.instruments: dict[int, Instrument] = {}
        self.positions = Positions(oms_id)
        self.market = Market(oms_id)
        self.orders: dict[int, Order] = {}
        self.quotes = Quotes(self)
        self.log = Log()
        self.wake: Callable[[], None] = lambda: None
        """Called when an event waits or `due()` may have changed."""
        self._open: dict[int, dict[int, Order]] = {}
        self._next_order_id = first_order_id
        self._next_trade_id = 1
        self._traders = Traders(self.faults)
        self._events: list[events.Event] = []
        self._now = 0.0
        self.faults.changed = self._wake

    # The world.

    def add_user(self, user: User) -> User:
        self.users[user.user_id] = user
        return user

    def add_account(self, account: int, name: str = "") -> None:
        self.accounts[account] = name or f"account {account}"
        self._open[account] = {}

    def add_instrument(self, instrument: Instrument) -> None:
        self.instruments[instrument.instrument_id] = instrument
        self.market.open(instrument)

    # The oracle.

    def open_orders(
        self, *, account: int | None = None, user: int | None = None, instrument: int | None = None
    ) -> list[Order]:
        """Working orders, oldest first within an account; None is every."""
        return [
            order
            for order in self._candidates(account)
            if (user is None or order.entered_by == user) and (instrument is None or order.instrument == instrument)
        ]

    def open_ids(
        self, *, account: int | None = None, user: int | None = None, instrument: int | None = None
    ) -> set[int]:
        """The ids of `open_orders`."""
        return {o.order_id for o in self.open_orders(account=account, user=user, instrument=instrument)}

    # Trading.

    def place(
        self,
        *,
        account: int,
        user: int,
        instrument: int,
        now: float,
        side: Side = Side.Buy,
        quantity: Decimal | int = 1,
        price: Decimal | int = 100,
        stop_price: Decimal | int = 0,
        order_type: OrderType = OrderType.Limit,
        client_order_id: int = 0,
        quote: bool = False,
    ) -> Order:
        """A new order, whoever asks; a market order is filled at once at the instrument's last price.

        `account`, `user` and `instrument` exist. Gives the order itself, which changes as it fills or ends.
        """
        amount, at_ms = Decimal(quantity), self._wall_ms(now)
        order = Order(
            oms_id=self.oms_id,
            order_id=self._next_order_id,
            account=account,
            entered_by=user,
            user_name=self.users[user].name,
            instrument=instrument,
            side=side,
            order_type=order_type,
            quantity=amount,
            remaining=amount,
            executed=ZERO,
            price=Decimal(price),
            stop_price=Decimal(stop_price),
            client_order_id=client_order_id,
            received_ms=at_ms,
            updated_ms=at_ms,
            gross=ZERO,
            quote=quote,
            nameless=self.nameless_every > 0 and len(self.orders) % self.nameless_every == 0,
            account_name=self.accounts[account] if self.dialect.names_accounts else "",
            no_price=self.dialect.no_price,
        )
        self._next_order_id += 1
        self.orders[order.order_id] = order
        self._open[account][order.order_id] = order
        if order_type is OrderType.Market:
            # The first event of an order that fills at once is the trade; no NewInputAccepted precedes it.
            self.fill(order.order_id, now=now)
        else:
            self._tell_order(order)
        return order

    def fill(
        self,
        order_id: int,
        *,
        now: float,
        quantity: Decimal | int | None = None,
        price: Decimal | int | None = None,
    ) -> None:
        """Fill an open order, all that remains by default, at its own price by default; moves positions."""
        order = self.orders[order_id]
        assert order.open, "only an open order can be filled"
        instrument = self.instruments[order.instrument]
        # Without a last price a market order falls back to the price that the instrument began with.
        last = self.market.quotes[order.instrument].last or instrument.price
        own = last if order.order_type is OrderType.Market else order.price
        at_price = own if price is None else Decimal(price)
        amount = order.remaining if quantity is None else min(Decimal(quantity), order.remaining)
        order.remaining -= amount
        order.executed += amount
        order.gross += amount * at_price
        order.change_reason = "Trade"
        if order.remaining == 0:
            self._end(order, now, OrderState.FullyExecuted, "fill", None)
        else:
            self._changed(order, now)
        self._tell(events.trade(order, self._next_trade_id, amount, at_price))
        self._next_trade_id += 1
        for position in self.positions.fill(order.account, instrument, order.side, amount, at_price):
            self._tell(events.position(position))
        self.market.traded(order.instrument, amount, at_price, order.updated_ms)
        self._tell(events.level1(order.instrument, self.market.level1(order.instrument)))

    def reject_order(self, account: int, *, client_order_id: int = 0, reason: str = "Not_Enough_Funds") -> None:
        """An order that was sent and refused before it worked: told to the account, and kept nowhere."""
        self._tell(events.new_order_reject(self.oms_id, account, client_order_id, reason))

    def set_price(
        self,
        instrument: int,
        *,
        bid: Decimal | float | str | None = None,
        ask: Decimal | float | str | None = None,
        last: Decimal | float | str | None = None,
    ) -> None:
        """Move the market; None leaves a price as it is and 0 takes it away. Told to whoever subscribed to it."""
        new = {"bid": bid, "ask": ask, "last": last}
        exact = {name: None if price is None else Decimal(str(price)) for name, price in new.items()}
        if self.market.set(instrument, **exact):
            self._tell(events.level1(instrument, self.market.level1(instrument)))

    def move_position(
        self,
        account: int,
        product: int,
        *,
        to: Decimal | int | None = None,
        by: Decimal | int = 0,
        hold: Decimal | int | None = None,
    ) -> None:
        """Set an amount, or move it, and tell those who subscribed to the account."""
        position = self.positions.at(account, product, self._symbol(product))
        position.amount = (position.amount if to is None else Decimal(to)) + Decimal(by)
        position.hold = position.hold if hold is None else Decimal(hold)
        self._tell(events.position(position))

    # Cancels.

    def cancel_all(
        self,
        caller: User,
        *,
        now: float,
        account: int | None = None,
        user: int | None = None,
        instrument: int | None = None,
    ) -> None:
        """Accept a CancelAllOrders by the vendor's table; None is a part that wasn't given.

        Refused 20 without the permission, 104 for an account, user or instrument that doesn't exist.
        """
        self._now = max(self._now, now)
        if not caller.may_cancel_all(user=user, account=account, whole_is_special=self.dialect.whole_is_special):
            raise Refused(20)
        for given, known in ((account, self.accounts), (user, self.users), (instrument, self.instruments)):
            if given is not None and given not in known:
                raise Refused(104)
        if self.faults.take(Lie, "CancelAllOrders"):
            return
        if self.faults.take(Reject):
            self._tell(events.cancel_all_reject(self.oms_id, account, instrument, caller.user_id))
            return
        row = row_for(user=user, account=account, instrument=instrument)
        taken = [
            o
            for o in self._candidates(account)
            if row.matches(o, user, account, instrument) and not (o.beside and self.spares_quotes)
        ]
        fault = self.faults.take(Stragglers)
        if fault is not None:
            taken = taken[: max(0, len(taken) - fault.orders)]
        for order in taken:
            self.cancels.put(order, now, "CancelAllOrders", self.log.current)
        self._traders.cancelled_all(Placement(account=account, user=user, instrument=instrument))
        self.wake()

    def cancel_order(
        self,
        caller: User,
        *,
        now: float,
        order_id: int | None = None,
        account: int | None = None,
        client_order_id: int | None = None,
    ) -> None:
        """Accept a CancelOrder: by order id, or by account and client order id.

        Refused 100 for any other combination ("The OMS is unable to identify the order using only the OMS ID
        and the Client Order ID"), 20 for another user's order without the operator's permission, 104 for an
        order that was never there. One that has ended meanwhile is accepted and then rejected by event.
        """
        self._now = max(self._now, now)
        order = self._identify(order_id, account, client_order_id)
        if order is None:
            # Who may not look into the account doesn't learn whether the order exists.
            raise Refused(104 if account is None or caller.may_trade(account) else 20)
        enough = self.dialect.association_is_enough
        if not caller.may_cancel_order(order.account, order.entered_by, association_is_enough=enough):
            raise Refused(20)
        if self.faults.take(Lie, "CancelOrder"):
            return
        self.cancels.put(order, now, "CancelOrder", self.log.current)
        self.wake()

    # Time.

    def due(self) -> float | None:
        """When `advance` next has something to do; None when nothing waits."""
        if self._traders.unstarted():
            return self._now
        times = (self.cancels.due(), self._traders.due())
        return min((at for at in times if at is not None), default=None)

    def advance(self, now: float, *, at_most: int = 1_000_000) -> None:
        """Carry out what is due by `now`, in order of time, at most so many steps of it."""
        self._now = max(self._now, now)
        self._traders.begin(self._now)
        self._settle(now)
        for _ in range(at_most):
            at = self.due()
            if at is None or at > now:
                return
            if at == self.cancels.due():
                self._carry_out(self.cancels.pop())
            else:
                self._place_for(self._traders.next(), at)
            self._settle(at)

    def take_events(self) -> list[events.Event]:
        """What subscribers are to be told, in order, each once."""
        taken, self._events = self._events, []
        return taken

    # Inside.

    def _wall_ms(self, now: float) -> int:
        return self.wall_at_zero_ms + round(now * 1000)

    def _candidates(self, account: int | None) -> list[Order]:
        if account is not None:
            return list(self._open.get(account, {}).values())
        return [order for book in self._open.values() for order in book.values()]

    def _identify(self, order_id: int | None, account: int | None, client_order_id: int | None) -> Order | None:
        if order_id is not None:
            order = self.orders.get(order_id)
            return None if order is None or account not in (None, order.account) else order
        if account is None or client_order_id is None:
            raise Refused(100)
        # A client order id may not be unique: the oldest open order that carries it is meant.
        book = self._open.get(account, {}).values()
        return next((o for o in book if o.client_order_id == client_order_id), None)

    def _carry_out(self, cancel: Cancel) -> None:
        order = cancel.order
        if not order.open:
            if cancel.why == "CancelOrder":
                self._tell(events.cancel_reject(order))
            return
        order.remaining = ZERO
        order.change_reason = order.cancel_reason = "UserModified"
        self._end(order, cancel.at, OrderState.Canceled, cancel.why, cancel.request)

    def _end(self, order: Order, at: float, state: OrderState, why: str, request: int | None) -> None:
        order.state = state
        del self._open[order.account][order.order_id]
        endings = self.log.endings
        endings.append(Ending(order_id=order.order_id, at=at, state=state, why=why, request=request))
        if len(endings) > _ENDED_KEPT:
            self.orders.pop(endings.popleft().order_id, None)
        self._changed(order, at)

    def _changed(self, order: Order, now: float) -> None:
        order.updated_ms = self._wall_ms(now)
        order.row = ""
        self._tell_order(order)

    def _settle(self, at: float) -> None:
        if not self.cancels:
            self._traders.all_quiet(at)

    def _wake(self) -> None:
        self.wake()

    def _place_for(self, wanted: Placement, at: float) -> None:
        """Place a trader's order; one that names what doesn't exist is dropped."""
        account = wanted.account or next(iter(self.accounts), 0)
        instrument = wanted.instrument or next(iter(self.instruments), 0)
        may = [u for u in self.users.values() if u.may_trade(account) and wanted.user in (None, u.user_id)]
        if account in self.accounts and instrument in self.instruments and may:
            user = min(may, key=lambda u: u.operator)  # a trader rather than the operator
            kind = OrderType.Market if wanted.fill else OrderType.Limit
            self.place(account=account, user=user.user_id, instrument=instrument, order_type=kind, now=at)

    def _symbol(self, product: int) -> str:
        for i in self.instruments.values():
            if i.base == product:
                return i.base_symbol
            if i.quote == product:
                return i.quote_symbol
        return f"P{product}"

    def _tell_order(self, order: Order) -> None:
        self._tell(events.order_state(order, short=self.short_events))

    def _tell(self, event: events.Event) -> None:
        self._events.append(event)
        self.wake()
