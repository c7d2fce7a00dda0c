"""What /state and /preview say, as JSON-able values, and a preview's question as a Scope.

Nothing here is rounded up to "all is well": what isn't known is null (JSON has no NaN), and amounts are text.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import parse_qsl

from killswitch.domain.scope import EVERY, ID_MAX, Part, Scope, ScopeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from killswitch.domain.messages import Labels, Order, Preview, TripView
    from killswitch.domain.view import FeedView, OmsView, RuleView, View

    TripForm: TypeAlias = Callable[[TripView, str], dict[str, Any]]
    """A trip and the daemon's name -> the trip as it is published everywhere else."""

QUERY_MAX: Final = 1024
"""Characters of a preview's query; four parts need far less."""
_PARTS: Final = ("oms", "account", "user", "instrument")


class QueryError(ValueError):
    """Why a query names no scope: a sentence for its sender that repeats nothing of a value."""


def view_json(view: View, trip_form: TripForm) -> dict[str, Any]:
    """The whole view. A trip has the keys that it is published with, and which accounts were looked at.

    Shadow trips stand among the others, after them, and say so.
    """
    return {
        "daemon": view.daemon,
        "mode": view.mode,
        "state": view.state,
        "ready": view.ready,
        "missing": list(view.missing),
        "notes": list(view.notes),
        "trips": [
            trip_form(trip, view.daemon)
            | {
                "accounts_looked_at": list(trip.accounts_looked_at),
                "accounts_unseen": list(trip.accounts_unseen),
            }
            for trip in (*view.trips, *view.shadows)
        ],
        "rules": [_rule(rule) for rule in view.rules],
        "feeds": [_feed(feed) for feed in view.feeds],
        "omses": [_oms(oms) for oms in view.omses],
        "brokers": brokers_json(view),
        "journal_error": view.journal_error,
        "commands_waiting": view.commands_waiting,
    }


def ready_json(view: View) -> dict[str, Any]:
    """What /readyz says: `missing` is why it isn't ready; a broker that is away is named and no reason."""
    return {
        "ready": view.ready,
        "daemon": view.daemon,
        "mode": view.mode,
        "state": view.state,
        "missing": list(view.missing),
        "brokers": brokers_json(view),
    }


def brokers_json(view: View) -> list[dict[str, Any]]:
    return [{"broker": b.broker, "up": b.up, "why": b.why} for b in view.brokers]


def preview_json(preview: Preview) -> dict[str, Any]:
    """The orders that a trip would cancel. `unreadable` rows and `complete` false: there may be more."""
    return {
        "orders": [_order(order) for order in preview.orders],
        "unreadable": preview.unreadable,
        "accounts_looked_at": list(preview.accounts_looked_at),
        "accounts_failed": list(preview.accounts_failed),
        "complete": preview.complete,
        "why": preview.why,
    }


def scope_of_query(query: bytes) -> Scope:
    """`oms=&account=&user=&instrument=` as a Scope; a part that isn't named is EVERY, as in a command.

    Raises QueryError as strictly as a command is refused, so that a preview never shows another scope than
    the trip written with the same words: an unknown or repeated name, an empty value, an id that is no whole
    number above 0, and neither an account nor a user without account=every said out loud.
    """
    parts: dict[str, str] = {}
    for name, value in _pairs(query):
        if name not in _PARTS:
            raise QueryError("unknown parameter; known are oms, account, user and instrument")
        if name in parts:
            raise QueryError(f"{name} is there twice")
        parts[name] = value
    if "oms" not in parts or not parts["oms"]:
        raise QueryError("oms must name an OMS")
    if "account" not in parts and parts.get("user", "every") == "every":
        raise QueryError("a scope without an account and a user must say account=every")
    try:
        return Scope(
            oms=parts["oms"],
            account=_part("account", parts),
            user=_part("user", parts),
            instrument=_part("instrument", parts),
        )
    except ScopeError as error:
        raise QueryError(str(error)) from None


def _pairs(query: bytes) -> list[tuple[str, str]]:
    if len(query) > QUERY_MAX:
        raise QueryError(f"the query is longer than {QUERY_MAX} characters")
    if not query:
        return []
    try:
        return parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=16,
        )
    except ValueError:  # no name=value, too many of them, or bytes that are no UTF-8
        raise QueryError("the query must be name=value, joined by &") from None


def _part(name: str, parts: dict[str, str]) -> Part:
    text = parts.get(name, "every")
    if text == "every":
        return EVERY
    # int() takes more than digits (" 14", "1_4", "+14"), and a leading zero is somebody's mistake.
    if not (text.isascii() and text.isdigit()) or text.startswith("0") or len(text) > len(str(ID_MAX)):
        raise QueryError(f"{name} must be an id above 0 or every")
    return int(text)


def _rule(rule: RuleView) -> dict[str, Any]:
    return {
        "rule": rule.rule,
        "owner": rule.owner,
        "kind": rule.kind,
        "mode": rule.mode,
        "limit": rule.limit,
        "series": rule.series,
        "headroom": _number(rule.headroom),
        "worst": None if rule.worst is None else _labels(rule.worst),
        "breaching": [_labels(labels) for labels in rule.breaching],
        "unknown": [_labels(labels) for labels in rule.unknown],
        "warming": rule.warming,
        "armed": rule.armed,
    }


def _feed(feed: FeedView) -> dict[str, Any]:
    return {
        "feed": feed.feed,
        "up": feed.up,
        "heard": feed.heard,
        "age_s": _number(feed.age_s),
        "stale": feed.stale,
        "readings": feed.readings,
        "bad": dict(feed.bad),
        "watched": list(feed.watched),
        "unheard": list(feed.unheard),
        "silent": list(feed.silent),
    }


def _oms(oms: OmsView) -> dict[str, Any]:
    return {
        "oms": oms.oms,
        "sessions": [
            {
                "gateway": s.gateway,
                "up": s.up,
                "session": s.session,
                "since_s": _number(s.since_s),
                "why": s.why,
                "dialect": s.dialect or None,
                "may_cancel": s.may_cancel,
                "credential": s.credential,
                "watching": s.watching,
            }
            for s in oms.sessions
        ],
        "orders_left": oms.orders_left,
        "proof_age_s": _number(oms.proof_age_s),
        "guard_every_s": _number(oms.guard_every_s),
        "uncovered_accounts": list(oms.uncovered_accounts),
        "accounts": oms.accounts,
        "accounts_complete": oms.accounts_complete,
    }


def _order(order: Order) -> dict[str, Any]:
    return {
        "order_id": order.order_id,
        "client_order_id": order.client_order_id,
        "account": order.account,
        "instrument": order.instrument,
        "user": order.entered_by,
    }


def _labels(labels: Labels) -> dict[str, str]:
    return dict(labels)


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
