"""`check --online`, beside the orders: whether quotes and block trades can be listed, where the configuration asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from killswitch.domain.extras import WORDS, Kind, kinds_of
from killswitch.domain.messages import Answer, AnswerKind
from killswitch.wire import alphapoint
from killswitch.wire.alphapoint_quotes import (
    get_open_quotes,
    get_open_trade_reports,
    read_instrument_ids,
    read_quotes,
    read_trade_reports,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from killswitch.config.tables import Oms
    from killswitch.domain.dialects import Dialect
    from killswitch.wire.frame import Frame

    Ask = Callable[[alphapoint.Request], Awaitable[Frame | str]]


async def look(oms: Oms, dialect: Dialect, ask: Ask, clean: Callable[[str], str], found: dict[str, str]) -> None:
    """One look of each kind, at the first account; quotes at the first instrument. Kind in words -> why not, or ""."""
    wanted = kinds_of(oms) if oms.accounts else ()
    found |= {WORDS[kind]: "not asked within the time of this check" for kind in wanted}
    for kind in wanted:
        why = await (_quotes(oms, dialect, ask) if kind is Kind.QUOTES else _reports(oms, ask))
        found[WORDS[kind]] = clean(why)


async def _quotes(oms: Oms, dialect: Dialect, ask: Ask) -> str:
    frame = await ask(alphapoint.get_instruments(oms.oms_id, inactive=True, dialect=dialect))
    listed = frame if isinstance(frame, str) else read_instrument_ids(frame)
    if isinstance(listed, str | Answer):
        return f"the instruments can't be listed: {_why(listed)}"
    if listed.unreadable:
        return f"{listed.unreadable} rows of the list of instruments can't be read"
    if not listed.rows:
        return ""
    account, instrument = oms.accounts[0], listed.rows[0]
    frame = await ask(get_open_quotes(oms.oms_id, account, instrument))
    quotes = frame if isinstance(frame, str) else read_quotes(frame, account, instrument)
    return _why(quotes) if isinstance(quotes, str | Answer) else ""


async def _reports(oms: Oms, ask: Ask) -> str:
    frame = await ask(get_open_trade_reports(oms.oms_id, oms.accounts[0]))
    reports = frame if isinstance(frame, str) else read_trade_reports(frame, oms.accounts[0])
    return _why(reports) if isinstance(reports, str | Answer) else ""


def _why(answer: str | Answer) -> str:
    if isinstance(answer, str):
        return answer
    said = answer.text or f"answer {answer.label}"
    return f"refused: {said}" if answer.kind is AnswerKind.REFUSED else said


def findings(oms: str, found: dict[str, str]) -> Iterator[str]:
    """What of it a person has to mend."""
    for words, why in found.items():
        if why:
            yield f"OMS {oms}: {words} can't be listed ({why}): no trip there could be VERIFIED."
