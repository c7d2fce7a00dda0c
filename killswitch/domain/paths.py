"""Paths: which of an OMS's sessions does what. The only place where a session is chosen.

One session of an OMS watches it: its lists and events are what rules read, prices are subscribed to on it. It is the
oldest that can list, so that a session that comes changes nothing; when it goes, the next oldest takes over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from killswitch.domain.book import Book, Session


def live(book: Book, oms: str) -> tuple[Session, ...]:
    """The sessions of an OMS, oldest first."""
    return tuple(sorted((s for s in book.sessions.values() if s.oms == oms), key=lambda s: s.number))


def signed_in(book: Book, oms: str) -> tuple[Session, ...]:
    """Those, and the one over HTTP, which lists nothing and so does nothing of what is chosen here."""
    resort = book.resorts.get(oms)
    return live(book, oms) if resort is None else (*live(book, oms), resort)


def watching(book: Book, oms: str) -> Session | None:
    """The session that watches this OMS."""
    return next(iter(live(book, oms)), None)
