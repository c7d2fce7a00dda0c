"""`killswitch demo`: the main job from end to end, with nothing to install or configure.

The simulated OMS and its traders run in this process, so that its own order table is the judge; the broker and
the daemon are processes of their own, and every command is the real command line.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import tempfile
import time
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from killswitch.adapters.mqtt_send import BrokerUnreachable
from killswitch.adapters.mqtt_session import Broker
from killswitch.adapters.mqtt_visit import listen, sender
from killswitch.demo.parts import (
    Child,
    DemoFailed,
    Layout,
    call,
    free_port,
    start_broker,
    start_daemon,
    write_files,
)
from killswitch.demo.verdict import cancelled_by, open_at, verdict
from killswitch.simulator.gateway import Simulator
from killswitch.simulator.orders import Side
from killswitch.simulator.world import OPERATOR_ID, SimulatorOptions
from killswitch.terminal import counted, wrapped
from killswitch.wire.announce import TripSeen, decode_trip_view

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from killswitch.simulator.log import Request

VAR_ACCOUNT, POSITION_ACCOUNT, OTHER_ACCOUNT = 14, 15, 16
TRADERS: Final = (37, 40)
INSTRUMENTS: Final = (25, 26)
BITCOIN: Final = 1
PAUSE_S: Final = 1.2
"""Between steps, for whoever reads along."""
PATIENCE_S: Final = 15.0
INDENT: Final = " " * 4
T = TypeVar("T")


def main(broker: str, *, keep: bool = False) -> int:
    """Run it. Returns the exit code: 0 only if the simulated OMS's own table says that all is as it should be."""
    return asyncio.run(_until_told(broker, keep=keep))


async def _until_told(broker: str, *, keep: bool) -> int:
    """Ctrl-C, SIGTERM and SIGHUP end it in order: processes stopped, folder removed."""
    task = asyncio.ensure_future(_in_a_folder(broker, keep=keep))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        print("\nInterrupted. Nothing of the demo is left behind.")
        return 1
    except DemoFailed as error:
        print(f"\n{wrapped(f'The demo failed: {error}')}", file=sys.stderr)
        return error.code


async def _in_a_folder(broker: str, *, keep: bool) -> int:
    options = SimulatorOptions(
        accounts=(VAR_ACCOUNT, POSITION_ACCOUNT, OTHER_ACCOUNT),
        users=TRADERS,
        instruments=INSTRUMENTS,
        # So slow that the lists can be seen to become shorter.
        cancel_rate=200.0,
        cancel_latency_s=0.02,
    )
    with tempfile.TemporaryDirectory(prefix="killswitch-demo-") as folder:
        async with Simulator(options) as sim:
            operator = sim.exchange.users[OPERATOR_ID]
            layout = Layout(
                folder=Path(folder),
                gateway=sim.url,
                broker_port=free_port(),
                http_port=free_port(),
                user=operator.user_id,
                api_key=operator.api_key,
                secret=operator.api_secret,
                accounts=tuple(sim.exchange.accounts),
            )
            write_files(layout)
            return await Story(sim, layout).tell(broker, keep=keep)


