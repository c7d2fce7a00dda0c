"""The metrics that are a state rather than a count: read from one View at each scrape."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Final, TypeAlias, get_args

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from killswitch.domain.watch.doubts import LACKS_LABEL, NOT_FINITE, ODD, OTHER
from killswitch.domain.watch.holdings import UNREADABLE
from killswitch.wire.feed import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from killswitch.domain.settings import FeedSpec, Settings
    from killswitch.domain.view import View

    Series: TypeAlias = tuple[str, ...]

_log = logging.getLogger(__name__)

STATES: Final = ("armed", "sweeping", "confirmed", "escalated")


class Now(Collector):
    """Each series that the settings name is there; what the view lacks, or doesn't know, is NaN.

    A view that can't be had makes every value NaN and calls `on_error`: a scrape doesn't fail, and nothing
    keeps yesterday's value.
    """

    def __init__(
        self,
        settings: Settings,
        brokers: tuple[str, ...],
        view: Callable[[], View],
        *,
        on_error: Callable[[], None],
    ) -> None:
        self._view = view
        self._on_error = on_error
        self.change(settings)
        self._brokers = [(broker,) for broker in brokers]

    def change(self, settings: Settings) -> None:
        """Show what these settings name."""
        self._omses = [(site.name,) for site in settings.sites]
        self._sessions = [(site.name, gateway) for site in settings.sites for gateway in site.gateways]
        self._feeds = [(feed.name,) for feed in settings.feeds]
        self._stale_after: dict[Series, float] = {(feed.name,): feed.stale_after_s for feed in settings.feeds}
        self._readings = {feed.name: 0 for feed in settings.feeds}
        self._bad = {feed.name: dict.fromkeys(_reasons(feed), 0) for feed in settings.feeds}
        self._rules = [(rule.name,) for rule in settings.rules]

    def collect(self) -> Iterator[Metric]:
        try:
            found = list(self._families(self._view()))
        except Exception:  # noqa: BLE001 whatever it is, the counters are still worth showing
            self._on_error()
            _log.warning("the metrics have no view", exc_info=True)
            found = list(self._families(None))
        yield from found

    def _families(self, view: View | None) -> Iterator[Metric]:
        yield _family(
            "state",
            "1 for the worst of the trips' states, or for armed",
            ("state",),
            [(state,) for state in STATES],
            {(state,): view.state == state for state in STATES} if view else {},
        )
        yield _whole("latched_trips", "Trips that are latched", len(view.trips) if view else None)
        yield _whole(
            "shadow",
            "1 while the whole daemon is in shadow and cancels nothing",
            view.mode == "shadow" if view else None,
        )
        yield _whole("shadow_trips_standing", "Shadow trips that nobody has reset", len(view.shadows) if view else None)
        yield _whole("ready", "1 if a trip could be carried out now", view.ready if view else None)
        yield _whole(
            "commands_waiting",
            "Commands whose receipt waits for the journal",
            view.commands_waiting if view else None,
        )
        yield from self._of_omses(view)
        yield from self._of_links(view)
        yield _family(
            "feed_age_seconds",
            "Since a feed's last look, or since the start until the first",
            ("feed",),
            self._feeds,
            {(f.feed,): f.age_s for f in view.feeds} if view else {},
        )
        # Beside the age, so that an alert needs no number of its own: each feed has another.
        yield _family(
            "feed_stale_after_seconds",
            "The age past which a feed is stale, as configured",
            ("feed",),
            self._feeds,
            self._stale_after,
        )
        yield _family(
            "rule_headroom_ratio",
            "Of the worst series: 1 at rest, 0 at the limit, below 0 in breach",
            ("rule",),
            self._rules,
            {(r.rule,): r.headroom for r in view.rules} if view else {},
        )
        yield _family(
            "rule_warming",
            "Series whose window isn't whole yet: a breach could hide in what came before it was watched",
            ("rule",),
            self._rules,
            {(r.rule,): r.warming for r in view.rules} if view else {},
        )

        yield self._of_readings(view)
        yield self._of_bad(view)

    def _of_readings(self, view: View | None) -> CounterMetricFamily:
        """What the rules were given, as `status` has it. Without a view it stands where it was."""
        family = CounterMetricFamily(
            "killswitch_readings", "Readings, and beats, that the rules were given", labels=["feed"]
        )
        for feed in view.feeds if view else ():
            if feed.feed in self._readings:
                self._readings[feed.feed] = feed.readings
        for name, count in self._readings.items():
            family.add_metric((name,), count)
        return family

    def _of_bad(self, view: View | None) -> CounterMetricFamily:
        """A count that the rules keep: they alone tell a late reading from one that is the same again.

        Without a view it stands where it was: no count can be NaN.
        """
        family = CounterMetricFamily(
            "killswitch_bad_readings",
            "Payloads that are no reading, and readings whose own time is odd, by reason",
            labels=["feed", "reason"],
        )
        for feed in view.feeds if view else ():
            known = self._bad.get(feed.feed, {})
            for reason in known:
                known[reason] = 0
            for reason, count in feed.bad if known else ():
                known[reason if reason in known else OTHER] += count
        for name, known in self._bad.items():
            for reason, count in known.items():
                family.add_metric((name, reason), count)
        return family

    def _of_omses(self, view: View | None) -> Iterator[GaugeMetricFamily]:
        omses = view.omses if view else ()
        yield _family(
            "orders_left",
            "Orders in the latched scopes by the latest lists",
            ("oms",),
            self._omses,
            {(o.oms,): o.orders_left for o in omses},
        )
        yield _family(
            "proof_age_seconds",
            "Age of the oldest proof that a latched scope is empty",
            ("oms",),
            self._omses,
            {(o.oms,): o.proof_age_s for o in omses},
        )
        yield _family(
            "uncovered_accounts",
            "Known accounts that no rule and no panic scope covers",
            ("oms",),
            self._omses,
            {(o.oms,): len(o.uncovered_accounts) for o in omses},
        )

    def _of_links(self, view: View | None) -> Iterator[GaugeMetricFamily]:
        # A link of which the core has not heard yet isn't up: here 0 is the answer that alarms, and NaN isn't.
        sessions: dict[Series, float] = dict.fromkeys(self._sessions, 0) if view else {}
        brokers: dict[Series, float] = dict.fromkeys(self._brokers, 0) if view else {}
        if view:
            sessions |= {(s.oms, s.gateway): s.up for oms in view.omses for s in oms.sessions}
            brokers |= {(b.broker,): b.up for b in view.brokers}
        yield _family(
            "session_up",
            "1 while signed in at a gateway",
            ("oms", "gateway"),
            self._sessions,
            sessions,
        )
        yield _family(
            "mqtt_up",
            "1 while the command topics are subscribed",
            ("broker",),
            self._brokers,
            brokers,
        )


def _reasons(feed: FeedSpec) -> tuple[str, ...]:
    """Why a feed's readings may be bad; another reason counts as OTHER."""
    payload = get_args(Reason) if feed.kind != "oms" else (UNREADABLE,)
    return (*payload, LACKS_LABEL, NOT_FINITE, *(ODD if feed.timed else ()), OTHER)


def _family(
    name: str,
    text: str,
    labels: Iterable[str],
    series: Iterable[Series],
    values: Mapping[Series, float | None],
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"killswitch_{name}", text, labels=list(labels))
    for one in series:
        family.add_metric(one, _value(values.get(one)))
    return family


def _whole(name: str, text: str, value: float | None) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"killswitch_{name}", text)
    family.add_metric((), _value(value))
    return family


def _value(value: float | None) -> float:
    return math.nan if value is None else float(value)
