"""Paths: which of an OMS's sessions does what. The only place where a session is chosen.

One session of an OMS watches it: its lists and events are what rules read, prices are subscribed to on it. It is the
oldest that can list, so that a session that comes changes nothing; when it goes, the next oldest takes over. Sweeps
keep to the oldest too, as long as it answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from killswitch.domain.book import Book, Session


def live(book: Book, oms: str) -> tuple[Session, ...]:
    """The sessions of an OMS, oldest first."""
    held = [session for session in book.sessions.values() if session.oms == oms]
    if len(held) > 1:
        held.sort(key=lambda session: session.number)
    return tuple(held)


def signed_in(book: Book, oms: str) -> tuple[Session, ...]:
    """Those, and the one over HTTP, which lists nothing and so does nothing of what is chosen here."""
    resort = book.resorts.get(oms)
    return live(book, oms) if resort is None else (*live(book, oms), resort)


def watching(book: Book, oms: str) -> Session | None:
    """The session that watches this OMS."""
    return next((s for s in live(book, oms) if s.lists), None)


def hangs(session: Session) -> bool:
    """A cancel or a list on it had no answer in its time, and no later one of its kind had any."""
    return bool(session.cancels_hang or session.lists_hang)


def to_cancel(book: Book, oms: str) -> Session | None:
    """Where the next cancel leaves."""
    return _best(live(book, oms))


def to_look(book: Book, oms: str, among: Container[int] | None = None) -> Session | None:
    """Where the next list is asked for; `among`: of these sessions only."""
    return _best(s for s in live(book, oms) if s.lists and (among is None or s.number in among))


def beside(book: Book, session: Session) -> Session | None:
    """Where a cancel goes as well that hangs on this session: never on the same."""
    return _best(s for s in live(book, session.oms) if s.number != session.number)


def steady(book: Book, oms: str) -> frozenset[int]:
    """The sessions whose answers can be waited for: those that don't hang, or all where every one does."""
    held = live(book, oms)
    return frozenset(s.number for s in held if not hangs(s)) or frozenset(s.number for s in held)


def _best(sessions: Iterable[Session]) -> Session | None:
    """One that answers before one that hangs, one that can prove before one that can't, then the oldest."""
    return min(sessions, key=lambda s: (hangs(s), not s.lists, s.number), default=None)
