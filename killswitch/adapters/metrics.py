"""The metrics: counted in passing from what the core was told and what it decided; nobody calls them.

Names, labels and meanings are the contract's (section 5). Every series that can be known from the settings
is there from the start, so that `rate()` and alerts see a first event too; what isn't known is NaN, since a
0 would read as "done" or "fresh". Label values are closed lists: no order id and no free text gets in.

What is a state (ages, what is left, who is up) is read from one View at each scrape; only what happens is
counted here, turn by turn.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.process_collector import ProcessCollector

from killswitch.adapters.metrics_now import Now
from killswitch.adapters.metrics_series import ANSWERS, COMMANDS, IGNORED, known
from killswitch.domain.messages import (
    AccountsFound,
    AccountsListed,
    Answered,
    Arrived,
    BadReading,
    Beat,
    Beside,
    ButtonPressed,
    Called,
    CancelAllOrders,
    CancelOrder,
    CancelQuote,
    ChangeOver,
    Commanded,
    CommandRefused,
    Instruments,
    JournalFailed,
    ListAccounts,
    ListBlockTrades,
    ListInstruments,
    ListOpenOrders,
    ListPermissions,
    ListPositions,
    ListQuotes,
    ListSecondFactorCalls,
    ListUserAccounts,
    Lost,
    Merged,
    Moved,
    NamesTold,
    Noted,
    OpenOrders,
    Positions,
    PositionSeen,
    PriceSeen,
    Reading,
    Reconfigured,
    Record,
    ReloadFailed,
    ResetRequested,
    Sent,
    SetAside,
    ShadowTripped,
    SubscribeAccount,
    SubscribePrice,
    Tripped,
    TripRequested,
    WasReset,
)
from killswitch.domain.scope import EVERY, Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from killswitch.domain.messages import Action, Event
    from killswitch.domain.settings import Settings
    from killswitch.domain.view import View

_log = logging.getLogger(__name__)

LATE_MAX: Final = 100_000
"""Late orders remembered, so that each is counted once; then the oldest are forgotten."""
BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
CALLS_MAX: Final = 8192
"""Calls that are followed at once; beyond it the oldest is forgotten (its answer stays uncounted)."""
TRIPS_MAX: Final = 4096
"""Latched trips that are followed at once; beyond it the oldest is forgotten (its times stay unmeasured)."""


@dataclass(slots=True)
class _Call:
    """A call under way. `scope`: what a cancel could touch, None for a list. `counted`: as a time-out."""

    oms: str
    name: str
    scope: Scope | None
    sent_at: float | None = None
    counted: bool = False


@dataclass(slots=True)
class _Trip:
    """A trip that began while we looked on. `at`: the turn in which it was recorded."""

    scope: Scope
    at: float
    confirmed: bool = False


class Metrics:
    """`see` after each turn of the loop; `render` at each scrape. `brokers`: as host:port.

    `view` is asked once per scrape. Neither of the two raises for whatever it is given: an error of ours in
    here must not touch the switch. Such errors are counted in `killswitch_metrics_errors_total`.
    """

    def __init__(
        self,
        settings: Settings,
        version: str,
        config_fingerprint: str,
        brokers: tuple[str, ...],
        *,
        view: Callable[[], View],
    ) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._calls: dict[int, _Call] = {}
        self._trips: dict[str, _Trip] = {}
        self._unsent: set[str] = set()
        self._late_seen: dict[tuple[str, int], None] = {}
        self._labelled: dict[str, Counter | Histogram] = {}
        self._known: Mapping[str, tuple[tuple[str, ...], ...]] = {}
        self._version = version
        self._make_constant()
        self._make_counters()
        self._make_histograms()
        self._view = view
        self._complained = False
        self._now = Now(settings, brokers, view, on_error=self._errors.inc)
        self._registry.register(self._now)
        self._config = config_fingerprint
        self._go_by(settings, config_fingerprint)

    # --- made at the start, with every series that can be known ---------------------------------------------

    def _go_by(self, settings: Settings, fingerprint: str) -> None:
        """What can be known from these settings is there, and nothing of others."""
        self._feeds_of = {
            site.name: tuple(f.name for f in settings.feeds if f.kind == "oms" and f.oms == site.name)
            for site in settings.sites
        }
        self._feed_names = {feed.name for feed in settings.feeds}
        self._gone_omses = {labels[0] for labels in self._known.get("stragglers", ())} - self._feeds_of.keys()
        before, self._known = self._known, known(settings)
        for name, metric in self._labelled.items():
            now_known = self._known.get(name, ())
            for labels in set(before.get(name, ())) - set(now_known):
                metric.remove(*labels)
            for labels in now_known:
                metric.labels(*labels)
        if self._config != fingerprint:
            self._build.remove(self._version, self._config)
        self._config = fingerprint
        self._build.labels(self._version, fingerprint).set(1)

    def _make_constant(self) -> None:
        self._build = Gauge(
            "killswitch_build_info", "1; the labels say what runs", ["version", "config"], registry=self._registry
        )
        self._reloaded = Gauge(
            "killswitch_config_last_reload_successful",
            "1 if the configuration that was read last is in use",
            registry=self._registry,
        )
        self._reloaded.set(1)
        self._lag = Gauge(
            "killswitch_loop_lag_seconds", "How late the loop's latest turn began", registry=self._registry
        )
        self._lag.set(math.nan)

    def _counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        counter = Counter(f"killswitch_{name}", text, labels, registry=self._registry)
        self._labelled[name] = counter
        return counter

    def _make_counters(self) -> None:
        self._errors = self._counter("metrics_errors", "Errors of our own while counting or showing")
        self._journal_errors = self._counter("journal_errors", "Writes of the journal that failed")
        self._calls_total = self._counter("calls", "Calls to an OMS by what came of them", ("oms", "call", "answer"))
        self._trips_total = self._counter("trips", "Trips that began", ("rule", "kind"))
        self._shadows_total = self._counter("shadow_trips", "Shadow trips that began", ("rule", "kind"))
        self._warnings = self._counter("warnings", "Warnings of a rule: near its limit, or left in the dark", ("rule",))
        self._stragglers = self._counter("stragglers", "Cancels of one order that was left over", ("oms",))
        self._late = self._counter("late_arrivals", "Orders in a latched scope after it was confirmed", ("oms",))
        self._escalations = self._counter("escalations", "Trips that weren't confirmed in time", ("oms",))
        self._conflated = self._counter(
            "conflated_readings", "Readings that were merged into the next one, since too many waited", ("feed",)
        )
        self._commands = self._counter("commands", "Commands by how they were answered", ("command", "result"))

    def _histogram(self, name: str, text: str, labels: Sequence[str] = ()) -> Histogram:
        made = Histogram(f"killswitch_{name}_seconds", text, labels, buckets=BUCKETS_S, registry=self._registry)
        self._labelled[name] = made
        return made

    def _make_histograms(self) -> None:
        self._call_time = self._histogram("call", "From a call's frame to its answer", ("oms", "call"))
        self._to_send = self._histogram("trip_to_send", "From a trip to its first cancel on the wire")
        self._to_confirm = self._histogram("trip_to_confirm", "From a trip to its first confirmation")

    # --- what is shown --------------------------------------------------------------------------------------

    def render(self, accept: str | None) -> tuple[bytes, str]:
        """All series and their content type: OpenMetrics where `accept` asks for it, else plain text."""
        # Written out here: the library's own choice puts the asker's text into the answer's headers.
        if accept and any(one.split(";")[0].strip() == "application/openmetrics-text" for one in accept.split(",")):
            text = openmetrics.generate_latest(self._registry)  # type: ignore[no-untyped-call]
            return text, openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4

    def lag(self, seconds: float) -> None:
        """The loop began a turn this much later than it wanted to."""
        self._lag.set(seconds)

    # --- what is counted ------------------------------------------------------------------------------------

    def see(self, event: Event, actions: Iterable[Action], now: float) -> None:
        """One turn of the loop: what came in, and what was decided. `now`: the turn's own, monotonic."""
        try:
            self._event(event, now)
            for action in actions:
                self._action(event, action, now)
        except Exception:  # noqa: BLE001 whatever it is, the loop goes on
            self._errors.inc()
            if not self._complained:  # turns come by the thousand: one traceback is enough
                self._complained = True
                _log.warning("a turn could not be counted; said once, see the metric", exc_info=True)

    def _event(self, event: Event, now: float) -> None:
        match event:
            case Sent():
                self._sent(event.call, now)
            case Answered():
                self._answered(event.call, event.answer.label, now)
            case (
                Beside() | OpenOrders() | Positions() | AccountsFound() | AccountsListed() | NamesTold() | Instruments()
            ):
                self._answered(event.call, "ok", now)
            case PriceSeen():
                if event.call is not None:
                    self._answered(event.call, "ok", now)
                self._merged_of_oms(event.oms, event.merged)
            case Lost():
                self._ended(event.call, "lost")
            case PositionSeen():
                self._merged_of_oms(event.oms, event.merged)
            case Reading(merged=Merged() as merged):  # the rules count readings, and the view shows it
                self._merged(event.feed, merged.count + merged.older + merged.repeated)
            case Beat() | BadReading():
                self._merged(event.feed, event.merged)
            case CommandRefused(noise=True):
                self._commands.labels(*IGNORED).inc()
            case CommandRefused():
                command = event.command if event.command in COMMANDS else "panic"
                self._commands.labels(command, "malformed").inc()
            case ButtonPressed():
                self._commands.labels("panic", "accepted").inc()  # a button is never told no
            case JournalFailed():
                self._journal_errors.inc()
            case Reconfigured() | ReloadFailed():
                self._reloaded.set(0)  # until it is taken up: in this very turn, if at all
            case _:
                pass

    def _action(self, event: Event, action: Action, now: float) -> None:
        match action:
            case CancelAllOrders():
                self._follow(action.call, _Call(action.scope.oms, "CancelAllOrders", action.scope))
            case CancelOrder():
                scope = Scope(oms=action.oms, account=action.account, user=EVERY, instrument=EVERY)
                self._follow(action.call, _Call(action.oms, "CancelOrder", scope))
                self._stragglers.labels(action.oms).inc()
            case CancelQuote():
                scope = Scope(oms=action.oms, account=action.account, user=EVERY, instrument=action.instrument)
                self._follow(action.call, _Call(action.oms, "CancelQuote", scope))
                self._stragglers.labels(action.oms).inc()
            case ListOpenOrders():
                self._follow(action.call, _Call(action.oms, "GetOpenOrders", None))
            case ListQuotes():
                self._follow(action.call, _Call(action.oms, "GetOpenQuotes", None))
            case ListBlockTrades():
                self._follow(action.call, _Call(action.oms, "GetOpenTradeReports", None))
            case ListPermissions():
                self._follow(action.call, _Call(action.oms, "GetUserPermissions", None))
            case ListSecondFactorCalls():
                self._follow(action.call, _Call(action.oms, "GetValidate2FARequiredEndpoints", None))
            case ListUserAccounts():
                self._follow(action.call, _Call(action.oms, "GetUserAccounts", None))
            case ListAccounts():
                self._follow(action.call, _Call(action.oms, "GetAccounts", None))
            case SubscribeAccount():
                self._follow(action.call, _Call(action.oms, "SubscribeAccountEvents", None))
            case ListPositions():
                self._follow(action.call, _Call(action.oms, "GetAccountPositions", None))
            case ListInstruments():
                self._follow(action.call, _Call(action.oms, "GetInstruments", None))
            case SubscribePrice():
                self._follow(action.call, _Call(action.oms, "SubscribeLevel1", None))
            case ChangeOver() if isinstance(event, Reconfigured):
                self._reloaded.set(1)
                self._now.change(event.settings)
                self._go_by(event.settings, event.settings.fingerprint)
            case Record():
                self._record(event, action, now)
            case _:
                pass

    def _record(self, event: Event, record: Record, now: float) -> None:
        match record.body:
            case Tripped() as body:
                self._tripped(body, now)
            case ShadowTripped() as body:
                self._shadows_total.labels(body.cause.rule, body.cause.kind).inc()
            case Moved() as body:
                self._moved(body, now)
            case WasReset() as body:
                self._trips.pop(body.trip, None)
                self._unsent.discard(body.trip)
            case Called(what="timeout") as body:
                self._timed_out(body.call)
            case Arrived() as body:
                self._arrived(body)
            case Commanded() as body:
                # One that was malformed is counted as that, and its answer isn't a second command.
                if not isinstance(event, CommandRefused) and body.command in COMMANDS:
                    self._commands.labels(body.command, "accepted" if body.accepted else "refused").inc()
            case Noted(rule=str(rule)):
                self._warnings.labels(rule).inc()
            case SetAside() if isinstance(event, TripRequested | ResetRequested):
                command = "trip" if isinstance(event, TripRequested) else "reset"
                self._commands.labels(command, "refused").inc()
            case _:
                pass

    # --- calls ----------------------------------------------------------------------------------------------

    def _follow(self, number: int, call: _Call) -> None:
        if len(self._calls) >= CALLS_MAX:
            del self._calls[next(iter(self._calls))]
        self._calls[number] = call

    def _sent(self, number: int, now: float) -> None:
        call = self._calls.get(number)
        if call is None:
            return
        call.sent_at = now
        if call.scope is None:
            return
        for name in [n for n in self._unsent if self._trips[n].scope.meets(call.scope)]:
            self._unsent.discard(name)
            self._to_send.observe(now - self._trips[name].at)

    def _answered(self, number: int, label: str, now: float) -> _Call | None:
        call = self._ended(number, label)
        if call is not None and call.sent_at is not None and call.oms not in self._gone_omses:
            # A late answer's time is measured too: leaving the slow ones out would flatter the histogram.
            self._call_time.labels(call.oms, call.name).observe(now - call.sent_at)
        return call

    def _ended(self, number: int, label: str) -> _Call | None:
        call = self._calls.pop(number, None)
        if call is not None and not call.counted and call.oms not in self._gone_omses:
            self._calls_total.labels(call.oms, call.name, label if label in ANSWERS else "other").inc()
        return call

    def _timed_out(self, number: int) -> None:
        call = self._calls.get(number)
        if call is not None and not call.counted and call.oms not in self._gone_omses:
            call.counted = True
            self._calls_total.labels(call.oms, call.name, "timeout").inc()

    # --- trips ----------------------------------------------------------------------------------------------

    def _tripped(self, body: Tripped, now: float) -> None:
        if body.cause.kind == "retained":
            return  # found again, not begun: neither a new trip nor one whose start we saw
        self._trips_total.labels(body.cause.rule, body.cause.kind).inc()
        if len(self._trips) >= TRIPS_MAX:
            oldest = next(iter(self._trips))
            del self._trips[oldest]
            self._unsent.discard(oldest)
        self._trips[body.trip] = _Trip(body.scope, now)
        self._unsent.add(body.trip)

    def _moved(self, body: Moved, now: float) -> None:
        trip = self._trips.get(body.trip)
        if body.target == "confirmed" and trip is not None and not trip.confirmed:
            trip.confirmed = True
            self._to_confirm.observe(now - trip.at)
        if body.target == "escalated":
            oms = trip.scope.oms if trip is not None else self._oms_of(body.trip)
            if oms is not None:
                self._escalations.labels(oms).inc()

    def _arrived(self, body: Arrived) -> None:
        """Each order once: every trip whose scope it is in tells of it."""
        new = dict.fromkeys((body.oms, order) for order in body.orders if (body.oms, order) not in self._late_seen)
        self._late.labels(body.oms).inc(len(new))
        self._late_seen |= new
        for oldest in list(self._late_seen)[: max(len(self._late_seen) - LATE_MAX, 0)]:
            del self._late_seen[oldest]

    def _oms_of(self, trip: str) -> str | None:
        return next((t.scope.oms for t in self._view().trips if t.trip == trip), None)

    def _merged_of_oms(self, oms: str, merged: int) -> None:
        for feed in self._feeds_of.get(oms, ()):
            self._merged(feed, merged)

    def _merged(self, feed: str, merged: int) -> None:
        if feed in self._feed_names:
            self._conflated.labels(feed).inc(merged)
