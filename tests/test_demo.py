"""The demo as anybody runs it, and the verdict that it ends with seen to say no."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from killswitch.demo import Story
from killswitch.demo.parts import Layout
from killswitch.demo.verdict import cancelled_by, open_at, verdict
from killswitch.simulator.gateway import Simulator
from killswitch.simulator.world import SimulatorOptions, build
from tests.mosquitto import require_mosquitto

ROOT = Path(__file__).parents[1]
EMBEDDED = ROOT / ".venv-demo" / "bin" / "killswitch"
HERE = (sys.executable, "-m", "killswitch")


def run_demo(folder, *command, **env):
    """The demo's exit code and what it printed; its temporary folder lies in `folder`."""
    folder.mkdir()
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"TMPDIR": str(folder)} | env,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def assert_told_whole(code, out, errors):
    assert code == 0, out + errors
    assert errors == ""
    for line in (
        r"risk/14/var  262000",
        r"TRIP var-limit~",
        r'CancelAllOrders {"OMSId": 1, "AccountId": 14}',
        r"it took 24 orders: \d+ to \d+",
        r"GetOpenOrders showed \d+(, \d+)*, 0, 0\n",
        r"ms after the reading: VERIFIED",
        r"cancelled by Cancel(All)?Orders?, \d+ ms after it entered",
        r"refused by demo: var .*above 250000",
        r"accepted by demo: reset",
        r"ms after the fill: VERIFIED",
        r"records, the chain holds",
        r"ok +open orders in account 14 and 15: 0",
        r"ok +the late order \d+ is among the cancelled",
        r"ok +orders of other accounts: \d+, all still open",
        r"All of it held",
    ):
        assert re.search(line, out), (line, out)
    late = re.search(r"order (\d+) entered account 14", out)[1]
    assert f"account 14, order {late}" in out, "the daemon names the late order"
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.demo
def test_the_demo_runs_on_its_embedded_broker_and_leaves_nothing_behind(tmp_path):
    if not EMBEDDED.exists():
        missing = "the demo's environment is missing: make .venv-demo/.ready"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    folder = tmp_path / "demo"
    code, out, errors = run_demo(folder, str(EMBEDDED), "demo", "--broker", "embedded")
    assert_told_whole(code, out, errors)
    assert "embedded broker" in out
    assert list(folder.iterdir()) == []


@pytest.mark.demo
@pytest.mark.mosquitto
def test_the_demo_runs_on_mosquitto_whatever_the_environment_says(tmp_path):
    require_mosquitto()
    folder = tmp_path / "demo"
    strange = {"KILLSWITCH_CONFIG": "nowhere.toml", "KILLSWITCH_MQTT__PREFIX": "other", "STATE_DIRECTORY": "nowhere"}
    assert_told_whole(*run_demo(folder, *HERE, "demo", "--broker", "mosquitto", **strange))
    assert list(folder.iterdir()) == []


def test_without_any_broker_the_demo_says_what_to_install(tmp_path):
    code, out, errors = run_demo(tmp_path / "demo", sys.executable, "-c", NO_MOSQUITTO, "demo", "--broker", "mosquitto")
    assert code == 3, out
    assert "install mosquitto, or start the demo by `make demo`" in " ".join(errors.split())


NO_MOSQUITTO = "import shutil; shutil.which = lambda *a, **k: None; from killswitch.cli import main; main()"


@pytest.mark.demo
@pytest.mark.mosquitto
def test_interrupted_the_demo_stops_its_processes_and_removes_its_folder(tmp_path):
    require_mosquitto()
    process = subprocess.Popen(
        [*HERE, "demo", "--broker", "mosquitto"],
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        said = ""
        while "TRIP" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        assert processes_in(tmp_path)
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()  # not communicate, which loses what readline has read ahead
        process.wait(30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1
    assert "Interrupted. Nothing of the demo is left behind." in rest
    assert list(tmp_path.iterdir()) == []
    until = time.monotonic() + 10
    while processes_in(tmp_path):
        assert time.monotonic() < until, processes_in(tmp_path)
        time.sleep(0.05)


def processes_in(folder):
    """Command lines, of any process, that name the folder."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            said = file.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if f"{folder}/" in said:
            found.append(said)
    return found


# --- the verdict says no ------------------------------------------------------------------------------------


class Oms:
    """An exchange with 12 orders in three accounts, and the operator's hands."""

    def __init__(self):
        self.exchange = build(SimulatorOptions(orders=12))
        self.at = 1.0

    def place(self, account, user=40):
        self.at += 1
        return self.exchange.place(account=account, user=user, instrument=25, now=self.at)

    def cancel_all(self, **scope):
        self.at += 1
        body = {"OMSId": 1} | {{"account": "AccountId"}[part]: value for part, value in scope.items()}
        request = self.exchange.log.note(self.at, 1, 1, "CancelAllOrders", body)
        self.exchange.cancel_all(self.exchange.users[1], now=self.at, **scope)
        self.exchange.advance(self.at)
        return request

    def failed(self, late):
        return [check.words for check in verdict(self.exchange, tripped=(14, 15), late=late) if not check.ok]


@pytest.fixture
def oms():
    return Oms()


def test_the_verdict_holds_when_all_and_only_the_tripped_accounts_are_empty(oms):
    first = oms.cancel_all(account=14)
    late = oms.place(14).order_id
    oms.cancel_all(account=14)
    oms.cancel_all(account=15)
    assert oms.failed(late) == []
    assert len(cancelled_by(oms.exchange, first)) == 4
    assert [open_at(oms.exchange, 14, at) for at in (1.5, 2.5, 3.5, 4.5)] == [4, 0, 1, 0]


def test_the_verdict_fails_while_the_late_order_works(oms):
    oms.cancel_all(account=14)
    oms.cancel_all(account=15)
    late = oms.place(14).order_id
    assert oms.failed(late) == [
        "open orders in account 14 and 15: 1",
        f"the late order {late} is among the cancelled",
    ]


def test_the_verdict_fails_when_the_late_order_ended_by_a_fill(oms):
    oms.cancel_all(account=14)
    oms.cancel_all(account=15)
    late = oms.place(14).order_id
    oms.exchange.fill(late, now=oms.at)
    assert oms.failed(late) == [f"the late order {late} is among the cancelled"]


def test_the_verdict_fails_when_another_account_was_touched(oms):
    late = oms.place(14).order_id
    for account in (14, 15, 16):
        oms.cancel_all(account=account)
    assert oms.failed(late) == [
        "orders of other accounts: 4, all still open",
        "every cancel that came in named a tripped account",
    ]


def test_the_verdict_fails_when_a_cancel_named_no_account_though_it_took_nothing_else(oms):
    late = oms.place(14).order_id
    for account in (14, 15):
        oms.cancel_all(account=account)
    oms.exchange.log.note(oms.at, 1, 1, "CancelAllOrders", {"OMSId": 1})
    assert oms.failed(late) == ["every cancel that came in named a tripped account"]


def test_a_verdict_that_says_no_is_the_exit_code(tmp_path, capsys):
    sim = Simulator(SimulatorOptions(orders=12))
    layout = Layout(
        folder=tmp_path,
        gateway="",
        broker_port=1,
        http_port=1,
        user=1,
        api_key="",
        secret="",
        accounts=(14, 15, 16),
    )
    late = sim.place(14, 40, 25).order_id
    assert Story(sim, layout)._sum_up(late) == 1
    assert "FAILED  open orders in account 14 and 15: 9" in capsys.readouterr().out
