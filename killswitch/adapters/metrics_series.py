"""The series that can be known from the settings: they are there from the start, and as long as what they name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from killswitch.domain.settings import Settings

    Labels: TypeAlias = tuple[str, ...]

CALLS: Final = (
    *("CancelAllOrders", "CancelOrder", "GetOpenOrders", "GetUserAccounts", "GetAccountPositions"),
    *("GetInstruments", "SubscribeLevel1", "GetOpenQuotes", "GetOpenTradeReports", "CancelQuote"),
    *("GetUserPermissions", "GetValidate2FARequiredEndpoints"),
)
ANSWERS: Final = ("ok", "20", "100", "101", "102", "104", "106", "107", "909", "other", "timeout", "lost")
"""The documented codes of the vendor's generic answer, and what else can come of a call."""
SOURCES: Final = ("command", "panic", "http", "signal")
COMMANDS: Final = ("trip", "reset", "panic")
RESULTS: Final = ("accepted", "refused", "malformed")
IGNORED: Final = ("panic", "ignored")
"""A battery report on a button's topic is no press, and nothing is wrong with it."""


def known(settings: Settings) -> Mapping[str, tuple[Labels, ...]]:
    """Metric, without its prefix and ending -> the labels of each of its series, in the metric's own order."""
    omses = tuple((site.name,) for site in settings.sites)
    feeds = tuple((feed.name,) for feed in settings.feeds)
    trips = (*((rule.name, rule.kind) for rule in settings.rules), *(("", source) for source in SOURCES))
    return {
        "calls": tuple((*oms, call, answer) for oms in omses for call in CALLS for answer in ANSWERS),
        "trips": trips,
        "shadow_trips": trips,
        "warnings": tuple((rule.name,) for rule in settings.rules),
        "stragglers": omses,
        "late_arrivals": omses,
        "escalations": omses,
        "conflated_readings": feeds,
        "commands": (*((command, result) for command in COMMANDS for result in RESULTS), IGNORED),
        "call": tuple((*oms, call) for oms in omses for call in CALLS),
    }
