"""Commands: bytes to TripRequested, ResetRequested or CommandRefused, and back to bytes for the command line.

Reading is strict, because a typo that reads as "not named" would widen a scope to EVERY: unknown and repeated
keys, null and empty parts, and ids that are no whole number are refused. Whatever the bytes are, nothing but
one of the three values comes out; no sentence repeats more of a payload than a key's name.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from killswitch.domain.messages import CommandRefused, ResetRequested, TripRequested
from killswitch.domain.scope import EVERY, ID_MAX, Part, Scope, ScopeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from killswitch.domain.messages import Via

SIZE_MAX: Final = 64 * 1024
"""Bytes of a command. The longest that is accepted is a few kB; more is read by nobody."""
BY_MAX: Final = 200
REASON_MAX: Final = 1000
MS_MIN: Final = -62_135_596_800_000
MS_MAX: Final = 253_402_300_799_999
"""The years 1 to 9999, in milliseconds since 1970: what can be shown. A button's clock may stand in 1969."""

_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")  # it becomes a topic level: no / + # and no control characters
_TRIP: Final = re.compile(r"[A-Za-z0-9_.:~-]{1,128}")
"""A trip's id: a command's own id, or one that the core made for a rule, a button or a signal; those hold a `~`."""
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,40}")
_INSTANT: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(\.[0-9]{1,12})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
# Control characters, surrogates, line and paragraph separators, and the marks that turn the direction of
# writing: each makes a line of a log or a page look like something else. Joiners are letters' own: allowed.
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

_TRIP_KEYS: Final = frozenset({"id", "scope", "by", "reason", "issued_at"})
_RESET_KEYS: Final = frozenset({"id", "trip", "by", "reason", "issued_at", "override"})
_SCOPE_KEYS: Final = frozenset({"oms", "account", "user", "instrument"})


class CommandError(ValueError):
    """Why something is no command: a sentence for its sender."""


@dataclass(frozen=True, slots=True)
class _Object:
    """A JSON object as it was written: a repeated key is a mistake that a dict would hide."""

    fields: dict[str, Any]
    repeated: str | None


def decode_trip(
    payload: bytes, *, via: Via, wall: float, token: object = None, retained: bool = False
) -> TripRequested | CommandRefused:
    """A trip command (contract: MQTT and HTTP alike). `issued_at` is optional: a trip is never too old."""
    command_id: str | None = None
    try:
        command = _open(payload)
        command_id = _readable_id(command)
        fields = _known(command, _TRIP_KEYS, "the command")
        identity = _id(fields, retained=retained)
        scope = _scope(fields)
        by, reason = _text(fields, "by", BY_MAX), _text(fields, "reason", REASON_MAX)
        issued_at = _instant(fields["issued_at"]) if "issued_at" in fields else None
    except CommandError as error:
        return CommandRefused(wall=wall, command="trip", id=command_id, reason=str(error), via=via, token=token)
    said = {"id": identity, "scope": scope_fields(scope), "by": by, "reason": reason, "issued_at": issued_at}
    return TripRequested(
        wall=wall,
        id=identity,
        scope=scope,
        by=by,
        reason=reason,
        issued_at=issued_at,
        digest=_digest("trip", said),
        via=via,
        token=token,
        retained=retained,
    )


def decode_reset(
    payload: bytes, *, via: Via, wall: float, token: object = None, retained: bool = False
) -> ResetRequested | CommandRefused:
    """A reset command. `issued_at` is required: whether it is too old, the core decides."""
    command_id: str | None = None
    try:
        command = _open(payload)
        command_id = _readable_id(command)
        fields = _known(command, _RESET_KEYS, "the command")
        identity = _id(fields, retained=retained)
        trip = _trip(fields)
        by, reason = _text(fields, "by", BY_MAX), _text(fields, "reason", REASON_MAX)
        issued_at = _instant(fields.get("issued_at"))
        override = _override(fields)
    except CommandError as error:
        return CommandRefused(wall=wall, command="reset", id=command_id, reason=str(error), via=via, token=token)
    said = {"id": identity, "trip": trip, "by": by, "reason": reason, "issued_at": issued_at}
    return ResetRequested(
        wall=wall,
        id=identity,
        trip=trip,
        by=by,
        reason=reason,
        issued_at=issued_at,
        override=override,
        digest=_digest("reset", said | {"override": override}),
        via=via,
        token=token,
    )


