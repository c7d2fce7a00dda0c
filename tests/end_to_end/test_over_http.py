"""Cancels over HTTP as the last resort: the gateway away or mute, the real daemon, and the simulator's HTTP face."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import subprocess

import pytest

from killswitch.simulator.http_calls import NO_SESSION
from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import House, until
from tests.end_to_end.proxy import Proxy
from tests.end_to_end.test_direct import trip as direct
from tests.end_to_end.test_gateways import gone
from tests.end_to_end.test_reload import reload
from tests.end_to_end.verdict import Verdict

pytestmark = pytest.mark.mosquitto

QUICK = "timeout_s = 0.5"
SOON = "deadline_s = 2.0"


@contextlib.asynccontextmanager
async def house_with_http(folder, *, faults=(), proxied=False, oms=None, **more):
    """A house whose gateway is behind a link that can fail, and so is its HTTP where it is `proxied`."""
    options = SimulatorOptions(orders=24, http_port=0, faults=faults, **more)
    sections = {"retry": QUICK, "confirm": SOON}
    async with Proxy() as gateway, Proxy(frames=False) as web, House(folder, options=options, **sections) as house:
        gateway.target, web.target = house.sim.port, house.sim.http.port
        port = web.port if proxied else house.sim.http.port
        house.oms |= {"gateways": [gateway.url], "http": f"http://127.0.0.1:{port}/AP"} | (oms or {})
        house.write_config()
        yield house, gateway, web


def over_http(house, name="CancelAllOrders"):
    return [r for r in house.sim.exchange.log.of(name) if r.session == NO_SESSION]


async def http_is(house, up):
    async def so():
        (oms,) = (await house.state())["omses"]
        return oms["sessions"][-1]["up"] == up

    await until(so, f"HTTP is {'up' if up else 'down'}", shown=house.log, every_s=0.05)


async def start(house):
    await house.start()
    await http_is(house, up=True)


async def escalated(house, name):
    def so():
        held = house.trip_of(name)
        return held if held and held["state"] == "escalated" else None

    return await until(so, "it escalates", shown=house.shown)


async def test_without_a_gateway_orders_are_cancelled_over_http_and_proven_when_one_is_back(tmp_path):
    async with house_with_http(tmp_path) as (house, gateway, _):
        verdict = Verdict(house, account=14)
        await start(house)
        await gone(gateway)
        await house.metric("killswitch_ready", 0)
        await house.trip("p-1", account=14)
        await until(lambda: not house.open(account=14), "the book is empty", shown=house.log)
        seen = await escalated(house, "p-1")
        assert (seen["outcome"], seen["orders_left"]) == ("UNKNOWN", None)
        said = await house.event("escalated", "received over HTTP")
        assert "where nothing can be listed" in said["text"]
        assert house.open(account=15)
        await gateway.accept()
        await house.confirmed("p-1")
        carried = {r.session for r in house.sim.exchange.log.of("CancelAllOrders")}
        assert carried - {NO_SESSION}, "the session that proves carried the cancel itself"
        await verdict.good("p-1")


async def test_a_mute_gateway_has_http_beside_it(tmp_path):
    """It takes calls and answers nothing; that it is dead is found seconds later than the cancel's time is up."""
    async with house_with_http(tmp_path) as (house, gateway, _):
        await start(house)
        gateway.mute()
        gateway.mute_new = True
        await house.trip("p-1", account=14)
        await until(lambda: not house.open(account=14), "the book is empty", within_s=4, shown=house.log)
        assert over_http(house)
        assert (await escalated(house, "p-1"))["outcome"] == "UNKNOWN"


async def test_a_gateway_that_answers_no_cancel_while_its_lists_come_is_helped_once(tmp_path):
    faults = ("no_answer=always,executed=no,over=ws",)
    async with house_with_http(tmp_path, faults=faults) as (house, _, __):
        await start(house)
        await house.trip("p-1", account=14)
        await house.confirmed("p-1")
        assert over_http(house)
        assert not house.open(account=14)


async def test_a_token_that_is_gone_in_the_middle_costs_one_sign_in(tmp_path):
    async with house_with_http(tmp_path) as (house, gateway, _):
        await start(house)
        await asyncio.sleep(5.0)  # sign-ins keep this distance
        before = len(over_http(house, "Authenticate"))
        await gone(gateway)
        await house.metric("killswitch_ready", 0)
        house.sim.faults.inject("http_token_gone=1")
        await house.trip("p-1", account=14)
        await until(lambda: not house.open(account=14), "the book is empty", shown=house.log)
        assert len(over_http(house, "Authenticate")) == before + 1


async def test_too_many_requests_is_no_answer_and_the_cancel_leaves_again(tmp_path):
    async with house_with_http(tmp_path, faults=("http_too_many=3",)) as (house, gateway, _):
        await start(house)
        await gone(gateway)
        await house.metric("killswitch_ready", 0)
        await house.trip("p-1", account=14)
        await until(lambda: not house.open(account=14), "the book is empty", shown=house.log)
        assert len(over_http(house)) >= 4


