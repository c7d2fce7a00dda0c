"""The daemon's HTTP face, from this host: its state, and a way in for commands while no broker is there."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any, Final

from killswitch.wire.announce import decode_receipt

if TYPE_CHECKING:
    from killswitch.config import Config
    from killswitch.wire.announce import ReceiptSeen

STATE_S: Final = 3.0
STATE_MAX: Final = 64 * 1024 * 1024
"""Bytes read of /state."""
POST_S: Final = 12.0
"""How long a receipt may take: the daemon gives up waiting for its journal a little earlier, and says so."""
ANSWER_MAX: Final = 64 * 1024


class NotReached(Exception):  # noqa: N818  # the other side's, not a bug
    """What is needed could not be reached: a sentence for a person, without any secret."""


def state(config: Config) -> dict[str, Any]:
    """/state of the daemon of this configuration, from this host. Raises NotReached."""
    status, body = _ask(config, "/state", None, within_s=STATE_S, most=STATE_MAX)
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if status != http.client.OK or not isinstance(said, dict) or "state" not in said:
        where = _where(config, "/state")[2]
        raise NotReached(f"{where}: what answers there (HTTP {status}) is no killswitch daemon")
    return said


def post(config: Config, kind: str, payload: bytes) -> ReceiptSeen:
    """Give a command to the daemon of this configuration. Raises NotReached where it has no receipt for it.

    A refusal is a receipt as well. What the daemon took without a receipt yet is carried out all the same.
    """
    path = f"/command/{kind}"
    status, body = _ask(config, path, payload, within_s=POST_S, most=ANSWER_MAX)
    receipt = decode_receipt(body)
    if receipt is not None:
        return receipt
    where = _where(config, path)[2]
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    held = said if isinstance(said, dict) else {}
    why = next((held[key] for key in ("reason", "error") if isinstance(held.get(key), str)), "")
    raise NotReached(f"{where}: HTTP {status}" + (f", {why}" if why else ""))


def _where(config: Config, path: str) -> tuple[str, int, str]:
    host, port = config.http.host, config.http.port
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # not bound here
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return host, port, f"http://{shown}{path}"


def _ask(config: Config, path: str, body: bytes | None, *, within_s: float, most: int) -> tuple[int, bytes]:
    """The status and the body: of a POST where there is something to send."""
    host, port, where = _where(config, path)
    if port == 0:
        raise NotReached("http.listen has port 0: which one the daemon took, its log says")
    headers = {"Accept": "application/json"} | ({} if body is None else {"Content-Type": "application/json"})
    connection = http.client.HTTPConnection(host, port, timeout=within_s)
    try:
        connection.request("GET" if body is None else "POST", path, body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(most)
    except TimeoutError:
        raise NotReached(f"{where}: no answer within {within_s:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise NotReached(f"{where}: {getattr(error, 'strerror', None) or 'no HTTP'}") from None
    finally:
        connection.close()
