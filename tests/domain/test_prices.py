"""Prices of an OMS as readings: what a price is, what is none, and how old it is."""

from dataclasses import replace
from decimal import Decimal

import pytest

from tests.domain.watch_bench import (
    OMS_FEED,
    TRIP,
    WARN,
    Bench,
    account,
    breaches,
    btc,
    edges,
    labels,
    market,
    rule,
    warned,
)

D = Decimal
KEY = ("positions", "price", labels(instrument=25))
HERE = account(14)


def crash(**more):
    """price of instrument 25 below 100."""
    held = {"name": "crash", "reading": "price", "where": (("instrument", "25"),), "above": None, "below": D(100)}
    return rule(**{**held, "scope": replace(rule().scope, account=14), **more})


def series(bench):
    return bench.watch._roster.readings.get(KEY)


@pytest.mark.parametrize(
    ("bid", "ask", "last", "price"),
    [
        (100, 102, 50, "101"),
        (100, 100, 50, "100"),
        ("0.1", "0.2", None, "0.15"),
        (103, 102, 50, "50"),  # crossed: neither side is one to be believed
        (100, None, 50, "50"),
        (None, 102, 50, "50"),
        (None, None, 50, "50"),
    ],
)
def test_a_price_is_the_middle_of_bid_and_offer_and_else_the_last_trade(bid, ask, last, price):
    bench = Bench(crash())
    bench.session()
    bench.price(25, bid, ask, last)
    assert series(bench).value == D(price)


@pytest.mark.parametrize(("bid", "ask"), [(100, None), (None, 100), (103, 102), (None, None)])
def test_where_nobody_can_say_there_is_no_price(bid, ask):
    bench = Bench(crash())
    bench.session()
    assert bench.price(25, bid, ask) == []
    assert series(bench) is None


def test_the_middle_of_long_numbers_is_exact():
    bench = Bench(crash())
    bench.session()
    low, high = D("1." + "0" * 27 + "1"), D("12345678901234567890.12345678")
    bench.price(25, low, high)
    assert series(bench).value == D("6172839450617283945.56172839000000000000000000005")


def test_a_price_past_the_limit_trips_at_that_price_and_not_one_before():
    bench = Bench(crash())
    bench.session()
    assert edges(bench.price(25, 100, 100)) == []
    assert edges(bench.price(26, 1, 1)) == []
    assert edges(bench.price(25, "99.99", 100)) == [("crash", 14)]


def test_a_quiet_price_is_not_stale_while_its_session_is_heard_and_is_once_that_is_dead():
    bench = Bench(crash(on_stale=TRIP, fallback=HERE))
    bench.session()
    bench.price(25, 100, 102)
    for at in range(5, 100, 5):
        assert bench.heard(at=float(at)) == []
    found = bench.until(120.0)
    assert [(b.scope, bench.now) for b in breaches(found)] == [(HERE, 120.0)]


def test_a_ping_on_a_session_that_does_not_hear_the_price_proves_nothing_of_it():
    bench = Bench(crash(on_stale=TRIP, fallback=HERE))
    bench.session(1)
    bench.session(2)
    bench.price(25, 100, 102, session=1)
    bench.heard(1, at=4.0)
    found = [f for at in range(5, 40, 3) for f in bench.heard(2, at=float(at))]
    assert edges(found) == [("crash", 14)]


def test_a_price_that_is_none_any_more_ages_from_there_and_says_why():
    bench = Bench(crash(on_stale=WARN))
    bench.session()
    bench.price(25, 100, 102, at=1.0)
    for at in range(2, 20, 2):
        bench.heard(at=float(at))
    assert bench.price(25, at=20.0) == []
    found = [f for at in range(22, 60, 2) for f in bench.heard(at=float(at))]
    assert warned(found) == ["stale"]
    assert "neither bid and offer nor a last trade" in found[0].text
    assert "last 101" in found[0].text
    assert bench.watch.uncalm("crash", labels(instrument=25), bench.now)
    assert warned(bench.price(25, 100, 102)) == ["heard_again"]


def test_a_gap_of_a_moment_in_a_price_is_nothing():
    bench = Bench(crash(on_stale=TRIP))
    bench.session()
    bench.price(25, 100, 102, at=1.0)
    bench.price(25, at=8.0)
    bench.price(25, 100, 103, at=16.0)
    assert [f for at in range(17, 60, 2) for f in bench.heard(at=float(at))] == []


