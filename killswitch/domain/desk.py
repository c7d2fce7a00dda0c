"""The desk: takes commands, and sees that each is answered once it is safe.

A receipt and the broker's acknowledgement wait for the journal, so that a crash at any instant either has
the trip in the journal or has the broker deliver the command again. What is malformed, refused, repeated or
no press is acknowledged at once: a broker stops delivering after a few unacknowledged messages.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from killswitch.domain.messages import (
    Acknowledge,
    AnnounceEvent,
    Commanded,
    CommandRefused,
    Receipt,
    ResetRequested,
    TripRequested,
    UsedCommand,
    Via,
)
from killswitch.domain.undo import Recent, Table

if TYPE_CHECKING:
    from killswitch.domain.messages import ButtonPressed, Restored
    from killswitch.domain.outbox import Outbox
    from killswitch.domain.undo import Undo

WINDOW_UNKNOWN: Final = 20
"""Deliveries that Mosquitto lets be unacknowledged unless it is told otherwise."""
USED_MAX: Final = 100_000
"""Command ids that are remembered; the oldest beyond it are forgotten."""


@dataclass(frozen=True, slots=True)
class Used:
    """A command id that is taken: what was asked with it, what was answered, and the record that holds it.

    `shadow`: what came of it cancels nothing. `outcome`: of a reset, its trip's.
    """

    digest: str
    accepted: bool
    reason: str
    trip: str | None
    n: int
    shadow: bool = False
    outcome: str = ""


class Desk:
    """Command ids, receipts, and the broker's window."""

    def __init__(self, outbox: Outbox, undo: Undo, restored: Restored) -> None:
        self._outbox = outbox
        self._used: Recent[str, Used] = Recent(undo, USED_MAX)
        self._unacknowledged: Table[int, tuple[int, Receipt | None, object]] = Table(undo)
        self._deliveries: Table[str, int] = Table(undo)
        self._deliveries["taken"] = 0
        self._windows: Table[str, int] = Table(undo)
        for command in restored.commands:
            if command.accepted:
                self._used[command.id] = _used(command)

    def before(self, id_: str) -> Used | None:
        return self._used.get(id_)

    def accept(
        self,
        event: TripRequested | ResetRequested,
        command: str,
        trip: str,
        reason: str,
        *,
        shadow: bool = False,
        outcome: str = "",
    ) -> None:
        """Answer yes once the command's record is on disk; its delivery is acknowledged then."""
        body = Commanded(event.id, command, event.digest, accepted=True, reason=reason, trip=trip, by=event.by)
        n = self._outbox.record(body, event.wall, urgent=True)
        used = Used(event.digest, accepted=True, reason=reason, trip=trip, n=n, shadow=shadow, outcome=outcome)
        self._used[event.id] = used
        receipt = _receipt(event, used)
        self._outbox.after(receipt, n)
        self._acknowledge_after(n, receipt, event.token, event.via)

    def repeat(self, event: TripRequested | ResetRequested, used: Used) -> None:
        """The same command again: the first receipt again, once that is safe."""
        receipt = _receipt(event, used)
        self._outbox.after(receipt, used.n)
        self._acknowledge_after(used.n, receipt, event.token, event.via)

    def pressed(self, event: ButtonPressed, n: int) -> None:
        """A button has no id and gets no receipt; its delivery is acknowledged once record `n` is on disk."""
        self._acknowledge_after(n, None, event.token, event.via)

    def refuse(
        self,
        event: TripRequested | ResetRequested,
        command: str,
        reason: str,
        *,
        outcome: str = "",
        remaining: str = "",
    ) -> None:
        """No, with a sentence; nothing changes. Of a reset also its trip's outcome, and what stands in the way."""
        body = Commanded(event.id, command, event.digest, accepted=False, reason=reason, trip=None, by=event.by)
        self._outbox.record(body, event.wall)
        self._say_no(
            event.id,
            event.via,
            event.token,
            f"{command} command {event.id} by {event.by} was refused: {reason}",
            reason=reason,
            wall=event.wall,
            outcome=outcome,
            remaining=remaining,
        )

    def malformed(self, event: CommandRefused) -> None:
        """Something that is no command: acknowledged at once, told where it can be, and nothing else happens."""
        if event.noise:
            self._acknowledge(event.token, event.via)
            return
        named = f" {event.id}" if event.id is not None else ""
        text = f"{event.command} command{named} was refused: {event.reason}"
        self._say_no(event.id, event.via, event.token, text, reason=event.reason, wall=event.wall)

    def set_aside(self, id_: str | None, via: Via, token: object, wall: float) -> None:
        """Handling it failed through a fault of ours: say so at once."""
        self._say_no(
            id_, via, token, "a command could not be handled", reason="internal error: see the journal", wall=wall
        )

    def broker_up(self, broker: str, window: int) -> None:
        self._windows[broker] = window

    def broker_down(self, broker: str) -> None:
        """What was unacknowledged on that connection comes again by itself."""
        self._windows.pop(broker)
        for delivery in self._unacknowledged:
            del self._unacknowledged[delivery]
            self._outbox.take_back(("ack", delivery))

    def journalled(self, n: int) -> None:
        for delivery, (waits_for, _, _) in self._unacknowledged.items():
            if waits_for <= n:
                del self._unacknowledged[delivery]

    @property
    def waiting(self) -> int:
        return self._outbox.receipts_held()

    def _say_no(
        self,
        id_: str | None,
        via: Via,
        token: object,
        text: str,
        *,
        reason: str,
        wall: float,
        outcome: str = "",
        remaining: str = "",
    ) -> None:
        self._outbox.put(AnnounceEvent("refused", text, wall))
        if id_ is not None or via == "http":
            no = Receipt(id_ or "", via, token, accepted=False, reason=reason, trip=None)
            self._outbox.put(replace(no, outcome=outcome, remaining=remaining))
        self._acknowledge(token, via)

    def _acknowledge(self, token: object, via: Via) -> None:
        if via == "mqtt" and token is not None:
            self._outbox.put(Acknowledge(token))

    def _acknowledge_after(self, n: int, receipt: Receipt | None, token: object, via: Via) -> None:
        """Only a broker wants to be told; an HTTP request is answered by its receipt."""
        if via != "mqtt" or token is None:
            return
        if n <= self._outbox.journalled_n:
            self._acknowledge(token, via)
            return
        delivery = self._deliveries["taken"] + 1
        self._deliveries["taken"] = delivery
        self._unacknowledged[delivery] = (n, receipt, token)
        self._outbox.after(Acknowledge(token), n, key=("ack", delivery))
        window = min(self._windows.values(), default=WINDOW_UNKNOWN)
        while len(self._unacknowledged) >= max(window // 2, 1):
            self._let_go()

    def _let_go(self) -> None:
        """The next panic matters more than the last one's copy: acknowledge the oldest one carried out."""
        delivery = next(iter(self._unacknowledged))
        _, receipt, token = self._unacknowledged[delivery]
        del self._unacknowledged[delivery]
        self._outbox.take_back(("ack", delivery))
        self._acknowledge(token, "mqtt")
        if receipt is not None:
            self._outbox.put(replace(receipt, durable=False))


def _receipt(event: TripRequested | ResetRequested, used: Used) -> Receipt:
    """The answer to a command whose id is taken for it."""
    return Receipt(
        event.id,
        event.via,
        event.token,
        accepted=used.accepted,
        reason=used.reason,
        trip=used.trip,
        shadow=used.shadow,
        outcome=used.outcome,
    )


def _used(command: UsedCommand) -> Used:
    return Used(command.digest, command.accepted, command.reason, command.trip, 0)
