"""The composition root: build everything, run it in one TaskGroup, mind the signals and systemd.

A task that fails takes the process with it; systemd starts it again, the journal latches again, and it sweeps
again. The other side's failures are events, never exceptions here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from typing import TYPE_CHECKING, Final

from killswitch import __version__
from killswitch.adapters.http import HttpFace
from killswitch.adapters.http_server import Listen, ListenError
from killswitch.adapters.journal import Journal, JournalError, JournalInUse, JournalUnreadable
from killswitch.adapters.metrics import Metrics
from killswitch.adapters.mqtt import Button, CommandLink
from killswitch.adapters.recorder import Recorder
from killswitch.broker import broker_of
from killswitch.config import Config
from killswitch.domain import coverage
from killswitch.domain.messages import (
    Acknowledge,
    Action,
    AnnounceEvent,
    AnnounceState,
    AnnounceTrip,
    ChangeOver,
    ClearTrip,
    Event,
    EverythingTripped,
    Keep,
    Preview,
    Receipt,
    Reconfigured,
    Record,
    ReloadFailed,
    Restored,
    SessionUp,
    ShadowTripped,
    Stopping,
    Tripped,
)
from killswitch.domain.remains import in_words, orders_left
from killswitch.domain.switch import KillSwitch
from killswitch.links import OMS_ACTIONS, Links, now
from killswitch.loop import Loop
from killswitch.panic_places import panic_places
from killswitch.reload import read_again
from killswitch.sources import Sources

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from pathlib import Path

    from killswitch.adapters.mqtt_session import Broker
    from killswitch.domain.view import View

log = logging.getLogger("killswitch")

HEALTHY_S: Final = 5.0
"""The loop must have turned this recently for /healthz to say yes."""
LISTEN_AGAIN_S: Final = 5.0
FLUSH_S: Final = 3.0
DONE, NO, FILES = 0, 1, 2
QUIET: Final = frozenset({"session_up", "heard_again", "confirmed", "reset", "reloaded"})
"""Kinds of events that are good news; all others are logged as warnings."""


def notify(state: str) -> None:
    """Tell systemd, where there is one (sd_notify(3): a datagram to $NOTIFY_SOCKET; @ is an abstract one)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.connect("\0" + address[1:] if address.startswith("@") else address)
            sock.sendall(state.encode())
    except OSError as error:
        log.warning("systemd could not be told %s: %s", state.split("=", maxsplit=1)[0], error.strerror)


