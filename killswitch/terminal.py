"""What the command line prints of trips, previews and the state: text for a terminal of 80 columns.

What is printed was said by others (labels, reasons, causes), so nothing in it may steer the terminal.
"""

from __future__ import annotations

import textwrap
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from killswitch.domain.remains import orders_left
from killswitch.wire.announce import scope_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from killswitch.domain.messages import Order, Preview
    from killswitch.domain.scope import Scope
    from killswitch.wire.announce import ReceiptSeen, TripSeen

WIDTH: Final = 80
IDS_SHOWN: Final = 20
SERIES_SHOWN: Final = 6
CAUSES_SHOWN: Final = 10
WHOLE: Final = "as a whole"
"""Order ids shown of one account and instrument; --json has them all."""
REASONS: Final = {
    "sweeping": "sweeping: the scope isn't proven empty at the moment; `killswitch status` says when it is confirmed",
    "no such trip": "no such trip is latched; `killswitch status` lists those that are",
}
"""Reasons of receipts that are a word for machines, in words for people."""
Said = dict[str, Any]


def plain(text: str) -> str:
    """The text with everything that isn't printable shown as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)


def wrapped(text: str, indent: str = "", hang: str = "") -> str:
    """One paragraph; `hang` is added to the indent from its second line on."""
    return "\n".join(
        textwrap.wrap(
            plain(text),
            WIDTH,
            initial_indent=indent,
            subsequent_indent=indent + hang,
            break_on_hyphens=False,
        )
    )


def counted(number: int, what: str) -> str:
    """Such as "1 order", "12 orders"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


# --- trips --------------------------------------------------------------------------------------------------


def progress(seen: TripSeen, after_s: float) -> str:
    """One line of a sweep, `after_s` after the command."""
    said = f", {seen.outcome}" if seen.outcome else ""
    if seen.shadow:
        left = "not listed yet" if seen.orders_left is None else str(seen.orders_left)
        return plain(f"{after_s:8.3f} s  {seen.state:<10} would cancel: {left}")
    left = orders_left(seen.orders_left, seen.outcome)
    return plain(f"{after_s:8.3f} s  {seen.state:<10} calls {seen.calls}, {left}{said}")


def outcome(seen: TripSeen | None, scope: Scope, waited_s: float) -> str:
    """The last sentence of a trip that was sent to a daemon."""
    if seen is None:
        return wrapped(f"UNKNOWN: nothing was heard of the trip within {waited_s:g} s. It stays latched.")
    if seen.outcome == "VERIFIED":
        return wrapped(f"VERIFIED: no {seen.covers or 'orders'} left in {scope.in_words()}. The trip stays latched.")
    return wrapped(f"{unverified(seen, waited_s)} The trip stays latched and the daemon goes on.")


def unverified(seen: TripSeen, waited_s: float) -> str:
    """What came of a trip that isn't VERIFIED: its outcome, which orders remain, and what couldn't be looked at."""
    said = (_remaining(seen.remaining), seen.why and f"escalated: {seen.why}")
    more = "".join(f" {text[:1].upper()}{text[1:]}." for text in said if text)
    left = orders_left(seen.orders_left, seen.outcome)
    return f"{seen.outcome or 'UNKNOWN'}: not verified within {waited_s:g} s; {left}.{more}"


def _remaining(left: object) -> str:
    """The sentence of what remains, as it was published."""
    said = left.get("text") if isinstance(left, dict) else ""
    return said if isinstance(said, str) else ""


def shadow(seen: TripSeen | None, scope: Scope, waited_s: float) -> str:
    """The last sentences of a trip that a daemon in shadow took."""
    nothing = f"SHADOW: this trip of {scope.in_words()} cancelled nothing, and never will."
    direct = "`killswitch trip --direct` cancels for real."
    would = None if seen is None else seen.would_cancel
    if would is None:
        return wrapped(f"{nothing} What a live trip would have cancelled wasn't listed within {waited_s:g} s. {direct}")
    return "\n".join([wrapped(nothing), *_would(would, ""), wrapped(direct)])


