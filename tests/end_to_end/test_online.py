"""`check --online` against the real simulator and broker: what it says, how it ends, and that it disturbs nobody."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
import time

import pytest

from killswitch.config import load
from killswitch.config.tables import Gateway
from killswitch.online import look_around
from killswitch.simulator.faults import CloseOn, Deaf, Error, UnknownCall
from killswitch.simulator.gateway import Simulator
from killswitch.simulator.sign_in import Admission
from killswitch.simulator.world import SimulatorOptions
from tests.adapters.bare_broker import BareBroker
from tests.end_to_end.house import BTC_LIMIT, ROOT, House

CALM = SimulatorOptions(orders=24)
RULES = BTC_LIMIT
ASKED = ["AuthenticateUser", "Ping", "GetOMSVersion", "GetUserPermissions", "GetValidate2FARequiredEndpoints"]
ASKED += ["GetUserAccounts"]


async def check(house, *more, online=True):
    """The command line's exit code, its JSON and what it said beside; with `more`, its output in one line."""
    arguments = ["check", *(["--online"] if online else []), "--config", str(house.config), *(more or ["--json"])]
    surroundings = {k: v for k, v in os.environ.items() if not k.startswith("KILLSWITCH")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "killswitch", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=surroundings,
    )
    out, errors = await process.communicate()
    everything = (out + errors).decode()
    for secret in (house.user.api_secret, house.user.api_key, house.user.password, house.password):
        assert not secret or secret not in everything
    return process.returncode, everything if more else json.loads(out)


def house_of(folder, options=CALM, **more):
    return House(folder, options=options, **({"tables": RULES} | more))


def names(house, since=0):
    return [request.name for request in house.sim.exchange.log.requests][since:]


async def finds(tmp_path, sentence, *, options=CALM, code=1, **more):
    """A house of which exactly this is found, among what else may be."""
    async with house_of(tmp_path, options, **more) as house:
        ended, said = await check(house)
        online = said["online"]
        assert any(sentence in finding for finding in online["findings"]), online["findings"]
        assert ended == code
        assert names(house).count("AuthenticateUser") <= 1
        assert len(house.open()) == 24
        return online


async def test_all_is_well_and_the_check_ends_with_zero(tmp_path):
    async with house_of(tmp_path) as house:
        code, said = await check(house)
        assert (code, said["findings"], said["online"]["findings"]) == (0, [], []), said
        (oms,), (broker,) = said["online"]["oms"], said["online"]["brokers"]
        (gateway,) = oms["gateways"]
        assert (gateway["state"], oms["user"]) == ("signed in", 1)
        assert gateway["round_trip_s"] > 0
        assert gateway["clock_s"][0] <= 0 <= gateway["clock_s"][1]
        assert oms["permissions"] == ["CancelEveryOrder", "Operator", "Trading"]
        assert oms["second_factor_calls"] == []
        assert [(a["account"], a["open_orders"]) for a in oms["accounts"]] == [(14, 8), (15, 8), (16, 8)]
        assert (broker["state"], broker["version"], broker["refused_topics"]) == ("connected", "5", [])
        assert names(house) == [*ASKED, *["GetOpenOrders"] * 3]
        assert not house.sim.sessions


async def test_a_server_without_any_of_the_calls_is_no_fault_but_said(tmp_path):
    async with house_of(tmp_path) as house:
        for call in ("GetUserPermissions", "GetValidate2FARequiredEndpoints", "GetUserAccounts"):
            house.sim.faults.inject(UnknownCall(call=call))
        code, said = await check(house)
        online = said["online"]
        assert (code, online["findings"]) == (0, [])
        (oms,) = online["oms"]
        assert (oms["permissions"], oms["second_factor_calls"], oms["credential_accounts"]) == (None, None, None)
        assert oms["gateways"][0]["version_why"] == "the server doesn't know the call"
        assert [remark.split(": ")[1] for remark in online["remarks"]] == [
            "what the credential may do is not known",
            "whether cancels want a second factor is not known",
            "which accounts the credential has is not known",
        ]