class Story:
    """The steps in their order, and what is heard from the daemon meanwhile."""

    def __init__(self, sim: Simulator, layout: Layout) -> None:
        self.sim, self.layout = sim, layout
        self.trips: dict[str, TripSeen] = {}
        self.events: list[dict[str, Any]] = []
        self._state = ""
        self._began = time.monotonic()
        self._steps = count(1)
        self._children: list[Child] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._send: Callable[[str, bytes], Awaitable[None]]

    async def tell(self, broker: str, *, keep: bool) -> int:
        """All of it. Stops what it started, however it ends."""
        print("killswitch demo: a simulated OMS, an MQTT broker, and the real daemon.")
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._stop)
            try:
                await self._start(broker, stack)
                await self._place()
                trip = await self._reading_breaches()
                late = await self._late_order(trip)
                await self._reset(trip)
                await self._position_breaches()
                await self._journal()
            except DemoFailed:
                self._say_what_the_daemon_said()
                raise
            except BrokerUnreachable as error:
                raise DemoFailed(f"the broker was lost: {error}") from None
            code = self._sum_up(late)
            if keep:
                await self._keep()
        return code

    # --- the steps

    async def _start(self, broker: str, stack: contextlib.AsyncExitStack) -> None:
        self._step("Start")
        self._children.append(await start_broker(broker, self.layout))
        self._say(f"simulated OMS  {self.layout.gateway}")
        self._say(f"broker         {self._children[0].name} at 127.0.0.1:{self.layout.broker_port}")
        where = Broker(host="127.0.0.1", port=self.layout.broker_port)
        self._tasks.append(asyncio.create_task(self._hear(where)))
        self._send = await stack.enter_async_context(sender(where))
        self.sim.move_position(POSITION_ACCOUNT, BITCOIN, to=Decimal("48.0"))
        self._children.append(await start_daemon(self.layout))
        self._say("daemon         killswitch run --config killswitch.toml")
        await self._until("the daemon is armed", lambda: self._state == "armed" or None)
        await self._until("the daemon has signed in", lambda: self.sim.exchange.log.of("GetOpenOrders") or None)
        self._say("It is signed in and armed.")

    async def _place(self) -> None:
        self._step("Traders place orders in three accounts")
        for account, orders in ((VAR_ACCOUNT, 24), (POSITION_ACCOUNT, 8), (OTHER_ACCOUNT, 8)):
            for number in range(orders):
                self._order(account, number)
        for account in self.layout.accounts:
            self._say(f"account {account}: {counted(len(self.sim.exchange.open_ids(account=account)), 'open order')}")
        self._tasks.append(asyncio.create_task(self._trade(OTHER_ACCOUNT)))
        self._say(f"In account {OTHER_ACCOUNT} a trader goes on placing; nobody may disturb him.")
        await asyncio.sleep(PAUSE_S)

    async def _reading_breaches(self) -> str:
        self._step("A reading from the risk system crosses its limit of 250000")
        for value in (180_000, 240_000):
            await self._reading(value)
            self._say(f"risk/{VAR_ACCOUNT}/var  {value}")
            await asyncio.sleep(PAUSE_S / 2)
        at = self.sim.now()
        await self._reading(262_000)
        self._say(f"risk/{VAR_ACCOUNT}/var  262000")
        return await self._swept(VAR_ACCOUNT, at, "the reading")

    async def _late_order(self, trip: str) -> int:
        await asyncio.sleep(PAUSE_S)
        self._step("A late order slips into the account")
        confirmed = len(self._told("confirmed", trip))
        late = self.sim.place(VAR_ACCOUNT, TRADERS[1], INSTRUMENTS[0], price=Decimal(49_900))
        at = self.sim.now()
        self._say(f"order {late.order_id} entered account {VAR_ACCOUNT}, after it was proven empty")
        await self._until("the late order is cancelled", lambda: not late.open or None)
        ending = self.sim.exchange.log.ending(late.order_id)
        assert ending is not None, "it is no longer open"
        self._say(f"cancelled by {ending.why}, {_ms(ending.at - at)} after it entered")
        told = await self._until("the daemon names the late order", lambda: self._told("late_arrival", trip) or None)
        self._say(f"the daemon says: {told[-1]['text']}")
        await self._until("VERIFIED again", lambda: len(self._told("confirmed", trip)) > confirmed or None)
        self._say("VERIFIED again")
        return late.order_id

    async def _reset(self, trip: str) -> None:
        await asyncio.sleep(PAUSE_S)
        self._step("A person resets it, but not while the rule is in breach")
        await self._command("reset", trip, "--by", "alice", "--reason", "go on", expect=1)
        await self._reading(120_000)
        self._say(f"risk/{VAR_ACCOUNT}/var  120000")
        await asyncio.sleep(0.2)
        await self._command("reset", trip, "--by", "alice", "--reason", "hedged", expect=0)
        await self._until("the trip is gone", lambda: trip not in self.trips or None)
        self._say(f"account {VAR_ACCOUNT} is free again: its retained trip is cleared")

    async def _position_breaches(self) -> None:
        await asyncio.sleep(PAUSE_S)
        self._step("A fill at the OMS itself moves a position over its limit of 50")
        self._say(f"account {POSITION_ACCOUNT} holds 48.0 BTC, and buys 3.2")
        order = self.sim.place(POSITION_ACCOUNT, TRADERS[0], INSTRUMENTS[0], side=Side.Buy, quantity=Decimal("3.2"))
        at = self.sim.now()
        self.sim.fill(order.order_id)
        await self._swept(POSITION_ACCOUNT, at, "the fill")
        self._say("It stays latched until a person resets it.")

    async def _journal(self) -> None:
        await asyncio.sleep(PAUSE_S)
        self._step("The journal holds all of it, hash-chained")
        await self._command("journal", "verify", expect=0)

    def _sum_up(self, late: int) -> int:
        self._step("What the simulated OMS's own order table says")
        checks = verdict(self.sim.exchange, tripped=(VAR_ACCOUNT, POSITION_ACCOUNT), late=late)
        for check in checks:
            self._say(f"{'ok    ' if check.ok else 'FAILED'}  {check.words}")
        good = all(check.ok for check in checks)
        print(f"\n{'All of it held' if good else 'It did NOT hold'}, in {time.monotonic() - self._began:.0f} s.")
        return 0 if good else 1

    async def _keep(self) -> None:
        """Leave it all running and say what to try."""
        self._tasks.append(asyncio.create_task(self._trade(VAR_ACCOUNT)))
        program = _program()
        http = f"http://127.0.0.1:{self.layout.http_port}"
        publish = f"mosquitto_pub -q 1 -p {self.layout.broker_port}"
        print("\nEverything goes on until Ctrl-C. In another terminal:\n")
        for line in (
            f"export KILLSWITCH_CONFIG={self.layout.config}",
            f"{program} status",
            f"{program} trip --oms prime --account {OTHER_ACCOUNT} --preview",
            f'{program} trip --oms prime --account {OTHER_ACCOUNT} --by me --reason "to see it"',
            f'{program} reset TRIP --by me --reason "seen"',
            f"{publish} -t risk/{VAR_ACCOUNT}/var -m '{{\"value\": 300000}}'",
            f"{publish} -t desk/button -m pressed",
            f"mosquitto_sub -p {self.layout.broker_port} -t 'killswitch/#' -v",
            f"curl {http}/state",
            f"curl {http}/metrics",
        ):
            print(f"  {line}")
        print(flush=True)
        with contextlib.suppress(asyncio.CancelledError):
            ended = await next(asyncio.as_completed([child.wait() for child in self._children]))
            print(f"The {ended} has ended.")
        print("\nStopping. Nothing of the demo is left behind.")

    # --- what steps are made of

    async def _swept(self, account: int, at: float, what: str) -> str:
        """Wait until the account's trip is VERIFIED, and show the sweep as the OMS saw it. Returns the trip."""
        seen = await self._until(f"account {account} is VERIFIED", lambda: self._verified(account))
        done = self.sim.now()
        log = self.sim.exchange.log
        cancels = [request for request in log.of("CancelAllOrders") if _about(request, account, at)]
        lists = [request for request in log.of("GetOpenOrders") if _about(request, account, cancels[0].at)]
        self._say(f"TRIP {seen.trip}")
        self._say(f"{_ms(cancels[0].at - at)} after {what}: CancelAllOrders {json.dumps(cancels[0].body)}")
        gone = cancelled_by(self.sim.exchange, cancels[0])
        self._say(f"it took {counted(len(gone), 'order')}: {gone[0]} to {gone[-1]}")
        left = [open_at(self.sim.exchange, account, request.at) for request in lists]
        self._say(f"GetOpenOrders showed {', '.join(map(str, left))}")
        self._say(f"{_ms(done - at)} after {what}: VERIFIED")
        return seen.trip

    def _verified(self, account: int) -> TripSeen | None:
        return next(
            (
                seen
                for seen in self.trips.values()
                if seen.scope is not None and seen.scope.account == account and seen.outcome == "VERIFIED"
            ),
            None,
        )

    async def _command(self, *verb: str, expect: int) -> None:
        """Show a command, run it, show its answer. Raises DemoFailed for another exit code."""
        said = " ".join(f'"{word}"' if " " in word else word for word in verb)
        self._say(f"$ killswitch {said}")
        code, answer = await call(self.layout, *verb)
        for line in answer.replace(f"{self.layout.folder}/", "").splitlines():
            self._say(f"  {line}")
        if code != expect:
            raise DemoFailed(f"`killswitch {verb[0]}` ended with {code} instead of {expect}")

    async def _reading(self, value: int) -> None:
        await self._send(f"risk/{VAR_ACCOUNT}/var", json.dumps({"value": value}).encode())

    def _order(self, account: int, number: int) -> None:
        self.sim.place(
            account,
            TRADERS[number % 2],
            INSTRUMENTS[number // 2 % 2],
            side=Side.Sell if number % 3 else Side.Buy,
            quantity=Decimal("0.1"),
            price=Decimal(50_000 + number),
        )

    async def _trade(self, account: int) -> None:
        for number in count():
            self._order(account, number)
            await asyncio.sleep(0.4)

    async def _hear(self, broker: Broker) -> None:
        """Keep what the daemon publishes."""
        async with contextlib.aclosing(listen(broker, ["killswitch/#"])) as messages:
            async for topic, payload in messages:
                match topic.split("/"):
                    case ["killswitch", "trip", trip]:
                        seen = decode_trip_view(payload)
                        if seen is None:
                            self.trips.pop(trip, None)
                        else:
                            self.trips[trip] = seen
                    case ["killswitch", "event"]:
                        self.events.append(json.loads(payload))
                    case ["killswitch", "state"]:
                        self._state = json.loads(payload)["state"]
                    case _:
                        pass

    def _told(self, kind: str, trip: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["kind"] == kind and event.get("trip") == trip]

    async def _until(self, what: str, seen: Callable[[], T | None]) -> T:
        """Wait until there is something to see. Raises DemoFailed when it takes too long, or something ended."""
        until = time.monotonic() + PATIENCE_S
        while (found := seen()) is None:
            for child in self._children:
                if child.gone:
                    raise DemoFailed(f"the {child.name} has ended")
            for task in self._tasks:
                if task.done() and (error := task.exception()) is not None:
                    raise error
            if time.monotonic() > until:
                raise DemoFailed(f"waited {PATIENCE_S:g} s in vain: {what}")
            await asyncio.sleep(0.002)
        return found

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for child in reversed(self._children):  # the daemon before its broker
            await child.stop()

    # --- telling

    def _step(self, title: str) -> None:
        print(f"\n{next(self._steps)}. {title}  [{time.monotonic() - self._began:.1f} s]", flush=True)

    def _say(self, text: str) -> None:
        print(wrapped(text, INDENT, "  "), flush=True)

    def _say_what_the_daemon_said(self) -> None:
        for child in self._children:
            print(f"\nThe last lines of the {child.name}:", file=sys.stderr)
            for line in child.log_tail():
                print(f"  {line}", file=sys.stderr)


def _about(request: Request, account: int, since: float) -> bool:
    return request.at >= since and not isinstance(request.body, str) and request.body.get("AccountId") == account


def _program() -> str:
    """How this was started, for another terminal in another folder."""
    started = Path(sys.argv[0])
    return str(started.absolute()) if started.name == "killswitch" else f"{sys.executable} -m killswitch"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
