"""A real Mosquitto for tests: on a free port of its own, with our deployment's settings.

Skips, saying what to install, where there is none; in CI (CI=true) a missing one is a failure.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import aiomqtt
import pytest

from killswitch.adapters.mqtt_session import Broker
from killswitch.domain.messages import BrokerUp, TripRequested

MISSING = "mosquitto is not installed: apt install mosquitto mosquitto-clients"
CONF = Path(__file__).parent.parent / "deploy" / "mosquitto" / "killswitch.conf"


def require_mosquitto() -> str:
    """The program's path."""
    found = shutil.which("mosquitto", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Mosquitto:
    """One broker. `folder`: where its configuration, database and log live; `options`: more lines of it.

    `passwords`: user -> password; then nobody else gets in. `ours` False leaves deploy's settings out.
    """

    def __init__(
        self,
        folder: Path,
        *,
        options: str = "",
        passwords: dict[str, str] | None = None,
        ours: bool = True,
    ) -> None:
        self.program = require_mosquitto()
        self.folder, self.port = folder, free_port()
        self.host = "127.0.0.1"
        self.process: subprocess.Popen[bytes] | None = None
        lines = [
            CONF.read_text("utf-8") if ours else "persistence true",
            f"listener {self.port} {self.host}",
            f"persistence_location {folder}/",
            f"log_dest file {folder}/mosquitto.log",
            "log_type all",
            options,
        ]
        if os.geteuid() == 0:
            lines.append("user root")  # else it changes to a user who may not write the folder
        if passwords is None:
            lines.append("allow_anonymous true")
        else:
            file = folder / "passwords"
            file.write_text("".join(f"{user}:{password}\n" for user, password in passwords.items()))
            subprocess.run(["mosquitto_passwd", "-U", str(file)], check=True, capture_output=True)
            file.chmod(0o600)
            lines += ["allow_anonymous false", f"password_file {file}"]
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")

    @property
    def url(self) -> str:
        return f"mqtt://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> Mosquitto:
        """Start it and wait until it accepts connections."""
        command = [self.program, "-c", str(self.folder / "mosquitto.conf")]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            assert self.process.poll() is None, self.log()
            try:
                socket.create_connection((self.host, self.port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return self
        raise AssertionError(f"mosquitto doesn't answer: {self.log()}")

    def stop(self) -> None:
        """SIGTERM and wait; harmless when it isn't running."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: a crash."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def log(self) -> str:
        file = self.folder / "mosquitto.log"
        return file.read_text("utf-8", "replace") if file.exists() else ""

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(how)
        self.process.wait(20)
        self.process = None


@pytest.fixture(name="mosquitto")
def running_mosquitto(tmp_path):
    """A running broker of this test alone: import running_mosquitto, and ask for `mosquitto`."""
    folder = tmp_path / "broker"
    folder.mkdir()
    broker = Mosquitto(folder)
    broker.start()
    yield broker
    broker.stop()


class Inbox:
    """What an adapter submitted."""

    def __init__(self):
        self.events = []

    def __call__(self, event):
        self.events.append(event)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    def ids(self):
        """Of the trip commands."""
        return [event.id for event in self.of(TripRequested)]

    async def until(self, met, timeout_s=30):
        await eventually(lambda: met(self), timeout_s, lambda: self.events)

    async def up(self, times=1):
        await self.until(lambda box: len(box.of(BrokerUp)) >= times)


async def eventually(met, timeout_s=30, shown=lambda: None):
    until = time.monotonic() + timeout_s
    while True:
        result = met()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return
        assert time.monotonic() < until, f"it never came to be: {shown()}"
        await asyncio.sleep(0.01)


def broker_of(server, **options):
    return Broker.from_url(server.url, **options)


def client_of(server):
    return aiomqtt.Client(server.host, server.port, timeout=20)


async def publish(server, topic, payload, **options):
    async with client_of(server) as client:
        await client.publish(topic, payload, **({"qos": 1} | options))


async def held(server, *topics):
    """What the broker holds retained on these topics; a sentinel behind them says that all were sent."""
    found = {}
    async with client_of(server) as client:
        await client.publish("test/sentinel", b"x", qos=1, retain=True)
        for topic in (*topics, "test/sentinel"):
            await client.subscribe(topic, qos=1)
        async for message in client.messages:
            if message.topic.value == "test/sentinel":
                return found
            if message.retain:
                found[message.topic.value] = bytes(message.payload)
    raise AssertionError
