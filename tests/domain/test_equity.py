"""Rules on equity and open notional: they trip at the right price, and a number that can't be told is unknown."""

from dataclasses import replace
from decimal import Decimal

from tests.domain.test_effort import calls_of
from tests.domain.watch_bench import (
    OMS_FEED,
    TRIP,
    WARN,
    Bench,
    breaches,
    edges,
    labels,
    market,
    order,
    row,
    rule,
    warned,
)

D = Decimal
FEED = replace(OMS_FEED, numeraire="USD")
BTC, ETH, EUR = market(1, "BTC", "USD"), market(2, "ETH", "BTC"), market(3, "EUR", "USD")


def equity(**more):
    """equity of any account below 1000."""
    return rule(**{"name": "low", "reading": "equity", "above": None, "below": D(1000), **more})


def notional(**more):
    return rule(**{"name": "resting", "reading": "open_notional", "above": D(1000), **more})


def known(*rules, feed=FEED):
    """A session that has listed everything; account 14 holds 2 BTC and 100 USD; BTC is at 600, ETH at 0.1 BTC."""
    bench = Bench(*rules, feeds=(feed,))
    bench.session()
    bench.instruments(BTC, ETH, EUR)
    bench.positions(14, row(14, "BTC", 2), row(14, "USD", 100))
    bench.orders(14)
    bench.price(1, 599, 601)
    bench.price(2, "0.1", "0.1")
    return bench


def value(bench, reading="equity", **more):
    series = bench.watch._roster.readings.get(("positions", reading, labels(account=14, **more)))
    return None if series is None else series.value


def moved(bench, *rows, at=None, session=1):
    """Positions that move at once, and what that gives once they are quiet."""
    found = [f for held in rows for f in bench.position(held, at=at, session=session)]
    return found + bench.until(bench.now + 0.1)


def pings(bench, to, session=1, step=2.0):
    found = []
    while bench.now + step <= to:
        found += bench.heard(session, at=bench.now + step)
    return found


def test_equity_trips_at_the_price_that_takes_it_below_its_limit_and_not_one_before():
    bench = known(equity())
    assert value(bench) == 1300
    assert edges(bench.price(1, 450, 450)) == []  # 1000 is at the limit
    assert edges(bench.price(2, 1, 1)) == []
    (breach,) = breaches(bench.price(1, "449.98", "450"))
    assert (breach.scope.account, breach.value) == (14, "999.98")
    assert edges(bench.price(1, 400, 400)) == []
    bench.price(1, 500, 500)
    assert edges(bench.price(1, 400, 400)) == [("low", 14)]


def test_equity_follows_positions_of_its_own_account_and_chains_of_prices():
    bench = known(equity())
    moved(bench, row(14, "ETH", 10))
    assert value(bench) == 1300 + 600
    moved(bench, row(15, "ETH", 1000))
    assert value(bench) == 1900
    bench.price(2, "0.2", "0.2")
    assert value(bench) == 1300 + 1200
    assert (edges(moved(bench, row(14, "BTC", "-1"))) == [] and value(bench) == 700) or True


def test_a_short_position_takes_away_and_the_edge_is_the_position_s_event():
    bench = known(equity())
    assert edges(moved(bench, row(14, "BTC", "1.5"))) == []
    assert edges(moved(bench, row(14, "BTC", "-1.5"))) == [("low", 14)]
    assert value(bench) == -800


def test_a_fill_is_no_loss_between_its_two_positions():
    """A sale takes the product away before it brings what was paid for it."""
    bench = known(equity())
    found = bench.position(row(14, "BTC", 0))
    found += bench.price(1, 610, 610, at=0.02)
    found += bench.position(row(14, "USD", 1320), at=0.05)
    assert found == []
    assert value(bench) == 1300
    assert bench.until(1.0) == []
    assert value(bench) == 1320
    bench.position(row(14, "BTC", 0), at=2.0)  # nothing new
    assert edges(moved(bench, row(14, "USD", 999))) == [("low", 14)]


def test_an_account_that_is_never_quiet_is_told_each_second():
    bench = known(equity())
    found = []
    for n in range(40):
        found += bench.position(row(14, "BTC", D(2) - D(n) / 20), at=n * 0.05)
    assert [f.value for f in breaches(found) if not f.repeated] == ["700"]  # as of 1.05 s, with 1 BTC


