"""The verb that looks: `status`, once or again and again."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from killswitch.cli.options import DONE, UNREACHED, Ended, config_option, echo_json, json_option, loaded_config

if TYPE_CHECKING:
    from killswitch.config import Config

WATCH_EVERY_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What was seen. `said`: as JSON, None where nobody answered. `remark`: what people should know about it, first.

    `why`: why this is no answer, or a doubtful one; then the verb ends with 3.
    """

    said: object = None
    text: str = ""
    remark: str = ""
    why: str = ""


@click.command()
@config_option
@json_option
@click.option("--watch", is_flag=True, help="Again every 2 s, until Ctrl-C; with --json a line each.")
@click.pass_context
def status(ctx: click.Context, config: str | None, as_json: bool, watch: bool) -> None:
    """Trips, rules with headroom, feeds with age, sessions."""
    loaded = loaded_config(config)
    if watch:
        _watch(loaded, as_json=as_json)
        ctx.exit(DONE)
    look = _look(loaded)
    if look.remark:
        click.echo(look.remark, err=True)
    if look.said is not None:
        echo_json(look.said) if as_json else click.echo(look.text)
    if look.why:
        raise Ended(UNREACHED, look.why)
    ctx.exit(DONE)


def _look(loaded: Config) -> _Look:
    from killswitch import remote, terminal  # noqa: PLC0415

    try:
        said = remote.state(loaded)
    except remote.NotReached as error:
        remark = terminal.wrapped(f"{error}; asking the broker for what it retains")
    else:
        return _Look(said=said, text=terminal.status(said))
    try:
        kept = asyncio.run(remote.retained_state(loaded))
    except remote.NotReached as error:
        return _Look(remark=remark, why=terminal.wrapped(f"neither HTTP nor the broker answers: {error}"))
    old = "no daemon is connected to the broker: what is retained may be old"
    return _Look(
        said={"state": kept.state, "trips": [terminal.trip_fields(seen) for seen in kept.trips]},
        text=terminal.retained(kept.state, kept.trips),
        remark=remark,
        why=terminal.wrapped(old) if kept.state in (None, "unknown") else "",
    )


def _watch(loaded: Config, *, as_json: bool) -> None:
    """Until Ctrl-C. A daemon that doesn't answer is said, and asked again: it may be on its way back."""
    in_place = sys.stdout.isatty() and not as_json
    try:
        while True:
            look = _look(loaded)
            parts = [part for part in (look.remark, look.text, look.why) if part]
            if as_json:
                click.echo("\n".join(part for part in (look.remark, look.why) if part), err=True, nl=bool(look.remark))
                if look.said is not None:
                    click.echo(json.dumps(look.said))
            else:
                if in_place:
                    click.clear()
                click.echo("\n".join(parts) + ("" if in_place else "\n"))
            time.sleep(WATCH_EVERY_S)
    except KeyboardInterrupt:
        click.echo(err=True)
