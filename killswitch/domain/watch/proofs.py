"""Proofs: as of when an OMS's readings are known to hold.

The vendor's subscriptions speak on change only, so a look is three things: a list, an event, or a Ping answered
on a session on which that was listed or subscribed to. A new session has listed nothing yet: what happened while
there was none is unknown until its first lists are in. A reading that is worked out of others is as old as the
oldest of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from killswitch.domain.undo import Table
from killswitch.domain.watch.shown import EVENTS, LISTED_BY, NOTIONAL, PRICE, PRICES, WORTHS

if TYPE_CHECKING:
    from collections.abc import Container

    from killswitch.domain.messages import Labels
    from killswitch.domain.undo import Undo
    from killswitch.domain.watch.gone import Gone
    from killswitch.domain.watch.shown import Told


@dataclass(frozen=True, slots=True)
class Rests:
    """The prices that a reading rests on. `lacks`: why it can't be told; `until`: the last look before that."""

    instruments: frozenset[str]
    lacks: str = ""
    until: float | None = None


class Proofs:
    """Sessions, what each has listed or subscribed to, and when it was last heard."""

    def __init__(self, undo: Undo) -> None:
        self._sessions: Table[int, str] = Table(undo)
        self._heard: Table[int, float] = Table(undo)
        self._newest: Table[str, float] = Table(undo)  # OMS -> when the session that watches it was heard
        self._listed: Table[tuple[int, str], frozenset[str]] = Table(undo)
        """(session, list or subscription) -> accounts, or instruments"""
        self._kept: Table[tuple[str, str, str], float] = Table(undo)  # from sessions that are gone
        self._rests: Table[Told, Rests] = Table(undo)
        self._needy: Table[tuple[str, str], tuple[int, int]] = Table(undo)
        """(OMS, reading) -> how many need prices, or lack something; and how many do without"""

    # --- sessions

    def session_up(self, session: int, oms: str) -> bool:
        """True when it is the only session of that OMS: its link is back. Account events are subscribed on it."""
        first = not self.is_up(oms)
        self._sessions[session] = oms
        self._listed[session, EVENTS] = frozenset(("",))
        return first

    def session_down(self, session: int) -> str | None:
        """The OMS of it; None for a session that wasn't up. What was proven on it keeps its time."""
        oms = self._sessions.pop(session)
        if oms is None:
            return None
        heard = self._heard.pop(session)
        for what in dict.fromkeys(LISTED_BY.values()):
            for which in sorted(self._listed.pop((session, what)) or ()):
                key = (oms, what, which)
                if heard is not None:
                    self._kept[key] = max(heard, self._kept.get(key) or heard)
        return oms

    def is_up(self, oms: str) -> bool:
        return oms in self._sessions.values()

    def oms_of(self, session: int) -> str | None:
        """The OMS of a session that is up."""
        return self._sessions.get(session)

    def is_oldest(self, session: int, oms: str) -> bool:
        """Of the live sessions of an OMS: what has no id is counted on one of them only."""
        return session == min((n for n, its in self._sessions.items() if its == oms), default=None)

    def forget(self, gone: Gone) -> None:
        """OMSs went."""
        sessions = {session for session, oms in self._sessions.items() if gone.oms(oms)}
        for of_session in (self._sessions, self._heard):
            of_session.drop(sessions.__contains__)
        self._listed.drop(lambda key: key[0] in sessions)
        self._newest.drop(gone.oms)
        self._kept.drop(lambda key: gone.oms(key[0]))
        for of_told in (self._rests, self._needy):
            of_told.drop(lambda key: gone.oms(key[0]))

    def forget_worths(self, omses: Container[str]) -> None:
        """The sums of these OMSs begin anew."""
        for of_told in (self._rests, self._needy):
            of_told.drop(lambda key: key[0] in omses and key[1] in WORTHS)

    # --- what is heard

    def hear(self, session: int, now: float) -> None:
        self._heard[session] = now
        oms = self._sessions.get(session)
        if oms is not None and self.is_oldest(session, oms):
            self._newest[oms] = now

    def show(self, session: int, what: str, which: str) -> bool:
        """Something was listed, or is subscribed to, on a session. True: it wasn't before."""
        held = self._listed.get((session, what)) or frozenset()
        if which in held:
            return False
        self._listed[session, what] = held | {which}
        return True

    def shows(self, session: int, what: str) -> bool:
        """Something of this kind was listed on that session."""
        return bool(self._listed.get((session, what)))

    def is_listed(self, oms: str, what: str, which: str | None) -> bool:
        """That one, or with None any, was listed on a session that is up."""
        for session, its_oms in self._sessions.items():
            held = self._listed.get((session, what)) if its_oms == oms else None
            if held and (which is None or which in held):
                return True
        return False

    # --- as of when

    def at(self, oms: str, what: str, which: str) -> float | None:
        """The last look that proves one account's, or one instrument's, in `now`'s seconds."""
        times = [self._kept.get((oms, what, which))]
        times += [
            self._heard.get(session)
            for session, its_oms in self._sessions.items()
            if its_oms == oms and which in (self._listed.get((session, what)) or ())
        ]
        return max((t for t in times if t is not None), default=None)

    def proven_at(self, oms: str, name: str, labels: Labels) -> float | None:
        """The last look that proves a reading. None: it was never proven."""
        if name == PRICE:
            rests = self._rests.get((oms, name, labels))
            if rests is None:
                return None
            return rests.until if rests.lacks else self._of_prices(oms, rests.instruments)
        if name in WORTHS:
            return self._of_worth((oms, name, labels))
        what = LISTED_BY.get(name)
        if what is None:
            return None
        which = "" if what == EVENTS else dict(labels).get("account")
        return None if which is None else self.at(oms, what, which)

    def _of_worth(self, told: Told) -> float | None:
        """The older of the list and of the oldest price that it needs."""
        oms, name, labels = told
        rests = self._rests.get(told)
        if rests is None and name != NOTIONAL:
            return None
        if rests is not None and rests.lacks:
            return rests.until
        listed_at = self.at(oms, WORTHS[name], dict(labels).get("account", ""))
        if rests is None or not rests.instruments or listed_at is None:
            return listed_at  # of an instrument without any order ever there is nothing to price
        priced_at = self._of_prices(oms, rests.instruments)
        return None if priced_at is None else min(listed_at, priced_at)

    def _of_prices(self, oms: str, instruments: frozenset[str]) -> float | None:
        """The oldest of these prices; None where one was never proven, or there is none."""
        if not instruments:
            return None
        whole = [
            heard
            for session, its_oms in self._sessions.items()
            if its_oms == oms
            and (heard := self._heard.get(session)) is not None
            and instruments <= (self._listed.get((session, PRICES)) or frozenset())
        ]
        if whole and max(whole) == self._newest.get(oms):
            return max(whole)  # as a rule: one session hears them all, and was heard just now
        times = [self.at(oms, PRICES, instrument) for instrument in instruments]
        return None if None in times else min(t for t in times if t is not None)

    def rest(self, told: Told, instruments: frozenset[str], lacks: str, known_at: float | None = None) -> bool:
        """From now on a reading rests on these prices, or can't be told. True: it didn't before.

        `known_at`: when one that lacks something was known last, where that is said.
        """
        before = self._rests.get(told)
        if before is not None and before.instruments == instruments and before.lacks == lacks:
            return False
        until = known_at if lacks else None
        if lacks and before is not None and until is None:
            until = before.until if before.lacks else self.proven_at(*told)
        self._rests[told] = Rests(instruments, lacks, until)
        needy, bare = self._needy.get(told[:2]) or (0, 0)
        was = 0 if before is None else 1 if before.instruments or before.lacks else -1
        now_is = 1 if instruments or lacks else -1
        needy += (now_is > 0) - (was > 0)
        bare += (now_is < 0) - (was < 0)
        self._needy[told[:2]] = (needy, bare)
        return True

    def known_at(self, told: Told) -> float | None:
        """When a reading that lacks something was known last; None for others, and where it never was."""
        rests = self._rests.get(told)
        return None if rests is None else rests.until

    def oldest(self, told: Told, now: float) -> str:
        """What a sum has that is the oldest, in words; "" for other readings."""
        rests = self._rests.get(told)
        if rests is None or told[1] not in WORTHS:
            return ""
        oms, account = told[0], dict(told[2]).get("account", "")
        parts = [(self.at(oms, WORTHS[told[1]], account), "its list")]
        parts += [(self.at(oms, PRICES, i), f"the price of instrument {i}") for i in sorted(rests.instruments)]
        for at, what in parts:
            if at is None:
                return f"{what} was never heard"
        at, what = min(((at, what) for at, what in parts if at is not None), key=lambda part: part[0])
        return f"{what} was not heard for {now - at:.1f} s"

    def worth_heard(self, session: int, oms: str, name: str, now: float) -> float | None:
        """As of when, at best, a sum of this kind is known to hold now that this session was heard. None: not by it."""
        listed, priced = self.shows(session, WORTHS[name]), self.shows(session, PRICES)
        if not (listed or priced):
            return None
        listed_at = now if listed else self._latest(oms, WORTHS[name])
        needy, bare = self._needy.get((oms, name)) or (0, 0)
        if bare or not needy or listed_at is None:
            return listed_at
        priced_at = now if priced else self._latest(oms, PRICES)
        return None if priced_at is None else min(listed_at, priced_at)

    def _latest(self, oms: str, what: str) -> float | None:
        """When a live session that has listed such a thing was heard last."""
        times = [
            self._heard.get(session)
            for session, its_oms in self._sessions.items()
            if its_oms == oms and self.shows(session, what)
        ]
        return max((t for t in times if t is not None), default=None)

    def lacks(self, told: Told) -> str:
        """Why a reading can't be told; "" for one that can, or of which nothing is known."""
        rests = self._rests.get(told)
        return "" if rests is None else rests.lacks
