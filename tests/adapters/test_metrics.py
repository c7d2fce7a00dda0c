from __future__ import annotations

import math
import os
import shutil
import subprocess
from dataclasses import replace
from decimal import Decimal
from typing import get_args

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from killswitch.adapters import metrics as module
from killswitch.adapters.metrics import Metrics
from killswitch.domain.messages import (
    AccountsFound,
    Answer,
    Answered,
    AnswerKind,
    Arrived,
    BadReading,
    ButtonPressed,
    Called,
    CancelAllOrders,
    CancelOrder,
    CauseView,
    Commanded,
    CommandRefused,
    Instruments,
    JournalFailed,
    ListInstruments,
    ListOpenOrders,
    ListPositions,
    ListUserAccounts,
    Lost,
    Merged,
    Moved,
    Noted,
    OpenOrders,
    PositionRow,
    Positions,
    PriceSeen,
    Reading,
    Record,
    Sent,
    SetAside,
    SubscribePrice,
    Tick,
    Tripped,
    TripRequested,
    TripView,
    WasReset,
)
from killswitch.domain.scope import EVERY, Scope
from killswitch.domain.settings import FeedSpec, LimitRule, OnUnknown, ScopeTemplate, Settings, Site
from killswitch.domain.view import BrokerView, FeedView, OmsView, RuleView, SessionView, View
from killswitch.domain.watch.doubts import ODD
from killswitch.wire.alphapoint_market import SUBSCRIBED_ALREADY
from killswitch.wire.alphapoint_replies import DOCUMENTED
from killswitch.wire.feed import Reason

GATEWAY = "127.0.0.1:8087"
BROKER = "127.0.0.1:1883"
ACCOUNT_14 = Scope(oms="prime", account=14, user=EVERY, instrument=EVERY)
ACCOUNT_15 = Scope(oms="prime", account=15, user=EVERY, instrument=EVERY)
OK = Answer(AnswerKind.RECEIVED, "ok")


def a_rule(name: str) -> LimitRule:
    return LimitRule(
        name=name,
        owner="desk",
        reading="position",
        where=(),
        above=Decimal(50),
        below=None,
        absolute=False,
        for_s=0.0,
        on_stale=OnUnknown.WARN,
        on_bad=OnUnknown.WARN,
        fallback=None,
        scope=ScopeTemplate(oms="prime", account=14),
    )


SETTINGS = Settings(
    daemon="ks-a",
    boot="b1",
    sites=(
        Site(name="prime", accounts=(14, 15), whole_oms=False, calls_per_minute=400, gateways=(GATEWAY,)),
        Site(name="other", accounts=(1,), whole_oms=False, calls_per_minute=400, gateways=("h:1",)),
    ),
    feeds=(
        FeedSpec(name="positions", kind="oms", stale_after_s=10, oms="prime"),
        FeedSpec(name="var", kind="mqtt", stale_after_s=5, reading="var", timed=True),
    ),
    rules=(a_rule("btc"), a_rule("eth")),
)
VIEW = View(
    daemon="ks-a",
    state="armed",
    trips=(),
    rules=(RuleView("btc", "desk", "limit", "above 50", 0, None, None, (), ()),),
    feeds=(FeedView("positions", True, False, 3.5, False, 0, ()),),
    omses=(OmsView("prime", (SessionView("prime", GATEWAY, True, 7, 3.0, ""),), None, None, 1.0, (15,)),),
    brokers=(BrokerView(BROKER, True, ""),),
    journal_error=None,
    commands_waiting=0,
    ready=True,
    missing=(),
    notes=(),
)


