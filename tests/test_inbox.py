"""The loop's inbox: who waits behind whom, and what a flood does."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from killswitch import loop as rooms
from killswitch.domain.messages import (
    BadReading,
    ButtonPressed,
    Order,
    OrderEnded,
    OrderRejected,
    PositionRow,
    Positions,
    PriceSeen,
    Reading,
    ResetRequested,
    Tick,
    TradeSeen,
)
from killswitch.domain.scope import EVERY, Scope
from killswitch.loop import FIRST_IN_A_ROW, OTHERS_BETWEEN, PRESSES_IN_A_ROW, Inbox, Loop


def reading(value: float, account: int = 14, at: float | None = None) -> Reading:
    labels = (("account", str(account)),)
    return Reading(wall=0.0, feed="var", name="var", labels=labels, value=value, source_at=value if at is None else at)


def ended(order_id: int) -> OrderEnded:
    return OrderEnded(wall=0.0, oms="prime", session=1, order=Order(14, order_id, 25, 37), state="Canceled")


def price(bid: int | None, ask: int | None = None, *, instrument: int = 25, call: int | None = None) -> PriceSeen:
    bid_, ask_ = (None if p is None else Decimal(p) for p in (bid, ask))
    return PriceSeen(wall=0.0, oms="prime", session=1, instrument=instrument, bid=bid_, ask=ask_, last=None, call=call)


def trade(trade_id: int) -> TradeSeen:
    one = Decimal(1)
    return TradeSeen(
        wall=0.0,
        oms="prime",
        session=1,
        account=14,
        instrument=25,
        user=None,
        trade_id=trade_id,
        order_id=5,
        quantity=one,
        price=one,
    )


def refused(client_order_id: int) -> OrderRejected:
    return OrderRejected(
        wall=0.0,
        oms="prime",
        session=1,
        account=14,
        instrument=None,
        user=None,
        order_id=None,
        client_order_id=client_order_id,
        reason="",
    )


def pressed(n: int) -> ButtonPressed:
    scope = Scope(oms="prime", account=n, user=EVERY, instrument=EVERY)
    return ButtonPressed(wall=0.0, button="desk", scope=scope, via="mqtt")


def test_a_panic_does_not_wait_behind_what_arrived_before_it_and_a_reset_does() -> None:
    inbox = Inbox()
    reset = ResetRequested(
        wall=0.0, id="r", trip="t", by="a", reason="b", issued_at=0.0, override=False, digest="", via="mqtt"
    )
    for event in (reading(1), ended(1), reset, pressed(1), pressed(2)):
        inbox.put(event)
    assert len(inbox) == 5
    assert drained(inbox) == [pressed(1), pressed(2), ended(1), reset, reading(1)]


def test_a_flood_of_presses_leaves_others_a_share_of_the_turns() -> None:
    inbox = Inbox()
    for n in range(1, 4 * PRESSES_IN_A_ROW + 1):
        inbox.put(pressed(n))
        inbox.put(ended(n))
    taken = drained(inbox)
    kinds = [type(event) for event in taken]
    block = PRESSES_IN_A_ROW
    assert kinds[: 4 * (block + OTHERS_BETWEEN)] == ([ButtonPressed] * block + [OrderEnded] * OTHERS_BETWEEN) * 4
    assert len(taken) == 8 * block
    assert [event for event in taken if isinstance(event, ButtonPressed)] == [pressed(n + 1) for n in range(4 * block)]


def test_presses_alone_are_all_taken() -> None:
    inbox = Inbox()
    for n in range(1, 30):
        inbox.put(pressed(n))
    assert drained(inbox) == [pressed(n) for n in range(1, 30)]


def drained(inbox: Inbox) -> list[object]:
    return list(iter(inbox.take, None))


def test_after_a_flood_a_series_is_still_read_in_the_order_in_which_it_came(monkeypatch) -> None:
    """What was merged is older than what comes next; behind it, it would look out of order and be dropped."""
    monkeypatch.setattr(rooms, "FEED_LANE_MAX", 3)
    inbox = Inbox()
    for value in (1, 2, 3, 51):
        inbox.put(reading(value))
    first = inbox.take()
    inbox.put(reading(52))
    assert [e.value for e in (first, *drained(inbox))] == [1, 2, 3, 51, 52]


def test_a_snapshot_that_comes_in_a_flood_stays_behind_what_is_older(monkeypatch) -> None:
    monkeypatch.setattr(rooms, "FEED_LANE_MAX", 1)
    inbox = Inbox()
    row = PositionRow(14, "BTC", Decimal(1), Decimal(0))
    snapshot = Positions(wall=0.0, call=1, session=1, account=14, rows=(row,))
    for event in (reading(1), reading(2), snapshot, reading(3)):
        inbox.put(event)
    assert drained(inbox) == [reading(1), reading(2), snapshot, reading(3)]


def test_a_flood_keeps_the_first_lowest_highest_and_last_of_each_series_and_its_deepest_fall(monkeypatch) -> None:
    monkeypatch.setattr(rooms, "FEED_LANE_MAX", 1)
    inbox = Inbox()
    inbox.put(reading(0))
    for n, value in enumerate((5, 7, 1, 6, 9, 3, 4)):
        inbox.put(reading(value, at=n))
        inbox.put(reading(value, account=15, at=n))
    events = drained(inbox)
    assert events[0] == reading(0)
    for account in ("14", "15"):
        kept = [e for e in events[1:] if dict(e.labels)["account"] == account]
        assert [e.value for e in kept] == [5, 7, 1, 9, 4]
        merged = [e.merged for e in kept if e.merged is not None]
        assert (sum(m.count for m in merged), sum(m.total for m in merged)) == (2, 9)


def test_a_flood_of_bad_readings_is_bounded_and_counted(monkeypatch) -> None:
    monkeypatch.setattr(rooms, "FEED_LANE_MAX", 10)
    inbox = Inbox()
    for n in range(1000):
        inbox.put(BadReading(wall=float(n), feed="var", name="var", labels=None, reason="not_json"))
    assert len(inbox) == 12
    events = drained(inbox)
    assert len(events) + sum(e.merged for e in events) == 1000
    assert not inbox


def test_a_flood_of_prices_keeps_each_instruments_first_last_and_the_extremes_of_each_side(monkeypatch) -> None:
    monkeypatch.setattr(rooms, "FEED_LANE_MAX", 1)
    inbox = Inbox()
    inbox.put(reading(0))
    flood = [price(5, 6), price(5, 9), price(4, 6), price(None, 7), price(8, 8), price(5, 2), price(6, 6), price(5, 6)]
    for one in (*flood, *flood):
        inbox.put(one)
        inbox.put(price(1, 1, instrument=26))
    kept = [e for e in drained(inbox) if isinstance(e, PriceSeen) and e.instrument == 25]
    assert (kept[0], kept[-1]) == (price(5, 6), replace(flood[-1], merged=kept[-1].merged))
    bids, asks = [e.bid for e in kept if e.bid is not None], [e.ask for e in kept]
    assert (min(bids), max(bids), min(asks), max(asks)) == (4, 8, 2, 9)
    assert len(kept) <= 14
    assert len(kept) + sum(e.merged for e in kept) == len(flood) * 2


def test_a_price_that_somebody_asked_for_is_neither_merged_nor_overtaken_in_a_flood(monkeypatch) -> None:
    monkeypatch.setattr(rooms, "FEED_LANE_MAX", 1)
    inbox = Inbox()
    flood = [price(n) for n in (5, 5)] + [price(5, call=n) for n in range(9)] + [price(7), price(6)]
    for one in flood:
        inbox.put(one)
    assert drained(inbox) == flood


def test_prices_wait_with_the_readings_but_trades_and_refused_orders_do_not_and_none_is_dropped(monkeypatch) -> None:
    monkeypatch.setattr(rooms, "FEED_LANE_MAX", 1)
    inbox = Inbox()
    for n in range(100):
        inbox.put(price(n + 1))
        inbox.put(trade(n))
        inbox.put(refused(n))
    taken = drained(inbox)
    assert [e.trade_id for e in taken if isinstance(e, TradeSeen)] == list(range(100))
    assert [e.client_order_id for e in taken if isinstance(e, OrderRejected)] == list(range(100))
    assert isinstance(taken[0], TradeSeen)
    bids = [e.bid for e in taken if isinstance(e, PriceSeen)]
    assert (bids[0], bids[-1], bids == sorted(bids), len(bids) < 10) == (1, 100, True, True)


def test_a_flood_of_order_events_does_not_hide_the_readings() -> None:
    inbox = Inbox()
    for n in range(10 * FIRST_IN_A_ROW):
        inbox.put(ended(n))
    for value in range(5):
        inbox.put(reading(value))
    taken = drained(inbox)
    where = [n for n, event in enumerate(taken) if isinstance(event, Reading)]
    assert len(where) == 5
    assert where[-1] < 5 * (FIRST_IN_A_ROW + 1)
    assert [e.order.order_id for e in taken if isinstance(e, OrderEnded)] == list(range(10 * FIRST_IN_A_ROW))


class EnoughError(Exception):
    """The loop turned often enough."""


class AlwaysDue:
    """A switch whose timer is never done."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def due(self) -> float:
        return 0.0

    def handle(self, event: object, _now: float) -> tuple[()]:
        self.seen.append(event)
        return ()