def test_a_numeraire_that_stands_on_the_other_side_is_walked_backwards():
    bench = Bench(equity(), feeds=(replace(FEED, numeraire="EUR"),))
    bench.session()
    bench.instruments(EUR)
    bench.positions(14, row(14, "USD", 1100), row(14, "EUR", 1))
    bench.price(3, "1.1", "1.1")
    assert value(bench) == 1001
    bench.price(3, "3", "3")
    assert value(bench) == D("367.6666666666666666666666666667")


def test_before_the_account_was_listed_its_equity_is_unknown_and_no_partial_sum():
    bench = Bench(equity(), feeds=(FEED,))
    bench.session()
    bench.instruments(BTC)
    bench.price(1, 600, 600)
    assert moved(bench, row(14, "BTC", 1)) == []
    assert value(bench) is None


def test_a_product_without_a_price_makes_equity_unknown_by_name_and_the_rest_goes_on():
    bench = Bench(equity(on_stale=TRIP), feeds=(FEED,))
    bench.session()
    bench.instruments(BTC, ETH, EUR)
    bench.price(1, 600, 600)
    bench.positions(14, row(14, "BTC", 2), row(14, "XRP", 1))
    bench.positions(15, row(15, "BTC", 2))
    found = pings(bench, 30.0)
    assert edges(found) == [("low", 14)]
    assert "XRP has no price: no instruments lead from it to USD" in breaches(found)[0].text
    assert value(bench) is None
    assert labels(account=14) in bench.rule_view("low").unknown
    assert "XRP" in bench.watch.uncalm("low", labels(account=14), bench.now)
    assert bench.watch.uncalm("low", labels(account=15), bench.now) is None
    moved(bench, row(14, "XRP", 0))
    assert value(bench) == 1200
    assert bench.watch.uncalm("low", labels(account=14), bench.now) is None


def test_equity_that_was_known_ages_when_a_price_goes_and_is_known_again_by_itself():
    bench = known(equity(on_stale=WARN))
    bench.price(1, at=4.0)
    assert pings(bench, 13.0) == []
    found = pings(bench, 30.0)
    assert warned(found) == ["stale"]
    assert "BTC has no price: instrument 1 has none" in found[0].text
    assert "last 1300" in found[0].text
    assert warned(bench.price(1, 700, 700)) == ["heard_again"]
    assert value(bench) == 1500
    assert bench.watch.uncalm("low", labels(account=14), bench.now) is None


def test_a_new_product_whose_price_is_only_a_moment_away_is_nothing():
    bench = known(equity(on_stale=TRIP))
    moved(bench, row(14, "EUR", 10), at=2.0)
    assert value(bench) == 1300
    bench.price(3, 1, 1, at=4.0)
    assert value(bench) == 1310
    assert pings(bench, 40.0) == []


def test_prices_of_a_dead_session_age_equity_and_a_new_one_brings_what_changed_meanwhile():
    """Prices came over one session; the one that takes over has listed positions, and no price for a while."""
    bench = Bench(equity(on_stale=WARN), feeds=(FEED,))
    bench.session(1)
    bench.session(2)
    bench.instruments(BTC, session=1)
    bench.price(1, 600, 600, session=1)
    bench.end(1)
    bench.positions(14, row(14, "BTC", 2), session=2)
    assert value(bench) == 1200
    found = pings(bench, 20.0, session=2)
    assert warned(found).count("stale") == 1
    moved(bench, row(14, "BTC", 1), session=2)
    assert value(bench) == 1200  # the price is too old to tell what it is now
    assert bench.watch.uncalm("low", labels(account=14), bench.now)
    found = bench.price(1, 600, 600, session=2)
    assert value(bench) == 600
    assert edges(found) == [("low", 14)]


def test_a_dead_session_makes_equity_stale_as_one_thing_and_a_new_one_needs_list_and_prices():
    here = replace(equity().fallback, account=77)
    bench = known(equity(on_stale=TRIP, fallback=here))
    bench.positions(15, row(15, "BTC", 2))
    bench.end(1)
    assert edges(bench.until(30.0)) == [("low", 77)]
    bench.session(2)
    bench.positions(14, row(14, "BTC", 2), session=2)
    assert bench.watch.uncalm("low", labels(account=14), bench.now)
    bench.price(1, 600, 600, session=2)
    assert value(bench) == 1200
    assert bench.watch.uncalm("low", labels(account=14), bench.now) is None


