"""The demo's parts: a folder, free ports, a configuration, a broker, and the real daemon as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from killswitch.demo import broker as demo_broker

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from pathlib import Path

START_S: Final = 15.0
STOP_S: Final = 8.0
CALL_S: Final = 20.0
NOT_OURS: Final = ("KILLSWITCH_", "STATE_DIRECTORY", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET")
"""What the demo's daemon must not inherit."""
SBIN: Final = os.pathsep + "/usr/sbin" + os.pathsep + "/usr/local/sbin"
"""Where Debian puts mosquitto, and where the PATH of a normal user doesn't lead."""


class DemoFailed(Exception):  # noqa: N818  # a sentence for whoever watches
    """The demo can't go on: a sentence. `code`: how it ends."""

    def __init__(self, sentence: str, code: int = 1) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where everything is. `secret`: of the simulator's API key, for this run only."""

    folder: Path
    gateway: str
    broker_port: int
    http_port: int
    user: int
    api_key: str
    secret: str
    accounts: tuple[int, ...]

    @property
    def config(self) -> Path:
        return self.folder / "killswitch.toml"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


CONFIG: Final = """\
# Made by `killswitch demo`.
[daemon]
name = "demo"

[http]
listen = "127.0.0.1:{layout.http_port}"

[mqtt]
urls = ["mqtt://127.0.0.1:{layout.broker_port}"]

[[oms]]
name = "prime"
oms_id = 1
gateways = ["{layout.gateway}"]
dialect = "v2"
user_id = {layout.user}
api_key = "{layout.api_key}"
secret_file = "prime.secret"
accounts = [{accounts}]

[[panic]]
name = "desk-button"
topic = "desk/button"
scope = {{ oms = "prime", account = 14 }}

[[feed]]
name = "positions"
kind = "oms"
oms = "prime"
stale_after_s = 10.0

[[feed]]
name = "var"
kind = "mqtt"
topic = "risk/{{account}}/var"
reading = "var"
value = "value"
stale_after_s = 600.0

[[rule]]
name = "var-limit"
owner = "risk desk"
reading = "var"
kind = "limit"
above = 250000
on_stale = "ignore"
scope = {{ oms = "prime", account = "{{account}}" }}

[[rule]]
name = "btc-position"
owner = "risk desk"
reading = "position"
where = {{ product = "BTC" }}
kind = "limit"
above = 50
absolute = true
scope = {{ oms = "prime", account = "{{account}}" }}
"""


def write_files(layout: Layout) -> None:
    """The configuration and its secret."""
    secret = layout.folder / "prime.secret"
    secret.touch(mode=0o600)
    secret.write_text(layout.secret, "utf-8")
    layout.config.write_text(CONFIG.format(layout=layout, accounts=", ".join(map(str, layout.accounts))), "utf-8")


def clean_env() -> dict[str, str]:
    """The environment without anything that would steer the demo's own processes."""
    return {name: value for name, value in os.environ.items() if not name.startswith(NOT_OURS)}


class Child:
    """A process of the demo. Ctrl-C doesn't reach it: it is stopped in its turn."""

    def __init__(self, name: str, log: Path) -> None:
        self.name, self._log = name, log
        self._process: Process | None = None

    async def start(self, *command: str) -> None:
        """Start it. Its stdin stays open for as long as we live; what it says goes to its log."""
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=clean_env(),
                cwd=self._log.parent,
                start_new_session=True,
            )

    @property
    def gone(self) -> bool:
        return self._process is None or self._process.returncode is not None

    async def wait(self) -> str:
        """Until it has ended. Returns its name."""
        if self._process is not None:
            await self._process.wait()
        return self.name

    def log_tail(self, lines: int = 12) -> list[str]:
        """The last lines that it said."""
        with contextlib.suppress(OSError):
            return self._log.read_text("utf-8", "replace").splitlines()[-lines:]
        return []

    async def listening(self, port: int) -> None:
        """Wait until it takes connections. Raises DemoFailed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                while not self.gone:
                    try:
                        _, writer = await asyncio.open_connection("127.0.0.1", port)
                    except OSError:
                        await asyncio.sleep(0.05)
                    else:
                        writer.close()
                        return
        raise DemoFailed(f"{self.name} did not start: {' / '.join(self.log_tail(3)) or 'it said nothing'}", 3)

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL if that isn't enough."""
        process = self._process
        if process is None:
            return
        for how in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(how)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await process.wait()
                    return


async def start_broker(wanted: str, layout: Layout) -> Child:
    """Mosquitto, or the embedded broker. Raises DemoFailed where neither is there."""
    program = None if wanted == "embedded" else shutil.which("mosquitto", path=os.environ.get("PATH", "") + SBIN)
    if program is not None:
        lines = [f"listener {layout.broker_port} 127.0.0.1", "allow_anonymous true", "max_inflight_messages 0"]
        lines += ["user root"] if os.geteuid() == 0 else []  # else it changes to a user of its own
        file = layout.folder / "mosquitto.conf"
        file.write_text("\n".join(lines) + "\n", "utf-8")
        child, command = Child("mosquitto", layout.folder / "broker.log"), [program, "-c", str(file)]
    elif wanted != "mosquitto" and demo_broker.there():
        child = Child("embedded broker (amqtt)", layout.folder / "broker.log")
        command = [sys.executable, "-m", demo_broker.__name__, str(layout.broker_port)]
    else:
        raise DemoFailed("there is no MQTT broker: install mosquitto, or start the demo by `make demo`", 3)
    try:
        await child.start(*command)
        await child.listening(layout.broker_port)
    except BaseException:
        await child.stop()
        raise
    return child


async def start_daemon(layout: Layout) -> Child:
    """`killswitch run`, as anybody would start it."""
    child = Child("daemon", layout.folder / "daemon.log")
    try:
        await child.start(sys.executable, "-m", "killswitch", "run", "--config", str(layout.config))
        await child.listening(layout.http_port)
    except BaseException:
        await child.stop()
        raise
    return child


async def call(layout: Layout, *verb: str) -> tuple[int, str]:
    """Another verb of the command line: its exit code, and what it said on stdout."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "killswitch",
        *verb,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean_env() | {"KILLSWITCH_CONFIG": str(layout.config)},
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(CALL_S):
            out, errors = await process.communicate()
    except BaseException as error:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        if isinstance(error, TimeoutError):
            raise DemoFailed(f"`killswitch {verb[0]}` didn't end within {CALL_S:g} s") from None
        raise
    assert process.returncode is not None
    return process.returncode, (out or errors).decode("utf-8", "replace").strip()
