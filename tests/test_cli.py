"""The command line: each verb's sentences and exit codes, through real processes where it matters."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from killswitch import remote, terminal
from killswitch.cli import cli
from killswitch.simulator.gateway import Simulator
from killswitch.simulator.world import SimulatorOptions
from tests.mosquitto import Mosquitto, free_port

CANARY = "c4nary-which-nobody-may-ever-read"
WHO = ("--by", "ann", "--reason", "a test")
CONFIG = """\
[daemon]
name = "ks-a"
[http]
listen = "127.0.0.1:{http}"
[mqtt]
urls = [{broker}]
[confirm]
deadline_s = 1.0
[[oms]]
name = "prime"
oms_id = 1
gateways = ["{gateway}"]
dialect = "v2"
user_id = 1
api_key = "the-key"
secret_file = "prime.secret"
accounts = [14, 15, 16]
"""


class Home:
    """A folder with a configuration in it. Every output of every call is kept in `said`."""

    def __init__(self, folder: Path, gateway="ws://127.0.0.1:9/WSGateway/", broker="", more=""):
        self.folder, self.http = folder, free_port()
        self.config = folder / "killswitch.toml"
        self.said = ""
        (folder / "prime.secret").write_text(CANARY)
        (folder / "prime.secret").chmod(0o600)
        broker = f'"{broker}"' if broker else ""
        self.config.write_text(CONFIG.format(http=self.http, broker=broker, gateway=gateway) + more)

    def command(self, *argv):
        return [sys.executable, "-m", "killswitch", *map(str, argv)]

    @property
    def env(self):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("KILLSWITCH_")}
        return kept | {"KILLSWITCH_CONFIG": str(self.config)}

    def run(self, *argv, **env):
        """Exit code, stdout, and stderr with its lines joined: sentences are wrapped."""
        done = subprocess.run(
            self.command(*argv),
            cwd=self.folder,
            env=self.env | env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.said += done.stdout + done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout, " ".join(done.stderr.split())

    async def arun(self, *argv):
        return await asyncio.to_thread(self.run, *argv)

    def invoke(self, *argv):
        """In this process: fast, and open to a shorter wait."""
        done = CliRunner().invoke(cli, argv, env=self.env)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        self.said += done.output
        return done.exit_code, done.stdout, " ".join(done.stderr.split())


@pytest.fixture
def home(tmp_path):
    made = Home(tmp_path)
    yield made
    assert CANARY not in made.said


@pytest.fixture
async def oms(tmp_path):
    """A simulated OMS in this process, whose own table is looked at, and a home that leads there."""
    options = SimulatorOptions(orders=12, api_key="the-key", api_secret=CANARY)
    async with Simulator(options) as sim:
        sim.home = Home(tmp_path, sim.url)
        yield sim
        assert CANARY not in sim.home.said


def test_there_are_the_verbs_of_this_version_and_no_others(home):
    verbs = ["check", "demo", "journal", "replay", "reset", "run", "simulate", "status", "test", "trip"]
    assert sorted(cli.commands) == verbs
    code, out, _ = home.run("--help")
    assert code == 0
    assert all(verb in out for verb in cli.commands)


# --- usage and configuration: 2 -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("trip", "--oms", "prime", *WHO), "names neither an account nor a user must say --account every"),
        (("trip", "--oms", "prime", "--user", "every", *WHO), "must say --account every"),
        (("trip", "--oms", "prime", "--instrument", "25", *WHO), "must say --account every"),
        (("trip", "--oms", "prime", "--account", "0", *WHO), "must be an id above 0, or every"),
        (("trip", "--oms", "prime", "--account", "-1", *WHO), "must be an id above 0, or every"),
        (("trip", "--oms", "prime", "--account", "014", *WHO), "must be an id above 0, or every"),
        (("trip", "--oms", "prime", "--account", "1_4", *WHO), "must be an id above 0, or every"),
        (("trip", "--oms", "prime", "--account", "14.0", *WHO), "must be an id above 0, or every"),
        (("trip", "--oms", "prime", "--account", "", *WHO), "must be an id above 0, or every"),
        (("trip", "--oms", "prime", "--account", "9" * 5000, *WHO), "must be an id above 0, or every"),
        (("trip", "--oms", "prime", "--account", str(2**63), *WHO), "must be an id above 0, or every"),
        (("trip", "--oms", "prime", "--acount", "14", *WHO), "No such option"),
        (("trip", "--account", "14", *WHO), "Missing option '--oms'"),
        (("trip", "--oms", "nope", "--account", "14", *WHO), "no OMS is called 'nope' in the configuration"),
        (("trip", "--oms", "prime", "--account", "14", "--reason", "x"), "--by is required"),
        (("trip", "--oms", "prime", "--account", "14", "--by", "ann", "--reason", " "), "--reason is required"),
        (("trip", "--oms", "prime", "--account", "14", "--by", "a\x1b[2J", "--reason", "x"), "control characters"),
        (("trip", "--oms", "prime", "--account", "14", *WHO, "--wait", "nan"), "--wait"),
        (("reset", "--by", "ann", "--reason", "x"), "Missing argument 'TRIP'"),
        (("reset", "some-trip", "--by", "ann"), "--reason is required"),
        (("simulate", "--listen", "nonsense"), "must be HOST:PORT"),
        (("simulate", "--listen", "127.0.0.1:99999"), "must be HOST:PORT"),
        (("simulate", "--fault", "no_such=1"), "no fault is called 'no_such'"),
        (("simulate", "--dialect", "v5"), "'v5' is not one of 'v2', 'v3', 'v4'"),
        (("simulate", "--accounts", "14,x"), "ids above 0 with commas"),
        (("simulate", "--permissions", "Trading;Operator"), "names with commas"),
        (("simulate", "--accounts", "14,14"), "must differ"),
        (("simulate", "--secret-file", "nowhere"), "no secret can be read"),
        (("journal", "verify"), "there is no journal at"),
        (("journal", "verify", "nowhere.db"), "there is no journal at nowhere.db"),
        (("replay",), "Missing argument"),
        (("drill", "x"), "No such command"),
    ],
)
def test_a_usage_that_cannot_be_meant_is_one_sentence_and_exit_code_2(home, argv, sentence):
    code, out, errors = home.invoke(*argv)
    assert code == 2
    assert out == ""
    assert sentence in errors


def test_a_reset_of_what_is_no_trip_id_is_a_mistake(tmp_path):
    home = Home(tmp_path, broker="mqtt://127.0.0.1:9")
    code, _, errors = home.invoke("reset", "no/such#trip", *WHO)
    assert (code, "trip must be the id of a trip" in errors) == (2, True)


def test_each_verb_prints_the_configuration_that_it_uses_and_every_mistake_in_it(home):
    home.config.write_text(home.config.read_text() + f'colour = "{CANARY}"\n[mqqt]\n')
    for argv in (
        ("check",),
        ("run",),
        ("status",),
        ("trip", "--oms", "prime", "--account", "14", *WHO),
        ("trip", "--oms", "prime", "--account", "14", *WHO, "--direct"),
        ("reset", "x", *WHO),
        ("journal", "verify"),
    ):
        code, out, errors = home.invoke(*argv)
        assert (code, out) == (2, "")
        assert f"configuration: {home.config}" in errors
        assert "2 mistakes" in errors
        assert 'oms "prime".colour' in errors
        assert "mqqt" in errors


def test_the_configuration_is_the_option_then_the_environment_then_etc(home):
    code, _, errors = home.run("check", "--config", "other.toml")
    assert (code, "configuration: other.toml" in errors) == (2, True)
    code, _, errors = home.run("check", KILLSWITCH_CONFIG="")
    assert (code, "configuration: /etc/killswitch/killswitch.toml" in errors) == (2, True)


def test_check_ends_with_1_for_findings_and_0_without(home):
    code, out, _ = home.run("check")
    assert code == 1
    assert "There are no rules" in out
    code, out, _ = home.invoke("check", "--json")
    assert code == 1
    assert json.loads(out)["oms"][0]["uncovered"] == [14, 15, 16]
    rule = '[[rule]]\nname="r"\nreading="var"\nkind="limit"\nabove=1\nscope={oms="prime",account="{account}"}\n'
    feed = '[[feed]]\nname="f"\nkind="mqtt"\ntopic="risk/{account}/var"\nreading="var"\nstale_after_s=5\n'
    covered = home.config.read_text().replace("urls = []", 'urls = ["mqtt://127.0.0.1:1883"]')
    home.config.write_text(covered + feed + rule)
    code, out, _ = home.run("check")
    assert (code, "No findings." in out) == (0, True)


def test_mistakes_can_be_read_by_a_machine(home):
    home.config.write_text(home.config.read_text() + "[[rule]]\nname='r'\n")
    code, out, errors = home.run("check", "--json")
    said = json.loads(out)
    assert (code, said["config"]) == (2, str(home.config))
    assert 'rule "r".reading: it is required' in said["mistakes"]
    assert f"{len(said['mistakes'])} mistakes in the configuration" in errors


# --- trip --direct and --preview: no broker, no daemon ------------------------------------------------------


async def test_a_direct_trip_cancels_its_scope_alone_and_says_that_nothing_guards_it(oms):
    inside = oms.exchange.open_ids(account=14)
    outside = oms.exchange.open_ids() - inside
    code, out, _ = await oms.home.arun("trip", "--oms", "prime", "--account", "14", "--direct", *WHO)
    assert code == 0
    assert oms.exchange.open_ids() == outside
    assert "VERIFIED: no orders left" in out
    said = " ".join(out.split())
    assert "Not latched: nothing guards prime: account 14, all users, all instruments now." in said
    assert max(map(len, out.splitlines()[:-1])) <= 80  # the last one is a path
    (evidence,) = oms.home.folder.glob("direct-*.db")
    assert evidence.name in said
    assert not list(oms.home.folder.glob("direct-*.spool")), "an empty spool is nobody's evidence"
    code, out, _ = await oms.home.arun("journal", "verify", evidence)
    assert (code, "the chain holds" in out) == (0, True)


async def test_a_direct_trip_that_cannot_be_proven_ends_with_1_and_says_what_is_left(oms):
    oms.faults.inject("lie=always")
    oms.faults.inject("lie=always,call=CancelOrder")
    code, out, _ = await oms.home.arun(
        "trip", "--oms", "prime", "--account", "14", "--direct", *WHO, "--wait", "1.5", "--json"
    )
    assert code == 1
    said = json.loads(out)
    assert said["trip"]["outcome"] == "RESIDUAL"
    assert said["trip"]["orders_left"] == 4
    assert said["guarded"] is False


async def test_a_direct_trip_of_a_whole_oms_without_the_permission_is_refused(oms):
    code, _, errors = await oms.home.arun("trip", "--oms", "prime", "--account", "every", "--direct", *WHO)
    assert (code, "has no whole_oms" in errors) == (1, True)
    assert len(oms.exchange.open_ids()) == 12


async def test_a_wrong_secret_is_said_without_being_said(oms):
    (oms.home.folder / "prime.secret").write_text(CANARY[::-1])
    code, _, errors = await oms.home.arun("trip", "--oms", "prime", "--account", "14", "--direct", *WHO, "--wait", "2")
    assert code == 3
    assert "Invalid username or password" in errors
    assert "Nothing was cancelled" in errors
    assert CANARY[::-1] not in oms.home.said


async def test_an_interrupted_direct_trip_says_that_nothing_goes_on(oms):
    oms.faults.inject("lie=always")
    argv = oms.home.command("trip", "--oms", "prime", "--account", "14", "--direct", *WHO)
    process = await asyncio.create_subprocess_exec(
        *argv, env=oms.home.env, cwd=oms.home.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    while b"calls 1" not in (line := await process.stdout.readline()):
        assert line
    process.send_signal(signal.SIGINT)
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert b"nothing goes on with it" in errors
    assert b"Traceback" not in errors


async def test_a_preview_names_the_orders_and_cancels_none(oms):
    ids = sorted(oms.exchange.open_ids(account=15))
    code, out, _ = await oms.home.arun("trip", "--oms", "prime", "--account", "15", "--preview")
    assert code == 0
    assert "would cancel 4 orders" in out
    assert all(str(order) in out for order in ids)
    assert "account 15, instrument 25: 2 orders" in out
    code, out, _ = await oms.home.arun("trip", "--oms", "prime", "--account", "15", "--preview", "--json")
    assert (code, sorted(row["order_id"] for row in json.loads(out)["orders"])) == (0, ids)
    assert len(oms.exchange.open_ids()) == 12
    assert oms.exchange.log.of("CancelAllOrders") == []


async def test_a_preview_of_what_nobody_could_look_at_says_so_and_ends_with_1(oms):
    code, out, _ = await oms.home.arun("trip", "--oms", "prime", "--account", "77", "--preview")
    assert (code, "would cancel at least 0 orders" in " ".join(out.split())) == (1, True)
    assert "No list was had of account 77: there may be more orders." in out
    code, out, _ = await oms.home.arun("trip", "--oms", "prime", "--account", "77", "--preview", "--json")
    assert (code, json.loads(out)["accounts_failed"]) == (1, [77])


def test_an_oms_that_is_not_there_ends_preview_and_direct_trip_with_3(home, monkeypatch):
    monkeypatch.setattr("killswitch.cli.trip.PREVIEW_S", 0.5)
    trip = ("trip", "--oms", "prime", "--account", "14")
    code, _, errors = home.invoke(*trip, "--preview")
    assert (code, "could not be asked" in errors) == (3, True)
    code, _, errors = home.invoke(*trip, "--direct", *WHO, "--wait", "0.5")
    assert (code, "could not be reached within 0.5 s" in errors) == (3, True)


def test_a_refused_reset_says_what_to_do():
    said = {"id": "r-1", "accepted": False, "reason": "sweeping", "trip": None, "daemon": "ks-a", "durable": True}
    assert " ".join(terminal.receipt(said).split()) == (
        "refused by ks-a: sweeping: the scope isn't proven empty at the moment; `killswitch status` says when it is "
        "confirmed"
    )


def test_the_status_of_a_rule_names_each_series_and_the_rule_as_a_whole():
    labels = {"account": "14", "instrument": "25"}
    rule = {"rule": "var-limit", "limit": "above 9", "series": 1, "headroom": -0.5, "worst": labels}
    said = terminal.status({"rules": [rule | {"breaching": [labels, {}], "unknown": [labels, {}]}]})
    assert " ".join(said.split("Rules\n")[1].split()) == (
        "var-limit: headroom -50%, limit above 9, 1 series, worst account 14 instrument 25, IN BREACH account 14 "
        "instrument 25; as a whole, unknown account 14 instrument 25; as a whole"
    )


def test_a_status_of_a_thousand_series_still_fits_on_a_screen():
    many = [{"account": str(account)} for account in range(1, 1001)]
    rule = {
        "rule": "r",
        "limit": "above 9",
        "series": 1000,
        "headroom": -0.5,
        "breaching": many,
        "unknown": [*many, {}],
    }
    causes = [{"text": f"var is above 9 (account {account})", "count": 1} for account in range(1, 1001)]
    said = terminal.status({"rules": [rule], "trips": [{"trip": "t", "causes": causes}]})
    assert len(said.splitlines()) < 30
    words = " ".join(said.split())
    assert "IN BREACH account 1; account 2; account 3; account 4; account 5; account 6; 994 more," in words
    assert words.endswith("unknown as a whole; account 1; account 2; account 3; account 4; account 5; 995 more")
    assert "and 990 more causes: --json shows more of them" in words


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"heard": True, "age_s": 2.0}, "oms: up, last heard 2.0 s ago, 7 readings"),
        ({"heard": True, "stale": True, "silent": ["price"]}, "last heard 40.0 s ago, STALE: price, 7"),
        ({"stale": True, "unheard": ["price"], "silent": ["price"]}, "price never heard in 40.0 s, STALE: price, 7"),
        ({"unheard": ["position", "price"]}, "oms: up, never heard in 40.0 s, 7 readings"),
        (
            {"stale": True, "unheard": ["position", "price"], "silent": ["position", "price"]},
            "oms: up, never heard in 40.0 s, STALE, 7 readings",
        ),
    ],
)
def test_the_status_of_a_feed_names_the_readings_that_are_dead_while_others_live(said, words):
    feed = {"feed": "oms", "up": True, "age_s": 40.0, "readings": 7, "watched": ["position", "price"]}
    assert words in " ".join(terminal.status({"feeds": [feed | said]}).split())


def test_the_status_of_a_feed_of_an_older_daemon_is_shown_too():
    feed = {"feed": "oms", "up": True, "age_s": 40.0, "readings": 7, "stale": True, "heard": False}
    assert "oms: up, never heard in 40.0 s, STALE, 7 readings" in terminal.status({"feeds": [feed]})


def test_the_status_of_a_dead_man_says_when_it_isn_t_armed_yet():
    rule = {"rule": "dead", "limit": "no beat for 10 s", "series": 1, "headroom": None, "armed": False}
    said = " ".join(terminal.status({"rules": [rule]}).split())
    assert "dead: headroom unknown, limit no beat for 10 s, 1 series, not armed before its first beat" in said
    assert "not armed" not in terminal.status({"rules": [rule | {"armed": True}]})


# --- with a broker, and with a daemon -----------------------------------------------------------------------


def test_without_a_broker_nothing_is_sent_and_the_other_way_is_named(home):
    code, _, errors = home.invoke("trip", "--oms", "prime", "--account", "14", *WHO)
    assert code == 3
    assert "no broker is configured" in errors
    assert "`killswitch trip --direct` needs neither broker nor daemon" in errors


def test_a_broker_that_is_not_there_is_said_and_ends_with_3(tmp_path):
    home = Home(tmp_path, broker=f"mqtt://127.0.0.1:{free_port()}")
    for argv in (("trip", "--oms", "prime", "--account", "14", *WHO), ("reset", "x", *WHO)):
        code, _, errors = home.invoke(*argv)
        assert (code, "the broker could not be reached" in errors) == (3, True)
    code, _, errors = home.invoke("status")
    assert (code, "neither HTTP nor the broker answers" in errors) == (3, True)


def test_a_watch_goes_on_while_nobody_answers_and_ends_well_with_ctrl_c(tmp_path):
    home = Home(tmp_path, broker=f"mqtt://127.0.0.1:{free_port()}")
    argv = [sys.executable, "-m", "killswitch", "status", "--watch", "--config", str(home.config)]
    watching = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        looks = 0
        while looks < 2:
            line = watching.stdout.readline()
            assert line, watching.communicate()
            looks += line.startswith("neither HTTP nor the broker answers")
        watching.send_signal(signal.SIGINT)
        _, errors = watching.communicate(timeout=60)
    finally:
        watching.kill()
        watching.wait()
    assert (watching.returncode, "Traceback" in errors) == (0, False)


def test_a_status_that_another_program_answers_is_not_believed(tmp_path):
    home = Home(tmp_path)
    server = subprocess.Popen(
        [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(home.http)],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 20
        errors = "refused"
        while "refused" in errors and time.monotonic() < until:
            code, _, errors = home.invoke("status")
        assert (code, "is no killswitch daemon" in errors) == (3, True)
    finally:
        server.kill()
        server.wait()


@contextlib.asynccontextmanager
async def daemon(home: Home):
    """`killswitch run` as a process that has signed in and subscribed; stopped in order at the end."""
    log = home.folder / "daemon.log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *home.command("run", "--log-level", "debug"), cwd=home.folder, env=home.env, stderr=out
        )
    try:
        until = time.monotonic() + 30
        while "commands subscribed" not in log.read_text() or "session_up" not in log.read_text():
            assert process.returncode is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            await asyncio.sleep(0.02)
        yield process
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 20) == 0, log.read_text()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        home.said += log.read_text()


@pytest.fixture
async def desk(oms):
    """A simulated OMS, a broker, and a home that leads to both."""
    folder = oms.home.folder / "broker"
    folder.mkdir()
    broker = Mosquitto(folder)
    await asyncio.to_thread(broker.start)
    oms.home = Home(oms.home.folder, oms.url, broker.url)
    yield oms
    await asyncio.to_thread(broker.stop)
    assert CANARY not in oms.home.said


@pytest.mark.mosquitto
async def test_a_trip_is_watched_until_verified_shown_by_status_and_reset(desk):
    home = desk.home
    async with daemon(home) as process:
        cmdline = Path(f"/proc/{process.pid}/cmdline").read_text()
        assert CANARY not in cmdline
        code, out, _ = await home.arun("trip", "--oms", "prime", "--account", "14", *WHO)
        assert code == 0, out
        assert "VERIFIED: no orders left in prime: account 14, all users, all instruments." in " ".join(out.split())
        assert max(map(len, out.splitlines())) <= 80
        assert len(desk.exchange.open_ids()) == 8
        trip = next(line.split()[1] for line in out.splitlines() if line.startswith("trip "))

        code, out, _ = await home.arun("status")
        assert code == 0
        assert f"{trip}: confirmed, VERIFIED" in out
        assert "; covers orders" in " ".join(out.split())
        assert "Daemon ks-a: confirmed, ready" in out
        assert max(map(len, out.splitlines())) <= 80
        code, out, _ = await home.arun("status", "--json")
        assert (code, json.loads(out)["trips"][0]["outcome"]) == (0, "VERIFIED")

        code, out, _ = await home.arun("reset", "another", *WHO)
        assert (code, "refused by ks-a: no such trip" in out) == (1, True)
        code, out, _ = await home.arun("reset", trip, *WHO, "--json")
        assert (code, json.loads(out)["accepted"]) == (0, True)

        code, out, _ = await home.arun("trip", "--oms", "prime", "--account", "every", *WHO)
        assert (code, "refused by ks-a" in out) == (1, True)
        code, _, errors = await home.arun("run")
        assert (code, "another process has the journal" in errors) == (1, True)
        code, out, _ = await home.arun("journal", "verify")
        assert (code, "the chain holds" in out) == (0, True)
    log = (home.folder / "daemon.log").read_text()
    for word in ("the-key", "Signature", "APIKey"):
        assert word not in log, "a sign-in's frame was logged"


@pytest.mark.mosquitto
async def test_a_trip_that_does_not_become_empty_ends_with_1_and_stays_and_ctrl_c_leaves_it_running(desk):
    home = desk.home
    desk.faults.inject("lie=always")
    desk.faults.inject("lie=always,call=CancelOrder")
    async with daemon(home):
        code, out, _ = await home.arun("trip", "--oms", "prime", "--account", "14", *WHO, "--wait", "1.5", "--json")
        assert code == 1
        said = json.loads(out)
        assert said["receipt"]["accepted"] is True
        assert said["trip"]["outcome"] == "RESIDUAL"

        argv = home.command("trip", "--oms", "prime", "--account", "15", *WHO)
        process = await asyncio.create_subprocess_exec(
            *argv, env=home.env, cwd=home.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        while b"sweeping" not in (line := await process.stdout.readline()):
            assert line
        process.send_signal(signal.SIGINT)
        _, errors = await process.communicate()
        assert process.returncode == 1
        assert b"stays latched and the daemon goes on with it" in b" ".join(errors.split())
        assert b"Traceback" not in errors
        desk.faults.clear()
        until = time.monotonic() + 20
        while desk.exchange.open_ids() - desk.exchange.open_ids(account=16):
            assert time.monotonic() < until
            await asyncio.sleep(0.02)


@pytest.mark.mosquitto
async def test_a_command_without_a_receipt_says_whether_it_is_queued_and_is_carried_out_later(desk, monkeypatch):
    home = desk.home
    monkeypatch.setattr(remote, "RECEIPT_S", 0.3)
    trip = ("trip", "--oms", "prime", "--account", "16", *WHO)
    code, _, errors = await asyncio.to_thread(home.invoke, *trip)
    assert code == 3
    assert "knows no daemon ks-a" in errors
    async with daemon(home):
        pass
    code, _, errors = await asyncio.to_thread(home.invoke, *trip)
    assert code == 3
    assert "daemon ks-a is not connected; the command is still queued at the broker" in errors
    code, _, errors = await asyncio.to_thread(home.invoke, "status")
    assert code == 3
    assert "asking the broker for what it retains" in errors
    assert "no daemon is connected to the broker" in errors
    assert len(desk.exchange.open_ids(account=16)) == 4
    async with daemon(home):
        until = time.monotonic() + 20
        while desk.exchange.open_ids(account=16):
            assert time.monotonic() < until
            await asyncio.sleep(0.02)


# --- journal verify and simulate ----------------------------------------------------------------------------


async def test_a_broken_journal_is_told_with_its_place(oms):
    home = oms.home
    await home.arun("trip", "--oms", "prime", "--account", "14", "--direct", *WHO)
    (file,) = home.folder.glob("direct-*.db")
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE record SET body = replace(body, 'ann', 'bob')")
    connection.close()
    code, out, _ = await home.arun("journal", "verify", file)
    assert code == 1
    assert "BROKEN at record " in out
    code, out, _ = await home.arun("journal", "verify", file, "--json")
    assert (code, json.loads(out)["ok"]) == (1, False)
    file.write_bytes(b"no database at all, but long enough to be looked at" * 40)
    code, _, errors = await home.arun("journal", "verify", file)
    assert (code, "is no journal" in errors) == (1, True)


def test_the_simulator_says_where_it_is_and_stops_in_order(home):
    argv = ("simulate", "--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--accounts", "14,99", "--orders", "6")
    argv += ("--api-key", "the-key")
    argv += ("--dialect", "v4")
    process = subprocess.Popen(
        home.command(*argv, "--secret-file", home.folder / "prime.secret"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=home.env,
    )
    try:
        url = process.stdout.readline()
        assert url.count("ws://127.0.0.1:") == 2
        taken = url.split(":")[2].split("/")[0]
        code, _, errors = home.run("simulate", "--listen", f"127.0.0.1:{taken}")
        assert (code, "can't be listened on" in errors) == (3, True)
        process.terminate()
        out = process.stdout.read()  # not communicate, which loses what readline has read ahead
        process.wait(20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert "dialect v4" in out
    assert "accounts 14, 99" in out
    assert "open orders 6" in out
    assert CANARY not in out
    assert "Traceback" not in out