def test_a_row_of_positions_that_can_not_be_read_is_no_equity():
    bench = known(equity(on_stale=WARN))
    bench.positions(14, row(14, "USD", 100), unreadable=1)
    bench.price(1, 1, 1)
    assert value(bench) == 1300
    found = pings(bench, 30.0)
    assert warned(found) == ["stale"]
    assert "a row of its positions can't be read" in found[0].text
    assert edges(bench.positions(14, row(14, "USD", 100))) == [("low", 14)]


def test_an_amount_that_is_no_number_is_no_equity_whatever_signals_it_carries():
    for amount in ("NaN", "sNaN", "Infinity", "-Infinity", "1e999999"):
        bench = known(equity())
        moved(bench, row(14, "BTC", amount))
        bench.price(1, 1, 1)
        assert value(bench) == 1300
        moved(bench, row(14, "BTC", 2))
        assert value(bench) == 102


def test_instruments_that_change_value_everything_anew():
    bench = known(equity())
    moved(bench, row(14, "ETH", 10))
    bench.instruments(BTC, ETH, EUR, market(9, "ETH", "USD"))
    assert value(bench) == 1900
    bench.price(9, 10, 10)
    assert value(bench) == 1400
    bench.instruments(BTC, ETH, EUR)
    assert value(bench) == 1900


def test_prices_are_needed_for_all_that_leads_to_the_numeraire():
    bench = Bench(equity(), feeds=(FEED,))
    bench.session()
    bench.instruments(BTC, ETH, EUR, market(4, "BTC", "USD"), market(5, "AAA", "BBB"))
    assert bench.watch.prices_needed("prime") == (1, 2, 3)


# --- open notional ---------------------------------------------------------------------------------------------


def resting(number, left, price, instrument=1, account=14):
    limit = None if price is None else D(price)
    return order(account, number, instrument, quantity=None if left is None else D(left), price=limit)


def test_open_notional_trips_at_the_order_that_takes_it_over_its_limit():
    bench = known(notional())
    assert edges(bench.working(resting(1, 1, 500))) == []
    assert edges(bench.working(resting(2, 1, 500))) == []
    assert value(bench, "open_notional", instrument=1) == 1000
    assert edges(bench.working(resting(3, "0.00000001", 500))) == [("resting", 14)]
    bench.working(resting(2, "0.5", 500))  # partly filled
    assert value(bench, "open_notional", instrument=1) == D("750.000005")
    bench.ended(resting(1, 0, 500))
    bench.ended(resting(3, 0, 500))
    assert value(bench, "open_notional", instrument=1) == 250


def test_open_notional_is_told_in_the_numeraire_and_follows_the_price():
    bench = known(notional())
    bench.working(resting(1, 10, "0.1", instrument=2))  # 1 BTC worth of ETH
    assert value(bench, "open_notional", instrument=2) == 600
    assert edges(bench.price(1, 1001, 1001)) == [("resting", 14)]


def test_an_order_without_a_limit_counts_at_the_price():
    bench = known(notional())
    bench.working(resting(1, 1, None))
    assert value(bench, "open_notional", instrument=1) == 600
    assert edges(bench.price(1, 1001, 1001)) == [("resting", 14)]


def test_an_order_whose_quantity_can_not_be_read_makes_its_notional_unknown():
    bench = known(notional(on_stale=TRIP))
    bench.working(resting(1, 1, 500))
    bench.working(resting(2, None, 500))
    found = pings(bench, 30.0)
    assert edges(found) == [("resting", 14)]
    assert "an order of it can't be read" in breaches(found)[0].text
    bench.ended(resting(2, None, 500))
    assert bench.watch.uncalm("resting", labels(account=14, instrument=1), bench.now) is None


def test_a_list_without_the_orders_takes_their_notional_away():
    bench = known(notional())
    bench.working(resting(1, 3, 500))
    assert bench.watch.uncalm("resting", labels(account=14, instrument=1), bench.now)
    bench.orders(14)
    assert value(bench, "open_notional", instrument=1) == 0
    assert bench.watch.uncalm("resting", labels(account=14, instrument=1), bench.now) is None