def match_button(payload: bytes, retained: bool, match: str | Mapping[str, Any] | None) -> bool:
    """Whether a delivery on a panic topic presses.

    `match`: None, any payload; text, the whole payload; a mapping, these fields of the JSON object. An empty
    payload only clears a retained topic, and a retained one was pressed some other time: neither presses.
    """
    if retained or not payload:
        return False
    match match:
        case None:
            return True
        case str():
            return payload == match.encode("utf-8", "surrogatepass")
    try:
        said = _plain(_parse(payload))
    except CommandError:
        return False
    return isinstance(said, dict) and all(name in said and _same(said[name], wanted) for name, wanted in match.items())


def encode_trip_command(
    *,
    id: str,  # noqa: A002 the wire's name
    scope: Scope,
    by: str,
    reason: str,
    issued_at: float | None = None,
) -> bytes:
    """The bytes of a trip command. `issued_at`: seconds since 1970. CommandError: it would be refused."""
    said: dict[str, Any] = {"id": id, "scope": scope_fields(scope), "by": by, "reason": reason}
    if issued_at is not None:
        said["issued_at"] = _rfc3339(issued_at)
    payload = json.dumps(said).encode()
    return _accepted(payload, decode_trip(payload, via="mqtt", wall=0.0))


def encode_reset_command(
    *,
    id: str,  # noqa: A002 the wire's name
    trip: str,
    by: str,
    reason: str,
    issued_at: float,
    override: bool = False,
) -> bytes:
    """The bytes of a reset command. Raises CommandError for what would be refused."""
    said: dict[str, Any] = {"id": id, "trip": trip, "by": by, "reason": reason}
    said["issued_at"] = _rfc3339(issued_at)
    if override:
        said["override"] = True
    payload = json.dumps(said).encode()
    return _accepted(payload, decode_reset(payload, via="mqtt", wall=0.0))


def scope_fields(scope: Scope) -> dict[str, str | int]:
    """A scope as the wire says it: EVERY is left out, but for the account where no user is named either."""
    parts = (("account", scope.account), ("user", scope.user), ("instrument", scope.instrument))
    said: dict[str, str | int] = {name: part for name, part in parts if part is not EVERY}
    return {"oms": scope.oms, **({"account": "every"} if scope.whole else {}), **said}


# --- reading -----------------------------------------------------------------------------------------------


def _pairs(pairs: list[tuple[str, Any]]) -> _Object:
    counts = Counter(name for name, _ in pairs)
    return _Object(dict(pairs), next((name for name, count in counts.items() if count > 1), None))


def _no_constant(name: str) -> object:
    raise CommandError(f"{name} is no JSON")


def _parse(payload: bytes) -> object:
    """JSON with its objects as _Object. Raises CommandError for anything else, whatever the bytes."""
    if len(payload) > SIZE_MAX:
        raise CommandError(f"longer than {SIZE_MAX // 1024} KiB")
    try:
        # Decoded here, since json would guess at UTF-16 and UTF-32.
        return json.loads(payload.decode("utf-8"), object_pairs_hook=_pairs, parse_constant=_no_constant)
    except CommandError:
        raise
    except (ValueError, RecursionError):  # ValueError: also a number of more digits than Python converts
        raise CommandError("not JSON") from None


def _open(payload: bytes) -> _Object:
    command = _parse(payload)
    if not isinstance(command, _Object):
        raise CommandError("not a JSON object")
    if "signed" in command.fields:
        raise CommandError("signatures are not built into this version: send the command itself, unsigned")
    return command


def _readable_id(command: _Object) -> str | None:
    """The id, where there is a valid one that is said once: then a refusal gets a receipt."""
    value = command.fields.get("id")
    if command.repeated == "id" or not isinstance(value, str) or not _ID.fullmatch(value):
        return None
    return value


def _known(said: _Object, keys: frozenset[str], what: str) -> dict[str, Any]:
    """The fields, if each is known and said once."""
    if said.repeated is not None:
        raise CommandError(f"{what} says {_quoted(said.repeated)} more than once")
    for name in said.fields:
        if name not in keys:
            raise CommandError(f"{what} has an unknown key {_quoted(name)}")
    return said.fields


def _quoted(name: str) -> str:
    """A key's name for a sentence: ASCII, bounded."""
    return json.dumps(name[:40])


