"""Every verb of the command line. No logic: it reads options, asks the rooms below, prints, and ends with a code.

Exit codes: 0 done; 1 the answer is no; 2 usage or configuration; 3 what is needed could not be reached. What a
verb needs is imported when it runs: `trip --direct` must not wait for libraries that it doesn't use.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from killswitch import __version__
from killswitch.cli import rehearse, status, trip
from killswitch.cli.options import (
    DONE,
    NO,
    UNREACHED,
    USAGE,
    Address,
    Ids,
    Names,
    Number,
    config_option,
    echo_json,
    end,
    json_option,
    loaded_config,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine

LEVELS: Final = ("debug", "info", "warning", "error")
CHATTY: Final = ("websockets", "aiomqtt", "mqtt", "paho", "asyncio")
"""Libraries whose DEBUG lines hold whole frames, a sign-in among them: never below INFO."""
TALKATIVE: Final = ("uvicorn",)
"""Its INFO tells of itself, under the name uvicorn.error, which reads as if something were wrong."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
@click.version_option(__version__, prog_name="killswitch")
def cli() -> None:
    """Cancel all orders of a scope when a threshold is crossed, and prove it."""


cli.add_command(trip.trip)
cli.add_command(trip.reset)
cli.add_command(rehearse.test)
cli.add_command(rehearse.replay)
cli.add_command(status.status)


def main() -> None:
    """The program."""
    cli(prog_name="killswitch")


# --- the daemon and its configuration -----------------------------------------------------------------------


@cli.command()
@config_option
@click.option("--log-level", type=click.Choice(LEVELS), default="info", show_default=True)
@click.pass_context
def run(ctx: click.Context, config: str | None, log_level: str) -> None:
    """The daemon: watch, trip, cancel, prove; until SIGTERM."""
    loaded = loaded_config(config)
    _log_to_stderr(log_level)
    from killswitch.daemon import Daemon  # noqa: PLC0415

    ctx.exit(asyncio.run(Daemon(loaded, os.environ).run()))


