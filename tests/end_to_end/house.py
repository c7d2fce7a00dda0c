"""A whole house for a test: a simulated OMS in this process, a real Mosquitto, the real daemon as a process.

async with House(tmp_path) as house:
    await house.start()
    await house.trip("p-1", account=14)
    await house.confirmed("p-1")
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import aiomqtt
from prometheus_client.parser import text_string_to_metric_families

from killswitch.simulator.gateway import Simulator
from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.letters import Letters
from tests.end_to_end.ports import quiet_port
from tests.mosquitto import Mosquitto

WITHIN_S = 40
"""What a loaded machine may take for something that takes milliseconds; nothing is measured with it."""
ROOT = Path(__file__).parent.parent.parent
NAME = "ks-a"
SECRET_FILE = "prime.secret"
TESTER = "tester"
BTC_LIMIT = """
[[feed]]
name = "positions"
kind = "oms"
oms = "prime"
stale_after_s = 30

[[rule]]
name = "btc"
reading = "position"
where = { product = "BTC" }
kind = "limit"
above = 50
scope = { oms = "prime", account = "{account}" }
"""
"""User and password of the test itself, where the broker wants one."""


def iso(wall=None):
    return datetime.fromtimestamp(time.time() if wall is None else wall, UTC).isoformat()


async def until(met, what, within_s=WITHIN_S, shown=lambda: "", every_s=0.01):
    """Wait until `met()` gives something true, and give that."""
    end = time.monotonic() + within_s
    while True:
        result = met()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return result
        assert time.monotonic() < end, f"it never came to be: {what}; {shown()}"
        await asyncio.sleep(every_s)


class House:
    """`tables`: more TOML; `sections`: lines of [daemon], [http], [confirm], [retry] …; `oms`: keys of [[oms]].

    Everything is there from the beginning but the daemon: that is `start`ed, `kill`ed and `stop`ped. Unless a
    test says otherwise an answer may take long, so that how many cancels leave doesn't hang on a busy machine.
    `password`: the daemon's at the broker, which then wants one.
    """

    def __init__(self, folder, *, options=None, tables="", broker=True, oms=None, password=None, **sections):
        self.folder = Path(folder)
        self.sim = Simulator(options or SimulatorOptions())
        self.tables, self.oms, self.password = tables, oms or {}, password
        self.sections = {"retry": "timeout_s = 10.0"} | sections
        self.http_port = quiet_port()
        self.letters = Letters()
        self.process = None
        self.broker = None
        self.broker_url = None  # another way to it than straight
        self.user = self.sim.exchange.users[self.sim.options.api_user]
        self._reader = None
        self._starts = 0
        if broker:
            (self.folder / "broker").mkdir(exist_ok=True)
            passwords = None if password is None else {"killswitch": password, TESTER: TESTER}
            self.broker = Mosquitto(self.folder / "broker", passwords=passwords)

    async def __aenter__(self):
        await self.sim.start()
        if self.broker is not None:
            await asyncio.to_thread(self.broker.start)
            self._reader = asyncio.create_task(self.letters.read(self.broker, TESTER))
            await until(lambda: self.letters.up, "the test reads at the broker")
        self.write_config()
        return self

    async def __aexit__(self, kind, error, trace):
        if kind is not None:
            print(f"--- the daemon's log:\n{self.log()[-20_000:]}")
        await self.kill()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        await self.sim.stop()
        if self.broker is not None:
            await asyncio.to_thread(self.broker.stop)

    # --- the daemon

    @property
    def config(self):
        return self.folder / "killswitch.toml"

    @property
    def journal(self):
        return self.folder / "killswitch.db"

    def write_config(self):
        """The configuration as `tables` and `sections` say now, and the secret beside it."""
        given = {"daemon": f'name = "{NAME}"', "http": f'listen = "127.0.0.1:{self.http_port}"'}
        given["mqtt"] = f"urls = {json.dumps([self.broker_url or self.broker.url] if self.broker else [])}"
        if self.password is not None:
            given["mqtt"] += '\nusername = "killswitch"\npassword_file = "mqtt.password"'
            self.keep_secret("mqtt.password", self.password)
        lines = []
        for section in ("daemon", "http", "mqtt", "confirm", "retry", "commands"):
            lines += [f"[{section}]", given.get(section, ""), self.sections.get(section, "")]
        own = {
            "name": "prime",
            "oms_id": self.sim.exchange.oms_id,
            "gateways": [self.sim.url],
            "dialect": "v2",
            "user_id": self.user.user_id,
            "api_key": self.user.api_key,
            "secret_file": SECRET_FILE,
            "accounts": list(self.sim.exchange.accounts),
            "whole_oms": True,
            "calls_per_minute": 12_000,
        } | self.oms
        given_of_it = [f"{key} = {json.dumps(value)}" for key, value in own.items() if value is not None]
        lines += ["[[oms]]", *given_of_it, self.tables]
        self.config.write_text("\n".join(lines), "utf-8")
        self.keep_secret(SECRET_FILE, self.user.api_secret)

    def keep_secret(self, name, secret):
        """A secret in a file beside the configuration; one that a test put there before stays."""
        file = self.folder / name
        if not file.exists():
            file.write_text(secret, "utf-8")
            file.chmod(0o600)

    async def start(self, *arguments, module=None, ready=True, env=None):
        """Start the daemon; `ready`: wait until it can cancel and hear commands. `module`: a runner of our own."""
        assert self.process is None
        self._starts += 1
        command = [*command_of(module), *arguments, "--config", str(self.config)]
        surroundings = {k: v for k, v in os.environ.items() if not k.startswith(("KILLSWITCH", "NOTIFY"))}
        with self.log_file.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=surroundings | (env or {}),
            )
        if ready:
            await self.ready()

    async def ready(self):
        """Signed in, journal writable, command topics subscribed."""

        async def so():
            assert self.process.returncode is None, f"the daemon has ended: {self.log()[-3000:]}"
            state = await self.state()
            return state and state["ready"] and (self.broker is None or any(b["up"] for b in state["brokers"]))

        await until(so, "the daemon is ready", shown=lambda: self.log()[-3000:], every_s=0.05)

    async def kill(self):
        """SIGKILL; harmless when it isn't running."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
        await self.ended()

    async def stop(self):
        """SIGTERM, and the exit code."""
        self.signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self, within_s=WITHIN_S):
        """Wait until it ends; the exit code."""
        process, self.process = self.process, None
        if process is None:
            return None
        try:
            return await asyncio.wait_for(process.wait(), within_s)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise AssertionError("the daemon didn't end") from None

    def signal(self, number):
        self.process.send_signal(number)

    @property
    def running(self):
        return self.process is not None and self.process.returncode is None

    @property
    def log_file(self):
        return self.folder / "daemon.log"

    def log(self):
        return self.log_file.read_text("utf-8", "replace") if self.log_file.exists() else ""

    # --- what is said to it

    async def pub(self, topic, payload, *more):
        """With mosquitto_pub, QoS 1, as anybody would."""
        where = ["-h", self.broker.host, "-p", str(self.broker.port), "-u", TESTER, "-P", TESTER]
        where += ["-q", "1", "-t", topic, *more]
        process = await asyncio.create_subprocess_exec("mosquitto_pub", *where, "-s", stdin=asyncio.subprocess.PIPE)
        await process.communicate(payload if isinstance(payload, bytes) else payload.encode())
        assert process.returncode == 0

    @contextlib.asynccontextmanager
    async def client(self):
        """An aiomqtt client, for more than one message at a time."""
        async with aiomqtt.Client(self.broker.host, self.broker.port, username=TESTER, password=TESTER) as client:
            yield client

    async def trip(self, name, **scope):
        await self.pub("killswitch/command/trip", trip_command(name, **scope))

    async def reset(self, name, trip):
        said = {"id": name, "trip": trip, "by": "bob", "reason": "calm again", "issued_at": iso()}
        await self.pub("killswitch/command/reset", json.dumps(said))

    async def reset_at_last(self, trip):
        """Reset as a person does who is told that it sweeps or waits for an answer: again, a moment later."""
        for n in range(200):
            await self.reset(f"{trip.replace('~', '.')}.{n}", trip)
            receipt = await self.receipt(f"{trip.replace('~', '.')}.{n}")
            if receipt["accepted"]:
                return
            assert receipt["reason"] in ("sweeping", "escalated") or "unanswered" in receipt["reason"], receipt
            await asyncio.sleep(0.05)
        raise AssertionError("no reset was accepted")

    # --- what is seen of it

    def trip_of(self, name):
        """The retained trip as it stands, None before it is there or after it is cleared."""
        return self.letters.retained.get(f"killswitch/trip/{name}")

    def trips(self):
        """All trips that the broker holds now, id -> payload."""
        held = self.letters.retained.items()
        return {k.rpartition("/")[2]: v for k, v in held if k.startswith("killswitch/trip/") and isinstance(v, dict)}

    async def confirmed(self, *names):
        """Wait until each of these trips stands at confirmed, VERIFIED; the last one's payload."""
        for name in names:
            await until(lambda name=name: proven(self.trip_of(name)), f"{name} is VERIFIED", shown=self.shown)
        return self.trip_of(names[-1])

    async def proofs(self, name, count):
        """Wait for the `count`-th time that a trip is confirmed, and until it stands so everywhere."""

        def told():
            return [e["kind"] for e in self.letters.events if e.get("trip") == name].count("confirmed") >= count

        async def stands():
            trips = (await self.state())["trips"]
            return any(t["trip"] == name and proven(t) for t in trips) and proven(self.trip_of(name))

        await until(told, f"{name} is confirmed {count} times", shown=self.shown)
        await until(stands, f"{name} stands at VERIFIED", shown=self.shown, every_s=0.05)

    async def any_trip(self):
        """Wait for one trip that nobody named, VERIFIED; its id."""
        await until(lambda: any(proven(t) for t in self.trips().values()), "some trip is VERIFIED", shown=self.shown)
        return next(name for name, view in self.trips().items() if proven(view))

    async def receipt(self, name, count=1):
        """The `count`-th receipt of a command's id, that is to say the latest of so many."""
        receipts = self.letters.receipts
        await until(lambda: len(receipts[name]) >= count, f"receipt {count} of {name}", shown=self.shown)
        return receipts[name][-1]

    async def event(self, kind, holds=""):
        """Wait for an event of this kind whose text holds this; it."""

        def seen():
            return next((e for e in self.letters.events if e["kind"] == kind and holds in e["text"]), None)

        return await until(seen, f"an event {kind} ({holds})", shown=self.shown)

    def shown(self):
        return f"trips {self.trips()}, events {self.letters.events[-10:]}, log {self.log()[-1500:]}"

    async def get(self, path):
        """Status and text of a GET; (0, "") when nobody answers."""
        return await asyncio.to_thread(_get, f"http://127.0.0.1:{self.http_port}{path}")

    async def state(self):
        status, text = await self.get("/state")
        return json.loads(text) if status == 200 else None

    async def metrics(self):
        """name or name{label=value,…} -> value; labels in order of their names."""
        status, text = await self.get("/metrics")
        assert status == 200
        return {
            _series(sample.name, sample.labels): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def metric(self, series, expected):
        """Wait until a metric has this value: what is published and what is counted differ by a moment."""

        async def so():
            return (await self.metrics()).get(series) == expected

        await until(so, f"{series} = {expected}", shown=self.shown, every_s=0.05)

    # --- the other side

    def cancels(self):
        """The bodies of every CancelAllOrders that arrived at the OMS."""
        return [request.body for request in self.sim.exchange.log.of("CancelAllOrders")]

    def open(self, **which):
        return self.sim.exchange.open_ids(**which)


def trip_command(name, **scope):
    said = {"id": name, "scope": {"oms": "prime", **scope}, "by": "alice", "reason": "a test"}
    return json.dumps(said)


def proven(view):
    return view is not None and view["state"] == "confirmed" and view["outcome"] == "VERIFIED"


def command_of(module):
    if module is not None:
        return [sys.executable, "-m", module]
    return [sys.executable, "-m", "killswitch", "run"]


def counts(requests):
    """Name -> how many of these requests."""
    count = defaultdict(int)
    for request in requests:
        count[request.name] += 1
    return count


def _series(name, labels):
    inside = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    return f"{name}{{{inside}}}" if inside else name


def _get(url):
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except (OSError, ValueError):
        return 0, ""