def _id(fields: dict[str, Any], *, retained: bool) -> str:
    value = fields.get("id")
    if "id" not in fields and retained:
        # The broker replays a retained message at each connect; without an id each looks new.
        raise CommandError("a retained command needs an id")
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise CommandError("id must be 1 to 64 of A-Z a-z 0-9 _ . : -")
    return value


def _scope(fields: dict[str, Any]) -> Scope:
    said = fields.get("scope")
    if not isinstance(said, _Object):
        raise CommandError("scope must be an object")
    parts = _known(said, _SCOPE_KEYS, "the scope")
    oms = parts.get("oms")
    if not isinstance(oms, str) or not _NAME.fullmatch(oms):
        raise CommandError("scope.oms must name an OMS")
    account, user, instrument = (_part(parts, name) for name in ("account", "user", "instrument"))
    if account is EVERY and user is EVERY and "account" not in parts:
        raise CommandError('a scope without an account and a user must say "account": "every"')
    try:
        return Scope(oms=oms, account=account, user=user, instrument=instrument)
    except ScopeError as error:
        raise CommandError(str(error)) from None


def _part(parts: dict[str, Any], name: str) -> Part:
    if name not in parts:
        return EVERY
    value = parts[name]
    if value == "every":
        return EVERY
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= ID_MAX:
        raise CommandError(f'scope.{name} must be an id above 0 or "every"')
    return value


def _trip(fields: dict[str, Any]) -> str:
    value = fields.get("trip")
    if not isinstance(value, str) or not _TRIP.fullmatch(value):
        raise CommandError("trip must be the id of a trip")
    return value


def _override(fields: dict[str, Any]) -> bool:
    value = fields.get("override", False)
    if not isinstance(value, bool):
        raise CommandError("override must be true or false")
    return value


def _text(fields: dict[str, Any], name: str, longest: int) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value.strip():
        raise CommandError(f"{name} is required: text")
    if len(value) > longest:
        raise CommandError(f"{name} is longer than {longest} characters")
    if _UNSAFE.search(value):
        raise CommandError(f"{name} holds control characters")
    return value


def _instant(value: object) -> float:
    """Seconds since 1970 from RFC 3339 text with a zone, or from a number of milliseconds."""
    if isinstance(value, str) and (said := _INSTANT.fullmatch(value)):
        day, clock, fraction, zone = said.groups()
        try:
            whole = datetime.fromisoformat(f"{day}T{clock}{zone.upper().replace('Z', '+00:00')}")
        except ValueError:
            pass
        else:
            seconds = whole.timestamp() + float(fraction or 0)
            if MS_MIN <= seconds * 1000 <= MS_MAX:
                return seconds
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and MS_MIN <= value <= MS_MAX:
        return value / 1000  # NaN and infinities fail the comparison
    raise CommandError("issued_at must be RFC 3339 with a zone, or milliseconds since 1970")


# --- shared ------------------------------------------------------------------------------------------------


def _plain(value: object) -> object:
    """Parsed JSON with its objects as dicts."""
    match value:
        case _Object():
            return {name: _plain(inner) for name, inner in value.fields.items()}
        case list():
            return [_plain(inner) for inner in value]
    return value


def _same(said: object, wanted: object) -> bool:
    """Equal as JSON: 1 is 1.0, but true is not 1."""
    if isinstance(said, bool) or isinstance(wanted, bool):
        return said is wanted
    if isinstance(said, dict) and isinstance(wanted, dict):
        return said.keys() == wanted.keys() and all(_same(said[name], wanted[name]) for name in said)
    if isinstance(said, list) and isinstance(wanted, list):
        return len(said) == len(wanted) and all(map(_same, said, wanted))
    return said == wanted


def _rfc3339(wall: float) -> str:
    if not math.isfinite(wall) or not MS_MIN <= wall * 1000 <= MS_MAX:
        raise CommandError("issued_at is no time")
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _digest(command: str, said: dict[str, Any]) -> str:
    """SHA-256 of the content, independent of the order of keys and of the way a part or a time is written."""
    canonical = json.dumps({"command": command, **said}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _accepted(payload: bytes, event: TripRequested | ResetRequested | CommandRefused) -> bytes:
    if isinstance(event, CommandRefused):
        raise CommandError(event.reason)
    return payload
