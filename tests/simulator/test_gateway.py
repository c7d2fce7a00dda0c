"""The simulated gateway over real sockets: frames, sign-in, subscriptions, events, a large book."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from killswitch.simulator.gateway import Simulator, serve_forever
from killswitch.simulator.sign_in import Door
from killswitch.simulator.users import User
from killswitch.simulator.world import SimulatorOptions

from .client import Bare, bare, by_key

RECEIVED = {"result": True, "errormsg": "", "errorcode": 0, "detail": ""}


@pytest.fixture
async def sim():
    async with Simulator(SimulatorOptions(orders=12)) as simulator:
        yield simulator


async def test_ping_is_answered_before_signing_in(sim):
    async with bare(sim) as client:
        assert await client.ask("Ping") == {"msg": "PONG"}


async def test_an_unknown_function_is_a_frame_of_type_5_with_bare_text(sim):
    async with bare(sim, 1) as client:
        number = await client.send("GetOMSVersion")
        frame = await client.read()
        assert (frame.m, frame.i, frame.n, frame.o) == (5, number, "GetOMSVersion", "Endpoint Not Found")


@pytest.mark.parametrize("junk", ["", "hello", "[]", "{}", '{"m":0}', '{"m":9,"i":2,"n":"Ping","o":"{}"}', b"\xff\x00"])
async def test_a_frame_that_is_none_is_ignored_and_the_socket_stays(sim, junk):
    async with bare(sim) as client:
        await client.socket.send(junk)
        assert await client.ask("Ping") == {"msg": "PONG"}


async def test_a_business_error_is_an_ordinary_reply(sim):
    async with bare(sim, 37) as client:
        await client.send("CancelAllOrders", {"OMSId": 1})
        frame = await client.read()
        assert frame.m == 1
        assert (frame.o["result"], frame.o["errorcode"], frame.o["errormsg"]) == (False, 20, "Not Authorized")


async def test_other_paths_arent_served(sim):
    with pytest.raises(InvalidStatus) as refused:
        await connect(sim.url.replace("WSGateway", "elsewhere"), proxy=None)
    assert refused.value.response.status_code == 404
    async with connect(sim.url.rstrip("/"), proxy=None) as socket:
        assert await Bare(socket).ask("Ping") == {"msg": "PONG"}


async def test_a_request_beyond_the_limit_ends_the_connection(sim):
    async with bare(sim) as client:
        await client.send("Ping", "x" * 70_000)
        with pytest.raises(ConnectionClosed) as closed:
            await client.read()
        assert closed.value.rcvd.code == 1009


# Signing in.


async def test_a_signed_key_lets_in(sim):
    async with bare(sim) as client:
        reply = await client.ask("AuthenticateUser", by_key(sim.exchange.users[37]))
        assert reply["Authenticated"] is True
        assert reply["SessionToken"]
        assert (reply["User"]["UserId"], reply["User"]["OMSId"], reply["Requires2FA"]) == (37, 1, False)
        assert await client.ask("GetUserAccounts", {"OMSId": 1}) == [14, 15, 16]


def test_the_signature_is_the_one_that_others_computed():
    # Values from a public client's tests; the digest was derived from them independently.
    user = User(
        user_id=1, name="t", accounts=frozenset(), permissions=frozenset(),
        api_key="test_api_key", api_secret="test_secret_key",
    )  # fmt: skip
    body = {
        "APIKey": "test_api_key", "UserId": "001", "Nonce": "1234567890",
        "Signature": "6da3735d764bb64c26da9c2d202333a9c7c6ae55198bdbc4a9f696b4a58e5975",
    }  # fmt: skip
    assert Door({1: user}, oms_id=1, failures=5).authenticate(body).user is user


async def test_integers_do_for_the_user_and_the_nonce(sim):
    user = sim.exchange.users[37]
    signature = hmac.new(user.api_secret.encode(), f"737{user.api_key}".encode(), hashlib.sha256).hexdigest()
    async with bare(sim) as client:
        body = {"APIKey": user.api_key, "Signature": signature, "UserId": 37, "Nonce": 7}
        assert (await client.ask("AuthenticateUser", body))["Authenticated"] is True


@pytest.mark.parametrize(
    "change",
    [{"Signature": "00"}, {"Nonce": "1"}, {"UserId": "40"}, {"UserId": None}, {"APIKey": "x"}, {"APIKey": None},
     {"Signature": None}, {"UserId": "9" * 5000}, {"Signature": "\ud800"}],
)  # fmt: skip
async def test_a_wrong_signature_lets_nobody_in(sim, change):
    async with bare(sim) as client:
        reply = await client.ask("AuthenticateUser", by_key(sim.exchange.users[37]) | change)
        assert (reply["Authenticated"], reply["User"], reply["SessionToken"]) == (False, None, None)
        assert (await client.ask("CancelAllOrders", {"OMSId": 1, "AccountId": 14}))["errorcode"] == 20
        assert len(sim.exchange.open_ids()) == 12


async def test_name_and_password_let_in(sim):
    async with bare(sim) as client:
        password = sim.exchange.users[40].password
        reply = await client.ask("AuthenticateUser", {"UserName": "trader40", "Password": password})
        assert reply["User"]["UserId"] == 40


async def test_an_empty_password_opens_nothing(sim):
    sim.exchange.users[40].password = ""
    async with bare(sim) as client:
        reply = await client.ask("AuthenticateUser", {"UserName": "trader40", "Password": ""})
        assert reply["Authenticated"] is False


async def test_with_2fa_pending_the_reply_says_authenticated_and_nobody_is_signed_in(sim):
    user = sim.exchange.users[40]
    user.two_factor = "123456"
    async with bare(sim) as client:
        login = {"UserName": "trader40", "Password": user.password}
        reply = await client.ask("AuthenticateUser", login)
        assert (reply["Authenticated"], reply["Requires2FA"]) == (True, True)
        assert (reply["SessionToken"], reply["User"]) == (None, None)
        assert (await client.ask("GetUserAccounts", {"OMSId": 1}))["errorcode"] == 20
        assert (await client.ask("Authenticate2FA", {"Code": "1"}))["Authenticated"] is False
        assert (await client.ask("Authenticate2FA", {"Code": "123456"}))["User"]["UserId"] == 40
        assert await client.ask("GetUserAccounts", {"OMSId": 1}) == [14, 15, 16]
    async with bare(sim, 40):  # a key bypasses 2FA
        pass


async def test_failed_logins_lock_the_user_for_good(sim):
    user = sim.exchange.users[37]
    async with bare(sim) as client:
        wrong = by_key(user) | {"Signature": "00"}
        locked = [(await client.ask("AuthenticateUser", wrong))["Locked"] for _ in range(5)]
        assert locked == [False, False, False, False, True]
        reply = await client.ask("AuthenticateUser", by_key(user))
        assert (reply["Authenticated"], reply["Locked"]) == (False, True)
        user.locked = False
        user.failed_logins = 0
        assert (await client.ask("AuthenticateUser", by_key(user)))["Authenticated"] is True


async def test_log_out_ends_the_session_and_its_subscriptions(sim):
    async with bare(sim, 37) as client:
        await client.ask("SubscribeAccountEvents", {"OMSId": 1, "AccountId": 14})
        assert (await client.ask("LogOut"))["result"] is True
        assert (await client.ask("GetUserAccounts", {"OMSId": 1}))["errorcode"] == 20
        sim.move_position(14, 1, to=5)
        assert await client.silent()


async def test_the_log_holds_every_request_and_no_secret(sim):
    async with bare(sim, 37) as client:
        await client.ask("CancelAllOrders", {"OMSId": 1, "AccountId": 14})
        await client.ask("AuthenticateUser", '{"Password":"hunter2"')
    requests = sim.exchange.log.requests
    assert [(r.name, r.user) for r in requests] == [
        ("AuthenticateUser", None), ("CancelAllOrders", 37), ("AuthenticateUser", 37),
    ]  # fmt: skip
    assert requests[1].body == {"OMSId": 1, "AccountId": 14}
    assert sim.exchange.users[37].api_key not in str(requests)
    assert "hunter2" not in str(requests)
    assert sim.exchange.users[37].api_secret not in repr(sim.exchange.users)


# Events.


async def test_a_cancel_is_received_and_then_told_order_by_order(sim):
    async with bare(sim, 37) as client:
        assert await client.ask("SubscribeAccountEvents", {"OMSId": 1, "AccountId": 14}) == {"Subscribe": True}
        assert await client.ask("CancelAllOrders", {"OMSId": 1, "AccountId": 14}) == RECEIVED
        events = await client.events("OrderStateEvent", 4)
        assert all(e.o["OrderState"] == "Canceled" for e in events)
        assert {e.o["Account"] for e in events} == {14}
        assert await client.ask("GetOpenOrders", {"OMSId": 1, "AccountId": 14}) == []
        assert len(await client.ask("GetOpenOrders", {"OMSId": 1, "AccountId": 15})) == 4


async def test_event_numbers_collide_with_request_numbers(sim):
    async with bare(sim, 37) as client:
        await client.ask("SubscribeAccountEvents", {"OMSId": 1, "AccountId": 14})
        asked = await client.send("CancelAllOrders", {"OMSId": 1, "AccountId": 14})
        events = await client.events("OrderStateEvent", 4)
        assert [e.i for e in events] == [asked, asked + 2, asked + 4, asked + 6]
        later = await client.send("Ping")
        assert later in {e.i for e in events}


async def test_an_event_may_carry_the_number_of_a_request_that_still_waits(sim):
    sim.faults.inject("latency=0.3")
    async with bare(sim, 37) as client:
        await client.ask("SubscribeAccountEvents", {"OMSId": 1, "AccountId": 14})
        asked = await client.send("CancelAllOrders", {"OMSId": 1, "AccountId": 14})
        first = await client.read()
        assert (first.m, first.n, first.i) == (3, "OrderStateEvent", asked)


async def test_event_numbers_can_be_kept_apart(sim):
    sim.faults.inject("own_numbers=always")
    async with bare(sim, 37) as client:
        await client.ask("SubscribeAccountEvents", {"OMSId": 1, "AccountId": 14})
        await client.ask("CancelAllOrders", {"OMSId": 1, "AccountId": 14})
        assert all(e.i % 2 == 1 for e in await client.events("OrderStateEvent", 4))


async def test_foreign_accounts_cant_be_subscribed_to_except_by_the_operator(sim):
    sim.exchange.users[37].accounts = frozenset({14})
    async with bare(sim, 37) as client, bare(sim, 1) as operator, bare(sim) as nobody:
        subscription = {"OMSId": 1, "AccountId": 15}
        assert await client.ask("SubscribeAccountEvents", subscription) == {"Subscribe": False}
        assert await operator.ask("SubscribeAccountEvents", subscription) == {"Subscribe": True}
        assert (await nobody.ask("SubscribeAccountEvents", subscription))["errorcode"] == 20
        assert (await client.ask("SubscribeAccountEvents", {"OMSId": 1}))["errorcode"] == 100
        missing = {"OMSId": 1, "AccountId": 99}
        assert await operator.ask("SubscribeAccountEvents", missing) == {"Subscribe": False}
        sim.move_position(15, 1, to=7)
        (event,) = await operator.events("AccountPositionEvent", 1)
        assert (event.o["AccountId"], event.o["ProductSymbol"], event.o["Amount"]) == (15, "BTC", 7)
        assert await client.silent()


async def test_both_rejects_come_as_events(sim):
    async with bare(sim, 37) as client:
        await client.ask("SubscribeAccountEvents", {"OMSId": 1, "AccountId": 14})
        order = min(sim.exchange.open_ids(account=14, user=37))
        sim.fill(order)
        await client.ask("CancelOrder", {"OMSId": 1, "OrderId": order})
        (event,) = await client.events("CancelOrderRejectEvent", 1)
        assert (event.o["OrderId"], event.o["Status"]) == (order, "Rejected")
        sim.faults.inject("reject=1")
        assert await client.ask("CancelAllOrders", {"OMSId": 1, "UserId": 37}) == RECEIVED
        (event,) = await client.events("CancelAllOrdersRejectEvent", 1)
        assert (event.o["AccountId"], event.o["Status"]) == (0, "Rejected")


async def test_orders_sent_by_one_user_are_told_to_the_others_of_the_account(sim):
    async with bare(sim, 37) as client, bare(sim, 40) as other:
        await other.ask("SubscribeAccountEvents", {"OMSId": 1, "AccountId": 14})
        sent = {"OMSId": 1, "AccountId": 14, "InstrumentId": 25, "Side": 0, "OrderType": 2, "Quantity": 1}
        reply = await client.ask("SendOrder", sent | {"LimitPrice": 100.5})
        (event,) = await other.events("OrderStateEvent", 1)
        assert (event.o["OrderId"], event.o["EnteredBy"], event.o["Price"]) == (reply["OrderId"], 37, 100.5)


async def test_cancels_follow_at_the_rate_that_was_asked_for():
    options = SimulatorOptions(orders=12, cancel_rate=20.0, cancel_latency_s=0.1)
    async with Simulator(options) as sim, bare(sim, 1) as client:
        assert await client.ask("CancelAllOrders", {"OMSId": 1}) == RECEIVED
        await until(lambda: not sim.exchange.open_ids())
    times = [ending.at for ending in sim.exchange.log.endings]
    assert times[0] - sim.exchange.log.of("CancelAllOrders")[0].at >= 0.1
    assert times[-1] - times[0] == pytest.approx(11 / 20)


# Life.


async def test_twenty_thousand_orders_are_listed_and_cancelled_without_a_stall():
    started = time.monotonic()
    async with Simulator(SimulatorOptions(accounts=(14,), orders=20_000)) as sim:
        assert time.monotonic() - started < 20
        async with bare(sim, 1) as client, bare(sim, 37) as watcher:
            await watcher.ask("SubscribeAccountEvents", {"OMSId": 1, "AccountId": 14})
            rows = await client.ask("GetOpenOrders", {"OMSId": 1, "AccountId": 14})
            assert len(rows) == 20_000
            assert await client.ask("CancelAllOrders", {"OMSId": 1, "AccountId": 14}) == RECEIVED
            assert await client.ask("Ping") == {"msg": "PONG"}
            ended = {e.o["OrderId"] for e in await watcher.events("OrderStateEvent", 20_000)}
            assert ended == {row["OrderId"] for row in rows}
            assert await client.ask("GetOpenOrders", {"OMSId": 1, "AccountId": 14}) == []


async def test_a_stopped_simulator_comes_back_on_its_port_with_its_orders(sim):
    async with bare(sim, 1) as client:
        await client.ask("CancelAllOrders", {"OMSId": 1, "AccountId": 14})
        await until(lambda: len(sim.exchange.open_ids()) == 8)
        url = sim.url
        await sim.stop()
        with pytest.raises(ConnectionClosed):
            await client.read()
    with pytest.raises(OSError, match="onnect"):
        await connect(url, proxy=None)
    await sim.start()
    assert sim.url == url
    async with bare(sim, 1) as client:
        assert len(await client.ask("GetOpenOrders", {"OMSId": 1, "AccountId": 15})) == 4


async def test_dropped_sessions_are_cut_and_forgotten(sim):
    async with bare(sim, 1) as client, bare(sim) as other:
        await other.ask("Ping")
        assert len(sim.sessions) == 2
        sim.drop_sessions()
        for one in (client, other):
            with pytest.raises(ConnectionClosed) as closed:
                await one.read()
            assert closed.value.rcvd is None
    await until(lambda: sim.sessions == ())


async def test_a_client_that_leaves_takes_nothing_down(sim):
    async with bare(sim, 37) as client:
        await client.ask("SubscribeAccountEvents", {"OMSId": 1, "AccountId": 14})
        await client.send("CancelAllOrders", {"OMSId": 1, "AccountId": 14})
    await until(lambda: not sim.exchange.open_ids(account=14))
    async with bare(sim, 37) as client:
        assert await client.ask("GetOpenOrders", {"OMSId": 1, "AccountId": 14}) == []


async def test_simulate_prints_the_credential_it_made_and_not_the_one_it_was_given():
    made, given = [], []
    for lines, options in (
        (made, SimulatorOptions(orders=3)),
        (given, SimulatorOptions(api_user=37, api_key="mine", api_secret="hidden")),
    ):
        task = asyncio.create_task(serve_forever(options, lines.append))
        await until(lambda lines=lines: any(line.startswith("open orders") for line in lines))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert "open orders 3" in made
    assert any(line.startswith("api_secret ") for line in made)
    assert "hidden" not in " ".join(given)


async def until(holds) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)