class Bench:
    """Metrics, a view that can be changed, a number for each record."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.view = VIEW
        self.metrics = Metrics(settings, "0.1.0", "cafe", (BROKER,), view=lambda: self.view)
        self.n = 0

    def see(self, now, event=None, *actions):
        self.metrics.see(event or Tick(wall=0.0), actions, now)

    def show_bad(self, *counts):
        feed = FeedView("var", True, True, 0.0, False, 0, counts)
        self.view = replace(VIEW, feeds=(*VIEW.feeds, feed))

    def record(self, body):
        self.n += 1
        return Record(self.n, 0.0, body)

    def value(self, name: str, **labels: str) -> float:
        found = self.series()[name, tuple(sorted(labels.items()))]
        assert isinstance(found, float)
        return found

    def series(self) -> dict:
        text, _ = self.metrics.render(None)
        return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in parse(text.decode()) for s in f.samples}

    def value_of_histogram(self, name: str, **labels: str) -> tuple[float, float]:
        return self.value(f"{name}_count", **labels), self.value(f"{name}_sum", **labels)

    def calls(self, call: str, answer: str) -> float:
        return self.value("killswitch_calls_total", oms="prime", call=call, answer=answer)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def tripped(trip: str, scope: Scope, rule: str = "btc", kind: str = "limit") -> Tripped:
    return Tripped(trip, scope, CauseView("why", rule, kind, (), 0.0, 0.0, 1), "someone")


def moved(trip: str, target: str) -> Moved:
    return Moved(trip, "sweeping", "PROVEN", target, "why")


def position(account: int) -> PositionRow:
    return PositionRow(account, "BTC", Decimal(1), Decimal(0))


# --- at the start ------------------------------------------------------------------------------------------


def test_every_series_that_can_be_known_exists_at_the_start(bench):
    names = bench.series()
    for oms in ("prime", "other"):
        calls = ("CancelAllOrders", "CancelOrder", "GetOpenOrders", "GetUserAccounts", "GetAccountPositions")
        for call in (*calls, "GetInstruments", "SubscribeLevel1"):
            for answer in ("ok", "20", "100", "101", "102", "104", "106", "107", "909", "other", "timeout", "lost"):
                labels = (("answer", answer), ("call", call), ("oms", oms))
                assert names["killswitch_calls_total", labels] == 0
            assert names["killswitch_call_seconds_count", (("call", call), ("oms", oms))] == 0
        for name in ("stragglers_total", "late_arrivals_total", "escalations_total"):
            assert names[f"killswitch_{name}", (("oms", oms),)] == 0
    for rule in ("btc", "eth"):
        assert names["killswitch_trips_total", (("kind", "limit"), ("rule", rule))] == 0
    for kind in ("command", "panic", "http", "signal"):
        assert names["killswitch_trips_total", (("kind", kind), ("rule", ""))] == 0
    for command in ("trip", "reset", "panic"):
        for result in ("accepted", "refused", "malformed", *(("ignored",) if command == "panic" else ())):
            assert names["killswitch_commands_total", (("command", command), ("result", result))] == 0
    for feed in ("positions", "var"):
        assert names["killswitch_readings_total", (("feed", feed),)] == 0
    for reason in (*get_args(Reason), *ODD, "lacks_label", "not_finite", "other"):
        assert names["killswitch_bad_readings_total", (("feed", "var"), ("reason", reason))] == 0
    for reason in ("unreadable_row", "lacks_label", "not_finite", "other"):
        assert names["killswitch_bad_readings_total", (("feed", "positions"), ("reason", reason))] == 0
    assert not [name for name, held in names if ("feed", "positions") in held and ("reason", "late") in held]
    for name in ("trip_to_send_seconds_count", "trip_to_confirm_seconds_count", "journal_errors_total"):
        assert names[f"killswitch_{name}", ()] == 0
    assert names["killswitch_build_info", (("config", "cafe"), ("version", "0.1.0"))] == 1
    assert names["process_cpu_seconds_total", ()] > 0
    assert not [name for name, _ in names if name.endswith("_created")]


def test_no_series_comes_to_be_after_the_start():
    bench = Bench()
    before = bench.series().keys()
    bench.see(1.0, None, bench.record(tripped("t1", ACCOUNT_14)), CancelAllOrders(1, 7, ACCOUNT_14))
    bench.see(1.1, Sent(wall=0, call=1, session=7))
    bench.see(1.2, Answered(wall=0, call=1, session=7, answer=Answer(AnswerKind.UNCLEAR, "text of theirs")))
    bench.show_bad(("text of theirs", 1))
    bench.see(1.4, BadReading(wall=0, feed="theirs", name="var", labels=None, reason="not_json"))
    bench.see(1.5, Reading(wall=0, feed="theirs", name="var", labels=(), value=1.0))
    bench.see(1.6, None, bench.record(moved("t1", "escalated")))
    assert bench.series().keys() == before
    assert bench.calls("CancelAllOrders", "other") == 1
    assert bench.value("killswitch_bad_readings_total", feed="var", reason="other") == 1


def test_the_answers_are_the_documented_codes():
    assert {a for a in module.ANSWERS if a.isdigit()} == {str(code) for code in (*DOCUMENTED, SUBSCRIBED_ALREADY)}


def test_what_is_not_known_is_nan_and_never_0(bench):
    assert math.isnan(bench.value("killswitch_orders_left", oms="prime"))
    assert math.isnan(bench.value("killswitch_proof_age_seconds", oms="prime"))
    assert math.isnan(bench.value("killswitch_rule_headroom_ratio", rule="btc"))
    assert math.isnan(bench.value("killswitch_loop_lag_seconds"))
    # A series that the settings name and the view lacks is unknown as well.
    assert math.isnan(bench.value("killswitch_orders_left", oms="other"))
    assert math.isnan(bench.value("killswitch_feed_age_seconds", feed="var"))
    assert math.isnan(bench.value("killswitch_rule_headroom_ratio", rule="eth"))
    assert math.isnan(bench.value("killswitch_rule_warming", rule="eth"))


def test_a_link_that_was_not_heard_of_yet_is_down_since_nan_would_alarm_nobody(bench):
    bench.view = replace(VIEW, omses=(), brokers=())
    assert bench.value("killswitch_session_up", oms="prime", gateway=GATEWAY) == 0
    assert bench.value("killswitch_mqtt_up", broker=BROKER) == 0


# --- from the view -----------------------------------------------------------------------------------------


def test_what_is_a_state_is_read_from_the_view_at_each_scrape(bench):
    assert bench.value("killswitch_state", state="armed") == 1
    assert bench.value("killswitch_state", state="sweeping") == 0
    assert bench.value("killswitch_feed_age_seconds", feed="positions") == 3.5
    assert bench.value("killswitch_feed_stale_after_seconds", feed="positions") == 10
    assert bench.value("killswitch_feed_stale_after_seconds", feed="var") == 5
    assert bench.value("killswitch_uncovered_accounts", oms="prime") == 1
    assert bench.value("killswitch_session_up", oms="prime", gateway=GATEWAY) == 1
    assert bench.value("killswitch_mqtt_up", broker=BROKER) == 1
    assert bench.value("killswitch_ready") == 1
    assert bench.value("killswitch_latched_trips") == 0
    bench.view = replace(
        VIEW,
        state="escalated",
        trips=(a_trip_view("t1"), a_trip_view("t2")),
        rules=(replace(VIEW.rules[0], headroom=-0.25, warming=3),),
        feeds=(replace(VIEW.feeds[0], age_s=4.25),),
        omses=(
            replace(
                VIEW.omses[0],
                orders_left=0,
                proof_age_s=1.5,
                sessions=(replace(VIEW.omses[0].sessions[0], up=False),),
            ),
        ),
        brokers=(BrokerView(BROKER, False, "refused"),),
        commands_waiting=2,
        ready=False,
    )
    assert bench.value("killswitch_state", state="armed") == 0
    assert bench.value("killswitch_state", state="escalated") == 1
    assert bench.value("killswitch_latched_trips") == 2
    assert bench.value("killswitch_orders_left", oms="prime") == 0
    assert bench.value("killswitch_proof_age_seconds", oms="prime") == 1.5
    assert bench.value("killswitch_rule_headroom_ratio", rule="btc") == -0.25
    assert bench.value("killswitch_rule_warming", rule="btc") == 3
    assert bench.value("killswitch_feed_age_seconds", feed="positions") == 4.25
    assert bench.value("killswitch_session_up", oms="prime", gateway=GATEWAY) == 0
    assert bench.value("killswitch_mqtt_up", broker=BROKER) == 0
    assert bench.value("killswitch_commands_waiting") == 2
    assert bench.value("killswitch_ready") == 0


def test_a_view_that_cannot_be_had_makes_the_state_unknown_and_the_scrape_goes_on(bench):
    def broken():
        raise RuntimeError("no view")

    metrics = Metrics(SETTINGS, "0.1.0", "cafe", (BROKER,), view=broken)
    bench.metrics = metrics
    assert math.isnan(bench.value("killswitch_state", state="armed"))
    assert math.isnan(bench.value("killswitch_ready"))
    assert math.isnan(bench.value("killswitch_latched_trips"))
    assert bench.value("killswitch_journal_errors_total") == 0
    assert bench.value("killswitch_metrics_errors_total") >= 1


def test_the_lag_of_the_loop_is_the_latest(bench):
    bench.metrics.lag(0.25)
    assert bench.value("killswitch_loop_lag_seconds") == 0.25


# --- calls -------------------------------------------------------------------------------------------------


def test_a_call_is_counted_by_its_answer_and_timed_from_its_frame(bench):
    bench.see(1.0, None, CancelAllOrders(1, 7, ACCOUNT_14))
    bench.see(1.5, Sent(wall=0, call=1, session=7))
    bench.see(1.75, Answered(wall=0, call=1, session=7, answer=OK))
    assert bench.calls("CancelAllOrders", "ok") == 1
    assert bench.value_of_histogram("killswitch_call_seconds", oms="prime", call="CancelAllOrders") == (1, 0.25)


def priced(call: int | None = None) -> PriceSeen:
    return PriceSeen(wall=0, oms="prime", session=7, instrument=25, bid=None, ask=None, last=None, call=call)


def test_each_kind_of_call_and_answer_has_its_own_series(bench):
    bench.see(
        0.0,
        None,
        CancelOrder(1, 7, "prime", 14, 900, None),
        ListOpenOrders(2, 7, "prime", 14),
        ListUserAccounts(3, 7, "prime", 37),
        ListPositions(4, 7, "prime", 14),
        ListOpenOrders(5, 7, "prime", 15),
        ListOpenOrders(6, 7, "prime", 15),
        ListInstruments(7, 7, "prime"),
        SubscribePrice(8, 7, "prime", 25),
        SubscribePrice(9, 7, "prime", 26),
    )
    refused = Answer(AnswerKind.REFUSED, "20", 20)
    bench.see(0.1, Answered(wall=0, call=1, session=7, answer=refused))
    bench.see(0.2, OpenOrders(wall=0, call=2, session=7, account=14, orders=()))
    bench.see(0.3, AccountsFound(wall=0, call=3, session=7, accounts=(14,)))
    bench.see(0.4, Positions(wall=0, call=4, session=7, account=14, rows=()))
    bench.see(0.5, Lost(wall=0, call=5, session=7, why="gone"))
    bench.see(0.6, Answered(wall=0, call=6, session=7, answer=refused))
    bench.see(0.7, Instruments(wall=0, call=7, session=7, rows=()))
    bench.see(0.8, priced(call=8))
    bench.see(0.9, Answered(wall=0, call=9, session=7, answer=Answer(AnswerKind.RECEIVED, "909", 909)))
    assert bench.calls("GetInstruments", "ok") == 1
    assert bench.calls("SubscribeLevel1", "ok") == 1
    assert bench.calls("SubscribeLevel1", "909") == 1
    assert bench.calls("CancelOrder", "20") == 1
    assert bench.calls("GetOpenOrders", "ok") == 1
    assert bench.calls("GetOpenOrders", "lost") == 1
    assert bench.calls("GetOpenOrders", "20") == 1
    assert bench.calls("GetUserAccounts", "ok") == 1
    assert bench.calls("GetAccountPositions", "ok") == 1
    assert bench.value("killswitch_stragglers_total", oms="prime") == 1
    # Never sent, so there is nothing to time.
    assert bench.value("killswitch_call_seconds_count", oms="prime", call="GetOpenOrders") == 0


def called(call: int, what: str) -> Called:
    return Called(call, "CancelAllOrders", "prime", 7, what, "account 14")


@pytest.mark.parametrize("after", ["answered", "lost", "twice"])
def test_a_time_out_is_counted_once_and_what_comes_after_it_is_not_counted_again(bench, after):
    bench.see(1.0, None, CancelAllOrders(1, 7, ACCOUNT_14), bench.record(called(1, "sent")))
    bench.see(1.0, Sent(wall=0, call=1, session=7))
    bench.see(1.5, None, bench.record(called(1, "timeout")))
    if after == "answered":
        bench.see(3.0, Answered(wall=0, call=1, session=7, answer=OK), bench.record(called(1, "ok")))
    elif after == "lost":
        bench.see(3.0, Lost(wall=0, call=1, session=7, why="gone"))
    else:
        bench.see(3.0, None, bench.record(called(1, "timeout")))
    assert bench.calls("CancelAllOrders", "timeout") == 1
    assert bench.calls("CancelAllOrders", "ok") == 0
    assert bench.calls("CancelAllOrders", "lost") == 0
    times = bench.value_of_histogram("killswitch_call_seconds", oms="prime", call="CancelAllOrders")
    assert times == ((1, 2.0) if after == "answered" else (0, 0.0))


def test_an_answer_to_a_call_that_nobody_made_is_not_counted(bench):
    bench.see(1.0, Answered(wall=0, call=99, session=7, answer=OK))
    bench.see(1.0, Sent(wall=0, call=99, session=7))
    bench.see(1.0, Lost(wall=0, call=99, session=7, why="gone"))
    bench.see(1.0, None, bench.record(called(99, "timeout")))
    assert sum(v for (name, _), v in bench.series().items() if name == "killswitch_calls_total") == 0
    assert bench.value("killswitch_metrics_errors_total") == 0


def test_calls_and_trips_without_an_end_do_not_fill_the_memory(bench):
    for n in range(module.CALLS_MAX + 50):
        bench.see(0.0, None, ListOpenOrders(n, 7, "prime", 14))
    for n in range(module.TRIPS_MAX + 50):
        bench.see(0.0, None, bench.record(tripped(f"t{n}", ACCOUNT_14)))
    assert len(bench.metrics._calls) == module.CALLS_MAX
    assert len(bench.metrics._trips) == module.TRIPS_MAX
    assert len(bench.metrics._unsent) == module.TRIPS_MAX
    bench.see(1.0, None, CancelAllOrders(10**6, 7, ACCOUNT_14))
    bench.see(2.0, Sent(wall=0, call=10**6, session=7))
    assert bench.value("killswitch_trip_to_send_seconds_count") == module.TRIPS_MAX
    assert bench.value("killswitch_metrics_errors_total") == 0


# --- trips -------------------------------------------------------------------------------------------------


def test_a_trip_is_counted_and_timed_to_its_first_cancel_and_its_first_proof_only(bench):
    bench.see(10.0, None, bench.record(tripped("t1", ACCOUNT_14)), CancelAllOrders(1, 7, ACCOUNT_14))
    bench.see(10.25, Sent(wall=0, call=1, session=7))
    bench.see(10.5, None, CancelAllOrders(2, 7, ACCOUNT_14))
    bench.see(10.75, Sent(wall=0, call=2, session=7))
    bench.see(11.0, None, bench.record(moved("t1", "confirmed")))
    bench.see(12.0, None, bench.record(moved("t1", "sweeping")))
    bench.see(13.0, None, bench.record(moved("t1", "confirmed")))
    assert bench.value("killswitch_trips_total", rule="btc", kind="limit") == 1
    assert bench.value_of_histogram("killswitch_trip_to_send_seconds") == (1, 0.25)
    assert bench.value_of_histogram("killswitch_trip_to_confirm_seconds") == (1, 1.0)


def test_a_cancel_of_another_scope_is_not_a_trips_first_cancel(bench):
    bench.see(10.0, None, bench.record(tripped("t1", ACCOUNT_14)), CancelAllOrders(1, 7, ACCOUNT_15))
    bench.see(10.1, Sent(wall=0, call=1, session=7))
    assert bench.value("killswitch_trip_to_send_seconds_count") == 0
    bench.see(10.2, None, ListOpenOrders(2, 7, "prime", 14))
    bench.see(10.3, Sent(wall=0, call=2, session=7))
    assert bench.value("killswitch_trip_to_send_seconds_count") == 0
    bench.see(10.4, None, CancelOrder(3, 7, "prime", 14, 900, None))
    bench.see(10.5, Sent(wall=0, call=3, session=7))
    assert bench.value_of_histogram("killswitch_trip_to_send_seconds") == (1, 0.5)


def test_two_trips_share_a_cancel_that_meets_both(bench):
    inside = Scope(oms="prime", account=14, user=EVERY, instrument=25)
    bench.see(10.0, None, bench.record(tripped("t1", ACCOUNT_14)))
    bench.see(10.5, None, bench.record(tripped("t2", inside, "", "panic")), CancelAllOrders(1, 7, ACCOUNT_14))
    bench.see(11.0, Sent(wall=0, call=1, session=7))
    assert bench.value_of_histogram("killswitch_trip_to_send_seconds") == (2, 1.5)
    assert bench.value("killswitch_trips_total", rule="", kind="panic") == 1


def test_a_restored_trip_is_neither_counted_nor_timed(bench):
    bench.see(10.0, None, CancelAllOrders(1, 7, ACCOUNT_14))
    bench.see(10.1, Sent(wall=0, call=1, session=7))
    bench.see(11.0, None, bench.record(moved("from-before", "confirmed")))
    bench.see(12.0, None, bench.record(tripped("found", ACCOUNT_14, "", "retained")))
    assert sum(v for (name, _), v in bench.series().items() if name == "killswitch_trips_total") == 0
    assert bench.value("killswitch_trip_to_send_seconds_count") == 0
    assert bench.value("killswitch_trip_to_confirm_seconds_count") == 0


def test_a_trip_that_was_reset_is_forgotten(bench):
    bench.see(10.0, None, bench.record(tripped("t1", ACCOUNT_14)))
    bench.see(11.0, None, bench.record(WasReset("t1", "alice", "calm", "r1", "d")))
    assert bench.metrics._trips == {}
    assert bench.metrics._unsent == set()


def a_trip_view(trip: str) -> TripView:
    return TripView(trip, "sweeping", ACCOUNT_14, (), "x", 0.0, 0, None, None, "orders", None, (), ())


def test_an_escalation_is_counted_for_the_oms_of_its_trip_also_after_a_restart(bench):
    bench.see(10.0, None, bench.record(tripped("t1", ACCOUNT_14)))
    bench.see(15.0, None, bench.record(moved("t1", "escalated")))
    assert bench.value("killswitch_escalations_total", oms="prime") == 1
    bench.view = replace(VIEW, trips=(a_trip_view("from-before"),))
    bench.see(16.0, None, bench.record(moved("from-before", "escalated")))
    assert bench.value("killswitch_escalations_total", oms="prime") == 2
    bench.see(17.0, None, bench.record(moved("unheard-of", "escalated")))
    assert bench.value("killswitch_escalations_total", oms="prime") == 2


def test_late_arrivals_count_orders_each_once_however_many_trips_they_meet(bench):
    bench.see(1.0, None, bench.record(Arrived("t1", "prime", 14, (901, 902, 903))))
    assert bench.value("killswitch_late_arrivals_total", oms="prime") == 3
    bench.see(1.0, None, bench.record(Arrived("t2", "prime", 14, (902, 903, 904))))
    assert bench.value("killswitch_late_arrivals_total", oms="prime") == 4


def test_late_arrivals_are_remembered_up_to_a_limit(bench, monkeypatch):
    monkeypatch.setattr("killswitch.adapters.metrics.LATE_MAX", 2)
    for orders in ((901, 902), (903,), (902, 903), (901,)):  # 901 is forgotten by then, and counted again
        bench.see(1.0, None, bench.record(Arrived("t1", "prime", 14, orders)))
    assert bench.value("killswitch_late_arrivals_total", oms="prime") == 4


# --- commands, readings, the journal -----------------------------------------------------------------------


def commanded(command: str, *, accepted: bool) -> Commanded:
    return Commanded("id1", command, "d", accepted, "why", None, "alice")


def test_commands_are_counted_by_how_they_were_answered(bench):
    bench.see(1.0, None, bench.record(commanded("trip", accepted=True)))
    bench.see(1.0, None, bench.record(commanded("reset", accepted=False)))
    malformed = CommandRefused(wall=0, command="trip", id="id1", reason="unknown key", via="http")
    bench.see(1.0, malformed, bench.record(commanded("trip", accepted=False)))
    assert bench.value("killswitch_commands_total", command="trip", result="accepted") == 1
    assert bench.value("killswitch_commands_total", command="reset", result="refused") == 1
    assert bench.value("killswitch_commands_total", command="trip", result="malformed") == 1
    assert bench.value("killswitch_commands_total", command="trip", result="refused") == 0


def test_a_payload_that_is_no_press_is_not_malformed(bench):
    battery = CommandRefused(wall=0, command="panic", id=None, reason="no match", via="mqtt", noise=True)
    bench.see(1.0, battery)
    assert bench.value("killswitch_commands_total", command="panic", result="ignored") == 1
    assert bench.value("killswitch_commands_total", command="panic", result="malformed") == 0


def test_a_press_of_a_button_and_a_command_that_was_set_aside_are_counted_too(bench):
    bench.see(1.0, ButtonPressed(wall=0, button="desk", scope=ACCOUNT_14, via="mqtt"))
    asked = TripRequested(
        wall=0, id="id1", scope=ACCOUNT_14, by="alice", reason="why", issued_at=None, digest="d", via="mqtt"
    )
    bench.see(1.0, asked, bench.record(SetAside("TripRequested", "a traceback")))
    bench.see(1.0, Tick(wall=0), bench.record(SetAside("Tick", "a traceback")))
    assert bench.value("killswitch_commands_total", command="panic", result="accepted") == 1
    assert bench.value("killswitch_commands_total", command="trip", result="refused") == 1


def test_readings_are_those_that_status_shows(bench):
    bench.view = replace(VIEW, feeds=tuple(replace(feed, readings=5 + n) for n, feed in enumerate(VIEW.feeds)))
    shown = {feed.feed: bench.value("killswitch_readings_total", feed=feed.feed) for feed in bench.view.feeds}
    assert shown == {feed.feed: feed.readings for feed in bench.view.feeds}
    bench.view = None  # then it stands where it was: a count that falls to 0 would be a restart
    assert {name: bench.value("killswitch_readings_total", feed=name) for name in shown} == shown


def test_bad_readings_are_those_that_the_rules_counted_by_reason(bench, caplog):
    bench.show_bad(("duplicate", 2), ("frozen", 1), ("not_json", 3), ("what is this", 4), ("and this", 1))
    counts = {"duplicate": 2, "frozen": 1, "not_json": 3, "other": 5, "late": 0, "too_long": 0}
    for _ in range(2):  # without a view they stand where they were: no count can be unknown
        shown = {reason: bench.value("killswitch_bad_readings_total", feed="var", reason=reason) for reason in counts}
        assert shown == counts
        bench.view = None


def test_failed_writes_of_the_journal_are_counted(bench):
    bench.see(1.0, JournalFailed(wall=0, why="disk full"))
    assert bench.value("killswitch_journal_errors_total") == 1


def test_an_error_while_counting_is_counted_and_never_raised(bench, caplog):
    for _ in range(3):
        bench.see(1.0, Sent(wall=0, call=[], session=7))  # a call that can't be a key
    assert bench.value("killswitch_metrics_errors_total") == 3
    assert len(caplog.records) == 1
    bench.see(1.0, JournalFailed(wall=0, why="disk full"))
    assert bench.value("killswitch_journal_errors_total") == 1


def test_what_was_merged_is_counted_as_conflated(bench):
    merged = Merged(7, Decimal(21), older=2, repeated=1)
    bench.see(1.0, Reading(wall=0, feed="var", name="var", labels=(), value=1.0, merged=merged))
    bench.see(1.0, BadReading(wall=0, feed="var", name="var", labels=(), reason="not_json", merged=4))
    assert bench.value("killswitch_conflated_readings_total", feed="var") == 14


# --- the exposition ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("accept", [None, "", "*/*", "text/plain;version=0.0.4", "text/plain; version=9\r\nX: y"])
def test_plain_text_is_what_is_shown_by_default(bench, accept):
    text, content_type = bench.metrics.render(accept)
    assert content_type.startswith("text/plain; version=0.0.4")
    assert list(parse(text.decode()))


def test_openmetrics_is_shown_to_whoever_asks_for_it(bench):
    accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
    text, content_type = bench.metrics.render(accept)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith(b"# EOF\n")
    assert list(parse_openmetrics(text.decode()))


def test_the_names_are_the_contracts(bench):
    text, _ = bench.metrics.render(None)
    names = {f.name for f in parse(text.decode()) if f.name.startswith("killswitch_")}
    assert names == {
        "killswitch_build_info",
        "killswitch_config_last_reload_successful",
        "killswitch_state",
        "killswitch_latched_trips",
        "killswitch_shadow",
        "killswitch_shadow_trips",
        "killswitch_shadow_trips_standing",
        "killswitch_trips",
        "killswitch_trip_to_send_seconds",
        "killswitch_trip_to_confirm_seconds",
        "killswitch_calls",
        "killswitch_call_seconds",
        "killswitch_orders_left",
        "killswitch_stragglers",
        "killswitch_late_arrivals",
        "killswitch_escalations",
        "killswitch_proof_age_seconds",
        "killswitch_session_up",
        "killswitch_mqtt_up",
        "killswitch_feed_age_seconds",
        "killswitch_feed_stale_after_seconds",
        "killswitch_readings",
        "killswitch_bad_readings",
        "killswitch_conflated_readings",
        "killswitch_rule_warming",
        "killswitch_rule_headroom_ratio",
        "killswitch_commands",
        "killswitch_journal_errors",
        "killswitch_loop_lag_seconds",
        "killswitch_uncovered_accounts",
        "killswitch_ready",
        "killswitch_commands_waiting",
        "killswitch_warnings",
        "killswitch_metrics_errors",
    }


def test_histograms_reach_from_half_a_millisecond_to_a_minute(bench):
    edges = [
        float(dict(labels)["le"]) for name, labels in bench.series() if name == "killswitch_trip_to_send_seconds_bucket"
    ]
    assert min(edges) == 0.0005
    assert sorted(edges)[-2:] == [60.0, math.inf]


@pytest.mark.promtool
def test_promtool_has_nothing_to_say(bench):
    promtool = shutil.which("promtool")
    if promtool is None:
        if os.environ.get("CI") == "true":
            pytest.fail("promtool is missing: install Debian's prometheus")
        pytest.skip("needs promtool: install Debian's prometheus")
    bench.see(1.0, None, bench.record(tripped("t1", ACCOUNT_14)), CancelAllOrders(1, 7, ACCOUNT_14))
    text, _ = bench.metrics.render(None)
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_rules_warnings_are_counted_from_the_start_and_a_feeds_are_not_a_rules() -> None:
    bench = Bench()
    assert [bench.value("killswitch_warnings_total", rule=name) for name in ("btc", "eth")] == [0, 0]
    bench.see(1.0, None, bench.record(Noted("near_limit", "position 45", rule="btc")))
    bench.see(2.0, None, bench.record(Noted("stale", "position was not heard", rule="btc")))
    bench.see(3.0, None, bench.record(Noted("bad_reading", "var can't be read")))
    assert [bench.value("killswitch_warnings_total", rule=name) for name in ("btc", "eth")] == [2, 0]
    assert "" not in {
        dict(labels).get("rule") for name, labels in bench.series() if name == "killswitch_warnings_total"
    }
