"""Which prices of an OMS are heard, and when they are asked for: only what some rule needs, a few calls at a time.

A subscription lives as long as its session. Each new session begins with the list of instruments; the list is asked
for again with every snapshot, so that new instruments are met.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

from killswitch.domain.messages import AnswerKind, ListInstruments, Noted, SubscribePrice
from killswitch.domain.paths import watching
from killswitch.domain.scope import EVERY, Scope
from killswitch.domain.undo import Table

if TYPE_CHECKING:
    from killswitch.domain.book import Session
    from killswitch.domain.messages import Answered
    from killswitch.domain.parts import Parts

AT_ONCE: Final = 10
PAUSE_S: Final = 0.1
"""So many subscriptions leave together, and then none for so long: a thousand of them are no burst."""
KEEP_SHARE: Final = 0.4
"""Of the burst of calls: what subscriptions leave for sweeps, guards, and the snapshots before them."""
AGAIN_S: Final = 5.0
"""What was lost or not answered is asked for again so much later."""
MUTE_FACTOR: Final = 6
MUTE_AGAIN_S: Final = 3600.0
"""What isn't answered again and again on one session, where other calls are, is asked for ever less often."""
REFUSED_AGAIN_S: Final = 60.0
"""What was refused, or isn't there, will be so again, until somebody mends it."""
TOLD_MAX: Final = 10
"""So many refusals of a session are said one by one; the metric of calls counts all."""
LIST: Final = 0
"""Stands where an instrument's id would, for the list of them."""


class Tickers:
    """Instruments and prices of every OMS."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._calls: Table[int, tuple[int, int]] = Table(parts.undo)  # call -> (session, instrument or LIST)
        self._asked: Table[tuple[int, int], float] = Table(parts.undo)
        """(session, instrument or LIST) -> when to ask again; infinity: it was answered, or is under way."""
        self._mute: Table[tuple[int, int], int] = Table(parts.undo)
        """(session, instrument or LIST) -> how often it was not answered, in a row."""
        self._told: Table[int, frozenset[int]] = Table(parts.undo)
        """Session -> whose refusal was said."""

    def begin(self, oms: str, now: float) -> None:
        """A session is there, or its OMS's snapshot is due: ask for what rules need of its markets."""
        session = watching(self._parts.book, oms)
        if session is not None and self._parts.watch.needs_instruments(oms):
            self._asked.pop((session.number, LIST))
            self._parts.agenda.set(("tickers", oms), now)

    def session_down(self, session: int, oms: str, now: float) -> None:
        """What was subscribed to on it is over; another session of that OMS has to hear it."""
        for key in self._asked:
            if key[0] == session:
                del self._asked[key]
        for key in self._mute:
            if key[0] == session:
                del self._mute[key]
        self._told.pop(session)
        for call, (its, _) in self._calls.items():
            if its == session:
                del self._calls[call]
        if self._parts.watch.needs_instruments(oms):
            self._parts.agenda.set(("tickers", oms), now)

    def answered_by(self, call: int, now: float) -> None:
        """A call was answered with what it asked for. Once instruments are known their prices are subscribed to."""
        which = self._calls.pop(call)
        session = self._parts.book.sessions.get(which[0]) if which is not None else None
        if which is not None:
            self._mute.pop(which)
        if which is not None and which[1] == LIST and session is not None:
            self._parts.agenda.set(("tickers", session.oms), now)

    def answered(self, event: Answered, now: float) -> None:
        """A call was answered with the generic answer: 909 says that the subscription is there already."""
        match event.answer.kind:
            case AnswerKind.RECEIVED:
                self.answered_by(event.call, now)
            case AnswerKind.REFUSED | AnswerKind.ABSENT:
                self._say_refused(event)
                self.failed(event.call, now, again_s=REFUSED_AGAIN_S)
            case AnswerKind.UNCLEAR:
                self.failed(event.call, now)
            case _:
                assert_never(event.answer.kind)

    def _say_refused(self, event: Answered) -> None:
        """A rule that knows no price is said to be blind; here is why it is."""
        which = self._calls.get(event.call)
        session = self._parts.book.sessions.get(which[0]) if which is not None else None
        if which is None or session is None:
            return
        told = self._told.get(session.number) or frozenset()
        if which[1] in told or len(told) >= TOLD_MAX:
            return
        self._told[session.number] = told | {which[1]}
        what = "the list of instruments" if which[1] == LIST else f"the prices of instrument {which[1]}"
        why = event.answer.text or event.answer.label
        text = f"{session.oms}: {what} can't be had: {why}; rules that need them are blind there"
        n = self._parts.outbox.record(Noted("price_refused", text), event.wall)
        self._parts.outbox.event("price_refused", text, event.wall, n=n)

    def timed_out(self, call: int, now: float) -> None:
        """Nobody answered a call in time: some servers don't know it, and say nothing."""
        which = self._calls.get(call)
        if which is not None:
            times = self._mute.get(which) or 0
            self._mute[which] = min(times + 1, 10)
            self.failed(call, now, again_s=min(AGAIN_S * MUTE_FACTOR**times, MUTE_AGAIN_S))

    def failed(self, call: int, now: float, *, again_s: float = AGAIN_S) -> None:
        """A call was lost, refused or took too long: if it is ours it is made again."""
        which = self._calls.get(call)
        session = self._parts.book.sessions.get(which[0]) if which is not None else None
        self._calls.pop(call)
        if which is not None and session is not None:
            self._asked[which] = now + again_s
            self._hurry(session.oms, now + again_s)

    def go_on(self, oms: str, now: float) -> None:
        """Ask for what is still to be asked for, within the budget of calls."""
        session = watching(self._parts.book, oms)
        if session is None or not self._parts.watch.needs_instruments(oms):
            return
        left, later = AT_ONCE, []
        for which in (LIST, *self._parts.watch.prices_needed(oms)):
            due = self._asked.get((session.number, which))
            if due is not None and due > now:
                later.append(due)
                continue
            if not left or not self._parts.book.may_call(oms, now, keep=KEEP_SHARE):
                wait = now + PAUSE_S
                later.append(max(wait, self._parts.book.call_again_at(oms, now, keep=KEEP_SHARE)) if left else wait)
                break
            self._ask(session, which, now)
            left -= 1
        again_at = min(later, default=float("inf"))
        if again_at < float("inf"):
            self._parts.agenda.set(("tickers", oms), again_at)

    def _ask(self, session: Session, which: int, now: float) -> None:
        oms, instrument = session.oms, which or EVERY
        name = "GetInstruments" if which == LIST else "SubscribeLevel1"
        look = Scope(oms=oms, account=EVERY, user=EVERY, instrument=instrument)
        call = self._parts.book.new_call(session, name, look, now)
        if which == LIST:
            self._parts.outbox.put(ListInstruments(call.number, session.number, oms))
        else:
            self._parts.outbox.put(SubscribePrice(call.number, session.number, oms, which))
        self._calls[call.number] = (session.number, which)
        self._asked[session.number, which] = float("inf")
        self._parts.agenda.set(("call", call.number), now + self._parts.settings.retry.list_timeout_s)

    def _hurry(self, oms: str, at: float) -> None:
        due = self._parts.agenda.when(("tickers", oms))
        if due is None or due > at:
            self._parts.agenda.set(("tickers", oms), at)
