"""The simulator's HTTP face, asked by a bare client: http.client and json only."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
from dataclasses import dataclass

import pytest

from killswitch.simulator.faults import FaultError, parse_fault
from killswitch.simulator.gateway import Simulator
from killswitch.simulator.world import SimulatorOptions
from tests.simulator.client import bare, by_key

PATIENCE_S = 20.0


@dataclass(frozen=True)
class Got:
    status: int
    text: str

    @property
    def body(self):
        return json.loads(self.text)


class Web:
    """Requests by hand, a connection each."""

    def __init__(self, sim) -> None:
        self.sim = sim
        self.token = ""

    async def ask(self, name: str, body: object = None, *, method: str = "POST", headers=None) -> Got:
        return await asyncio.to_thread(self._ask, name, body, method, headers or {})

    def _ask(self, name, body, method, headers) -> Got:
        face = self.sim.http
        connection = http.client.HTTPConnection(face.host, face.port, timeout=PATIENCE_S)
        try:
            path = name if name.startswith("/") else f"/AP/{name}"
            token = {"aptoken": self.token} if self.token else {}
            sent = None if method == "GET" else json.dumps({} if body is None else body)
            connection.request(method, path, sent, {"Content-Type": "application/json", **token, **headers})
            answer = connection.getresponse()
            return Got(answer.status, answer.read().decode())
        finally:
            connection.close()

    async def sign_in(self, user: int = 1, name: str = "Authenticate") -> dict:
        got = await self.ask(name, headers=by_key(self.sim.exchange.users[user]))
        assert got.status == 200
        reply = {key.lower(): value for key, value in got.body.items()}
        self.token = reply["sessiontoken"] or ""
        return reply


def options(**given) -> SimulatorOptions:
    """One user and one instrument, so that the first three orders rest on the three accounts."""
    return SimulatorOptions(http_port=0, users=(37,), instruments=(25,), **given)


def all_of(account: int) -> dict:
    return {"OMSId": 1, "AccountId": account}


@pytest.mark.parametrize("name", ["Authenticate", "AuthenticateUser"])
@pytest.mark.parametrize("dialect", ["v2", "v3", "v4"])
async def test_an_api_key_signs_in_by_headers_and_gets_a_token(name, dialect):
    async with Simulator(options(dialect=dialect)) as sim:
        reply = await Web(sim).sign_in(name=name)
        assert reply["authenticated"] is True
        assert reply["sessiontoken"]


async def test_a_password_signs_in_by_basic_authentication_and_a_wrong_one_does_not():
    async with Simulator(options()) as sim:
        user = sim.exchange.users[37]
        for password, let_in in ((user.password, True), ("wrong", False)):
            basic = base64.b64encode(f"{user.name}:{password}".encode()).decode()
            got = await Web(sim).ask("Authenticate", headers={"Authorization": f"Basic {basic}"}, method="GET")
            assert (got.status, got.body["Authenticated"]) == (200, let_in)


async def test_refused_sign_ins_over_http_count_with_those_over_websocket_and_lock_the_user():
    async with Simulator(options(failed_logins=2)) as sim:
        bad = by_key(sim.exchange.users[1]) | {"Signature": "0" * 64}
        async with bare(sim) as socket:
            assert not (await socket.ask("AuthenticateUser", bad))["Authenticated"]
        assert (await Web(sim).ask("Authenticate", headers=bad)).body["Locked"] is True


async def test_a_second_factor_is_given_with_the_token_of_the_first_step():
    async with Simulator(options()) as sim:
        user = sim.exchange.users[37]
        user.two_factor = "123456"
        basic = base64.b64encode(f"{user.name}:{user.password}".encode()).decode()
        web = Web(sim)
        first = await web.ask("Authenticate", headers={"Authorization": f"Basic {basic}"})
        assert first.body["SessionToken"] is None
        pending = {"Pending2FaToken": first.body["TwoFAToken"]}
        web.token = (await web.ask("Authenticate2FA", {"Code": "123456"}, headers=pending)).body["SessionToken"]
        assert (await web.ask("GetUserAccounts", {"OMSId": 1, "UserId": 37})).body == [14, 15, 16]


async def test_an_unknown_path_and_a_private_call_without_a_session_are_told_alike():
    async with Simulator(options(orders=3)) as sim:
        web = Web(sim)
        for name in ("CancelAllOrders", "NoSuchCall", "SubscribeAccountEvents", "/AP/", "/", "/WSGateway/"):
            got = await web.ask(name, all_of(14))
            assert (got.status, got.text) == (404, "NOT FOUND"), name
        web.token = "f" * 32
        assert (await web.ask("GetOpenOrders", all_of(14))).status == 404
        assert len(sim.exchange.open_ids()) == 3


@pytest.mark.parametrize("header", ["APToken", "aptoken", "ApToken"])
async def test_a_cancel_goes_by_post_and_by_get_with_the_token_in_any_case(header):
    async with Simulator(options(orders=3)) as sim:
        web = Web(sim)
        await web.sign_in()
        token, web.token = web.token, ""
        got = await web.ask("CancelAllOrders", all_of(14), headers={header: token})
        assert (got.status, got.body["result"]) == (200, True)
        got = await web.ask("CancelAllOrders?OMSId=1&AccountId=15", method="GET", headers={header: token})
        assert got.body["result"] is True
        await until(lambda: {o.account for o in sim.exchange.open_orders()} == {16})


async def until(true) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():
            await asyncio.sleep(0.01)


async def test_both_faces_are_one_exchange_and_an_order_cancelled_over_http_is_told_over_the_socket():
    async with Simulator(options(orders=1)) as sim:
        web = Web(sim)
        await web.sign_in()
        async with bare(sim, user=1) as socket:
            await socket.ask("SubscribeAccountEvents", all_of(14))
            (order,) = sim.exchange.open_ids()
            await web.ask("CancelOrder", {"OMSId": 1, "OrderId": order})
            (event,) = await socket.events("OrderStateEvent", 1)
            assert (event.o["OrderId"], event.o["OrderState"]) == (order, "Canceled")


async def test_a_business_error_is_an_answer_with_status_200():
    async with Simulator(options()) as sim:
        web = Web(sim)
        await web.sign_in(37)
        got = await web.ask("CancelAllOrders", {"OMSId": 1})
        assert (got.status, got.body["errorcode"], got.body["errormsg"]) == (200, 20, "Not Authorized")


async def test_a_log_out_ends_the_token():
    async with Simulator(options()) as sim:
        web = Web(sim)
        await web.sign_in()
        assert (await web.ask("LogOut")).body["result"] is True
        assert (await web.ask("GetOpenOrders", all_of(14))).status == 404


async def test_public_calls_need_no_session():
    async with Simulator(options(dialect="v4")) as sim:
        web = Web(sim)
        assert (await web.ask("GetOMSVersion")).body["detail"] == "4.3.65.1063"
        assert (await web.ask("Ping")).body == {"msg": "PONG"}
        assert (await web.ask("GetValidate2FARequiredEndpoints")).body == []
        assert len((await web.ask("GetInstruments", {"OMSId": 1})).body) == 1


async def test_a_server_without_a_version_call_says_not_found():
    async with Simulator(options()) as sim:
        assert (await Web(sim).ask("GetOMSVersion")).status == 404


async def test_no_secret_of_a_sign_in_stands_in_the_log():
    async with Simulator(options()) as sim:
        user = sim.exchange.users[1]
        await Web(sim).sign_in()
        await Web(sim).ask(f"Authenticate?APIKey={user.api_key}", method="GET")
        assert user.api_key not in repr(list(sim.exchange.log.requests))


# --- faults -------------------------------------------------------------------------------------------------


async def test_a_token_can_be_gone_in_the_middle():
    async with Simulator(options(orders=3)) as sim:
        web = Web(sim)
        await web.sign_in()
        sim.faults.inject("http_token_gone=1")
        assert (await web.ask("CancelAllOrders", all_of(14))).status == 404
        assert len(sim.exchange.open_ids()) == 3
        assert (await web.ask("CancelAllOrders", all_of(14))).status == 404  # it stays gone
        await web.sign_in()
        assert (await web.ask("CancelAllOrders", all_of(14))).status == 200


@pytest.mark.parametrize("status", [200, 429])
async def test_too_many_calls_are_answered_in_bare_text_and_not_carried_out(status):
    async with Simulator(options(orders=3, faults=(f"http_too_many=1,status={status}",))) as sim:
        web = Web(sim)
        await web.sign_in()
        got = await web.ask("CancelAllOrders", all_of(14))
        assert (got.status, got.text) == (status, "TOO MANY REQUESTS")
        assert len(sim.exchange.open_ids()) == 3


async def test_a_replica_that_lags_shows_what_was():
    async with Simulator(options(orders=3)) as sim:
        web = Web(sim)
        await web.sign_in()
        await asyncio.sleep(0.05)
        await web.ask("CancelAllOrders", all_of(14))
        await until(lambda: len(sim.exchange.open_ids()) == 2)
        sim.faults.inject("http_lag=3600,times=1")
        assert (await web.ask("GetOpenOrders", all_of(14))).body == []  # so long ago there was none yet
        sim.exchange.orders[next(iter(sim.exchange.orders))].received_ms -= 10_000
        sim.faults.inject("http_lag=5,times=1")
        (row,) = (await web.ask("GetOpenOrders", all_of(14))).body
        assert (row["OrderState"], row["Quantity"]) == ("Working", 1)
        assert (await web.ask("GetOpenOrders", all_of(14))).body == []


@pytest.mark.parametrize("executed", [True, False])
async def test_a_call_can_stay_unanswered_or_be_cut_over_http_alone(executed):
    async with Simulator(options(orders=3)) as sim:
        said = "yes" if executed else "no"
        sim.faults.inject(f"no_answer=always,over=http,executed={said}")
        web = Web(sim)
        await web.sign_in()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await web.ask("CancelAllOrders", all_of(14))
        await until(lambda: len(sim.exchange.open_ids()) == (2 if executed else 3))
        sim.faults.clear()
        sim.faults.inject(f"close_on=CancelAllOrders,over=http,times=1,executed={said}")
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            await web.ask("CancelAllOrders", all_of(15))
        await until(lambda: len(sim.exchange.open_ids()) == (1 if executed else 3))
        async with bare(sim, user=1) as socket:
            assert (await socket.ask("CancelAllOrders", all_of(16)))["result"] is True


async def test_a_lie_an_error_and_a_late_answer_strike_here_too():
    async with Simulator(options(orders=3)) as sim:
        web = Web(sim)
        await web.sign_in()
        sim.faults.inject("lie=1")
        assert (await web.ask("CancelAllOrders", all_of(14))).body["result"] is True
        sim.faults.inject("error=102,times=1")
        assert (await web.ask("CancelAllOrders", all_of(14))).body["errorcode"] == 102
        sim.faults.inject("latency=0.3,over=http")
        began = sim.now()
        await web.ask("CancelAllOrders", all_of(14))
        assert sim.now() - began >= 0.3
        await until(lambda: len(sim.exchange.open_ids()) == 2)


async def test_a_fault_of_one_face_leaves_the_other_alone():
    async with Simulator(options(orders=3, faults=("no_answer=always,over=ws", "deaf=always,over=ws"))) as sim:
        web = Web(sim)
        await web.sign_in()
        assert (await web.ask("CancelAllOrders", all_of(14))).body["result"] is True


def test_over_is_one_of_the_two_faces():
    with pytest.raises(FaultError, match="over is ws or http"):
        parse_fault("deaf=1,over=mqtt")


async def test_it_stops_at_once_with_requests_under_way_and_starts_again_on_its_port():
    async with Simulator(options(faults=("no_answer=always,call=GetOpenOrders,over=http",))) as sim:
        web, port = Web(sim), sim.http.port
        await web.sign_in()
        hanging = asyncio.create_task(web.ask("GetOpenOrders", all_of(14)))
        await until(lambda: sim.exchange.log.of("GetOpenOrders"))
        began = sim.now()
        await sim.stop()
        assert sim.now() - began < 5
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            await hanging
        await sim.start()
        assert sim.http.port == port
        assert (await web.ask("GetUserAccounts", {"OMSId": 1, "UserId": 1})).body == []


async def test_a_request_that_is_too_long_is_not_read_to_its_end():
    async with Simulator(options()) as sim:
        assert (await Web(sim).ask("CancelAllOrders", {"x": "y" * 100_000})).status == 413


async def test_without_being_told_there_is_no_http_face():
    async with Simulator() as sim:
        assert sim.http is None