def _would(would: Said, indent: str) -> Iterator[str]:
    """What a shadow trip's look found, as it was published."""
    orders, ids, unseen = _count(would, "orders"), would.get("order_ids"), would.get("accounts_unseen")
    known = ids[:IDS_SHOWN] if isinstance(ids, list) else []
    short = bool(unseen) or bool(_count(would, "unreadable")) or would.get("complete") is not True
    least = "at least " if short else ""
    text = f"A live trip would have cancelled {least}{counted(orders, 'order')}"
    by_account = would.get("by_account")
    if isinstance(by_account, dict) and by_account:
        shown = [f"account {account}: {count}" for account, count in tuple(by_account.items())[:IDS_SHOWN]]
        rest = _count(would, "accounts") - len(shown)
        text += f" ({', '.join(shown)}{f' and {rest} more accounts' if rest > 0 else ''})"
    if known:
        more = f" and {orders - len(known)} more" if orders > len(known) else ""
        text += ": " + " ".join(map(str, known)) + more
    yield wrapped(text + ".", indent, "  ")
    if isinstance(unseen, list) and unseen:
        rest = _count(would, "unseen") - len(unseen[:IDS_SHOWN])
        shown_ids = ", ".join(map(str, unseen[:IDS_SHOWN])) + (f" and {rest} more" if rest > 0 else "")
        yield wrapped(f"No list was had of account {shown_ids}.", indent, "  ")
    if _count(would, "unreadable"):
        yield wrapped(f"{counted(_count(would, 'unreadable'), 'row')} could not be read.", indent, "  ")
    if would.get("complete") is not True:
        yield wrapped("There may be more accounts, with more orders.", indent, "  ")
    swept = would.get("swept_by")
    if isinstance(swept, list) and swept:
        yield wrapped(f"Live trips swept there and may have been first: {', '.join(map(str, swept))}.", indent, "  ")


def receipt(said: ReceiptSeen) -> str:
    """A receipt in a sentence or two."""
    verdict = "accepted" if said["accepted"] else "refused"
    durable = "" if said["durable"] else " (not yet in the journal)"
    trip = f", trip {said['trip']}" if said["trip"] else ""
    reason = REASONS.get(said["reason"], said["reason"]) or "no reason given"
    more = "".join(f"; {text}" for text in (said.get("outcome"), said.get("remaining")) if text)
    return wrapped(f"{verdict} by {said['daemon'] or 'the daemon'}: {reason}{trip}{durable}{more}")


def trip_fields(seen: TripSeen) -> Said:
    """A trip as JSON, with the keys that it is published with."""
    scope = None if seen.scope is None else scope_json(seen.scope)
    absent = {"remaining": seen.remaining is None, "why": not seen.why, "would_cancel": not seen.shadow}
    names = [name for name in type(seen).__slots__ if not absent.get(name)]
    return {name: getattr(seen, name) for name in names} | {"scope": scope, "causes": list(seen.causes)}


# --- previews -----------------------------------------------------------------------------------------------


def _where(order: Order) -> tuple[int, int]:
    return order.account or 0, order.instrument or 0


def is_whole(found: Preview) -> bool:
    """Whether the preview saw all that there is: every account, and every row of its list."""
    return found.complete and not found.accounts_failed and not found.unreadable


def preview(scope: Scope, found: Preview) -> str:
    """The orders that a trip would cancel, by account and instrument."""
    least = "" if is_whole(found) else "at least "
    lines = [wrapped(f"A trip of {scope.in_words()} would cancel {least}{counted(len(found.orders), 'order')}.")]
    for (account, instrument), group in groupby(sorted(found.orders, key=_where), key=_where):
        ids = sorted(order.order_id for order in group if order.order_id is not None)
        lines.append(f"  account {account}, instrument {instrument}: {counted(len(ids), 'order')}")
        more = f" and {len(ids) - IDS_SHOWN} more" if len(ids) > IDS_SHOWN else ""
        lines.append(wrapped(" ".join(map(str, ids[:IDS_SHOWN])) + more, "    "))
    if found.unreadable:
        lines.append(wrapped(f"{counted(found.unreadable, 'row')} can't be read: there may be more orders."))
    if found.accounts_failed:
        failed = ", ".join(map(str, found.accounts_failed))
        lines.append(wrapped(f"No list was had of account {failed}: there may be more orders."))
    if not found.complete:
        lines.append(wrapped("The list of accounts isn't complete: there may be more accounts, with more orders."))
    looked = ", ".join(map(str, found.accounts_looked_at)) or "none"
    lines.append(wrapped(f"Accounts looked at: {looked}. Nothing was cancelled."))
    return "\n".join(lines)


