"""The journal's stand-in: records become durable later, or after trouble; a crash keeps what was urgent or durable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from killswitch.domain.messages import (
    JournalFailed,
    Journalled,
    Record,
    Restored,
    ShadowEnded,
    ShadowTripped,
    Tripped,
    WasReset,
)
from killswitch.wire import record as wire_record

if TYPE_CHECKING:
    from tests.sim.world import World


class Notebook:
    """One journal over all lives of our process."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.kept: list[Record] = []  # what earlier lives left
        self.fresh: list[Record] = []  # this life's, in order
        self.durable_n = 0
        self.busy = False
        self._commands: set[str] = set()
        self._resets: set[str] = set()

    def take(self, record: Record) -> None:
        self.fresh.append(record)
        if not self.busy:
            self._write_soon()

    def _write_soon(self) -> None:
        self.busy = True
        slow = self.world.faults.hit("journal slow")
        delay = self.world.rng.uniform(0.1, 1.5) if slow else self.world.rng.uniform(0.001, 0.005)
        life = self.world.lives
        self.world.after(delay, lambda: self._write(life))

    def _write(self, life: int) -> None:
        world = self.world
        if life != world.lives or not world.running:
            return
        if world.faults.hit("journal fails"):
            world.post(JournalFailed(wall=world.wall, why="disk full"))
            world.after(world.rng.uniform(0.05, 1.0), lambda: self._write(life))
            return
        self.busy = False
        self.durable_n = self.fresh[-1].n
        for record in self.fresh:
            self._index(record)
        world.post(Journalled(wall=world.wall, n=self.durable_n))

    def flush(self) -> None:
        """Everything is on disk now."""
        if self.fresh:
            self.durable_n = self.fresh[-1].n

    def _index(self, record: Record) -> None:
        if isinstance(record.body, Tripped | ShadowTripped) and record.body.command_id:
            self._commands.add(record.body.command_id)
        if isinstance(record.body, WasReset | ShadowEnded):
            self._resets.add(record.body.trip)

    def commands_on_disk(self) -> set[str]:
        return self._commands

    def resets_on_disk(self) -> set[str]:
        return self._resets

    def waiting(self) -> bool:
        return bool(self.fresh) and self.fresh[-1].n > self.durable_n

    def crashed(self) -> Restored:
        """What the next life finds: by the real fold over real rows."""
        self.kept += [r for r in self.fresh if r.urgent or r.n <= self.durable_n]
        self.fresh, self.busy = [], False
        rows, before = [], wire_record.GENESIS
        for number, record in enumerate(self.kept, 1):
            self._index(record)
            data = wire_record.encode(Record(number, record.wall, record.body))
            before = wire_record.link(before, data)
            rows.append(wire_record.Row(number, record.wall, wire_record.kind_of(record), data, before))
        restored = wire_record.fold(rows) if rows else Restored(fresh=True)
        self.durable_n = restored.next_n - 1
        return restored