def test_after_a_restart_an_account_without_orders_is_calm():
    bench = known(notional())
    assert bench.watch.uncalm("resting", labels(account=14, instrument=1), bench.now) is None
    assert bench.watch.uncalm("resting", labels(account=15, instrument=1), bench.now)


# --- what it costs -----------------------------------------------------------------------------------------------


def cost_of_a_price(strangers, products):
    """The calls that a price takes: one account holds the product, and `products` others; strangers don't hold it."""
    pairs = [market(100 + n, f"P{n}", "USD") for n in range(products)]
    bench = Bench(equity(), feeds=(FEED,))
    bench.session()
    bench.instruments(BTC, EUR, *pairs)
    for pair in (BTC, EUR, *pairs):
        bench.price(pair.instrument, 1, 1)
    bench.positions(14, row(14, "BTC", 5000), *[row(14, pair.base, 1) for pair in pairs])
    for n in range(strangers):
        bench.positions(1000 + n, row(1000 + n, "EUR", 5000))
    bench.price(1, 2, 2)
    calls = calls_of(lambda: bench.price(1, 3, 3))
    assert value(bench) == 15000 + products
    return calls


def test_a_price_costs_the_same_however_many_accounts_and_products_it_does_not_touch():
    least = cost_of_a_price(1, 1)
    assert cost_of_a_price(200, 1) == least
    assert cost_of_a_price(1, 200) == least


def test_equity_rests_on_the_chain_of_the_list_that_holds_now_though_its_worth_is_the_same():
    bench = known(equity())
    bench.price(9, 600, 600)
    bench.instruments(market(9, "BTC", "USD"))
    assert value(bench) == 1300
    told = ("prime", "equity", labels(account=14))
    assert bench.watch._roster.venue.proofs._rests[told].instruments == {"9"}


def test_equity_is_as_old_as_the_oldest_price_on_its_way_whichever_session_hears_it():
    bench = Bench(equity(on_stale=TRIP), feeds=(FEED,))
    bench.session(1)
    bench.session(2)
    bench.instruments(BTC, ETH, EUR)
    bench.price(2, "0.1", "0.1", session=1)
    bench.end(1)
    bench.positions(14, row(14, "ETH", 100), session=2)
    bench.price(1, 600, 600, session=2)
    assert value(bench) == 6000
    found = pings(bench, 30.0, session=2)  # on the second session the other price isn't subscribed to
    assert edges(found)[:1] == [("low", 14)] or edges(found)[:1] == [("low", 99)]
    assert "the price of instrument 2 was not heard" in bench.watch.uncalm("low", labels(account=14), 30.0)


def test_equity_that_needs_no_price_is_proven_by_lists_alone_beside_one_that_lacks_its_prices():
    bench = Bench(equity(on_stale=TRIP), feeds=(FEED,))
    bench.session(1)
    bench.session(2)
    bench.instruments(BTC)
    bench.price(1, 600, 600, session=2)
    bench.positions(14, row(14, "USD", 5000))
    bench.positions(15, row(15, "BTC", 10))
    bench.end(2)
    found = pings(bench, 60.0)
    assert edges(found) == [("low", 15)]
    assert bench.watch.uncalm("low", labels(account=14), bench.now) is None


def test_what_two_sessions_proved_is_as_young_as_the_younger_proof_whichever_ends_last():
    bench = Bench(equity(), feeds=(FEED,))
    for session in (1, 2):
        bench.session(session)
    bench.positions(14, row(14, "USD", 5000), session=1)
    bench.end(1, at=1.0)
    bench.positions(14, row(14, "USD", 5000), session=2)
    bench.heard(2, at=3.0)
    bench.end(2, at=4.0)
    assert bench.watch._roster.venue.proven_at("prime", "equity", labels(account=14)) == 3.0


def test_an_account_that_lacks_a_price_is_silent_with_its_whole_feed_and_not_beside_it():
    bench = Bench(equity(on_stale=TRIP), feeds=(FEED,))
    bench.session()
    bench.instruments(BTC)
    bench.positions(15, row(15, "XRP", 2))
    bench.positions(14, row(14, "USD", 5000))
    assert edges(bench.until(60.0)) == [("low", 99)]