async def test_http_that_is_cut_and_comes_back_carries_the_cancel_then(tmp_path):
    async with house_with_http(tmp_path, proxied=True) as (house, gateway, web):
        await start(house)
        await gone(gateway)
        await gone(web)
        await house.metric("killswitch_ready", 0)
        await house.trip("p-1", account=14)
        await house.receipt("p-1")
        assert (await escalated(house, "p-1"))["outcome"] == "UNKNOWN"
        assert house.open(account=14)
        await web.accept()
        await until(lambda: not house.open(account=14), "the book is empty", shown=house.log)
        await gateway.accept()
        await house.confirmed("p-1")


async def test_a_lie_over_http_is_found_out_by_the_lists_of_the_gateway(tmp_path):
    async with house_with_http(tmp_path, faults=("lie=always",)) as (house, gateway, _):
        await start(house)
        await gone(gateway)
        await house.metric("killswitch_ready", 0)
        await house.trip("p-1", account=14)
        seen = await escalated(house, "p-1")
        assert seen["outcome"] == "UNKNOWN"
        assert house.open(account=14)
        house.sim.faults.clear()
        await gateway.accept()
        await house.confirmed("p-1")
        assert not house.open(account=14)


async def test_http_alone_makes_nobody_ready_and_says_what_it_could_do(tmp_path):
    async with house_with_http(tmp_path) as (house, gateway, _):
        await gone(gateway)
        await house.start(ready=False)
        await until(house.state, "it answers", shown=house.log)
        await http_is(house, up=True)
        state = await house.state()
        assert not state["ready"]
        assert f"no signed-in session to prime but over HTTP at 127.0.0.1:{house.sim.http.port}/AP" in str(state)
        metrics = await house.metrics()
        label = f"127.0.0.1:{house.sim.http.port}/AP"
        assert metrics[f"killswitch_session_up{{gateway={label},oms=prime}}"] == 1


async def test_order_by_order_goes_what_the_feed_had_listed(tmp_path):
    """A user's trip on a server that knows no user: over HTTP too nobody else's order is touched."""
    feed = """
[[feed]]
name = "positions"
kind = "oms"
oms = "prime"
stale_after_s = 30
snapshot_every_s = 1
"""
    async with house_with_http(tmp_path, dialect="v3", oms={"dialect": "v3"}) as (house, gateway, _):
        house.tables = feed
        house.write_config()
        await start(house)
        await until(lambda: len(house.sim.exchange.log.of("GetOpenOrders")) >= 3, "its orders are listed")
        await asyncio.sleep(0.5)
        others = house.sim.exchange.open_ids(user=40)
        await gone(gateway)
        await house.metric("killswitch_ready", 0)
        await house.trip("p-1", user=37, account=14)
        await until(lambda: not house.open(account=14, user=37), "the book is empty", shown=house.log)
        assert house.sim.exchange.open_ids(user=40) == others
        assert not over_http(house)


async def test_a_certificate_that_does_not_hold_is_said_and_the_gateway_works_on(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: apt install openssl")
    line = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=oms -keyout key.pem -out cert.pem"
    subprocess.run(["openssl", *line.split()], cwd=tmp_path, check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    async with house_with_http(tmp_path, oms={"http": f"https://127.0.0.1:{port}/AP"}) as (house, _, __):
        verdict = Verdict(house, account=14)
        await house.start()

        async def said():
            (oms,) = (await house.state())["omses"]
            return "the TLS certificate doesn't hold" in oms["sessions"][-1]["why"]

        await until(said, "it is said", shown=house.log, every_s=0.05)
        await house.trip("p-1", account=14)
        await verdict.good("p-1")
    server.close()


async def test_a_trip_without_daemon_and_broker_has_it_too(tmp_path):
    async with house_with_http(tmp_path) as (house, gateway, _):
        await gone(gateway)
        code, said = await direct(house, "--account", "14", "--direct", "--wait", "4")
        assert not house.open(account=14), said
        assert code == 1, said
        assert "UNKNOWN" in said, said


async def test_a_reload_adds_http_under_a_latched_trip_and_takes_it_away(tmp_path):
    async with house_with_http(tmp_path, oms={"http": None}) as (house, gateway, _):
        await house.start()
        await gone(gateway)
        await house.metric("killswitch_ready", 0)
        await house.trip("p-1", account=14)
        await house.receipt("p-1")
        assert house.open(account=14)
        house.oms["http"] = house.sim.http.url
        house.write_config()
        await reload(house)
        await until(lambda: not house.open(account=14), "the book is empty", shown=house.log)
        await gateway.accept()
        await house.confirmed("p-1")
        house.oms["http"] = None
        house.write_config()
        await reload(house)

        async def so():
            (oms,) = (await house.state())["omses"]
            return len(oms["sessions"]) == 1

        await until(so, "it shows no more", shown=house.log)
        await house.confirmed("p-1")
