"""The accounts "discover": what the OMS lists is swept, proven and heard; without its list nothing is VERIFIED."""

from __future__ import annotations

import signal

import pytest

from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import BTC_LIMIT, House, until

pytestmark = pytest.mark.mosquitto

BASE = 5_000_000_000


def house_of(tmp_path, server="v4", *, tables="", oms=None, **options):
    options = {"dialect": server, "orders": 12, "first_order_id": BASE} | options
    own = {"dialect": server, "accounts": "discover"} | (oms or {})
    return House(tmp_path, options=SimulatorOptions(**options), oms=own, tables=tables)


async def known(house):
    (oms,) = (await house.state())["omses"]
    return oms["accounts"], oms["accounts_complete"]


async def found(house, count, *, complete):
    async def so():
        return await known(house) == (count, complete)

    await until(so, f"{count} accounts are found", shown=house.shown, every_s=0.05)


@pytest.mark.parametrize("server", ["v3", "v4"])
async def test_every_account_is_proven_over_what_the_oms_lists_in_that_sweep(tmp_path, server):
    async with house_of(tmp_path, server) as house:
        house.sim.exchange.faults.inject("cut_page=2")  # each page holds less than it should
        await house.start()
        await found(house, 3, complete=True)
        house.sim.exchange.add_account(900)  # nobody tells of it
        hidden = house.sim.place(account=900, user=40, instrument=25).order_id
        await house.trip("p-1", account="every", instrument=25)
        await house.confirmed("p-1")
        assert house.open(instrument=25) == set()
        assert hidden not in house.open()
        assert len(house.open()) == 6
        assert await known(house) == (4, True)
        late = house.sim.place(account=900, user=40, instrument=25).order_id
        await until(lambda: late not in house.open(), "a late order there is heard of, or seen", shown=house.shown)


@pytest.mark.parametrize(
    ("server", "why"), [("v2", "the list of all accounts can't be had"), ("v4", "can't be had: not authorized")]
)
async def test_without_a_list_of_all_accounts_nothing_is_called_verified(tmp_path, server, why):
    api_user = 37 if server == "v4" else 1
    async with house_of(tmp_path, server, api_user=api_user) as house:
        await house.start(ready=False)  # a credential that may not cancel the whole OMS never is

        async def there():
            state = await house.state()
            if state is None or not any(broker["up"] for broker in state["brokers"]):
                return False
            return any(session["up"] for oms in state["omses"] for session in oms["sessions"])

        await until(there, "it is signed in and hears commands", shown=house.log, every_s=0.05)
        await house.trip("p-1", account="every")
        said = await house.event("escalated", "there may be more")
        assert why in said["text"].lower()
        await house.trip("p-2", account=14)
        await house.confirmed("p-2")
        assert house.open(account=14) == set()
        await house.trip("p-3", user=37)
        await house.confirmed("p-3")
        assert house.open(user=37) == set()
        assert house.trip_of("p-1")["outcome"] != "VERIFIED"


async def test_a_list_of_accounts_that_fails_is_asked_for_until_it_comes(tmp_path):
    async with house_of(tmp_path) as house:
        await house.start()
        await found(house, 3, complete=True)
        house.sim.exchange.faults.inject("error=102,call=GetAccounts,times=2")
        await house.trip("p-1", account="every")
        await house.event("escalated", "there may be more: the list of all accounts can't be had")
        await house.confirmed("p-1")
        assert house.open() == set()


async def test_an_account_of_which_nobody_knew_trips_a_rule_and_is_covered(tmp_path):
    async with house_of(tmp_path, tables=BTC_LIMIT) as house:
        await house.start()
        await found(house, 3, complete=True)
        assert (await house.state())["omses"][0]["uncovered_accounts"] == []
        await until(lambda: house.sim.exchange.log.of("GetAccountPositions"), "a snapshot is taken", shown=house.shown)
        house.sim.move_position(16, 1, to=60)
        trip = await house.any_trip()
        assert house.trip_of(trip)["scope"]["account"] == 16
        assert house.open(account=16) == set()
        assert len(house.open()) == 8


async def test_every_configured_scope_is_every_account_that_was_found(tmp_path):
    async with house_of(tmp_path, oms={"whole_oms": False}) as house:
        await house.start()
        await found(house, 3, complete=True)
        house.signal(signal.SIGUSR1)
        await until(lambda: len(house.trips()) == 3, "each account is tripped", shown=house.shown)
        await house.confirmed(*house.trips())
        assert house.open() == set()


async def test_a_restart_proves_nothing_before_the_accounts_are_listed_again(tmp_path):
    async with house_of(tmp_path) as house:
        await house.start()
        await house.trip("p-1", account="every")
        await house.confirmed("p-1")
        await house.kill()
        house.sim.exchange.add_account(900)
        fault = house.sim.exchange.faults.inject("error=102,call=GetAccounts")
        hidden = house.sim.place(account=900, user=40, instrument=25).order_id
        await house.start()
        await house.event("escalated", "there may be more")
        assert (await house.state())["trips"][0]["outcome"] != "VERIFIED"
        house.sim.exchange.faults.clear(type(fault))
        await until(lambda: hidden not in house.open(), "what rests where nobody looked is gone", shown=house.shown)
        await house.confirmed("p-1")