@pytest.mark.parametrize(
    ("options", "whole_oms", "finding"),
    [
        ({"dialect": "v4"}, True, ""),
        ({"dialect": "v2"}, True, "the list of all accounts can't be had: "),
        ({"dialect": "v4", "api_user": 37}, False, ""),
        ({"dialect": "v4", "faults": ("cut_page=1",)}, True, ""),
    ],
)
async def test_accounts_that_are_to_be_discovered_are_looked_for(tmp_path, options, whole_oms, finding):
    own = {"dialect": options["dialect"], "accounts": "discover", "whole_oms": whole_oms}
    async with house_of(tmp_path, SimulatorOptions(orders=24, **options), oms=own) as house:
        code, said = await check(house)
        (oms,) = said["online"]["oms"]
        complete = not finding and whole_oms
        assert oms["all_accounts"] == ([14, 15, 16] if complete else None)
        assert code == (1 if finding else 0)
        assert [finding in text for text in said["online"]["findings"]] == ([True] if finding else [])
        listed = [account["account"] for account in oms["accounts"] if account["open_orders"] is not None]
        assert listed == ([] if options["dialect"] == "v2" else [14, 15, 16])
        if not complete and not finding:
            assert any("it is never VERIFIED" in remark for remark in said["online"]["remarks"])


@pytest.mark.parametrize(
    ("options", "dialect", "remarks"),
    [
        ({"version": "2.23.1"}, "v2", []),
        ({"dialect": "v4"}, "v4", []),
        ({}, "v3", ["the version isn't known"]),
        ({"dialect": "v4", "version": "5.0.1"}, "v3", ["version 5.0.1. dialect"]),
    ],
)
async def test_a_dialect_that_is_found_is_told(tmp_path, options, dialect, remarks):
    options = SimulatorOptions(orders=24, **options)
    async with house_of(tmp_path, options, oms={"dialect": "auto"}) as house:
        code, said = await check(house)
        gateway = said["online"]["oms"][0]["gateways"][0]
        assert (code, gateway["dialect"], said["online"]["oms"][0]["dialect"]) == (0, dialect, "auto")
        about = [remark for remark in said["online"]["remarks"] if 'dialect = "auto"' in remark]
        assert len(about) == len(remarks)
        assert all(words in remark for words, remark in zip(remarks, about, strict=True))
        code, text = await check(house, "--online")
        assert f"makes it dialect {dialect}" in " ".join(text.split())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"permissions": ("AccountReadOnly",), "api_user": 37}, "can't cancel: it has neither Trading nor Operator"),
        ({"permissions": ("Trading",), "api_user": 37}, "whole_oms = true, but the credential isn't Operator"),
        ({"two_factor_calls": ("CancelAllOrders",)}, "cancelallorders wants a second factor"),
        ({"two_factor_calls": ("cancelorder", "cancelallorders")}, "cancelallorders and cancelorder want a second"),
        ({"two_factor_calls": ("GetOpenOrders",)}, "accounts 14, 15, 16 can't be listed (refused: This endpoint"),
        ({"version": "4.3.65.1063"}, 'server is version 4.3.65.1063, the configuration says dialect = "v2"'),
        ({"version": "3.3.3"}, "it is not known to heed the instrument and the user in a cancel"),
        ({"clock_off_s": 3600.0}, "it is 3600 s ahead of ours"),
        ({"clock_off_s": -60.0}, "it is 60 s behind ours"),
    ],
)
async def test_each_finding_is_found(tmp_path, options, sentence):
    await finds(tmp_path, sentence, options=SimulatorOptions(orders=24, **options))


async def test_a_version_that_fits_the_dialect_is_no_finding(tmp_path):
    async with house_of(tmp_path, SimulatorOptions(orders=24, version="2.23.1")) as house:
        code, said = await check(house)
        assert (code, said["online"]["oms"][0]["gateways"][0]["version"]) == (0, "2.23.1")


async def test_accounts_that_one_side_alone_has_are_found(tmp_path):
    options = SimulatorOptions(orders=24, api_user=37)
    own = {"accounts": [14, 99], "whole_oms": False}
    online = await finds(tmp_path, "the credential has accounts 15, 16 too", options=options, oms=own)
    assert any("account 99 can't be listed (refused: Not Authorized)" in f for f in online["findings"])


async def test_a_list_that_is_refused_is_found(tmp_path):
    async with house_of(tmp_path) as house:
        house.sim.faults.inject(Error(code=20, call="GetOpenOrders", times=1))
        code, said = await check(house)
        (finding,) = said["online"]["findings"]
        assert code == 1
        assert "the open orders of account 14 can't be listed (refused: Not Authorized)" in finding
        assert [a["open_orders"] for a in said["online"]["oms"][0]["accounts"]] == [None, 8, 8]


