"""`check --online`, over HTTP: whether the last resort for cancels lets us in, and what it says that it is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from killswitch.config.tables import KeySignIn
from killswitch.links import credentials_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from killswitch.config.tables import Oms
    from killswitch.online import GatewayLooked

WITHIN_S: Final = 15.0


async def look_over_http(oms: Oms, seen: GatewayLooked, wall: Callable[[], float]) -> None:
    """One sign-in, a version, and a call that needs the session. Fills in what was seen; raises nothing of theirs."""
    from killswitch.adapters.oms_http_visit import visit_over_http  # noqa: PLC0415  # its library takes a while

    assert oms.http is not None
    user = oms.sign_in.user_id if isinstance(oms.sign_in, KeySignIn) else None
    try:
        async with asyncio.timeout(WITHIN_S):
            found = await visit_over_http(oms.http.url, oms.oms_id, credentials_of(oms), user, wall)
    except TimeoutError:
        seen.state, seen.why = "unreachable", f"no answer within {WITHIN_S:g} s"
        return
    if found.why:
        seen.state, seen.why = "refused" if found.refused else "unreachable", found.why
        return
    seen.state, seen.sign_in_s = "signed in", found.took_s
    seen.version = found.version or None
    seen.version_why = "" if found.version else "over HTTP it tells none"
