"""Quotes and block trades of the simulated OMS: what rests on an account beside its orders. Pure.

A quote is two orders, a bid and an ask, that are shown and cancelled together. A block trade is a report of a trade
agreed elsewhere, which waits for the other party's.
"""

from __future__ import annotations

from itertools import cycle, product
from typing import TYPE_CHECKING

from killswitch.simulator.answers import Refused
from killswitch.simulator.faults import Lie
from killswitch.simulator.orders import OrderType, Side

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal

    from killswitch.simulator.exchange import Exchange
    from killswitch.simulator.orders import Order
    from killswitch.simulator.users import User

    Amount = tuple[Decimal | int, Decimal | int]
    """Quantity and price."""


class Quotes:
    """The quotes of an exchange, by account and instrument."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._pairs: dict[tuple[int, int], list[tuple[Order, Order]]] = {}

    def place(
        self, account: int, user: int, instrument: int, now: float, *, bid: Amount = (1, 99), ask: Amount = (1, 101)
    ) -> tuple[Order, Order]:
        """A new quote. `account`, `user` and `instrument` exist."""
        sides = [
            self._exchange.place(
                account=account,
                user=user,
                instrument=instrument,
                now=now,
                side=side,
                quantity=quantity,
                price=price,
                quote=True,
            )
            for side, (quantity, price) in ((Side.Buy, bid), (Side.Sell, ask))
        ]
        pair = (sides[0], sides[1])
        self._pairs.setdefault((account, instrument), []).append(pair)
        return pair

    def shown(self, account: int, instrument: int) -> tuple[Order | None, Order | None]:
        """What GetOpenQuotes has room for: the oldest quote of which a side is open; None for a side that isn't."""
        pairs = self._pairs.get((account, instrument), [])
        while pairs and not any(side.open for side in pairs[0]):
            del pairs[0]
        bid, ask = pairs[0] if pairs else (None, None)
        return bid if bid is not None and bid.open else None, ask if ask is not None and ask.open else None

    def cancel(self, caller: User, *, now: float, order_id: int, account: int, instrument: int | None) -> None:
        """Accept the cancel of one side. Refused 20 for another user's, 104 for what is no open quote there."""
        if not caller.may_quote(account):
            raise Refused(20)
        order = self._exchange.orders.get(order_id)
        if order is None or not order.quote or not order.open or order.account != account:
            raise Refused(104)
        if instrument not in (None, order.instrument):
            raise Refused(104)
        if order.entered_by != caller.user_id and not caller.operator:
            raise Refused(20)
        if self._exchange.faults.take(Lie, "CancelQuote"):
            return
        self._exchange.cancels.put(order, now, "CancelQuote", self._exchange.log.current)
        self._exchange.wake()


def deal_out(
    exchange: Exchange, accounts: Iterable[int], users: Iterable[int], *, now: float, quotes: int, block_trades: int
) -> None:
    """So many of each, over accounts, users and instruments in turn."""
    places = list(product(accounts, users, exchange.instruments))
    for (account, user, instrument), _ in zip(cycle(places), range(quotes), strict=False):
        exchange.quotes.place(account, user, instrument, now)
    for (account, user, instrument), _ in zip(cycle(places), range(block_trades), strict=False):
        exchange.place(
            account=account, user=user, instrument=instrument, now=now, quantity=500, order_type=OrderType.BlockTrade
        )
