"""Quotes and block trades of the simulated OMS: who sees them, and what takes them."""

from __future__ import annotations

import json

import pytest

from killswitch.simulator.calls import answer
from killswitch.simulator.world import SimulatorOptions, WorldError, build

BASE = 5_000_000_000


def world(dialect: str = "v4", **options):
    """Order BASE, a quote of BASE + 1 and BASE + 2, a block trade BASE + 3: all user 37's, on account 14 and 25."""
    given = {"orders": 1, "quotes": 1, "block_trades": 1, "first_order_id": BASE} | options
    return build(SimulatorOptions(dialect=dialect, **given))


def ask(exchange, user: int, name: str, **body):
    text = answer(exchange, exchange.users[user], name, json.dumps({"OMSId": 1, **body}), 0.0)
    assert text is not None
    exchange.advance(0.0)
    return json.loads(text)


def listed(exchange, user: int = 1):
    orders = ask(exchange, user, "GetOpenOrders", AccountId=14)
    quotes = ask(exchange, user, "GetOpenQuotes", AccountId=14, InstrumentId=25)
    reports = ask(exchange, user, "GetOpenTradeReports", AccountId=14)
    sides = [quotes[key]["orderId"] - BASE for key in ("bid", "ask") if quotes[key] is not None]
    return [row["OrderId"] - BASE for row in orders], sides, [row["OrderId"] - BASE for row in reports]


def test_only_a_newer_server_leaves_quotes_and_block_trades_out_of_its_orders():
    assert listed(world("v4")) == ([0], [1, 2], [3])
    assert listed(world("v2")) == ([0, 1, 2, 3], [1, 2], [3])


@pytest.mark.parametrize(
    ("dialect", "spares", "left"),
    [
        ("v4", None, ([], [1, 2], [3])),
        ("v4", False, ([], [], [])),
        ("v2", None, ([], [], [])),
        ("v2", True, ([1, 2, 3], [1, 2], [3])),
    ],
)
def test_cancel_all_orders_takes_what_the_server_of_that_age_takes_or_what_it_is_told_to(dialect, spares, left):
    exchange = world(dialect, spares_quotes=spares)
    ask(exchange, 1, "CancelAllOrders", AccountId=14)
    assert listed(exchange) == left


def test_a_quote_is_cancelled_by_both_of_its_ids_and_shown_as_two_answers():
    exchange = world()
    said = ask(exchange, 1, "CancelQuote", AccountId=14, InstrumentId=25, BidQuoteId=BASE + 1, AskQuoteId=BASE + 2)
    assert [said[key]["result"] for key in ("BidResult", "AskResult")] == [True, True]
    assert listed(exchange) == ([0], [], [3])
    said = ask(exchange, 1, "CancelQuote", AccountId=14, InstrumentId=25, BidQuoteId=BASE + 1, AskQuoteId=BASE)
    assert [said[key]["errorcode"] for key in ("BidResult", "AskResult")] == [104, 104]  # over; and no quote
    assert ask(exchange, 1, "CancelQuote", AccountId=14, BidQuoteId=BASE + 1)["errorcode"] == 100


def test_one_side_may_go_by_itself():
    exchange = world()
    ask(exchange, 1, "CancelOrder", AccountId=14, OrderId=BASE + 1)
    assert listed(exchange) == ([0], [2], [3])


def test_there_is_room_for_one_quote_in_the_answer_and_the_next_one_follows_it():
    exchange = world()
    second = exchange.quotes.place(14, 37, 25, 0.0)
    assert listed(exchange)[1] == [1, 2]
    ask(exchange, 1, "CancelQuote", AccountId=14, InstrumentId=25, BidQuoteId=BASE + 1, AskQuoteId=BASE + 2)
    assert listed(exchange)[1] == [side.order_id - BASE for side in second]


def test_quotes_are_for_operators_and_market_makers_and_another_users_for_operators_alone():
    exchange = world(quotes=0)  # nobody is a market maker
    quote = exchange.quotes.place(14, 40, 25, 0.0)
    assert ask(exchange, 37, "GetOpenQuotes", AccountId=14, InstrumentId=25)["errorcode"] == 20
    assert ask(exchange, 1, "GetOpenQuotes", AccountId=14, InstrumentId=25)["bid"]["orderId"] == quote[0].order_id
    exchange = world()
    body = {"AccountId": 14, "InstrumentId": 25, "BidQuoteId": BASE + 1, "AskQuoteId": BASE + 2}
    assert ask(exchange, 40, "GetOpenQuotes", AccountId=14, InstrumentId=25)["bid"] is not None
    assert ask(exchange, 40, "CancelQuote", **body)["BidResult"]["errorcode"] == 20
    assert ask(exchange, 37, "CancelQuote", **body)["BidResult"]["result"] is True


def test_a_market_maker_may_quote():
    exchange = world()
    said = ask(exchange, 37, "CreateQuote", AccountId=14, InstrumentId=26, Bid=9, BidQty=1, Ask=11, AskQty=2)
    assert said["AskResult"]["result"] is True
    shown = ask(exchange, 37, "GetOpenQuotes", AccountId=14, InstrumentId=26)
    assert (shown["bid"]["price"], shown["ask"]["quantity"]) == (9, 2)
    assert ask(exchange, 37, "CreateQuote", AccountId=14, InstrumentId=26, Bid=9)["errorcode"] == 100


def test_lists_name_an_account_and_an_instrument_that_exist():
    exchange = world()
    assert ask(exchange, 1, "GetOpenQuotes", AccountId=14)["errorcode"] == 100
    assert ask(exchange, 1, "GetOpenQuotes", AccountId=14, InstrumentId=99)["errorcode"] == 104
    assert ask(exchange, 37, "GetOpenTradeReports", AccountId=99)["errorcode"] == 20


def test_faults_strike_these_calls_too():
    exchange = world(faults=("error=106,call=GetOpenQuotes,times=1", "lie=1,call=CancelQuote"))
    assert ask(exchange, 1, "GetOpenQuotes", AccountId=14, InstrumentId=25)["errorcode"] == 106
    body = {"AccountId": 14, "InstrumentId": 25, "BidQuoteId": BASE + 1, "AskQuoteId": BASE + 2}
    ask(exchange, 1, "CancelQuote", **body)
    assert listed(exchange)[1] == [1]  # one of its two sides was lied about


def test_numbers_below_zero_make_no_world():
    with pytest.raises(WorldError, match="quotes and block trades"):
        world(quotes=-1)
