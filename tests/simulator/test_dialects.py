"""What the same request does to servers of different ages: the simulator as v2, v3 and v4."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from killswitch.simulator.calls import answer
from killswitch.simulator.gateway import Simulator
from killswitch.simulator.world import SimulatorOptions, WorldError, build

from .client import bare, by_key

if TYPE_CHECKING:
    from killswitch.simulator.exchange import Exchange

BASE = 5_000_000_000
"""The twelve orders are BASE + 1 to BASE + 12."""
ALL = list(range(1, 13))
NEWER = ["v3", "v4"]

# account      14              15              16
# user      37      40      37      40      37      40
# instr   25  26  25  26  25  26  25  26  25  26  25  26
# order    1   2   3   4   5   6   7   8   9  10  11  12
#
# Which orders each body cancels when the operator sends it: on v2, on v3, on v4. v3 reads AccountId alone, v4
# AccountId and InstrumentId; what they don't read isn't there, and what isn't there is all of them.
TABLE = [
    ({"UserId": 37, "AccountId": 14, "InstrumentId": 25}, [1], [1, 2, 3, 4], [1, 3]),
    ({"UserId": 37, "AccountId": 14}, [1, 2], [1, 2, 3, 4], [1, 2, 3, 4]),
    ({"UserId": 37, "InstrumentId": 25}, [1, 5, 9], ALL, [1, 3, 5, 7, 9, 11]),
    ({"UserId": 37}, [1, 2, 5, 6, 9, 10], ALL, ALL),
    ({"AccountId": 14, "InstrumentId": 25}, [1, 3], [1, 2, 3, 4], [1, 3]),
    ({"AccountId": 14}, [1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]),
    ({"InstrumentId": 25}, [1, 3, 5, 7, 9, 11], ALL, [1, 3, 5, 7, 9, 11]),
    ({}, ALL, ALL, ALL),
    # 0 is "all of them", not "nothing".
    ({"AccountId": 0, "UserId": 37}, [1, 2, 5, 6, 9, 10], ALL, ALL),
    ({"AccountId": 0, "InstrumentId": 25}, [1, 3, 5, 7, 9, 11], ALL, [1, 3, 5, 7, 9, 11]),
    ({"AccountId": 0, "InstrumentId": 0}, ALL, ALL, ALL),
    ({"AccountId": 14, "InstrumentId": 0}, [1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]),
    # Spelling: v2 knows the vendor's only, the newer ones any case; a typo is an unknown key to all.
    ({"accountid": 14}, ALL, [1, 2, 3, 4], [1, 2, 3, 4]),
    ({"AccountId": 14, "IntrumentId": 25}, [1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]),
]


def twelve(dialect: str, **options) -> Exchange:
    """Three accounts x two users x two instruments, one order each."""
    return build(SimulatorOptions(dialect=dialect, orders=12, first_order_id=BASE + 1, **options))


def ask(exchange: Exchange, user: int, name: str, **body):
    text = answer(exchange, exchange.users[user], name, json.dumps({"OMSId": 1, **body}), 0.0)
    assert text is not None
    return json.loads(text)


def gone(exchange: Exchange) -> list[int]:
    exchange.advance(0.0)
    return sorted(e.order_id - BASE for e in exchange.log.endings)


@pytest.mark.parametrize("column", [1, 2, 3], ids=["v2", "v3", "v4"])
@pytest.mark.parametrize("row", TABLE, ids=lambda row: json.dumps(row[0]))
def test_a_cancel_of_all_orders_takes_what_this_dialect_reads_in_it(column, row):
    exchange = twelve(f"v{column + 1}")
    assert ask(exchange, 1, "CancelAllOrders", **row[0])["result"] is True
    assert gone(exchange) == row[column]


@pytest.mark.parametrize("dialect", NEWER)
def test_a_user_id_sent_by_the_operator_to_a_newer_server_ends_everybodys_orders(dialect):
    exchange = twelve(dialect)
    ask(exchange, 1, "CancelAllOrders", UserId=37)
    assert gone(exchange) == ALL


@pytest.mark.parametrize("dialect", NEWER)
def test_a_key_that_isnt_known_isnt_even_looked_at(dialect):
    exchange = twelve(dialect)
    assert ask(exchange, 37, "CancelAllOrders", UserId="nonsense", AccountId=14)["result"] is True
    assert gone(exchange) == [1, 2, 3, 4]


@pytest.mark.parametrize("dialect", NEWER)
@pytest.mark.parametrize("body", [{}, {"AccountId": 0}, {"UserId": 37}, {"AccountId": None, "UserId": 37}])
def test_without_an_account_a_newer_server_wants_the_operator_and_nothing_special(dialect, body):
    exchange = twelve(dialect)
    assert ask(exchange, 37, "CancelAllOrders", **body)["errorcode"] == 20
    assert gone(exchange) == []
    exchange.users[1].permissions -= {"CancelEveryOrder"}
    assert ask(exchange, 1, "CancelAllOrders", **body)["result"] is True
    assert gone(exchange) == ALL


@pytest.mark.parametrize("dialect", NEWER)
@pytest.mark.parametrize(
    "body",
    [{"OrderId": BASE + 1}, {"OrderId": BASE + 1, "AccountId": 0}, {"AccountId": 14, "ClientOrderId": 77},
     {"AccountId": 14, "OrderId": 0}],
)  # fmt: skip
def test_newer_servers_want_the_account_and_the_order_of_a_cancel(dialect, body):
    exchange = twelve(dialect)
    exchange.place(account=14, user=37, instrument=25, client_order_id=77, now=0.0)
    assert ask(exchange, 1, "CancelOrder", **body)["errorcode"] == 100
    assert ask(exchange, 1, "CancelOrder", AccountId=15, OrderId=BASE + 1)["errorcode"] == 104
    assert gone(exchange) == []
    assert ask(exchange, 1, "CancelOrder", AccountId=14, OrderId=BASE + 1)["result"] is True
    assert gone(exchange) == [1]


@pytest.mark.parametrize(("dialect", "expected"), [("v2", 20), ("v3", 0), ("v4", 0)])
def test_another_users_order_on_ones_own_account_can_be_cancelled_on_newer_servers(dialect, expected):
    exchange = twelve(dialect)
    exchange.users[37].accounts = frozenset({14})
    assert ask(exchange, 37, "CancelOrder", AccountId=14, OrderId=BASE + 3)["errorcode"] == expected
    assert ask(exchange, 37, "CancelOrder", AccountId=15, OrderId=BASE + 5)["errorcode"] == 20
    assert gone(exchange) == ([] if expected else [3])


@pytest.mark.parametrize(("dialect", "hidden"), [("v2", False), ("v3", False), ("v4", True)])
def test_quotes_arent_listed_by_v4_and_stay_after_a_cancel_of_everything(dialect, hidden):
    exchange = twelve(dialect)
    quote = exchange.place(account=14, user=37, instrument=25, quote=True, now=0.0)
    rows = ask(exchange, 1, "GetOpenOrders", AccountId=14)
    assert len(rows) == (4 if hidden else 5)
    assert sum(row["IsQuote"] for row in rows) == (0 if hidden else 1)
    ask(exchange, 1, "CancelAllOrders", AccountId=14)
    exchange.advance(0.0)
    assert ask(exchange, 1, "GetOpenOrders", AccountId=14) == []
    assert quote.open is hidden
    ask(exchange, 1, "CancelOrder", AccountId=14, OrderId=quote.order_id)
    exchange.advance(0.0)
    assert not quote.open


def test_some_rows_and_events_say_that_nobody_entered_the_order_and_the_exchange_knows_better():
    exchange = twelve("v4", nameless_every=3)
    late = exchange.place(account=14, user=40, instrument=25, now=0.0)
    rows = [row for account in (14, 15, 16) for row in ask(exchange, 1, "GetOpenOrders", AccountId=account)]
    nameless = {row["OrderId"] - BASE for row in rows if row["EnteredBy"] == 0}
    assert nameless == {1, 4, 7, 10, 13}
    assert all((row["UserName"] == "") is (row["EnteredBy"] == 0) for row in rows)
    event = json.loads(exchange.take_events()[-1].payload)
    assert (event["OrderId"], event["EnteredBy"], event["UserName"]) == (late.order_id, 0, "")
    assert late.order_id in exchange.open_ids(user=40)


def test_only_rows_before_3_3_are_short():
    row = ask(twelve("v2", short_rows=True), 1, "GetOpenOrders", AccountId=14)[0]
    assert (row["orderId"], row["account"], row["side"]) == (BASE + 1, 14, 0)
    assert "enteredBy" not in row
    with pytest.raises(WorldError, match="only servers before"):
        twelve("v3", short_rows=True)


@pytest.mark.parametrize(("dialect", "fields"), [("v2", True), ("v3", False), ("v4", True)])
def test_the_events_of_v3_dont_say_who_entered_an_order_though_its_rows_do(dialect, fields):
    exchange = twelve(dialect)
    exchange.place(account=14, user=37, instrument=25, now=0.0)
    assert ("EnteredBy" in json.loads(exchange.take_events()[-1].payload)) is fields
    assert ask(exchange, 1, "GetOpenOrders", AccountId=14)[0]["EnteredBy"] == 37


def test_rows_of_newer_servers_name_the_account_and_v4_has_another_word_for_no_price():
    found = {d: ask(twelve(d), 1, "GetOpenOrders", AccountId=14)[0] for d in ("v2", "v3", "v4")}
    assert [row.get("AccountName") for row in found.values()] == [None, "account 14", "account 14"]
    assert [row["InsideAsk"] for row in found.values()] == [
        9223372036.854775807, 9223372036.854775807, 79228162514264337593543950335,
    ]  # fmt: skip


@pytest.mark.parametrize("dialect", NEWER)
def test_the_operator_can_ask_for_all_accounts_a_page_at_a_time(dialect):
    exchange = twelve(dialect)
    assert [row["AccountId"] for row in ask(exchange, 1, "GetAccounts")] == [14, 15, 16]
    assert [row["AccountId"] for row in ask(exchange, 1, "GetAccounts", StartIndex=1, Limit=1)] == [15]
    assert ask(exchange, 1, "GetAccounts", StartIndex=3, Limit=10) == []
    assert ask(exchange, 37, "GetAccounts")["errorcode"] == 20
    exchange.faults.inject("cut_page=2,times=1")
    assert [row["AccountId"] for row in ask(exchange, 1, "GetAccounts", StartIndex=0, Limit=10)] == [14, 15]
    assert [row["AccountId"] for row in ask(exchange, 1, "GetAccounts", StartIndex=2, Limit=10)] == [16]
    assert ask(exchange, 1, "GetUserAccounts", UserId=37) == [14, 15, 16]
    assert answer(twelve("v2"), exchange.users[1], "GetAccounts", '{"OMSId":1}', 0.0) is None


def test_a_dialect_that_isnt_there_is_refused():
    with pytest.raises(WorldError, match="'v5' is no dialect"):
        twelve("v5")


# Over the socket.


@pytest.mark.parametrize(
    ("dialect", "version", "said"),
    [("v2", None, None), ("v3", None, "3.5.20.14"), ("v4", None, "4.3.65.1063"), ("v2", "2.23.1", "2.23.1"),
     ("v4", "", None), ("v3", "build of Tuesday", "build of Tuesday")],
)  # fmt: skip
async def test_the_version_is_told_to_anybody_where_the_call_exists_and_else_the_answer_is_bare_text(
    dialect, version, said
):
    async with Simulator(SimulatorOptions(dialect=dialect, version=version)) as sim, bare(sim) as client:
        await client.send("GetOMSVersion")
        frame = await client.read()
        if said is None:
            assert (frame.m, frame.o) == (5, "Endpoint Not Found")
        else:
            assert (frame.m, frame.o) == (1, {"result": True, "errormsg": None, "errorcode": 0, "detail": said})


@pytest.mark.parametrize("dialect", ["v2", "v3", "v4"])
async def test_an_unknown_function_is_bare_text_in_every_dialect(dialect):
    async with Simulator(SimulatorOptions(dialect=dialect)) as sim, bare(sim, 1) as client:
        await client.send("CancelEverything")
        frame = await client.read()
        assert (frame.m, frame.o) == (5, "Endpoint Not Found")


@pytest.mark.parametrize("dialect", ["v2", "v3", "v4"])
async def test_events_carry_numbers_of_our_own_requests_in_every_dialect(dialect):
    async with Simulator(SimulatorOptions(dialect=dialect, orders=12)) as sim, bare(sim, 37) as client:
        await client.ask("SubscribeAccountEvents", {"OMSId": 1, "AccountId": 14})
        asked = await client.send("CancelAllOrders", {"OMSId": 1, "AccountId": 14})
        assert [e.i for e in await client.events("OrderStateEvent", 4)] == [asked, asked + 2, asked + 4, asked + 6]


async def test_v3_answers_a_sign_in_in_camel_case_without_a_token():
    async with Simulator(SimulatorOptions(dialect="v3")) as sim, bare(sim) as client:
        reply = await client.ask("AuthenticateUser", by_key(sim.exchange.users[37]))
        assert (reply["authenticated"], reply["user"]["userId"], reply["user"]["omsId"]) == (True, 37, 1)
        assert "SessionToken" not in {key[:1].upper() + key[1:] for key in reply}


@pytest.mark.parametrize(("dialect", "key"), [("v2", "Subscribe"), ("v3", "Subscribe"), ("v4", "Subscribed")])
async def test_a_subscription_is_answered_in_the_words_of_the_dialect(dialect, key):
    user = {"v2": "UserName", "v3": "UserName", "v4": "Username"}[dialect]
    async with Simulator(SimulatorOptions(dialect=dialect)) as sim, bare(sim) as client:
        login = {user: "trader40", "Password": sim.exchange.users[40].password}
        await client.ask("AuthenticateUser", login)
        assert await client.ask("SubscribeAccountEvents", {"OMSId": 1, "AccountId": 14}) == {key: True}


async def test_a_secret_is_hidden_from_the_log_however_its_key_is_spelt():
    async with Simulator(SimulatorOptions(dialect="v4")) as sim, bare(sim) as client:
        login = {"username": "trader40", "password": sim.exchange.users[40].password}
        assert (await client.ask("AuthenticateUser", login))["Authenticated"] is True
        await client.ask("AuthenticateUser", '{"password":"hunter2"')
        assert sim.exchange.users[40].password not in str(sim.exchange.log.requests)
        assert "hunter2" not in str(sim.exchange.log.requests)
