"""The people, buttons and systems that send commands, and the broker that carries them at least once.

Every delivery has a token of its own. The broker keeps what isn't acknowledged, and delivers it again after
its link or our process was away; an acknowledgement counts only on the link that delivered.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from killswitch.domain.messages import (
    Acknowledge,
    BrokerDown,
    BrokerUp,
    ButtonPressed,
    CommandRefused,
    Receipt,
    ResetRequested,
    TripRequested,
)

if TYPE_CHECKING:
    from killswitch.domain.messages import Event
    from killswitch.domain.scope import Scope
    from tests.sim.world import World

WINDOW = 20


@dataclass(slots=True, eq=False)
class Command:
    """One command as its sender has it. `kind`: trip, reset, button or junk. `permitted`: a scope that may be."""

    kind: str
    id: str | None
    via: str
    scope: Scope | None = None
    trip: str = ""
    permitted: bool = True
    issued_at: float = 0.0
    done: bool = False  # acknowledged to the broker
    retained: bool = False

    @property
    def digest(self) -> str:
        return hashlib.sha256(f"{self.kind}{self.id}{self.scope}{self.trip}".encode()).hexdigest()


@dataclass(slots=True, eq=False)
class Delivery:
    """One delivery in this life of our process."""

    command: Command
    token: tuple[int, int]
    link: int
    receipts: int = 0
    acknowledged: int = 0
    not_durable: bool = False
    refused: bool = False  # it was told that nothing came of it
    over: bool = False  # when it came, the trip of its command was reset already


class Senders:
    """All commands of one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.commands: list[Command] = []
        self.deliveries: dict[object, Delivery] = {}
        self.link = 0  # the number of the broker's link to us; 0 while there is none
        self.links = 0
        self.receipts: list[tuple[Command, Receipt]] = []

    # --- sending

    def send(self, command: Command) -> None:
        self.commands.append(command)
        if command.via == "mqtt":
            if self.link:
                self._deliver_soon(command)
        elif self.world.running:
            self._deliver(command)
        else:
            command.done = True  # nobody answered at the door: its sender knows

    def up(self) -> None:
        if self.link or not self.world.running:
            return
        self.links += 1
        self.link = self.links
        self.world.post(BrokerUp(wall=self.world.wall, broker="broker:1883", window=WINDOW))
        for command in self.commands:
            if command.via == "mqtt" and (command.retained or not command.done):
                self._deliver_soon(command)

    def down(self) -> None:
        if not self.link:
            return
        self.link = 0
        self.world.post(BrokerDown(wall=self.world.wall, broker="broker:1883", why="connection lost"))
        self.world.after(self.world.rng.uniform(0.1, 1.5), self.up)

    def crashed(self) -> None:
        self.link = 0
        self.deliveries = {}

    def _deliver_soon(self, command: Command) -> None:
        link, world = self.link, self.world

        def now(*, again: bool) -> None:
            if self.link == link and world.running and (again or not command.done):
                self._deliver(command)

        late = world.faults.hit("command late")
        wait = world.rng.uniform(0.1, 2.0) if late else world.rng.uniform(0.0005, 0.01)
        world.after(wait, lambda: now(again=command.retained))
        if world.faults.hit("command twice"):
            world.after(wait + world.rng.uniform(0.0, 0.5), lambda: now(again=True))

    def _deliver(self, command: Command) -> None:
        token = (self.link, len(self.deliveries) + 1)
        self.deliveries[token] = Delivery(command, token, self.link)
        self.world.post(self._event(command, token))

    def _event(self, command: Command, token: object) -> Event:
        wall = self.world.wall
        via = "http" if command.via == "http" else "mqtt"
        match command.kind:
            case "trip":
                assert command.id is not None
                assert command.scope is not None
                return TripRequested(
                    wall=wall, id=command.id, scope=command.scope, by="ann", reason="asked to",
                    issued_at=None, digest=command.digest, via=via, token=token,
                    retained=command.retained,
                )  # fmt: skip
            case "reset":
                assert command.id is not None
                return ResetRequested(
                    wall=wall, id=command.id, trip=command.trip, by="bob", reason="calm again",
                    issued_at=command.issued_at, override=False, digest=command.digest, via=via, token=token,
                )  # fmt: skip
            case "button":
                assert command.scope is not None
                return ButtonPressed(wall=wall, button="desk", scope=command.scope, via=via, token=token)
            case _:
                return CommandRefused(
                    wall=wall, command="trip", id=command.id, reason="no scope", via=via, token=token,
                    noise=command.id is None,
                )  # fmt: skip

    # --- what comes back

    def receipt(self, receipt: Receipt) -> None:
        judge = self.world.judge
        delivery = self.deliveries.get(receipt.token)
        if delivery is None:
            judge.broken(f"a receipt for a delivery that never was: {receipt}")
            raise AssertionError
        command = delivery.command
        delivery.receipts += 1
        if delivery.receipts > 1:
            judge.broken(f"a second receipt for one delivery: {receipt}")
        if receipt.id != command.id or receipt.via != command.via:
            judge.broken(f"a receipt for another command: {receipt} for {command}")
        self.receipts.append((command, receipt))
        delivery.not_durable = not receipt.durable
        delivery.refused = not receipt.accepted
        if receipt.accepted and (command.kind == "junk" or not command.permitted):
            judge.broken(f"accepted, but must be refused: {command}")
        if receipt.accepted and delivery.over:
            judge.broken(f"accepted, though its trip was reset before: {command}")
        if receipt.accepted and receipt.durable:
            self._must_be_on_disk(command)

    def acknowledge(self, action: Acknowledge) -> None:
        judge = self.world.judge
        delivery = self.deliveries.get(action.token)
        if delivery is None:
            judge.broken(f"an acknowledgement of a delivery that never was: {action}")
            raise AssertionError
        delivery.acknowledged += 1
        if delivery.acknowledged > 1:
            judge.broken(f"a second acknowledgement of one delivery: {delivery.command}")
        accepted = any(c is delivery.command and r.accepted for c, r in self.receipts)
        # Whether or not it was answered: what a command has made must be on disk before nobody sends it again.
        made = delivery.command.id in judge.tripped_commands | judge.reset_commands
        accepted |= made and not delivery.refused
        if accepted and not delivery.not_durable:
            self._must_be_on_disk(delivery.command)
        if delivery.link == self.link:
            delivery.command.done = True

    def _must_be_on_disk(self, command: Command) -> None:
        world = self.world
        if command.kind == "trip" and command.id not in world.journal.commands_on_disk():
            world.judge.broken(f"answered before the journal had it: {command.id}")
        if command.kind == "reset" and command.trip not in world.journal.resets_on_disk():
            world.judge.broken(f"the reset of {command.trip} was answered before the journal had it")

    # --- at the end

    def all_delivered(self) -> bool:
        return all(command.done for command in self.commands if command.via == "mqtt")

    def check_all_answered(self) -> None:
        judge = self.world.judge
        for delivery in self.deliveries.values():
            command = delivery.command
            if command.id is not None and delivery.receipts != 1:
                judge.broken(f"{delivery.receipts} receipts for one delivery of {command}")
            if command.via == "mqtt" and delivery.acknowledged != 1 and delivery.link == self.link:
                judge.broken(f"{delivery.acknowledged} acknowledgements for one delivery of {command}")
        for command in self.commands:
            if command.via == "mqtt" and not command.done:
                judge.broken(f"never acknowledged: {command}")
            if command.kind == "trip" and command.via == "mqtt" and command.permitted:
                if not any(c is command for c, _ in self.receipts):
                    judge.broken(f"never answered: {command}")
                if command.id not in judge.tripped_commands:
                    judge.broken(f"never tripped: {command}")
