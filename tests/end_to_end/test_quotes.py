"""Quotes and block trades on a server that hides them from its list of orders: daemon, broker and simulator."""

from __future__ import annotations

import contextlib
import json
import sqlite3

import pytest

from killswitch.simulator.faults import Error, Lie, UnknownCall
from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import House, until
from tests.end_to_end.test_direct import trip as direct_trip
from tests.end_to_end.test_online import check

pytestmark = pytest.mark.mosquitto

BOTH = {"quotes": True, "block_trades": True}


def house_of(tmp_path, oms=BOTH, **options):
    """Of each of two users and two instruments: an order, a quote, all of them on each of three accounts."""
    given = {"dialect": "v4", "orders": 12, "quotes": 12} | options
    return House(tmp_path, options=SimulatorOptions(**given), oms={"dialect": given["dialect"]} | oms)


def said(house, name):
    return [request.body for request in house.sim.exchange.log.of(name)]


def standing(house, **which):
    return house.sim.exchange.open_orders(**which)


async def outcome(house, name, *wanted):
    """A trip's state and outcome, as they come to be."""

    def so():
        view = house.trip_of(name) or {}
        return (view.get("state"), view.get("outcome")) == wanted

    await until(so, f"{name} is {wanted}", shown=house.shown)
    return house.trip_of(name)


async def test_verified_covers_the_quotes_and_says_so_everywhere(tmp_path):
    async with house_of(tmp_path) as house:
        await house.start()
        await house.trip("p-1", account=14)
        await house.confirmed("p-1")
        assert standing(house, account=14) == []
        assert len(standing(house)) == 2 * (4 + 2 * 4)
        assert house.trip_of("p-1")["covers"] == "orders, quotes, block trades"
        for body in said(house, "CancelQuote"):
            assert set(body) == {"OMSId", "AccountId", "InstrumentId", "BidQuoteId", "AskQuoteId"}
            assert body["AccountId"] == 14
            assert 0 not in body.values()
        assert (await house.state())["trips"][0]["covers"] == "orders, quotes, block trades"
        with contextlib.closing(sqlite3.connect(house.journal)) as journal:
            rows = [json.loads(body) for (body,) in journal.execute("SELECT CAST(body AS BLOB) FROM record")]
        verified = [row["body"] for row in rows if row["kind"] == "moved" and row["body"]["outcome"] == "VERIFIED"]
        assert [body["covers"] for body in verified] == ["orders, quotes, block trades"]


async def test_a_direct_trip_covers_them_too(tmp_path):
    async with house_of(tmp_path) as house:
        code, told = await direct_trip(house, "--account", "14", "--direct")
        assert code == 0, told
        assert "VERIFIED: no orders, quotes, block trades left" in told
        assert standing(house, account=14) == []


async def test_without_them_verified_speaks_of_orders_only_and_the_check_says_so(tmp_path):
    async with house_of(tmp_path, oms={}) as house:
        code, lines = await check(house, "--online")
        assert "VERIFIED speaks of orders only: a v4 server leaves quotes and block trades out" in " ".join(
            lines.split()
        )
        assert code in (0, 1)
        await house.start()
        await house.trip("p-1", account=14)
        await house.confirmed("p-1")
        assert house.trip_of("p-1")["covers"] == "orders"
        assert {order.quote for order in standing(house, account=14)} == {True}
        assert said(house, "GetOpenQuotes") == said(house, "GetOpenTradeReports") == []


async def test_a_scope_of_one_instrument_touches_the_quotes_of_that_one(tmp_path):
    async with house_of(tmp_path) as house:
        await house.start()
        await house.trip("p-1", account=14, instrument=25)
        await house.confirmed("p-1")
        assert {order.instrument for order in standing(house, account=14)} == {26}
        assert {body["InstrumentId"] for body in said(house, "CancelQuote")} == {25}


async def test_the_whole_oms_is_proven_over_every_account_and_instrument(tmp_path):
    async with house_of(tmp_path) as house:
        await house.start()
        await house.trip("p-1", account="every")
        await house.confirmed("p-1")
        assert standing(house) == []


