"""Quotes and block trades in the proof: VERIFIED says what it covers, and nothing that rests there is overlooked."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from killswitch.domain.messages import (
    AnnounceEvent,
    Arrived,
    CancelAllOrders,
    CancelOrder,
    CancelQuote,
    ListBlockTrades,
    ListInstruments,
    ListOpenOrders,
    ListQuotes,
    Looked,
    Moved,
    Noted,
    OpenQuotes,
    Order,
    Reconfigured,
)
from killswitch.domain.scope import EVERY, Scope
from tests.domain.bench import SETTINGS, SITE, Bench, order, scope
from tests.domain.quotes_bench import BROKEN, NOT_AUTHORIZED, QuoteBench, proven, settings


def events(bench: Bench, kind: str) -> list[str]:
    return [event.text for event in bench.of(AnnounceEvent) if event.kind == kind]


@pytest.mark.parametrize(
    ("site", "covers"),
    [
        ({"quotes": False, "block_trades": False}, "orders"),
        ({"quotes": True, "block_trades": False}, "orders, quotes"),
        ({"quotes": False, "block_trades": True}, "orders, block trades"),
        ({}, "orders, quotes, block trades"),
    ],
)
def test_the_trip_and_the_journal_say_what_verified_covers(site, covers):
    bench = proven(**site)
    assert (bench.view().outcome, bench.view().covers) == ("VERIFIED", covers)
    assert [body.covers for body in bench.bodies(Moved) if body.outcome == "VERIFIED"] == [covers]


def test_where_nothing_asks_for_them_nothing_but_orders_is_listed():
    bench = proven(quotes=False, block_trades=False)
    bench.run(10)
    assert not bench.of(ListQuotes, ListBlockTrades, ListInstruments)


def test_each_account_is_looked_at_for_each_instrument_in_each_round():
    bench = QuoteBench()
    bench.connect()
    bench.trip(scope())
    bench.settle()
    looked = [(a.account, a.instrument) for a in bench.of(ListQuotes)]
    assert {where: looked.count(where) for where in looked} == {
        (14, 25): 3,  # the look at the sign-in, and one in each of two rounds
        (14, 26): 2,
        (15, 25): 2,
        (15, 26): 2,
    }
    assert [a.account for a in bench.of(ListBlockTrades)] == [14, 14, 15, 14, 15]


def test_a_scope_with_an_instrument_is_looked_at_for_that_one_and_needs_no_list_of_them():
    bench = QuoteBench()
    bench.says["GetInstruments"] = NOT_AUTHORIZED
    bench.connect()
    bench.trip(scope(account=14, instrument=26))
    bench.settle()
    assert {a.instrument for a in bench.of(ListQuotes)} == {26}


def test_a_quote_that_the_cancel_spared_is_cancelled_by_both_of_its_ids():
    bench = QuoteBench()
    bench.connect()
    bench.quote(501)
    bench.quote(601, account=15)
    bench.orders[1] = order(1)
    bench.trip(scope(account=14))
    bench.settle()
    assert [(a.account, a.instrument, a.bid, a.ask) for a in bench.of(CancelQuote)] == [(14, 25, 501, 502)]
    assert not bench.of(CancelOrder)
    assert list(bench.quotes) == [(15, 25)]


def test_a_quote_of_another_instrument_is_left_alone():
    bench = QuoteBench()
    bench.connect()
    bench.quote(501, instrument=25)
    bench.quote(601, instrument=26)
    bench.trip(scope(account=14, instrument=26))
    bench.settle()
    assert list(bench.quotes) == [(14, 25)]


def test_one_side_that_is_left_is_cancelled_as_the_order_that_it_is():
    bench = QuoteBench()
    bench.connect()
    bench.quotes[14, 25] = (Order(14, 502, 25, None),)
    bench.trip(scope(account=14))
    bench.settle()
    assert [a.order_id for a in bench.of(CancelOrder)] == [502]
    assert not bench.of(CancelQuote)


def test_where_cancelling_the_pair_has_no_effect_each_side_is_tried_by_itself():
    bench = QuoteBench()
    bench.pair_cancels_work = False
    bench.connect()
    bench.quote(501)
    bench.trip(scope(account=14))
    bench.settle()
    assert [(a.bid, a.ask) for a in bench.of(CancelQuote)] == [(501, 502)]
    assert [a.order_id for a in bench.of(CancelOrder)] == [501, 502]


def test_a_refused_cancel_of_a_quote_is_told_and_the_other_way_is_tried():
    bench = QuoteBench()
    bench.says["CancelQuote"] = NOT_AUTHORIZED
    bench.connect()
    bench.quote(501)
    bench.trip(scope(account=14))
    bench.settle()
    assert any(
        "CancelQuote for" in text and "was refused: Not Authorized" in text for text in events(bench, "escalated")
    )


def test_a_quote_that_can_not_be_cancelled_is_residual_and_not_hammered():
    bench = QuoteBench()
    bench.pair_cancels_work = bench.single_cancels_work = False
    bench.connect()
    bench.quote(501)
    bench.trip(scope(account=14))
    bench.run(30)
    assert (bench.state(), bench.view().outcome, bench.view().orders_left) == ("escalated", "RESIDUAL", 2)
    assert len(bench.of(CancelQuote)) + len(bench.of(CancelOrder)) < 60
    bench.single_cancels_work = True
    bench.settle()


def test_a_quote_that_appears_between_two_empty_rounds_starts_the_count_anew():
    bench = QuoteBench()
    bench.connect()
    bench.trip(scope(account=14))
    rounds = 0
    while bench.state() != "confirmed":
        action = bench.step()
        if action is None:
            bench.tick()
        if isinstance(action, ListQuotes) and action.instrument == 26:
            rounds += 1
            if rounds == 1:
                bench.quote(501)  # after the first round saw none
    assert bench.quotes == {}
    assert [(a.bid, a.ask) for a in bench.of(CancelQuote)] == [(501, 502)]


def test_a_list_from_before_the_last_cancel_proves_nothing():
    bench = QuoteBench()
    bench.connect()
    bench.trip(scope(account=14))
    while not any(isinstance(a, ListQuotes) and a.instrument == 26 for a in bench.waiting):
        assert bench.step() or bench.tick() is None
    stale = [a for a in bench.waiting if isinstance(a, ListQuotes)]
    bench.trip(scope(account=14), "t2")  # cancels again: what was asked before it is void
    while not any(isinstance(a, CancelAllOrders) for a in bench.waiting):
        bench.tick()
    cancel = next(a for a in bench.waiting if isinstance(a, CancelAllOrders))
    bench.waiting.remove(cancel)
    bench.waiting.appendleft(cancel)
    bench.step()
    bench.quote(501)
    for action in stale:  # they say what was true before the cancel
        bench.waiting.remove(action)
        where = {"account": action.account, "instrument": action.instrument}
        bench.tell(OpenQuotes(wall=bench.wall, call=action.call, session=action.session, orders=(), **where))
    bench.settle()
    assert bench.quotes == {}


def test_a_list_that_is_too_old_to_prove_anything_can_still_show_a_quote():
    bench = QuoteBench()
    bench.connect()
    bench.trip(scope(account=14))
    while not any(isinstance(a, ListQuotes) and a.instrument == 26 for a in bench.waiting):
        assert bench.step() or bench.tick() is None
    held = next(a for a in bench.waiting if isinstance(a, ListQuotes) and a.instrument == 26)
    bench.waiting.remove(held)
    bench.trip(scope(account=14), "t2")  # what was asked before its cancel is void

    def empties() -> int:
        return bench.switch._parts.trips["t1"].sweep.empties

    while empties() == 0:
        if bench.step() is None:
            bench.tick()
    assert bench.state() == "sweeping"
    side = Order(14, 501, 26, None)
    where = {"account": 14, "instrument": 26}
    bench.tell(OpenQuotes(wall=bench.wall, call=held.call, session=held.session, orders=(side,), **where))
    assert empties() == 0
    bench.settle()


def test_a_late_quote_is_seen_by_the_guard_named_and_swept():
    bench = proven()
    bench.quote(501)
    bench.run(3)
    bench.settle()
    assert bench.quotes == {}
    assert [body.orders for body in bench.bodies(Arrived)] == [(501, 502)]
    assert [body.input for body in bench.bodies(Moved)] == ["proven", "sighted", "proven"]
    assert any("501" in text for text in events(bench, "late_arrival"))


def test_a_block_trade_that_stays_is_residual_by_name_and_no_call_is_made_for_it():
    bench = QuoteBench()
    bench.connect()
    bench.report(701)
    bench.orders[1] = order(1)
    bench.trip(scope(account=14))
    bench.run(3)
    assert (bench.state(), bench.view().outcome, bench.view().orders_left) == ("escalated", "RESIDUAL", 1)
    told = [text for text in events(bench, "escalated") if "block trades 701 of account 14 stay" in text]
    assert len(told) == 1
    assert bench.orders == {}
    assert not bench.of(CancelOrder, CancelQuote)
    bench.reports.clear()
    bench.settle()


def test_a_server_whose_cancel_takes_them_is_not_asked_to_cancel_quotes_again():
    bench = QuoteBench()
    bench.takes = True
    bench.connect()
    bench.quote(501)
    bench.report(701)
    bench.trip(scope(account=14))
    bench.settle()
    assert not bench.of(CancelQuote, CancelOrder)


def test_what_an_older_server_lists_twice_counts_once():
    bench = QuoteBench()
    bench.obeys = False
    bench.connect()
    bench.quote(501)
    for side in bench.quotes[14, 25]:
        bench.orders[side.order_id] = side
    bench.trip(scope(account=14))
    bench.run(0.05)
    assert bench.view().orders_left == 2


def test_nobody_knows_whose_a_quote_is_so_a_users_trip_tells_of_it_and_leaves_it():
    bench = QuoteBench()
    bench.connect()
    bench.quote(501)
    bench.trip(scope(account=14, user=37))
    bench.run(3)
    assert (bench.state(), bench.view().outcome) == ("escalated", "RESIDUAL")
    assert any("can't be attributed" in text for text in events(bench, "escalated"))
    assert not bench.of(CancelQuote)
    assert len(bench.quotes) == 1


@pytest.mark.parametrize("name", ["GetOpenQuotes", "GetOpenTradeReports", "GetInstruments"])
@pytest.mark.parametrize("answer", [NOT_AUTHORIZED, BROKEN, None])
def test_what_can_not_be_listed_makes_the_outcome_unknown_while_orders_are_swept_all_the_same(name, answer):
    bench = QuoteBench()
    bench.says[name] = answer
    bench.connect()
    bench.orders[1] = order(1)
    bench.trip(scope(account=14))
    bench.run(60)
    assert bench.orders == {}
    assert (bench.state(), bench.view().outcome) == ("escalated", "UNKNOWN")
    asked = {"GetOpenQuotes": ListQuotes, "GetOpenTradeReports": ListBlockTrades, "GetInstruments": ListInstruments}
    assert 2 <= len(bench.of(asked[name])) < 200
    del bench.says[name]
    bench.settle()
    assert bench.view().outcome == "VERIFIED"


def test_a_refusal_escalates_at_once_with_its_sentence_and_once():
    bench = QuoteBench()
    bench.says["GetOpenQuotes"] = NOT_AUTHORIZED
    bench.connect()
    bench.trip(scope(account=14))
    bench.run(1)
    assert bench.state() == "escalated"
    bench.run(40)
    told = [text for text in events(bench, "escalated") if "quotes can't be listed: Not Authorized" in text]
    assert len(told) == 1


def test_stragglers_do_not_wait_for_lists_that_nobody_answers():
    bench = QuoteBench()
    bench.says |= {"GetOpenQuotes": None, "GetOpenTradeReports": None}
    bench.obeys = False
    bench.connect()
    bench.orders[1] = order(1)
    bench.trip(scope(account=14))
    bench.run(4)
    assert bench.of(CancelOrder)


def test_instruments_that_can_not_be_read_may_hide_quotes():
    bench = QuoteBench()
    bench.unreadable_instruments = 1
    bench.connect()
    bench.trip(scope(account=14))
    bench.run(10)
    assert bench.view().outcome == "UNKNOWN"


def test_an_instrument_that_is_new_joins_the_rounds():
    bench = proven()
    bench.listed_instruments = (25, 26, 27)
    bench.quote(501, instrument=27)
    bench.run(70)
    bench.settle()
    assert bench.quotes == {}
    assert any(a.instrument == 27 for a in bench.of(ListQuotes))


def test_a_refusal_is_told_at_the_sign_in_and_stands_in_the_notes_until_it_is_mended():
    bench = QuoteBench()
    bench.says["GetOpenQuotes"] = NOT_AUTHORIZED
    bench.connect()
    bench.run(1)
    sentence = (
        "OMS prime: the quotes of account 14 can't be listed: Not Authorized: a trip there cancels its orders, and "
        "will not be VERIFIED"
    )
    assert events(bench, "not_listed") == [sentence]
    assert [body.text for body in bench.bodies(Noted) if body.kind == "not_listed"] == [sentence]
    assert sentence in bench.switch.view(bench.now).notes
    bench.disconnect()
    bench.connect()
    bench.run(1)
    assert len(events(bench, "not_listed")) == 1
    del bench.says["GetOpenQuotes"]
    bench.disconnect()
    bench.connect()
    bench.run(1)
    assert sentence not in bench.switch.view(bench.now).notes


def test_a_sign_in_during_a_sweep_cancels_before_it_looks():
    bench = QuoteBench()
    bench.trip(scope(account=14))
    bench.connect()
    first = next(a for a in bench.actions if isinstance(a, CancelAllOrders | ListQuotes | ListInstruments))
    assert isinstance(first, CancelAllOrders)


def test_the_proof_does_not_outlive_its_session():
    bench = QuoteBench()
    bench.connect()
    bench.trip(scope(account=14))
    bench.settle()
    bench.disconnect()
    assert bench.state() == "sweeping"
    bench.quote(501)
    bench.connect()
    bench.settle()
    assert bench.quotes == {}


def test_listing_more_than_before_takes_back_what_was_proven_without_it():
    bench = QuoteBench(replace(SETTINGS, sites=(SITE,)))
    bench.connect()
    bench.trip(scope(account=14))
    bench.settle()
    assert bench.view().covers == "orders"
    bench.quote(501)
    bench.tell(Reconfigured(wall=bench.wall, settings=settings(), by="hup"))
    assert bench.state() == "sweeping"
    assert bench.view().outcome != "VERIFIED"
    bench.settle()
    assert bench.view().covers == "orders, quotes, block trades"
    assert bench.quotes == {}


def test_each_list_stands_in_the_journal_when_it_changed_with_the_call_that_made_it():
    bench = QuoteBench()
    bench.connect()
    bench.quote(501)
    bench.trip(scope(account=14))
    bench.settle()
    seen = [(body.name, body.count, body.orders) for body in bench.bodies(Looked) if body.name == "GetOpenQuotes"]
    assert ("GetOpenQuotes", 2, (501, 502)) in seen
    assert seen[-1][1:] == (0, ())
    assert {body.name for body in bench.bodies(Looked)} == {"GetOpenOrders", "GetOpenQuotes", "GetOpenTradeReports"}


def test_every_call_is_within_the_budget_and_the_guard_stretches_with_what_it_lists():
    bench = QuoteBench(settings(calls_per_minute=60))
    bench.listed_instruments = tuple(range(25, 35))
    bench.connect()
    bench.trip(scope(account=14))
    bench.settle(within_s=200)
    began, at = len(bench.of(ListQuotes, ListOpenOrders, ListBlockTrades)), bench.now
    bench.run(120)
    calls = len(bench.of(ListQuotes, ListOpenOrders, ListBlockTrades)) - began
    assert calls <= 60 * (bench.now - at) / 60
    assert bench.state() == "confirmed"


def test_no_answer_at_all_leaves_no_calls_behind():
    bench = QuoteBench()
    bench.says |= {"GetOpenQuotes": None, "GetOpenTradeReports": None}
    bench.connect()
    bench.trip(scope(account=14))
    bench.run(600)
    assert len(bench.switch._parts.book.calls) < 20


acts = st.lists(
    st.sampled_from(
        [
            "step",
            "step",
            "step",
            "tick",
            "quote",
            "quote other",
            "report",
            "drop report",
            "order",
            "cut",
            "lose",
            "fail",
        ]
    ),
    max_size=60,
)


@given(acts, st.sampled_from([Scope(oms="prime", account=14, user=EVERY, instrument=EVERY), scope(instrument=25)]))
@hypothesis_settings(max_examples=150, deadline=None)
def test_whatever_happens_verified_is_only_said_once_two_rounds_saw_nothing(steps, covered):
    bench = QuoteBench()
    bench.connect()
    bench.trip(covered)
    number = 1000
    stood_until = bench.now
    for step in [*steps, *["step"] * 10]:
        number += 10
        match step:
            case "step":
                bench.step()
            case "tick":
                bench.tick(bench.now + 0.2)
            case "quote" | "quote other":
                bench.quote(number, instrument=25 if step == "quote" else 26)
            case "report":
                bench.report(number)
            case "drop report":
                bench.reports.clear()
            case "order":
                bench.orders[number] = order(number)
            case "cut":
                bench.disconnect()
                bench.connect()
            case "lose":
                if bench.waiting:
                    bench.waiting.popleft()
            case "fail":
                bench.says = {} if bench.says else {"GetOpenQuotes": BROKEN}
        standing = _standing(bench, covered)
        if standing:
            stood_until = bench.now
        elif bench.view().outcome == "VERIFIED":
            assert bench.view().verified_wall is not None
        if bench.state() == "confirmed" and standing:
            # It came after the round in which nothing was seen ended: the guard will find it.
            assert bench.now - (bench.view().verified_wall - 1_700_000_000) < 10
    assert stood_until <= bench.now
    bench.says = {}
    bench.reports.clear()
    bench.settle(within_s=120)
    bench.run(5)
    bench.settle()
    assert not _standing(bench, covered)


def _standing(bench: QuoteBench, covered: Scope) -> bool:
    sides = [side for pair in bench.quotes.values() for side in pair]
    return any(covered.holds(o).value == "yes" for o in [*sides, *bench.reports.values(), *bench.orders.values()])