async def test_a_list_over_which_the_connection_breaks_is_found_and_nobody_signs_in_again(tmp_path):
    async with house_of(tmp_path) as house:
        house.sim.faults.inject(CloseOn(call="GetOpenOrders"))
        code, said = await check(house)
        assert code == 1
        assert "accounts 14, 15, 16 can't be listed (the connection broke)" in said["online"]["findings"][0]
        assert names(house).count("AuthenticateUser") == 1


async def test_many_accounts_are_not_all_listed_and_that_is_said(tmp_path):
    async with house_of(tmp_path, SimulatorOptions(accounts=30, orders=24)) as house:
        code, said = await check(house)
        assert (code, said["online"]["findings"]) == (0, [])
        assert "the orders of accounts 34, 35, 36" in said["online"]["remarks"][0]
        assert names(house).count("GetOpenOrders") == 20


async def test_a_thrifty_budget_of_calls_is_kept_to_and_the_time_too(tmp_path):
    async with house_of(tmp_path, oms={"calls_per_minute": 30}) as house:
        began = time.monotonic()
        code, said = await check(house)
        assert (code, said["online"]["findings"]) == (0, [])
        assert "were not listed: 15 s" in said["online"]["remarks"][-2]
        assert len(names(house)) <= 6
        assert time.monotonic() - began < 40


async def test_a_refused_sign_in_is_said_and_not_tried_again(tmp_path):
    async with house_of(tmp_path) as house:
        (tmp_path / "prime.secret").write_text("not-the-secret")
        house.oms = {"gateways": [house.sim.url]}
        code, said = await check(house)
        assert code == 1
        (finding,) = said["online"]["findings"]
        assert "the sign-in was refused: Invalid username or password" in finding
        assert names(house) == ["AuthenticateUser"]
        assert house.user.failed_logins == 1


async def test_a_gateway_that_quotes_the_sign_in_does_not_get_our_secrets_shown(tmp_path):
    async with house_of(tmp_path) as house:

        def quoting(body):
            said = f"can't read {json.dumps(dict(body))}"
            return Admission(reply=json.dumps({"Authenticated": False, "errormsg": said}))

        house.sim._door.authenticate = quoting
        code, said = await check(house)
        assert code == 1
        assert "the sign-in was refused: can't read" in said["online"]["findings"][0]
        assert "***" in said["online"]["findings"][0]


async def looked_at_two(house, second):
    """What is seen of an OMS with a second gateway."""
    config = load(house.config, {})
    gateways = (*config.oms[0].gateways, Gateway(url=second.url, address=f"127.0.0.1:{second.port}"))
    return await look_around(dataclasses.replace(config, oms=(dataclasses.replace(config.oms[0], gateways=gateways),)))


async def test_each_gateway_is_signed_in_to_once_and_one_of_them_is_asked(tmp_path):
    async with house_of(tmp_path) as house, Simulator(CALM) as second:
        second.exchange.users[1].api_key = house.user.api_key
        second.exchange.users[1].api_secret = house.user.api_secret
        seen = await looked_at_two(house, second)
        assert [gateway.state for gateway in seen.oms[0].gateways] == ["signed in", "signed in"]
        assert not seen.findings
        assert names(house) == [*ASKED, *["GetOpenOrders"] * 3]
        assert [request.name for request in second.exchange.log.requests] == ASKED[:3]


async def test_a_refusal_keeps_the_next_gateway_from_being_tried(tmp_path):
    async with house_of(tmp_path) as house, Simulator(CALM) as second:
        (tmp_path / "prime.secret").write_text("not-the-secret")
        seen = await looked_at_two(house, second)
        assert [gateway.state for gateway in seen.oms[0].gateways] == ["refused", "not tried"]
        assert not second.exchange.log.requests
        assert not seen.unreached


async def test_one_gateway_that_is_away_is_a_finding_but_the_oms_is_reached(tmp_path):
    async with house_of(tmp_path) as house:
        second = Simulator(CALM)
        async with second:
            pass
        seen = await looked_at_two(house, second)
        assert [gateway.state for gateway in seen.oms[0].gateways] == ["signed in", "unreachable"]
        assert (len(seen.findings), seen.unreached) == (1, False)


async def test_a_locked_user_is_said(tmp_path):
    async with house_of(tmp_path) as house:
        house.user.locked = True
        code, said = await check(house)
        assert code == 1
        assert "the user is locked; only an administrator can unlock it" in said["online"]["findings"][0]
        assert names(house) == ["AuthenticateUser"]


