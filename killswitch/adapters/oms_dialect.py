"""Which dialect a session speaks: the configured one, unless the server's version speaks against it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from killswitch.domain.dialects import dialect_of, ignored_by

if TYPE_CHECKING:
    from killswitch.domain.dialects import Dialect


def find_dialect(configured: Dialect | None, version: str) -> tuple[Dialect, str]:
    """What calls on a session are said in, and why there must be none; "" where nothing speaks against it.

    `configured`: None leaves it to the version. A server that tells nothing (`version` is "") is taken for what
    the configuration calls it, and for the poorest where that leaves it to the version.
    """
    if configured is None:
        return dialect_of(version), ""
    ignored = ignored_by(configured, version) if version else ()
    if not ignored:
        return configured, ""
    ids = " and the ".join(ignored)
    return configured, (
        f"it says that it is version {version}, which the configuration calls {configured.value}: it may "
        f"ignore the {ids} of a cancel, which then goes wider than its trip. Nothing is cancelled over it until "
        "`dialect` is put right"
    )


def heeds_less(spoken: Dialect, version: str) -> str:
    """Why a session that speaks `spoken` must end, by what its server says now; "" where nothing speaks against it."""
    if not version or not ignored_by(spoken, version):
        return ""
    return f"it says now that it is version {version}, and is spoken to as {spoken.value}"
