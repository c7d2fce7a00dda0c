"""What the daemon says: receipts, trips, the state, replicas' views and events as JSON, and the way back.

Writing gives exactly the contract's keys. Reading is tolerant, since it serves people who look on and a
daemon that finds its own leftovers: what can't be read is None, never an error. Times are RFC 3339, UTC, with
milliseconds; a scope holds ids only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NotRequired, TypedDict

import msgspec

from killswitch.domain.remains import in_words
from killswitch.domain.scope import EVERY, Part, Scope, ScopeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from killswitch.domain.messages import AnnounceEvent, CauseView, Receipt, Remaining, TripView, WouldCancel

_encoder: Final = msgspec.json.Encoder(enc_hook=str)
"""What a detail may hold beyond JSON's own is shown as text."""


class ReceiptSeen(TypedDict):
    """The answer to a command, as its sender reads it. `outcome` and `remaining` are there where they are said."""

    id: str
    accepted: bool
    reason: str
    trip: str | None
    daemon: str
    durable: bool
    shadow: bool
    outcome: NotRequired[str]
    remaining: NotRequired[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TripSeen:
    """A published trip, as far as it can be read. `causes`: their sentences. `scope` None: unreadable.

    `would_cancel`: as it was published, of a shadow trip that has looked; `remaining`: of a live one that isn't
    confirmed. `why`: why it is escalated.
    """

    trip: str
    state: str
    scope: Scope | None
    causes: tuple[str, ...]
    by: str
    drill: bool
    tripped_at: str
    calls: int
    orders_left: int | None
    outcome: str | None
    covers: str
    verified_at: str | None
    daemon: str
    shadow: bool
    would_cancel: dict[str, Any] | None = None
    remaining: dict[str, Any] | None = None
    why: str = ""


# --- writing -----------------------------------------------------------------------------------------------


def _bytes(said: dict[str, Any]) -> bytes:
    """JSON. Text that UTF-8 can't hold, such as half a character of an operating system's error, is escaped."""
    try:
        return _encoder.encode(said)
    except UnicodeEncodeError:
        return json.dumps(said, default=str).encode()


def rfc3339(wall: float) -> str:
    """Seconds since 1970 as RFC 3339, UTC, with milliseconds."""
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def receipt_json(receipt: Receipt, daemon: str) -> dict[str, Any]:
    """`durable` is there, and false, only while the command is not on disk; `shadow`, and true, where it is so.

    Of a reset `outcome`, where its trip has one, and in a refusal `remaining`: a sentence.
    """
    said: dict[str, Any] = {
        "id": receipt.id,
        "accepted": receipt.accepted,
        "reason": receipt.reason,
        "trip": receipt.trip,
        "daemon": daemon,
    }
    if not receipt.durable:
        said["durable"] = False
    if receipt.shadow:
        said["shadow"] = True
    if receipt.outcome:
        said["outcome"] = receipt.outcome
    if receipt.remaining:
        said["remaining"] = receipt.remaining
    return said


def scope_json(scope: Scope) -> dict[str, str | int]:
    """EVERY is left out, but for the account where no user is named either: that one is said out loud."""
    parts = (("account", scope.account), ("user", scope.user), ("instrument", scope.instrument))
    said: dict[str, str | int] = {name: part for name, part in parts if part is not EVERY}
    return {"oms": scope.oms, **({"account": "every"} if scope.whole else {}), **said}


def cause_json(cause: CauseView) -> dict[str, Any]:
    return {
        "text": cause.text,
        "rule": cause.rule,
        "kind": cause.kind,
        "labels": dict(cause.labels),
        "first_at": rfc3339(cause.first_wall),
        "last_at": rfc3339(cause.last_wall),
        "count": cause.count,
        "last": cause.last,
        "worst": cause.worst,
    }


def trip_json(view: TripView, daemon: str) -> dict[str, Any]:
    """A trip with the contract's keys; a shadow trip has `would_cancel` as well, null until it has looked.

    `more_causes` where there are more than are told; while it isn't confirmed `remaining`, and while it is escalated
    `why`.
    """
    more: dict[str, Any] = {"would_cancel": _would_json(view.would_cancel)} if view.shadow else {}
    if view.more_causes:
        more["more_causes"] = view.more_causes
    if view.remaining is not None:
        more["remaining"] = _remaining_json(view.remaining)
    if view.why:
        more["why"] = view.why
    return {
        "trip": view.trip,
        "state": view.state,
        "scope": scope_json(view.scope),
        "causes": [cause_json(cause) for cause in view.causes],
        "by": view.by,
        "drill": view.drill,
        "tripped_at": rfc3339(view.tripped_wall),
        "calls": view.calls,
        "orders_left": view.orders_left,
        "outcome": view.outcome,
        "covers": view.covers,
        "verified_at": None if view.verified_wall is None else rfc3339(view.verified_wall),
        "daemon": daemon,
        "shadow": view.shadow,
        **more,
    }


def _remaining_json(left: Remaining) -> dict[str, Any]:
    """What stands between the trip and VERIFIED: the first few by name, the others in numbers; `text` is a sentence."""
    return {
        "text": in_words(left),
        "orders": [
            {
                "order": order.order_id,
                "client_order_id": order.client_order_id,
                "account": order.account,
                "instrument": order.instrument,
                "user": order.entered_by,
            }
            for order in left.orders
        ],
        "more_orders": left.more_orders,
        "unreadable": left.unreadable,
        "accounts_unseen": [{"account": account, "why": why} for account, why in left.unseen],
        "more_accounts_unseen": left.more_unseen,
        "complete": left.complete,
    }


def _would_json(would: WouldCancel | None) -> dict[str, Any] | None:
    """Of accounts and order ids there may be the first only: the numbers count all, and the journal has them."""
    if would is None:
        return None
    return {
        "orders": would.orders,
        "accounts": would.accounts,
        "by_account": {str(account): count for account, count in would.by_account},
        "order_ids": list(would.order_ids),
        "unreadable": would.unreadable,
        "unseen": would.unseen,
        "accounts_unseen": list(would.accounts_unseen),
        "complete": would.complete,
        "swept_by": list(would.swept_by),
    }


def encode_receipt(receipt: Receipt, daemon: str) -> bytes:
    return _bytes(receipt_json(receipt, daemon))


def encode_trip(view: TripView, daemon: str) -> bytes:
    return _bytes(trip_json(view, daemon))


def encode_state(state: str, trips: int) -> bytes:
    """`trips`: how many are latched."""
    return _bytes({"state": state, "trips": trips})


UNKNOWN_STATE: Final = _bytes({"state": "unknown"})
"""What a lamp is told when no daemon is there: the last will."""


def encode_replica(state: str, trips: Sequence[TripView], daemon: str, instance: str, *, shadow: bool = False) -> bytes:
    """One daemon's own view. `instance` tells two processes of one name apart. `shadow`: the daemon is."""
    views = [trip_json(view, daemon) for view in trips]
    marked = {"shadow": True} if shadow else {}
    return _bytes({"daemon": daemon, "instance": instance, "state": state, "trips": views, **marked})


def event_json(event: AnnounceEvent, daemon: str) -> dict[str, Any]:
    """`trip` and `detail` are there where the event has them, `shadow` where it is true, `durable` where it is not."""
    said: dict[str, Any] = {
        "kind": event.kind,
        "text": event.text,
        "at": rfc3339(event.wall),
        "daemon": daemon,
    }
    if event.trip is not None:
        said["trip"] = event.trip
    if event.detail is not None:
        said["detail"] = dict(event.detail)
    if event.shadow:
        said["shadow"] = True
    if not event.durable:
        said["durable"] = False
    return said


def encode_event(event: AnnounceEvent, daemon: str) -> bytes:
    return _bytes(event_json(event, daemon))


# --- reading -----------------------------------------------------------------------------------------------


def decode_receipt(payload: bytes) -> ReceiptSeen | None:
    """A receipt, or None. Unknown keys are left aside: a newer daemon may say more."""
    said = _object(payload)
    if said is None or not isinstance(said.get("id"), str) or not isinstance(said.get("accepted"), bool):
        return None
    seen = ReceiptSeen(
        id=said["id"],
        accepted=said["accepted"],
        reason=_text(said, "reason") or "",
        trip=_text(said, "trip"),
        daemon=_text(said, "daemon") or "",
        durable=said.get("durable") is not False,
        shadow=said.get("shadow") is True,
    )
    if outcome := _text(said, "outcome"):
        seen["outcome"] = outcome
    if remaining := _text(said, "remaining"):
        seen["remaining"] = remaining
    return seen


def decode_instance(payload: bytes) -> str | None:
    """Which process published a replica's view."""
    said = _object(payload)
    return None if said is None else _text(said, "instance")


def decode_trip_view(payload: bytes) -> TripSeen | None:
    """A published trip; None for what names no trip and state, such as the empty payload of a cleared one."""
    said = _object(payload)
    if said is None:
        return None
    trip, state = _text(said, "trip"), _text(said, "state")
    if trip is None or state is None:
        return None
    causes, would, left = said.get("causes"), said.get("would_cancel"), said.get("remaining")
    return TripSeen(
        trip=trip,
        state=state,
        scope=_scope(said.get("scope")),
        causes=tuple(_cause_texts(causes)) if isinstance(causes, list) else (),
        by=_text(said, "by") or "",
        drill=said.get("drill") is True,
        tripped_at=_text(said, "tripped_at") or "",
        calls=_count(said, "calls") or 0,
        orders_left=_count(said, "orders_left"),
        outcome=_text(said, "outcome"),
        covers=_text(said, "covers") or "",
        verified_at=_text(said, "verified_at"),
        daemon=_text(said, "daemon") or "",
        shadow=said.get("shadow") is True,
        would_cancel=would if isinstance(would, dict) else None,
        remaining=left if isinstance(left, dict) else None,
        why=_text(said, "why") or "",
    )


def _object(payload: bytes) -> dict[str, Any] | None:
    try:
        said = msgspec.json.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def _text(said: dict[str, Any], name: str) -> str | None:
    value = said.get(name)
    return value if isinstance(value, str) else None


def _count(said: dict[str, Any], name: str) -> int | None:
    value = said.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _cause_texts(causes: list[Any]) -> list[str]:
    return [cause["text"] for cause in causes if isinstance(cause, dict) and isinstance(cause.get("text"), str)]


def _scope(said: object) -> Scope | None:
    """None unless it is a scope beyond doubt: a part that can't be read must not become EVERY."""
    if not isinstance(said, dict) or said.keys() - {"oms", "account", "user", "instrument"}:
        return None

    def part(name: str) -> Part:
        value = said.get(name, "every")
        return EVERY if value == "every" else value

    oms = said.get("oms")
    if not isinstance(oms, str) or ("account" not in said and "user" not in said):
        return None
    try:
        return Scope(oms=oms, account=part("account"), user=part("user"), instrument=part("instrument"))
    except ScopeError:
        return None