async def test_a_demand_for_a_second_factor_is_said(tmp_path):
    async with house_of(tmp_path) as house:
        house.user.two_factor = "123456"
        own = {"user_id": None, "api_key": None, "secret_file": None}
        house.oms = own | {"username": house.user.name, "password_file": "prime.password"}
        house.keep_secret("prime.password", house.user.password)
        house.write_config()
        code, said = await check(house)
        assert code == 1
        assert "a second factor is demanded" in said["online"]["findings"][0]


async def test_a_password_signs_in_and_asks_for_its_own_user(tmp_path):
    async with house_of(tmp_path) as house:
        own = {"user_id": None, "api_key": None, "secret_file": None}
        house.oms = own | {"username": house.user.name, "password_file": "prime.password"}
        house.keep_secret("prime.password", house.user.password)
        house.write_config()
        code, said = await check(house)
        assert (code, said["online"]["oms"][0]["user"]) == (0, 1), said


async def test_an_oms_that_is_away_ends_with_three_after_all_else_is_said(tmp_path):
    async with house_of(tmp_path) as house:
        await house.sim.stop()
        code, said = await check(house)
        await house.sim.start()
        assert code == 3
        (finding,) = said["online"]["findings"]
        assert "not reached: no connection: " in finding
        assert said["online"]["brokers"][0]["state"] == "connected"


async def test_a_deaf_gateway_is_given_up_in_time(tmp_path):
    async with house_of(tmp_path) as house:
        house.sim.faults.inject(Deaf())
        began = time.monotonic()
        code, said = await check(house)
        assert code == 3
        assert "no answer within 5 s" in said["online"]["findings"][0]
        assert time.monotonic() - began < 30
        assert names(house) == ["AuthenticateUser"]


async def test_a_gateway_without_tls_is_said(tmp_path):
    async with house_of(tmp_path) as house:
        house.oms = {"gateways": [house.sim.url.replace("ws://", "wss://")]}
        house.write_config()
        code, said = await check(house)
        assert code == 3
        (finding,) = said["online"]["findings"]
        assert "not reached: TLS" in finding or "it was cut while it was opened" in finding


async def test_a_broker_that_is_away_ends_with_three(tmp_path):
    async with house_of(tmp_path) as house:
        await asyncio.to_thread(house.broker.stop)
        code, said = await check(house)
        await asyncio.to_thread(house.broker.start)
        assert code == 3
        assert said["online"]["oms"][0]["gateways"][0]["state"] == "signed in"
        assert "not reached" in said["online"]["findings"][0]


async def test_a_broker_that_refuses_the_password_is_a_finding(tmp_path):
    async with house_of(tmp_path, password="right-one") as house:
        (tmp_path / "mqtt.password").write_text("wrong-one")
        code, said = await check(house)
        assert (code, said["online"]["brokers"][0]["state"]) == (1, "refused")
        assert "it doesn't let us in: the broker says: Not authorized" in said["online"]["findings"][0]


async def test_topics_that_can_not_be_subscribed_to_are_found(tmp_path):
    async with BareBroker() as bare, house_of(tmp_path, broker=False) as house:
        bare.granted = 0  # QoS 0 where 1 was asked for
        text = house.config.read_text().replace("urls = []", f'urls = ["mqtt://127.0.0.1:{bare.address.port}"]')
        house.config.write_text(text)
        code, said = await check(house)
        assert code == 1
        (finding,) = said["online"]["findings"]
        assert "subscribe to killswitch/command/trip, killswitch/command/reset with QoS 1" in finding
        assert not bare.published
        assert all(name.startswith("killswitch-check-") for name in bare.connections)


async def test_what_the_broker_takes_at_once_is_told(tmp_path):
    async with BareBroker() as bare, house_of(tmp_path, broker=False) as house:
        bare.told = b"\x21\x00\x14"  # MQTT 5, 3.2.2.3.3: Receive Maximum 20
        text = house.config.read_text().replace("urls = []", f'urls = ["mqtt://127.0.0.1:{bare.address.port}"]')
        house.config.write_text(text)
        code, said = await check(house)
        assert (code, said["online"]["brokers"][0]["receive_max"]) == (0, 20)


async def test_beside_a_running_daemon_nothing_of_the_daemons_is_disturbed(tmp_path):
    async with house_of(tmp_path, password="right-one") as house:
        await house.start()
        (session,) = house.sim.sessions
        await house.event("session_up")
        for _ in range(2):
            code, said = await check(house)
            assert code == 0, said
        assert house.sim.sessions == (session,)
        state = await house.state()
        assert state["ready"]
        assert all(broker["up"] for broker in state["brokers"])
        assert [event["kind"] for event in house.letters.events] == ["session_up"]
        assert "down" not in house.log()
        assert "session lost" not in house.log()
        assert not house.cancels()
        # The durable session is still the daemon's: what is sent now arrives.
        await house.trip("p-1", account=14)
        await house.confirmed("p-1")
        assert house.letters.receipts["p-1"][-1]["accepted"]