# --- the state ----------------------------------------------------------------------------------------------


def status(said: Said) -> str:
    """The answer of /state. It may come from another version: what isn't there isn't shown."""
    ready = "ready" if said.get("ready") is True else "NOT READY"
    shadow = ", in SHADOW: new trips cancel nothing" if said.get("mode") == "shadow" else ""
    lines = [wrapped(f"Daemon {_text(said, 'daemon')}: {_text(said, 'state')}, {ready}{shadow}")]
    lines += [wrapped(f"missing: {why}", "  ", "  ") for why in _texts(said, "missing")]
    lines += [wrapped(f"note: {why}", "  ", "  ") for why in _texts(said, "notes")]
    if said.get("journal_error"):
        lines.append(wrapped(f"journal: {said['journal_error']}", "  ", "  "))
    lines += _titled("Trips", [line for trip in _rows(said, "trips") for line in _trip(trip)] or ["  none"])
    lines += _titled("Rules", [_rule(rule) for rule in _rows(said, "rules")])
    lines += _titled("Feeds", [_feed(feed) for feed in _rows(said, "feeds")])
    lines += _titled("Sessions", [line for oms in _rows(said, "omses") for line in _sessions(oms)])
    lines += _titled("Brokers", [_link(broker, _text(broker, "broker")) for broker in _rows(said, "brokers")])
    return "\n".join(lines)


def retained(state: str | None, trips: Sequence[TripSeen]) -> str:
    """What a broker retains, where HTTP doesn't answer."""
    lines = [wrapped(f"State: {state or 'nothing is retained'}")]
    lines += _titled("Trips", [line for seen in trips for line in _trip(trip_fields(seen))] or ["  none"])
    return "\n".join(lines)


def _titled(title: str, lines: Sequence[str]) -> list[str]:
    return ["", title, *lines] if lines else []


def _trip(trip: Said) -> Iterator[str]:
    shadow = trip.get("shadow") is True
    verdict = f"{_text(trip, 'state')}, {trip.get('outcome') or 'no outcome yet'}"
    yield wrapped(f"{_text(trip, 'trip')}: {'SHADOW, nothing is cancelled' if shadow else verdict}", "  ")
    yield wrapped(f"scope: {_scope(trip.get('scope'))}", "    ", "  ")
    causes = trip.get("causes") or ()
    for cause in causes[:CAUSES_SHOWN]:
        text = cause.get("text") if isinstance(cause, dict) else cause
        times = cause.get("count") if isinstance(cause, dict) else None
        yield wrapped(
            f"cause: {text}" + (f" ({times} times)" if isinstance(times, int) and times > 1 else ""), "    ", "  "
        )
    untold = trip.get("more_causes")
    more = max(len(causes) - CAUSES_SHOWN, 0) + (untold if isinstance(untold, int) else 0)
    if more:
        yield wrapped(f"and {counted(more, 'more cause')}: --json shows more of them", "    ", "  ")
    if shadow:
        yield wrapped(f"tripped {_text(trip, 'tripped_at')} by {_text(trip, 'by')}", "    ", "  ")
        would = trip.get("would_cancel")
        yield from _would(would, "    ") if isinstance(would, dict) else [wrapped("not listed yet", "    ")]
        return
    left = orders_left(trip.get("orders_left"), trip.get("outcome"))
    yield wrapped(
        f"tripped {_text(trip, 'tripped_at')} by {_text(trip, 'by')}; calls {trip.get('calls')}, {left}; "
        f"verified {trip.get('verified_at') or 'never'}; covers {trip.get('covers') or 'orders'}",
        "    ",
        "  ",
    )
    for text in (_remaining(trip.get("remaining")), f"escalated: {trip['why']}" if trip.get("why") else ""):
        if text:
            yield wrapped(text, "    ", "  ")


def _scope(scope: object) -> str:
    if not isinstance(scope, dict):
        return "unreadable"
    parts = [f"{part} {scope[part]}" for part in ("account", "user", "instrument") if part in scope]
    return f"{scope.get('oms')}: {', '.join(parts)}"


