"""The bench with quotes and block trades: an exchange that lists them by calls of their own, and spares them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from killswitch.domain.messages import (
    Action,
    Answer,
    Answered,
    AnswerKind,
    CancelAllOrders,
    CancelOrder,
    CancelQuote,
    InstrumentsFound,
    ListBlockTrades,
    ListInstruments,
    ListQuotes,
    OpenBlockTrades,
    OpenQuotes,
    Order,
)
from killswitch.domain.scope import Holds
from tests.domain.bench import ASKED, OK, SETTINGS, SITE, Bench, scope

if TYPE_CHECKING:
    from killswitch.domain.settings import Settings

BOTH = replace(SITE, quotes=True, block_trades=True)
NOT_AUTHORIZED = Answer(AnswerKind.REFUSED, "20", 20, "Not Authorized")
BROKEN = Answer(AnswerKind.UNCLEAR, "102", 102, "Server Error")


def settings(**site) -> Settings:
    return replace(SETTINGS, sites=(replace(BOTH, **site),))


class QuoteBench(Bench):
    """`quotes`: (account, instrument) -> (bid, ask). `reports`: block trades by id. `says`: call's name -> an answer
    instead of what was asked for, None: no answer. `takes`: CancelAllOrders takes quotes and reports too.
    """

    served = (*ASKED, CancelQuote, ListQuotes, ListBlockTrades, ListInstruments)

    def __init__(self, given: Settings | None = None, now: float = 100.0) -> None:
        super().__init__(given or settings(), None, now)
        self.quotes: dict[tuple[int, int], tuple[Order, Order]] = {}
        self.reports: dict[int, Order] = {}
        self.listed_instruments: tuple[int, ...] = (25, 26)
        self.unreadable_instruments = 0
        self.says: dict[str, Answer | None] = {}
        self.takes = False
        self.single_cancels_work = True
        self.pair_cancels_work = True

    def quote(self, bid: int, account: int = 14, instrument: int = 25) -> None:
        """A quote whose sides are `bid` and the next number."""
        self.quotes[account, instrument] = (
            Order(account, bid, instrument, None),
            Order(account, bid + 1, instrument, None),
        )

    def report(self, order_id: int, account: int = 14, user: int | None = 37) -> None:
        self.reports[order_id] = Order(account, order_id, 25, user)

    def answer(self, action: Action) -> None:
        name = {
            ListQuotes: "GetOpenQuotes",
            ListBlockTrades: "GetOpenTradeReports",
            ListInstruments: "GetInstruments",
            CancelQuote: "CancelQuote",
        }.get(type(action))
        if name is None:
            super().answer(action)
            return
        call, session, wall = action.call, action.session, self.wall
        if name in self.says:
            said = self.says[name]
            if said is not None:
                self.tell(Answered(wall=wall, call=call, session=session, answer=said))
            return
        match action:
            case ListQuotes():
                sides = self.quotes.get((action.account, action.instrument), ())
                where = {"account": action.account, "instrument": action.instrument}
                self.tell(OpenQuotes(wall=wall, call=call, session=session, orders=tuple(sides), **where))
            case ListBlockTrades():
                held = tuple(o for o in self.reports.values() if o.account == action.account)
                self.tell(OpenBlockTrades(wall=wall, call=call, session=session, account=action.account, orders=held))
            case ListInstruments():
                self.tell(
                    InstrumentsFound(
                        wall=wall,
                        call=call,
                        session=session,
                        instruments=self.listed_instruments,
                        unreadable=self.unreadable_instruments,
                    )
                )
            case CancelQuote():
                if self.pair_cancels_work:
                    self._drop(action.bid)
                    self._drop(action.ask)
                self.tell(Answered(wall=wall, call=call, session=session, answer=OK))

    def _drop(self, order_id: int | None) -> None:
        for where, sides in tuple(self.quotes.items()):
            left = tuple(side for side in sides if side.order_id != order_id)
            if left:
                self.quotes[where] = left
            else:
                del self.quotes[where]

    def _cancel(self, action: CancelAllOrders | CancelOrder) -> None:
        super()._cancel(action)
        if isinstance(action, CancelOrder):
            if self.single_cancels_work:
                self._drop(action.order_id)
        elif self.takes:
            for sides in tuple(self.quotes.values()):
                for side in sides:
                    if action.scope.holds(side) is Holds.YES:
                        self._drop(side.order_id)
            self.reports = {n: o for n, o in self.reports.items() if action.scope.holds(o) is not Holds.YES}

    def run(self, for_s: float) -> None:
        """Answer everything for a while."""
        end = self.now + for_s
        while self.now < end:
            while self.step():
                pass
            due = self.switch.due()
            if due is None or due > end:
                self.now = end
                return
            self.tick()


def proven(**site) -> QuoteBench:
    """Account 14 is tripped and confirmed."""
    bench = QuoteBench(settings(**site))
    bench.connect()
    bench.trip(scope(account=14))
    bench.settle()
    return bench