async def test_it_says_the_same_for_people_in_eighty_columns(tmp_path):
    options = SimulatorOptions(orders=24, version="4.3.65.1063", clock_off_s=None, permissions=())
    async with house_of(tmp_path, options) as house:
        code, said = await check(house, "--config", str(house.config))
        assert code == 1
        assert max(len(line) for line in said.splitlines() if str(tmp_path) not in line) <= 80
        assert "clock       not known: it tells no time" in said
        assert "may         nothing" in said
        assert "account 14  not listed: refused: Not Authorized" in said
        assert "1 finding" not in said


async def test_what_a_gateway_says_can_not_steer_a_terminal_nor_show_a_secret(tmp_path):
    options = SimulatorOptions(orders=24, api_user=37, permissions=("Trading\x1b[2J", "the-key-of-the-house"))
    async with house_of(tmp_path, options) as house:
        house.sim.exchange.users[37].api_key = "the-key-of-the-house"
        house.write_config()
        code, said = await check(house, "--config", str(house.config))
        assert code == 1
        assert "\x1b" not in said


async def test_mistakes_end_with_two_and_nobody_is_asked(tmp_path):
    async with house_of(tmp_path) as house:
        house.config.write_text(house.config.read_text() + "\nnonsense = 1\n")
        code, said = await check(house)
        assert (code, "mistakes" in said) == (2, True)
        assert not names(house)


async def test_a_list_of_rules_is_not_made_online(tmp_path):
    async with house_of(tmp_path) as house:
        code, said = await check(house, "--inventory")
        assert (code, "leave --online out" in said) == (2, True)
        assert not names(house)


async def test_without_the_option_nobody_is_asked(tmp_path):
    async with house_of(tmp_path) as house:
        code, said = await check(house, online=False)
        assert (code, "online" in said) == (0, False)
        assert not names(house)


# --- over HTTP ----------------------------------------------------------------------------------------------


def over_http_at(house, port=None):
    house.oms["http"] = f"http://127.0.0.1:{port or house.sim.http.port}/AP"
    house.write_config()


async def test_http_is_looked_at_beside_the_gateways(tmp_path):
    async with house_of(tmp_path, SimulatorOptions(http_port=0, dialect="v4"), oms={"dialect": "v4"}) as house:
        over_http_at(house)
        _, said = await check(house)
        (oms,) = said["online"]["oms"]
        assert (oms["http"]["state"], oms["http"]["version"], oms["http"]["dialect"]) == (
            "signed in",
            "4.3.65.1063",
            "v4",
        )
        web = [r.name for r in house.sim.exchange.log.requests if r.session == 0]
        assert web == ["Authenticate", "GetOMSVersion", "GetUserAccounts"]
        _, text = await check(house, "--online")
        assert f"OMS prime over HTTP at 127.0.0.1:{house.sim.http.port}/AP" in text


async def test_http_that_is_not_reached_is_a_finding_and_the_gateway_is_looked_at_all_the_same(tmp_path):
    async with house_of(tmp_path) as house:
        over_http_at(house, port=9)
        code, said = await check(house)
        assert code == 1
        (found,) = [f for f in said["online"]["findings"] if "/AP" in f]
        assert found.startswith("OMS prime, 127.0.0.1:9/AP: not reached: the sign-in: no connection: ")
        assert said["online"]["oms"][0]["gateways"][0]["state"] == "signed in"


async def test_after_a_refusal_by_a_gateway_nobody_signs_in_over_http(tmp_path):
    async with house_of(tmp_path, SimulatorOptions(http_port=0)) as house:
        over_http_at(house)
        (tmp_path / "prime.secret").write_text("not-the-secret")
        _, said = await check(house)
        assert said["online"]["oms"][0]["http"]["state"] == "not tried"
        assert not [r for r in house.sim.exchange.log.requests if r.session == 0]


async def test_a_server_over_http_whose_version_ignores_ids_of_our_cancels_is_a_finding(tmp_path):
    async with house_of(tmp_path, SimulatorOptions(http_port=0, dialect="v4")) as house:
        over_http_at(house)
        _, said = await check(house)
        assert len([f for f in said["online"]["findings"] if "/AP" in f and "Don't run with this" in f]) == 1
