"""`trip` and `reset`: the verbs that do something to an OMS."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import TYPE_CHECKING, Final

import click

from killswitch.cli.options import (
    DONE,
    NO,
    UNREACHED,
    USAGE,
    IdOrEvery,
    Number,
    by_option,
    config_option,
    echo_json,
    end,
    json_option,
    loaded_config,
    reason_option,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from killswitch.config import Config
    from killswitch.domain.messages import TripView
    from killswitch.domain.scope import Part, Scope
    from killswitch.wire.announce import TripSeen

PREVIEW_S: Final = 35.0


@click.command()
@config_option
@json_option
@click.option("--oms", required=True, metavar="NAME", help="The OMS, by its configured name.")
@click.option("--account", type=IdOrEvery(), metavar="ID|every", help="Left out: every account, if a user is named.")
@click.option("--user", type=IdOrEvery(), metavar="ID|every", help="Left out: every user.")
@click.option("--instrument", type=IdOrEvery(), metavar="ID|every", help="Left out: every instrument.")
@by_option
@reason_option
@click.option("--wait", type=Number(0, 86400), default=30.0, show_default=True, metavar="SECONDS")
@click.option(
    "--direct",
    is_flag=True,
    help="Without broker and daemon: sign in to the OMS and sweep from here; real, also where the daemon is in shadow.",
)
@click.option("--preview", is_flag=True, help="Show what would be cancelled; cancel nothing.")
@click.pass_context
def trip(
    ctx: click.Context,
    *,
    config: str | None,
    as_json: bool,
    oms: str,
    account: Part | None,
    user: Part | None,
    instrument: Part | None,
    by: str | None,
    reason: str | None,
    wait: float,
    direct: bool,
    preview: bool,
) -> None:
    """Cancel every order of a scope and prove it.

    The scope stays latched until a reset. Exits with 0 only for VERIFIED; 3 where nobody answered. A daemon in
    shadow cancels nothing: then it shows what would have been cancelled, and exits with 1.
    """
    scope = _scope(oms, account, user, instrument)
    if preview:
        who = why = "preview"
    else:
        who, why = _who_and_why(by, reason)
        _must_be_sendable(scope, who, why)
    loaded = loaded_config(config)
    names = [site.name for site in loaded.oms]
    if oms not in names:
        end(USAGE, f"no OMS is called {oms!r} in the configuration; there is {', '.join(names) or 'none'}")
    if preview:
        ctx.exit(_preview(loaded, scope, as_json))
    elif direct:
        ctx.exit(_trip_direct(loaded, scope, by=who, reason=why, wait=wait, as_json=as_json))
    else:
        ctx.exit(_trip(loaded, scope, by=who, reason=why, wait=wait, as_json=as_json))


def _scope(oms: str, account: Part | None, user: Part | None, instrument: Part | None) -> Scope:
    from killswitch.domain.scope import EVERY, Scope, ScopeError  # noqa: PLC0415

    if account is None and user in (None, EVERY):
        raise click.UsageError("a scope that names neither an account nor a user must say --account every")
    try:
        return Scope(
            oms=oms,
            account=EVERY if account is None else account,
            user=EVERY if user is None else user,
            instrument=EVERY if instrument is None else instrument,
        )
    except ScopeError as error:
        raise click.UsageError(str(error)) from None


def _who_and_why(by: str | None, reason: str | None) -> tuple[str, str]:
    for name, value in (("--by", by), ("--reason", reason)):
        if value is None or not value.strip():
            raise click.UsageError(f"{name} is required: it is journalled with what is done")
    return str(by), str(reason)


def _must_be_sendable(scope: Scope, by: str, reason: str) -> None:
    """What a daemon would refuse for its text is a mistake here already."""
    from killswitch.wire.commands import CommandError, encode_trip_command  # noqa: PLC0415

    try:
        encode_trip_command(id="check", scope=scope, by=by, reason=reason)
    except CommandError as error:
        raise click.UsageError(str(error)) from None


def _trip(config: Config, scope: Scope, *, by: str, reason: str, wait: float, as_json: bool) -> int:
    from killswitch import remote, terminal  # noqa: PLC0415

    sending = remote.Sending(remote.new_id(), time.monotonic())
    click.echo(terminal.wrapped(f"Tripping {scope.in_words()}"), err=as_json)
    try:
        asyncio.run(
            remote.trip(
                config,
                scope,
                by=by,
                reason=reason,
                wait_s=wait,
                sending=sending,
                show=_shown(sending.at, as_json),
                tell=_told,
            )
        )
    except remote.NotReached as error:
        direct = "" if sending.receipt else "; `killswitch trip --direct` needs neither broker nor daemon"
        end(UNREACHED, f"{error}{direct}")
    except KeyboardInterrupt:
        sent = "" if sending.receipt else ", if the broker has the command already"
        if sending.receipt and sending.receipt["shadow"]:
            end(NO, f"interrupted: trip {sending.id} is a SHADOW: it cancels nothing; `killswitch status` shows it")
        end(
            NO,
            f"interrupted: trip {sending.id} stays latched and the daemon goes on with it{sent}; "
            "`killswitch status` shows it",
        )
    receipt, view = sending.receipt, sending.view
    assert receipt is not None, "else it was not reached"
    if as_json:
        echo_json({"receipt": receipt, "trip": None if view is None else terminal.trip_fields(view)})
    if not receipt["accepted"]:
        click.echo(terminal.receipt(receipt), err=as_json)
        return NO
    if not as_json:
        click.echo(f"trip {shown(receipt['trip'] or sending.id)}")
        if receipt["shadow"]:
            click.echo(terminal.receipt(receipt))
            click.echo(terminal.shadow(view, scope, wait))
        else:
            click.echo(terminal.outcome(view, scope, wait))
    return DONE if view is not None and view.outcome == "VERIFIED" else NO


def _told(text: str) -> None:
    """Said to the person while the command is still on its way."""
    from killswitch.terminal import wrapped  # noqa: PLC0415

    click.echo(wrapped(shown(text)), err=True)


def _shown(began: float, as_json: bool) -> Callable[[TripSeen], None]:
    """Prints a view of a trip, unless the line would be the last one again."""
    from killswitch.terminal import progress  # noqa: PLC0415

    last = ""

    def show(seen: TripSeen) -> None:
        nonlocal last
        line = progress(seen, time.monotonic() - began)
        if line[10:] != last:
            click.echo(line, err=as_json)
        last = line[10:]

    return show


def _trip_direct(config: Config, scope: Scope, *, by: str, reason: str, wait: float, as_json: bool) -> int:
    from killswitch import direct  # noqa: PLC0415
    from killswitch.terminal import trip_fields, unverified, wrapped  # noqa: PLC0415
    from killswitch.wire.announce import decode_trip_view, encode_trip  # noqa: PLC0415

    site = next(site for site in config.oms if site.name == scope.oms)
    if scope.whole and not site.whole_oms:
        end(NO, f"refused: the scope names neither account nor user, and OMS {site.name} has no whole_oms")
    logging.basicConfig(level=logging.CRITICAL)  # what matters is said here, in order
    places = ", ".join(gateway.address for gateway in site.gateways)
    click.echo(wrapped(f"Tripping {scope.in_words()}, directly at {places}"), err=as_json)
    show, began = _shown(time.monotonic(), as_json), time.monotonic()

    def seen(view: TripView) -> TripSeen:
        return _must(decode_trip_view(encode_trip(view, "direct")))

    try:
        ended = asyncio.run(
            direct.trip(
                config, os.environ, scope, by=by, reason=reason, within_s=wait, show=lambda view: show(seen(view))
            )
        )
    except KeyboardInterrupt:
        end(NO, "interrupted: this sweep was not finished, and nothing goes on with it")
    view = None if ended.view is None else seen(ended.view)
    unguarded = f"Not latched: nothing guards {scope.in_words()} now."
    evidence = None if ended.evidence is None else str(ended.evidence)
    if as_json:
        said = None if view is None else trip_fields(view)
        echo_json({"trip": said, "why": "" if view else ended.why, "evidence": evidence, "guarded": False})
    if view is None:
        why = f"OMS {scope.oms} could not be reached within {wait:g} s: {ended.why}"
        end(UNREACHED, f"UNKNOWN: {why}. Nothing was cancelled.")
    verdict = f"VERIFIED: no {view.covers} left." if view.outcome == "VERIFIED" else unverified(view, wait)
    click.echo(wrapped(f"{verdict} ({time.monotonic() - began:.1f} s)"), err=as_json)
    kept = "No evidence could be written." if evidence is None else f"Evidence: {evidence}"
    click.echo(wrapped(f"{unguarded} {kept}"), err=as_json)
    return DONE if view.outcome == "VERIFIED" else NO


def _must(seen: TripSeen | None) -> TripSeen:
    assert seen is not None, "what we write we can read"
    return seen


def _preview(config: Config, scope: Scope, as_json: bool) -> int:
    from killswitch import direct, terminal  # noqa: PLC0415
    from killswitch.wire.status import preview_json  # noqa: PLC0415

    logging.basicConfig(level=logging.CRITICAL)
    try:
        found = asyncio.run(direct.preview(config, scope, PREVIEW_S))
    except KeyboardInterrupt:
        end(NO, "interrupted: nothing was cancelled")
    if isinstance(found, str):
        end(UNREACHED, f"OMS {scope.oms} could not be asked: {found}. Nothing was cancelled.")
    if as_json:
        echo_json(preview_json(found))
    else:
        click.echo(terminal.preview(scope, found))
    return DONE if terminal.is_whole(found) else NO


@click.command()
@click.argument("trip_id", metavar="TRIP")
@config_option
@json_option
@by_option
@reason_option
@click.pass_context
def reset(
    ctx: click.Context, *, trip_id: str, config: str | None, as_json: bool, by: str | None, reason: str | None
) -> None:
    """End a trip: its scope may be traded again."""
    who, why = _who_and_why(by, reason)
    loaded = loaded_config(config)
    from killswitch import remote, terminal  # noqa: PLC0415
    from killswitch.wire.commands import CommandError  # noqa: PLC0415

    try:
        receipt = asyncio.run(remote.reset(loaded, trip_id, by=who, reason=why, tell=_told))
    except CommandError as error:
        raise click.UsageError(str(error)) from None
    except remote.NotReached as error:
        end(UNREACHED, str(error))
    except KeyboardInterrupt:
        end(NO, "interrupted: whether the reset was carried out, `killswitch status` shows")
    if as_json:
        echo_json(receipt)
    else:
        click.echo(terminal.receipt(receipt))
    ctx.exit(DONE if receipt["accepted"] else NO)