def test_a_subscription_without_any_price_is_unknown_once_it_is_due_and_names_the_instrument():
    bench = Bench(crash(on_stale=TRIP))
    bench.session()
    bench.price(25, at=1.0)
    bench.price(26, 5, 5, at=1.0)
    found = [f for at in range(2, 40, 2) for f in bench.heard(at=float(at))]
    assert edges(found) == [("crash", 14)]
    assert "instrument 25" in breaches(found)[0].text
    assert labels(instrument=25) in bench.rule_view("crash").unknown
    assert "never heard" in bench.watch.uncalm("crash", labels(instrument=25), bench.now)
    bench.price(25, 100, 102)
    assert bench.rule_view("crash").unknown == ()
    assert bench.watch.uncalm("crash", labels(instrument=25), bench.now) is None


def test_an_instrument_that_nobody_prices_is_unknown_to_a_rule_that_names_it():
    bench = Bench(crash(on_stale=TRIP, where=(("instrument", "77"),), fallback=HERE))
    bench.session()
    bench.price(25, 100, 100)
    found = [f for at in range(2, 60, 2) for f in bench.heard(at=float(at))]
    assert edges(found) == [("crash", 14)]


def test_a_new_session_proves_a_price_only_once_it_hears_it():
    bench = Bench(crash(on_stale=TRIP, fallback=HERE))
    bench.session(1)
    bench.price(25, 100, 102, at=1.0)
    bench.end(1, at=2.0)
    bench.session(2, at=3.0)
    found = [f for at in range(4, 40, 2) for f in bench.heard(2, at=float(at))]
    assert edges(found) == [("crash", 14)]


def test_what_a_dead_session_says_is_no_price():
    bench = Bench(crash())
    bench.session(1)
    bench.price(25, 100, 102)
    bench.end(1)
    assert bench.price(25, 1, 1) == []
    assert series(bench).value == D(101)


def test_prices_are_needed_where_a_rule_reads_them_and_of_the_instruments_it_names():
    nobody = Bench()
    assert not nobody.watch.needs_instruments("prime")
    one = Bench(crash())
    one.session()
    assert one.watch.needs_instruments("prime")
    assert not one.watch.needs_instruments("other")
    assert one.watch.prices_needed("prime") == (25,)
    every = Bench(crash(where=()))
    every.session()
    assert every.watch.prices_needed("prime") == ()
    every.instruments(market(7, "ETH", "USD"), market(3, "BTC", "USD"))
    assert every.watch.prices_needed("prime") == (3, 7)
    every.instruments(market(7, "ETH", "USD"), unreadable=1)
    assert every.watch.prices_needed("prime") == (3, 7)
    every.instruments(market(7, "ETH", "USD"))
    assert every.watch.prices_needed("prime") == (7,)


def test_a_feed_whose_prices_nobody_reads_is_not_stale_for_want_of_them():
    bench = Bench(feeds=(OMS_FEED,))
    bench.session()
    bench.positions(14)
    bench.orders(14)
    for at in range(5, 100, 5):
        bench.heard(at=float(at))
    view = bench.feed_view("positions")
    assert (view.heard, view.stale, view.age_s) == (True, False, 0.0)


def test_a_dead_reading_of_a_feed_is_told_apart_from_those_that_live():
    bench = Bench(crash(), btc(), feeds=(OMS_FEED,))
    bench.session()
    bench.positions(14)
    for at in range(5, 100, 5):
        bench.heard(at=float(at))
    view = bench.feed_view("positions")
    assert (view.watched, view.unheard, view.silent) == (("position", "price"), ("price",), ("price",))
    assert (view.heard, view.stale) == (False, True)


@pytest.mark.parametrize(("bid", "ask", "last"), [(0, 0, None), (0, 10, None), (0, 10, 0), (-1, 3, None)])
def test_0_and_less_are_no_price(bid, ask, last):
    bench = Bench(crash(), feeds=(OMS_FEED,))
    bench.session()
    assert bench.price(25, bid, ask, last) == []
    assert bench.watch._roster.readings.get(("positions", "price", labels(instrument=25))) is None