class Daemon:
    """One daemon of one configuration. `run` it once."""

    def __init__(self, config: Config, env: Mapping[str, str], *, wall: Callable[[], float] = time.time) -> None:
        self._config, self._env, self._wall = config, env, wall
        self._waiting: list[Event] = []  # what the adapters say before there is a loop
        self._submit: Callable[[Event], None] = self._waiting.append
        self._stop = asyncio.Event()
        self._reload_wanted = asyncio.Event()
        self._reload_handled = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._noted: frozenset[str] = frozenset()  # notes that were logged

    async def run(self) -> int:
        """Until SIGTERM. Returns the exit code; a fault of ours raises."""
        try:
            journal, restored = self._open_journal()
        except JournalInUse as error:
            log.error("%s", error)
            return NO
        except JournalError as error:
            log.error("%s", error)
            return FILES
        self._build(journal, restored)
        self._say_notes()
        self._say_gaps()
        for trip in self._switch.view(now()).trips:
            log.warning("still latched: %s by %s: %s", trip.trip, trip.by, trip.scope.in_words())
        self._mind_signals()
        if self._recorder is not None:
            self._recorder.start(self._began, self._wall(), restored.hearts)
        self._loop.hand_out(self._switch.begin(__version__, self._config.fingerprint(), self._wall()))
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for name, job in self._jobs():
                    self._start(name, job)
                self._links.start(self._start)
                self._sources.start(self._start)
                notify("READY=1")
                shadow = ", in SHADOW: new trips cancel nothing" if self._config.daemon.mode == "shadow" else ""
                log.info("%s watches: %s%s", self._config.daemon.name, self._switch.view(now()).state, shadow)
                await self._stop.wait()
                await self._stop_in_order()
                for task in tuple(self._tasks):
                    task.cancel()
        finally:
            if self._recorder is not None:
                await asyncio.to_thread(self._recorder.close)
            lost = await journal.close()
            if lost:
                log.error("%d records could not be kept", lost)
        return DONE

    def submit(self, event: Event) -> None:
        """A fact, from any adapter or from the outside."""
        self._submit(event)

    def _say_notes(self) -> None:
        """What people must know of this configuration, as far as it wasn't said yet; which rules are in shadow, too."""
        notes = (*self._config.notes(), *self._switch.view(now()).notes)
        for note in notes:
            if note not in self._noted:
                log.warning("%s", note)
        self._noted = frozenset(notes)

    def _say_gaps(self) -> None:
        for oms in self._switch.view(now()).omses:
            if oms.uncovered_accounts:
                log.warning("%s", coverage.sentence(oms.oms, oms.uncovered_accounts))

    def _start(self, name: str, job: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run a job. A fault of ours in it ends the process."""
        task = self._group.create_task(job, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- building

    def _open_journal(self) -> tuple[Journal, Restored]:
        path = self._config.journal_path(self._env)
        try:
            return Journal.open(path, submit=self.submit, wall=self._wall)
        except JournalUnreadable as error:
            if self._config.daemon.unreadable_journal == "refuse":
                raise
            aside = path.with_name(f"{path.name}.unreadable-{int(self._wall())}")
            does = "would be, but for the shadow," if self._config.daemon.mode == "shadow" else "is"
            log.error("%s; it is kept as %s, and every configured scope %s swept", error, aside.name, does)
            for suffix in ("", "-wal", "-shm", ".spool"):
                part = path.with_name(path.name + suffix)
                if part.exists():
                    part.rename(aside.with_name(aside.name + suffix))
            self.submit(EverythingTripped(wall=self._wall(), by="killswitch", reason="the journal could not be read"))
            return Journal.open(path, submit=self.submit, wall=self._wall)

    def _build(self, journal: Journal, restored: Restored) -> None:
        config = self._config
        settings = config.settings(boot=f"{self._wall():.3f}")
        self._journal = journal
        self._began = now()
        self._switch = KillSwitch(settings, restored, self._began)
        self._links = Links(config.oms, self.submit, self._wall)
        broker = broker_of(config)
        self._metrics = Metrics(
            settings,
            __version__,
            config.fingerprint(),
            (broker.label,) if broker is not None else (),
            view=self._view,
        )
        self._http = HttpFace(
            Listen(config.http.host, config.http.port),
            daemon=config.daemon.name,
            submit=self.submit,
            view=self._view,
            metrics=self._metrics.render,
            healthy=self._healthy,
            wall=self._wall,
            places=lambda: panic_places(self._config),
        )
        self._commands: CommandLink | None = None
        if broker is not None:
            self._build_mqtt(broker)
        self._sources = Sources(config, self.submit, self._wall)
        record = config.record_path(self._env)
        self._recorder = None if record is None else Recorder(record, config.daemon.name, settings.feeds)
        self._loop = Loop(self._switch, self._owners(), now=now, wall=self._wall, see=self._see, beat=self._beat)
        self._submit = self._loop.inbox.put
        for event in self._waiting:
            self._submit(event)

    def _build_mqtt(self, broker: Broker) -> None:
        config = self._config
        self._commands = CommandLink(
            broker=broker,
            name=config.daemon.name,
            prefix=config.mqtt.prefix,
            submit=self.submit,
            buttons=_buttons(config),
            wall=self._wall,
        )

    def _owners(self) -> dict[type[Action], Callable[[Action], None]]:
        """Who carries out what. An action that nobody owns here (no broker) is done by leaving it."""
        owners: dict[type[Action], Callable[[Action], None]] = dict.fromkeys(OMS_ACTIONS, self._links.own)
        owners[Record] = self._record
        owners[Keep] = self._keep
        owners[Receipt] = self._receipt
        owners[Preview] = self._preview
        owners[AnnounceEvent] = self._event
        owners[ChangeOver] = self._change_over
        if self._commands is not None:
            do: Callable[..., None] = self._commands.do
            owners |= dict.fromkeys((Acknowledge, AnnounceTrip, ClearTrip, AnnounceState), do)
        return owners

    def _jobs(self) -> list[tuple[str, Coroutine[None, None, None]]]:
        jobs: list[tuple[str, Coroutine[None, None, None]]] = [
            ("loop", self._loop.run()),
            ("journal", self._journal.run()),
            ("http", self._serve()),
        ]
        jobs.append(("reload", self._reload_for_ever()))
        if self._commands is not None:
            jobs.append(("mqtt commands", self._commands.run()))
        return jobs

    async def _serve(self) -> None:
        """A taken port must not keep the switch from working: say so and try again."""
        while True:
            try:
                await self._http.run()
            except ListenError as error:
                log.error("HTTP: %s; trying again", error)
                await asyncio.sleep(LISTEN_AGAIN_S)
            else:
                return

    # --- owners and callbacks

    def _keep(self, action: Action) -> None:
        assert isinstance(action, Keep)
        self._journal.keep(action)

    def _record(self, action: Action) -> None:
        assert isinstance(action, Record)
        self._journal.do(action)
        if isinstance(action.body, Tripped):
            # Said at once: what is announced waits for the journal, a person at the console doesn't.
            log.warning("TRIP %s: %s", action.body.trip, action.body.scope.in_words())
        elif isinstance(action.body, ShadowTripped):
            log.warning("SHADOW %s: %s; nothing is cancelled", action.body.trip, action.body.scope.in_words())

    def _receipt(self, action: Action) -> None:
        assert isinstance(action, Receipt)
        if action.via == "http":
            self._http.deliver(action)
        elif self._commands is not None:
            self._commands.do(action)

    def _preview(self, action: Action) -> None:
        assert isinstance(action, Preview)
        self._http.deliver(action)

    def _event(self, action: Action) -> None:
        assert isinstance(action, AnnounceEvent)
        which = f"{action.kind} {action.trip}" if action.trip else action.kind  # two trips can have one scope
        log.log(logging.INFO if action.kind in QUIET else logging.WARNING, "%s: %s", which, action.text)
        self._http.tell(action)
        if self._commands is not None:
            self._commands.do(action)

    def _see(self, event: Event, actions: Sequence[Action], at: float) -> None:
        """What was handled, for those who look on."""
        self._metrics.see(event, actions, at)
        if any(isinstance(action, AnnounceTrip | AnnounceState | ClearTrip) for action in actions):
            self._http.poke()
        if self._recorder is not None:
            self._recorder.see(event, at)
            if isinstance(event, Reconfigured) and any(isinstance(action, ChangeOver) for action in actions):
                self._recorder.change(event, at)
        if isinstance(event, Reconfigured | ReloadFailed):
            self._reload_handled.set()

    def _view(self) -> View:
        return self._switch.view(now())

    def _healthy(self) -> bool:
        return now() - self._loop.turned_at < HEALTHY_S

    def _beat(self, late_s: float) -> None:
        """The decision loop turned: it, and nothing else, feeds the watchdog."""
        self._metrics.lag(late_s)
        at = now()
        if at - self._fed_at >= 1.0:
            self._fed_at = at
            notify("WATCHDOG=1")

    _fed_at = 0.0

    # --- the configuration, read again

    async def _reload_for_ever(self) -> None:
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted.clear()
            # systemd.service(5), Type=notify-reload, and sd_notify(3): the time is that of CLOCK_MONOTONIC.
            notify(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
            try:
                event = await read_again(self._config, self._env, "SIGHUP", self._wall)
                self._reload_handled.clear()
                self.submit(event)
                await self._reload_handled.wait()
            finally:
                notify("READY=1")

    def _change_over(self, action: Action) -> None:
        """The new configuration stands: what it brings is started, then what it takes away is let go."""
        assert isinstance(action, ChangeOver)
        assert isinstance(action.token, Config)
        old, self._config = self._config, action.token
        new = self._config
        self._loop.inbox.forget(frozenset(feed.spec.name for feed in old.feeds if feed not in new.feeds))
        self._links.change(new.oms)
        broker = broker_of(new)
        if self._commands is not None and broker is not None:
            self._commands.sign_in_as(broker)
            self._commands.change(_buttons(new))
        self._sources.change(new)
        self._record_to(old.record_path(self._env), new.record_path(self._env))
        self._say_notes()
        self._say_gaps()

    def _record_to(self, old: Path | None, new: Path | None) -> None:
        if old == new:
            return
        if self._recorder is not None:
            self._start("the recorder ends", asyncio.to_thread(self._recorder.close))
        self._recorder = None if new is None else Recorder(new, self._config.daemon.name, ())
        if self._recorder is not None:
            sessions = [
                one for oms in self._switch.view(now()).omses for one in oms.sessions if one.session is not None
            ]
            up = [
                SessionUp(wall=self._wall(), oms=one.oms, gateway=one.gateway, session=one.session)
                for one in sessions
                if one.session is not None
            ]
            self._recorder.join(up, now())

    # --- signals and the end

    def _mind_signals(self) -> None:
        running = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            running.add_signal_handler(number, self._stop.set)
        running.add_signal_handler(signal.SIGHUP, self._reload_wanted.set)
        running.add_signal_handler(signal.SIGUSR1, self._usr1)

    def _usr1(self) -> None:
        self.submit(EverythingTripped(wall=self._wall(), by="SIGUSR1", reason="asked for on the host"))

    def _busy(self) -> bool:
        """Something that arrived isn't handled yet, a sweep isn't done, or what people are to hear waits for the disk.

        A confirmation that was journalled and never told would leave the lamp on what was before it.
        """
        view = self._switch.view(now())
        # A look that sweep_on_stop asked for is waited for; any other may be given up with its shadow trip.
        looking = self._config.daemon.sweep_on_stop and any(s.would_cancel is None for s in view.shadows)
        unproven = any(t.state != "confirmed" for t in view.trips)
        return len(self._loop.inbox) > 0 or view.untold > 0 or unproven or looking

    async def _stop_in_order(self) -> None:
        """Sweep on what is not confirmed, for at most the deadline; say what is left; then let go."""
        notify("STOPPING=1")
        self.submit(Stopping(wall=self._wall()))
        if self._config.daemon.sweep_on_stop:
            self.submit(EverythingTripped(wall=self._wall(), by="killswitch", reason="sweep_on_stop"))
        until = now() + self._config.confirm.deadline_s
        while now() < until and self._busy():  # noqa: ASYNC110  # it is the core's picture that is waited for
            await asyncio.sleep(0.02)
        for trip in self._switch.view(now()).trips:
            if trip.state == "confirmed":
                log.warning("stopping: %s: %s stays latched; nothing guards it now", trip.trip, trip.scope.in_words())
            else:
                left = f"{orders_left(trip.orders_left, trip.outcome)}; {trip.outcome or 'UNKNOWN'}"
                left += f", {in_words(trip.remaining)}" if trip.remaining else ""
                log.error("stopping: %s: %s is NOT confirmed, %s", trip.trip, trip.scope.in_words(), left)
        self._loop.hand_out(self._switch.end(now(), self._wall()))
        if self._commands is not None:
            await self._commands.flush(FLUSH_S)
        self._http.stop()


def _buttons(config: Config) -> list[Button]:
    return [
        Button(
            name=p.name,
            topic=p.topic,
            match=dict(p.match) if isinstance(p.match, tuple) else p.match,
            scope=p.scope,
        )
        for p in config.panics
    ]