async def test_a_timer_that_is_due_again_and_again_keeps_no_event_from_being_handled() -> None:
    switch, turns = AlwaysDue(), 0

    def beat(_late_s: float) -> None:
        nonlocal turns
        turns += 1
        if turns > 8:
            raise EnoughError

    loop = Loop(switch, {}, now=lambda: 1.0, wall=lambda: 0.0, beat=beat)
    loop.inbox.put(ended(1))
    loop.inbox.put(ended(2))
    with pytest.raises(EnoughError):
        await loop.run()
    assert switch.seen[:4] == [Tick(wall=0.0), ended(1), Tick(wall=0.0), ended(2)]


def test_what_a_feed_said_that_is_no_more_is_nobodys_and_all_else_keeps_its_place():
    inbox = Inbox()
    other = replace(reading(2.0), feed="other")
    for event in (reading(1.0), other, ended(7), reading(3.0)):
        inbox.put(event)
    inbox.forget(frozenset({"var"}))
    assert [inbox.take() for _ in range(3)] == [ended(7), other, None]


def test_what_was_merged_of_a_feed_that_is_no_more_is_forgotten_too(monkeypatch):
    monkeypatch.setattr(rooms, "FEED_LANE_MAX", 2)
    inbox = Inbox()
    for value in range(20):
        inbox.put(reading(float(value)))
        inbox.put(replace(reading(float(value)), feed="other"))
    inbox.forget(frozenset({"var"}))
    left = []
    while (event := inbox.take()) is not None:
        left.append(event.feed)
    assert set(left) == {"other"}
