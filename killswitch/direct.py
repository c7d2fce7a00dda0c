"""`trip --direct` and `--preview`: the same core and the same OMS link, with neither broker nor daemon.

It signs in to the OMS itself, does the whole sweep, and ends. Its evidence is a journal of its own; nothing
guards the scope after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from killswitch import __version__
from killswitch.adapters.journal import Journal, JournalError
from killswitch.domain.messages import (
    HttpUp,
    LinkFailed,
    LookRequested,
    Preview,
    Record,
    Restored,
    SessionUp,
    SignInRefused,
    TripRequested,
)
from killswitch.domain.switch import KillSwitch
from killswitch.links import OMS_ACTIONS, Links, now
from killswitch.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from killswitch.config import Config
    from killswitch.domain.messages import Action, Event, TripView
    from killswitch.domain.scope import Scope


@dataclass(frozen=True, slots=True)
class Ended:
    """How a direct trip ended. `view` None: there never was a session; `why` says what stood in the way."""

    view: TripView | None
    why: str
    evidence: Path | None  # None: no file could be written


class _House:
    """The core, one link and a loop; what every direct verb needs."""

    def __init__(self, config: Config, oms: str, keep: Callable[[Action], None]) -> None:
        settings = config.settings(boot=f"{time.time():.3f}")
        site = next(s for s in settings.sites if s.name == oms)
        # Live, whatever the daemon is: a person who goes past it means it.
        settings = replace(settings, sites=(site,), feeds=(), rules=(), mode="live")
        self.switch = KillSwitch(settings, Restored(), now())
        self.why = "no connection yet"
        self._refused = False
        self.signed_in = asyncio.Event()
        self.reached = False  # by a gateway or over HTTP, which can only cancel
        self.turned = asyncio.Event()
        self._links = Links([o for o in config.oms if o.name == oms], self.submit, time.time)
        owners: dict[type[Action], Callable[[Action], None]] = dict.fromkeys(OMS_ACTIONS, self._links.own)
        owners[Record] = keep
        self.owners = owners
        self.loop = Loop(self.switch, owners, now=now, wall=time.time, see=self._see)

    def submit(self, event: Event) -> None:
        self.loop.inbox.put(event)

    def tasks(self, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        tasks = [group.create_task(self.loop.run())]

        def start(name: str, job: Coroutine[None, None, None]) -> asyncio.Task[None]:
            tasks.append(group.create_task(job, name=name))
            return tasks[-1]

        self._links.start(start)
        return tasks

    def _see(self, event: Event, _actions: Sequence[Action], _now: float) -> None:
        if isinstance(event, SessionUp):
            self.signed_in.set()
            self.reached = True
        elif isinstance(event, HttpUp):
            self.reached = True
        elif isinstance(event, LinkFailed | SignInRefused) and not self._refused:
            # Of several gateways the one that refused us has said more than those that can't be reached.
            self._refused = isinstance(event, SignInRefused)
            self.why = event.why
        self.turned.set()


async def preview(config: Config, scope: Scope, within_s: float) -> Preview | str:
    """List the scope once; cancels nothing. A sentence instead where nobody could be asked."""
    house = _House(config, scope.oms, lambda _record: None)
    answer: asyncio.Future[Preview] = asyncio.get_running_loop().create_future()

    def take(action: Action) -> None:
        if isinstance(action, Preview) and not answer.done():
            answer.set_result(action)

    house.owners[Preview] = take
    async with asyncio.TaskGroup() as group:
        tasks = house.tasks(group)
        try:
            async with asyncio.timeout(within_s):
                await house.signed_in.wait()
                house.submit(LookRequested(wall=time.time(), scope=scope, token="preview"))  # noqa: S106  # no secret
                return await answer
        except TimeoutError:
            return house.why if not house.signed_in.is_set() else "the lists were not answered in time"
        finally:
            for task in tasks:
                task.cancel()


async def trip(
    config: Config,
    env: Mapping[str, str],
    scope: Scope,
    *,
    by: str,
    reason: str,
    within_s: float,
    show: Callable[[TripView], None],
) -> Ended:
    """Trip the scope and sweep it until it is confirmed, or the time is up. `show` sees each change."""
    wall = time.time()
    stamp = datetime.fromtimestamp(wall, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    facts: list[Event] = []
    journal, path = _evidence([config.journal_path(env).parent, Path.cwd()], f"direct-{stamp}.db", facts)
    house = _House(
        config, scope.oms, lambda action: journal.do(action) if journal and isinstance(action, Record) else None
    )
    house.loop.hand_out(house.switch.begin(__version__, config.fingerprint(), wall))
    id_ = f"direct-{stamp}"
    command = TripRequested(
        wall=wall, id=id_, scope=scope, by=by, reason=reason, issued_at=wall, digest=id_, via="direct"
    )
    view: TripView | None = None
    try:
        async with asyncio.TaskGroup() as group:
            tasks = house.tasks(group)
            if journal is not None:
                tasks.append(group.create_task(journal.run()))
            house.submit(command)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    while view is None or view.state != "confirmed":
                        await house.turned.wait()
                        house.turned.clear()
                        seen = next(iter(house.switch.view(now()).trips), None)
                        if seen is not None and seen != view:
                            view = seen
                            show(seen)
            house.loop.hand_out(house.switch.end(now(), time.time()))
            for task in tasks:
                task.cancel()
    finally:
        if journal is not None:
            await journal.close()
        if path is not None:
            _tidy(path)
    reached = view if house.reached else None
    return Ended(reached, house.why, path)


def _evidence(folders: Sequence[Path], name: str, facts: list[Event]) -> tuple[Journal | None, Path | None]:
    """A journal of its own in the first folder that takes one. Nothing to write to must not stop a cancel."""
    for folder in folders:
        try:
            journal, _ = Journal.open(folder / name, submit=facts.append, wall=time.time)
        except (JournalError, OSError):
            continue
        return journal, folder / name
    return None, None


def _tidy(evidence: Path) -> None:
    """Take the journal's spool away if nothing is in it; it is nobody's but ours, so nobody waits for its lock."""
    spool = evidence.with_name(evidence.name + ".spool")
    with contextlib.suppress(OSError):
        if not spool.stat().st_size:
            spool.unlink()
