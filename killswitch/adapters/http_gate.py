"""Who may ask: the checks that keep a browser on another site from reading or pressing anything.

A page elsewhere can make a browser send requests here: as a form (so Content-Type must be JSON, which a form
can't send), with its own Origin (so a foreign one is refused), or after pointing a name of its own at our
address (so the Host must be one of ours).
"""

from __future__ import annotations

import ipaddress
import json
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers
from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")
OPEN: Final = ("/healthz", "/readyz", "/metrics")
"""What probes and scrapers ask for; on a network they call us by names that we can't know."""
COSTLY: Final = ("/preview", "/events")
"""What is bounded in number: a page elsewhere that can't read the answer could still use it up."""

_HOST: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([0-9.]+))(?::[0-9]{1,5})?")


class Answer(Response):
    """JSON that nobody stores, on a connection that ends with it: one request each keeps it bounded."""

    media_type = "application/json"

    def __init__(self, said: object, status: int = 200) -> None:
        super().__init__(json.dumps(said, allow_nan=False), status, headers=dict(PLAIN_HEADERS))


PLAIN_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Connection": "close",
}


def refusal(sentence: str, status: int) -> Answer:
    return Answer({"error": sentence}, status)


@dataclass(frozen=True, slots=True)
class Gate:
    """Stands before all routes. `names`: hosts that are ours, with the port where it isn't 80."""

    app: ASGIApp
    names: frozenset[str]
    loopback: bool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        why = self.against(scope["method"], scope["path"], Headers(scope=scope))
        await (self.app if why is None else refusal(why, 403))(scope, receive, send)

    def against(self, method: str, path: str, headers: Headers) -> str | None:
        """A sentence that says why a request is refused, or None."""
        reads = method in ("GET", "HEAD")
        if not self._ours(headers.getlist("host")) and (self.loopback or not reads or path not in OPEN):
            return "this Host isn't ours; ask by the address that [http] listen names"
        if any(o.lower() not in {f"http://{n}" for n in self.names} for o in headers.getlist("origin")):
            return "a page of another origin may not ask here"
        # An image or a script of another site comes without an Origin, but browsers say where it is from.
        crossed = any(s.lower() in ("cross-site", "same-site") for s in headers.getlist("sec-fetch-site"))
        if crossed and (not reads or path in COSTLY):
            return "a page of another site may not ask here"
        if reads:
            return None
        if not self.loopback:
            return (
                "commands are taken on a loopback address only: signatures or a token aren't built yet; "
                "use MQTT, or ask on the host itself"
            )
        types = [t.split(";")[0].strip().lower() for t in headers.getlist("content-type")]
        if method == "POST" and types != ["application/json"]:
            return "Content-Type must be application/json"
        return None

    def _ours(self, hosts: list[str]) -> bool:
        if len(hosts) != 1:
            return False
        host = hosts[0].lower()
        if host in self.names:
            return True
        # An address can't be pointed at us as a name can; behind a mapping its port may differ from ours.
        return not self.loopback and _is_address(host)


def our_names(host: str, port: int, *, loopback: bool) -> frozenset[str]:
    """What a Host may be: loopback's names, the address that is listened on, on a network our own name."""
    names = set(LOOPBACK_NAMES)
    if host:
        names.add(f"[{host}]" if ":" in host else host.lower())
    if not loopback:
        names.add(socket.gethostname().lower())
    with_port = {f"{name}:{port}" for name in names}
    return frozenset(with_port | names if port == 80 else with_port)


def _is_address(host: str) -> bool:
    parts = _HOST.fullmatch(host)
    if parts is None:
        return False
    try:
        ipaddress.ip_address(parts[1] or parts[2])
    except ValueError:
        return False
    return True