def _rule(rule: Said) -> str:
    room = rule.get("headroom")
    shown = f"headroom {room:.0%}" if isinstance(room, int | float) else "headroom unknown"
    breaching, unknown = _rows(rule, "breaching"), _rows(rule, "unknown")
    worst = rule.get("worst")
    parts = [f"{_text(rule, 'rule')}: {shown}, limit {_text(rule, 'limit')}, {_count(rule, 'series')} series"]
    parts += ["SHADOW"] if rule.get("mode") == "shadow" else []
    parts += [f"worst {_labels(worst)}"] if isinstance(worst, dict) and worst else []
    parts += [f"IN BREACH {_series(breaching)}"] if breaching else []
    parts += [f"unknown {_series(unknown)}"] if unknown else []
    parts += [f"{_count(rule, 'warming')} warming"] if rule.get("warming") else []
    parts += ["not armed before its first beat"] if rule.get("armed") is False else []
    return wrapped(", ".join(parts), "  ", "  ")


def _series(rows: Sequence[Said]) -> str:
    """The rule as a whole is told first where there are too many to tell all."""
    names = [_labels(row) or WHOLE for row in rows]
    if len(names) > SERIES_SHOWN:
        names.sort(key=WHOLE.__ne__)
    more = len(names) - SERIES_SHOWN
    return "; ".join([*names[:SERIES_SHOWN], *([f"{more:,} more"] if more > 0 else [])])


def _feed(feed: Said) -> str:
    age = feed.get("age_s")
    shown = f"{age:.1f} s" if isinstance(age, int | float) else "unknown"
    watched, unheard, silent = (list(_texts(feed, name)) for name in ("watched", "unheard", "silent"))
    heard = f"last heard {shown} ago" if feed.get("heard") is True else f"never heard in {shown}"
    if unheard and len(unheard) < len(watched):
        heard = f"{', '.join(unheard)} never heard in {shown}"
    parts = [_text(feed, "feed") + ": " + ("up" if feed.get("up") is True else "DOWN"), heard]
    if feed.get("stale") is True:
        # Of an OMS one reading may be dead while the others live.
        parts.append(f"STALE: {', '.join(silent)}" if 0 < len(silent) < len(watched) else "STALE")
    parts.append(counted(_count(feed, "readings"), "reading"))
    bad = feed.get("bad")
    if isinstance(bad, dict) and bad:
        parts.append("bad: " + ", ".join(f"{number} {reason}" for reason, number in bad.items()))
    return wrapped(", ".join(parts), "  ", "  ")


def _sessions(oms: Said) -> Iterator[str]:
    sessions = _rows(oms, "sessions")
    for session in sessions:
        role = " (watching)" if len(sessions) > 1 and session.get("watching") is True else ""
        dialect = f", dialect {session['dialect']}" if session.get("dialect") else ""
        credential = f"; {session['credential']}" if session.get("credential") else ""
        where = f"{_text(oms, 'oms')} at {_text(session, 'gateway')}{role}"
        yield _link(session, where, f"{dialect}{credential}")
    if oms.get("accounts_complete") is False:
        yield wrapped(f"{_text(oms, 'oms')}: {_count(oms, 'accounts')} accounts known, there may be more", "  ", "  ")
    uncovered = oms.get("uncovered_accounts")
    if isinstance(uncovered, list) and uncovered:
        shown = ", ".join(map(str, uncovered[:IDS_SHOWN]))
        yield wrapped(f"{_text(oms, 'oms')}: nothing covers account {shown}", "  ", "  ")


def _link(link: Said, name: str, more: str = "") -> str:
    since = link.get("since_s")
    lasting = f" for {since:.0f} s" if isinstance(since, int | float) else ""
    why = f": {link['why']}" if link.get("why") else ""
    return wrapped(f"{name}: {'up' if link.get('up') is True else 'DOWN'}{lasting}{more}{why}", "  ", "  ")


def _labels(labels: Mapping[str, object]) -> str:
    return " ".join(f"{name} {value}" for name, value in labels.items())


def _rows(said: Said, name: str) -> list[Said]:
    value = said.get(name)
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _texts(said: Said, name: str) -> Iterable[str]:
    value = said.get(name)
    return [str(text) for text in value] if isinstance(value, list) else []


def _text(said: Said, name: str) -> str:
    return str(said.get(name, "?"))


def _count(said: Said, name: str) -> int:
    value = said.get(name)
    return value if isinstance(value, int) else 0