@pytest.mark.parametrize("dialect", ["v2", "v3"])
async def test_an_older_server_that_lists_quotes_among_its_orders_is_proven_too(tmp_path, dialect):
    async with house_of(tmp_path, dialect=dialect) as house:
        await house.start()
        await house.trip("p-1", account=14)
        await house.confirmed("p-1")
        assert standing(house, account=14) == []


async def test_a_late_quote_is_swept_and_named(tmp_path):
    async with house_of(tmp_path, quotes=0) as house:
        await house.start()
        await house.trip("p-1", account=14)
        await house.confirmed("p-1")
        bid, ask = house.sim.exchange.quotes.place(14, 37, 26, house.sim.now())
        await until(lambda: not bid.open and not ask.open, "the late quote is swept", shown=house.shown)
        await house.confirmed("p-1")
        await house.event("late_arrival", str(bid.order_id))


async def test_a_quote_whose_cancel_is_ignored_goes_side_by_side(tmp_path):
    async with house_of(tmp_path) as house:
        house.sim.faults.inject(Lie(call="CancelQuote"))
        await house.start()
        await house.trip("p-1", account=14)
        await house.confirmed("p-1")
        assert standing(house, account=14) == []


async def test_a_block_trade_is_residual_by_name_until_it_is_gone(tmp_path):
    async with house_of(tmp_path, quotes=0, block_trades=1) as house:
        await house.start()
        await house.trip("p-1", account=14)
        view = await outcome(house, "p-1", "escalated", "RESIDUAL")
        (report,) = standing(house, account=14)
        assert view["orders_left"] == 1
        await house.event("escalated", f"block trades {report.order_id} of account 14 stay")
        assert said(house, "CancelOrder") == []
        house.sim.exchange.cancel_order(
            house.sim.exchange.users[1], now=house.sim.now(), order_id=report.order_id, account=14
        )
        await house.confirmed("p-1")


@pytest.mark.parametrize(
    "fault",
    [Error(code=20, call="GetOpenQuotes"), Error(code=106, call="GetOpenQuotes"), UnknownCall(call="GetOpenQuotes")],
)
async def test_what_can_not_be_listed_is_unknown_and_the_orders_are_gone_all_the_same(tmp_path, fault):
    async with house_of(tmp_path) as house:
        house.sim.faults.inject(fault)
        await house.start()
        await house.trip("p-1", account=14)
        view = await outcome(house, "p-1", "escalated", "UNKNOWN")
        assert view["orders_left"] == 0
        assert {order.quote for order in standing(house, account=14)} == {True}
        house.sim.faults.clear()
        await house.confirmed("p-1")
        assert standing(house, account=14) == []


async def test_a_credential_that_may_not_see_quotes_is_told_of_at_the_start_and_by_the_check(tmp_path):
    async with house_of(tmp_path, BOTH | {"whole_oms": False}, quotes=0, api_user=37) as house:  # no market maker
        sentence = "quotes can't be listed (refused: Not Authorized)"
        _, told = await check(house)
        assert any(sentence in finding for finding in told["online"]["findings"]), told["online"]
        assert told["online"]["oms"][0]["beside"] == {"quotes": "refused: Not Authorized", "block trades": ""}
        _, lines = await check(house, "--online")
        assert "can be listed" in lines
        await house.start()
        await house.event("not_listed", "the quotes of account 14 can't be listed: Not Authorized")
        assert any("will not be VERIFIED" in note for note in (await house.state())["notes"])
        await house.trip("p-1", account=14)
        await outcome(house, "p-1", "escalated", "UNKNOWN")
        assert standing(house, account=14) == []


async def test_the_check_looks_and_finds_nothing_wrong_where_all_can_be_listed(tmp_path):
    async with house_of(tmp_path) as house:
        _, told = await check(house)
        assert told["online"]["oms"][0]["beside"] == {"quotes": "", "block trades": ""}
        assert not [finding for finding in told["online"]["findings"] if "listed" in finding]
        assert said(house, "CancelQuote") == said(house, "CancelAllOrders") == []
