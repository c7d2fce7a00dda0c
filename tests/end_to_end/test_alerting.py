"""A real Prometheus, with our sample and our alerts, watches a real daemon to which one thing after another happens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from urllib.parse import quote

import pytest

from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import BTC_LIMIT, ROOT, House, _get, until
from tests.mosquitto import free_port

pytestmark = [pytest.mark.mosquitto, pytest.mark.promtool]

MISSING = "prometheus is not installed: apt install prometheus"
SHIPPED = ROOT / "deploy" / "prometheus"


@contextlib.asynccontextmanager
async def prometheus(folder, house):
    """The shipped configuration, faster and with the ports of this test; gives its address."""
    program = shutil.which("prometheus")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    text = (SHIPPED / "prometheus.yml").read_text("utf-8").replace("127.0.0.1:9464", f"127.0.0.1:{house.http_port}")
    text = text.replace("127.0.0.1:9093", "127.0.0.1:1").replace(": 5s", ": 1s").replace(": 4s", ": 1s")
    (folder / "prometheus.yml").write_text(text, "utf-8")
    shutil.copy(SHIPPED / "alerts.yml", folder)
    address = f"127.0.0.1:{free_port()}"
    with (folder / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            program, "--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address={address}",
            cwd=folder, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield address
    finally:
        process.terminate()
        await process.wait()


async def asked(address, path):
    status, text = await asyncio.to_thread(_get, f"http://{address}/api/v1/{path}")
    return json.loads(text)["data"] if status == 200 else None


async def active(address):
    """Names of the alerts that are firing or wait to, and everything that they say."""
    data = await asked(address, "alerts")
    alerts = data["alerts"] if data else []
    assert not [alert for alert in alerts if "error expanding" in json.dumps(alert["annotations"])]
    return {alert["labels"]["alertname"]: alert for alert in alerts}


async def test_the_alerts_follow_what_happens_to_a_daemon(tmp_path):
    folder = tmp_path / "prometheus"
    folder.mkdir()
    (tmp_path / "house").mkdir()
    options = SimulatorOptions(orders=24, faults=("lie=always", "lie=always,call=CancelOrder"))
    feed = BTC_LIMIT.replace("stale_after_s = 30", "stale_after_s = 5")
    async with House(tmp_path / "house", options=options, tables=feed, confirm="deadline_s = 1.0") as house:
        await house.start()
        async with prometheus(folder, house) as address:

            async def told(*names):
                async def so():
                    return set(names) == set(await active(address))

                async def shown():
                    return await active(address)

                try:
                    await until(so, f"{names} and no other are active", every_s=0.2)
                except AssertionError as error:
                    raise AssertionError(f"{error}: {await shown()}") from None

            async def scraped():
                data = await asked(address, f"query?query={quote('killswitch_ready == 1')}")
                return bool(data and data["result"])

            await until(scraped, "it scrapes the daemon", every_s=0.2)
            # Before the first scrape all of them were gone, for less than the 30 s that this may take.
            await told("KillswitchWatchdog")

            await house.trip("p-1", account=14)
            await told("KillswitchWatchdog", "KillswitchTripped", "KillswitchEscalated")
            alert = (await active(address))["KillswitchEscalated"]
            assert alert["state"] == "firing"
            assert "prime 8, and NaN is not known" in alert["annotations"]["description"]

            await asyncio.to_thread(house.broker.stop)
            await told("KillswitchWatchdog", "KillswitchTripped", "KillswitchEscalated", "KillswitchBrokerAway")

            await house.sim.stop()
            blind = ("KillswitchNotReady", "KillswitchSessionDown", "KillswitchFeedStale")
            latched = ("KillswitchTripped", "KillswitchEscalated")
            await told("KillswitchWatchdog", *latched, "KillswitchBrokerAway", *blind)

            await house.kill()
            await told("KillswitchWatchdog", "KillswitchGone")
