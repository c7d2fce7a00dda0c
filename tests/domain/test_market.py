"""Instruments, prices, trades and refused orders: what they mean to everything but the rules."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from killswitch.domain.messages import (
    Event,
    InstrumentRow,
    Instruments,
    OrderRejected,
    PriceSeen,
    TradeSeen,
)
from killswitch.domain.scope import EVERY, Scope
from tests.domain.bench import SETTINGS, SITE, Bench, confirmed, scope

WALL = 1_700_000_000.0
ROWS = (InstrumentRow(instrument=25, symbol="BTCUSD", base="BTC", quote="USD"),)


def price(call: int | None = None) -> PriceSeen:
    ten = Decimal(10)
    return PriceSeen(wall=WALL, oms="prime", session=1, instrument=25, bid=ten, ask=ten, last=None, call=call)


def trade(account: int = 14) -> TradeSeen:
    return TradeSeen(
        wall=WALL,
        oms="prime",
        session=1,
        account=account,
        instrument=25,
        user=None,
        trade_id=5,
        order_id=6,
        quantity=Decimal(1),
        price=Decimal(10),
    )


def reject(account: int = 14) -> OrderRejected:
    return OrderRejected(
        wall=WALL,
        oms="prime",
        session=1,
        account=account,
        instrument=None,
        user=None,
        order_id=None,
        client_order_id=7,
        reason="Not_Enough_Funds",
    )


def test_an_instrument_list_and_an_answered_price_end_their_calls_and_their_time_outs() -> None:
    bench = Bench()
    bench.connect()
    book, agenda = bench.switch._parts.book, bench.switch._parts.agenda  # who waits for what
    session = book.sessions[1]
    everything = Scope(oms="prime", account=EVERY, user=EVERY, instrument=EVERY)
    calls = [book.new_call(session, name, everything, bench.now) for name in ("GetInstruments", "SubscribeLevel1")]
    for call in calls:
        agenda.set(("call", call.number), bench.now + 5.0)
    bench.tell(Instruments(wall=WALL, call=calls[0].number, session=1, rows=ROWS))
    assert tuple(book.calls) == (calls[1].number,)
    bench.tell(price(call=calls[1].number))
    assert not book.calls
    assert bench.switch.due() is None


def test_what_the_market_tells_moves_no_trip_that_stands() -> None:
    bench = confirmed()
    before = bench.view()
    bench.forget_actions()
    events: tuple[Event, ...] = (
        Instruments(wall=WALL, call=999, session=1, rows=ROWS),
        price(),
        price(call=999),
        trade(),
        reject(),
    )
    for event in events:
        assert bench.tell(event) == ()
    assert bench.view() == before


def test_a_trade_or_a_refusal_shows_an_account_that_nobody_had_told_of() -> None:
    for shown in (trade(account=99), reject(account=99)):
        bench = Bench(replace(SETTINGS, sites=(replace(SITE, accounts=(14,)),)))
        bench.connect()
        bench.trip(scope())
        bench.settle()
        assert 99 not in bench.view().accounts_looked_at
        bench.tell(shown)
        for _ in range(50):
            while bench.step():
                pass
            bench.tick(bench.now + 0.1)
        assert 99 in bench.view().accounts_looked_at