class _OneLine(logging.Formatter):
    """UTC, one line a message: what others said in it can't begin a line of its own."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        return shown(super().formatMessage(record))


def _log_to_stderr(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for name in CHATTY:
        logging.getLogger(name).setLevel(max(logging.INFO, logging.getLevelName(level.upper())))
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))


@cli.command()
@config_option
@json_option
@click.option("--inventory", "listing", is_flag=True, help="List the rules: risk, limit, what each does, scope, owner.")
@click.option("--online", is_flag=True, help="Sign in to each OMS and the broker as well, and look. Changes nothing.")
@click.pass_context
def check(ctx: click.Context, config: str | None, *, as_json: bool, listing: bool, online: bool) -> None:
    """Check the configuration.

    Says what each rule watches and would cancel, and what is not covered. Exits with 2 for mistakes, 1 for findings.
    With --inventory it lists the rules instead, a row for each, and exits with 0 unless there are mistakes. With
    --online it exits with 3 where an OMS or the broker isn't reached.
    """
    from dataclasses import asdict  # noqa: PLC0415

    if listing and online:
        raise click.UsageError("--inventory only lists the rules: leave --online out")
    loaded = loaded_config(config, as_json=as_json)
    if listing:
        from killswitch import rule_table  # noqa: PLC0415

        listed = [asdict(row) for row in rule_table.rows(loaded)]
        head = {
            "config": str(loaded.path),
            "daemon": loaded.daemon.name,
            "mode": loaded.daemon.mode,
            "fingerprint": loaded.fingerprint(),
        }
        echo_json({**head, "rules": listed}) if as_json else click.echo(rule_table.render(loaded), nl=False)
        ctx.exit(DONE)
    from killswitch.inventory import describe, render  # noqa: PLC0415

    inventory = describe(loaded)
    if not as_json:
        click.echo(render(inventory), nl=False)
    seen = None
    if online:
        from killswitch.online import look_around  # noqa: PLC0415
        from killswitch.online_text import render as render_online  # noqa: PLC0415

        seen = asyncio.run(look_around(loaded))
        if not as_json:
            click.echo(render_online(seen), nl=False)
    if as_json:
        echo_json(asdict(inventory) | ({} if seen is None else {"online": asdict(seen)}))
    if seen is not None and seen.unreached:
        ctx.exit(UNREACHED)
    ctx.exit(NO if seen is not None and seen.findings else inventory.exit_code)


# --- looking ------------------------------------------------------------------------------------------------


@cli.group()
def journal() -> None:
    """The journal."""


@journal.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@config_option
@json_option
@click.pass_context
def verify(ctx: click.Context, file: Path | None, config: str | None, as_json: bool) -> None:
    """Check the hash chain, of FILE or of the configured journal."""
    if file is None:
        file = loaded_config(config).journal_path(os.environ)
    from killswitch.adapters.journal_store import JournalInUse, JournalUnreadable  # noqa: PLC0415
    from killswitch.adapters.journal_store import verify as verify_journal  # noqa: PLC0415

    if not file.exists():
        end(USAGE, f"there is no journal at {file}")
    try:
        verdict = verify_journal(file)
    except JournalUnreadable as error:
        end(NO, str(error))
    except JournalInUse as error:
        end(UNREACHED, str(error))
    if as_json:
        said = {"ok": verdict.ok, "rows": verdict.rows, "first_bad": verdict.first_bad, "why": verdict.why}
        echo_json({"journal": str(file)} | said)
    elif verdict.ok:
        click.echo(f"{shown(str(file))}: {verdict.rows} records, the chain holds")
    else:
        click.echo(f"{shown(str(file))}: BROKEN at record {verdict.first_bad}: {shown(verdict.why)}")
    ctx.exit(DONE if verdict.ok else NO)


# --- the simulator and the demo -----------------------------------------------------------------------------


@cli.command()
@click.option(
    "--listen",
    type=Address(),
    multiple=True,
    default=("127.0.0.1:8087",),
    show_default=True,
    help="Port 0: any free one. More than once: so many gateways to the one OMS.",
)
@click.option("--http", type=Address(), help="Serve its calls over HTTP here as well, below /AP/.")
@click.option("--dialect", type=click.Choice(["v2", "v3", "v4"]), default="v2", show_default=True)
@click.option("--oms-version", "version", help="What GetOMSVersion says; empty: the call doesn't exist.")
@click.option("--nameless", type=click.IntRange(0), default=0, help="Each so many-th order doesn't say who entered it.")
@click.option("--accounts", type=Ids(), default="3", show_default=True, help="Ids, or how many, from 14 on.")
@click.option("--users", type=Ids(), default="2", show_default=True, help="Traders: ids, or how many: 37, 40, 41...")
@click.option("--orders", type=click.IntRange(0, 1_000_000), default=0, show_default=True, help="Open at the start.")
@click.option("--quotes", type=click.IntRange(0, 1_000_000), default=0, help="Quotes at the start, a bid and an ask.")
@click.option("--block-trades", type=click.IntRange(0, 1_000_000), default=0, help="Reports open at the start.")
@click.option("--spare-quotes/--take-quotes", default=None, help="Whether CancelAllOrders leaves both of them alone.")
@click.option("--fault", "faults", multiple=True, metavar="NAME=VALUE", help="Such as no_answer=2 or late_order=0.5.")
@click.option("--cancel-rate", type=Number(0, min_open=True), help="Orders cancelled a second.")
@click.option("--cancel-latency", type=Number(0, 3600), default=0.0, show_default=True, metavar="SECONDS")
@click.option(
    "--api-user", type=click.IntRange(1), default=1, show_default=True, help="Whose API key it is; 1: operator."
)
@click.option("--permissions", type=Names(), help='Of that user, such as Trading,Operator; "": none.')
@click.option("--two-factor", type=Names(), default="", help="Calls that want a code, such as cancelallorders.")
@click.option("--api-key", default="", help="With --secret-file; else both are made and shown.")
@click.option("--secret-file", type=click.Path(path_type=Path), help="The file that holds the API key's secret.")
def simulate(
    *,
    listen: tuple[tuple[str, int], ...],
    http: tuple[str, int] | None,
    dialect: str,
    version: str | None,
    nameless: int,
    accounts: int | tuple[int, ...],
    users: int | tuple[int, ...],
    orders: int,
    quotes: int,
    block_trades: int,
    spare_quotes: bool | None,
    faults: tuple[str, ...],
    cancel_rate: float | None,
    cancel_latency: float,
    api_user: int,
    permissions: tuple[str, ...] | None,
    two_factor: tuple[str, ...],
    api_key: str,
    secret_file: Path | None,
) -> None:
    """A simulated OMS to try things on, until Ctrl-C."""
    from killswitch.simulator.faults import FaultError  # noqa: PLC0415
    from killswitch.simulator.gateway import serve_forever  # noqa: PLC0415
    from killswitch.simulator.world import SimulatorOptions, WorldError  # noqa: PLC0415

    options = SimulatorOptions(
        host=listen[0][0],
        port=listen[0][1],
        more_gateways=listen[1:],
        http_host=http[0] if http else listen[0][0],
        http_port=http[1] if http else None,
        dialect=dialect,
        version=version,
        nameless_every=nameless,
        accounts=accounts,
        users=users,
        orders=orders,
        quotes=quotes,
        block_trades=block_trades,
        spares_quotes=spare_quotes,
        api_user=api_user,
        permissions=permissions,
        two_factor_calls=two_factor,
        api_key=api_key,
        api_secret="" if secret_file is None else _secret(secret_file),
        faults=faults,
        cancel_rate=cancel_rate,
        cancel_latency_s=cancel_latency,
    )
    try:
        asyncio.run(_until_told(serve_forever(options)))
    except (WorldError, FaultError) as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        wanted = " and ".join(f"{host}:{port}" for host, port in filter(None, [*listen, http]))
        end(UNREACHED, f"{wanted} can't be listened on: {error.strerror or error}")
    except KeyboardInterrupt:
        click.echo("stopped", err=True)


def _secret(file: Path) -> str:
    try:
        secret = file.read_text("utf-8").strip()
    except (OSError, UnicodeError):
        secret = ""
    if not secret:
        raise click.UsageError(f"no secret can be read from {file}")
    return secret


async def _until_told(work: Coroutine[Any, Any, None]) -> None:
    """Run until it ends, or SIGTERM, which is a stop in order like Ctrl-C."""
    import signal  # noqa: PLC0415

    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


@cli.command()
@click.option("--broker", type=click.Choice(["auto", "mosquitto", "embedded"]), default="auto", show_default=True)
@click.option("--keep", is_flag=True, help="Leave everything running, to play with, until Ctrl-C.")
@click.pass_context
def demo(ctx: click.Context, broker: str, keep: bool) -> None:
    """The whole story, with nothing to install or configure."""
    from killswitch.demo import main as tell  # noqa: PLC0415

    ctx.exit(tell(broker, keep=keep))
