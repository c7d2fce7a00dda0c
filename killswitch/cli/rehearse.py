"""The verbs that try the rules before they act: `test` and `replay`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from killswitch.cli.options import DONE, NO, USAGE, Ended, config_option, echo_json, end, json_option, shown

if TYPE_CHECKING:
    from killswitch.config import Rules
    from killswitch.pictures.replay import Picture
    from killswitch.rehearse import Rehearsal
    from killswitch.rule_tests import TestFile

TELL_EVERY_S: Final = 1.0
"""How often progress is told on a terminal; elsewhere it takes ten times as long."""


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@json_option
@click.pass_context
def test(ctx: click.Context, files: tuple[Path, ...], as_json: bool) -> None:
    """Run rule tests: do these readings trip these rules, and nothing else?

    Exits with 1 if a test failed, 2 for a mistake in a file. Needs no secrets, broker or OMS.
    """
    from killswitch import rule_tests  # noqa: PLC0415

    failed = 0
    said: list[dict[str, object]] = []
    loaded = [_loaded_tests(path) for path in files]
    for path, (held, rules) in zip(files, loaded, strict=True):
        results = [rule_tests.run(one, rules) for one in held.tests]
        bad = [result for result in results if not result.passed]
        if as_json:
            said += [
                {"file": str(path), "test": r.test.name, "passed": r.passed, "why": rule_tests.why(r)} for r in results
            ]
            failed += len(bad)
            continue
        for result in bad:
            click.echo("\n".join(shown(line) for line in rule_tests.in_words(result).splitlines()))
        click.echo(f"{shown(str(path))}: {len(results) - len(bad)} passed, {len(bad)} failed")
        failed += len(bad)
    if as_json:
        echo_json({"failed": failed, "tests": said})
    ctx.exit(NO if failed else DONE)


def _loaded_tests(path: Path) -> tuple[TestFile, Rules]:
    from killswitch import rule_tests  # noqa: PLC0415

    try:
        held = rule_tests.read(path)
    except rule_tests.TestFileError as error:
        raise Ended(USAGE, "\n".join(shown(mistake) for mistake in error.mistakes)) from None
    rules = _loaded_rules(held.config)
    unknown = rule_tests.strangers(held, rules)
    if unknown:
        raise Ended(USAGE, "\n".join(shown(f"{path}: {mistake}") for mistake in unknown))
    return held, rules


def _loaded_rules(path: Path) -> Rules:
    from killswitch.config import ConfigError, load_rules  # noqa: PLC0415

    try:
        return load_rules(path, os.environ)
    except ConfigError as error:
        from killswitch.inventory import render_mistakes  # noqa: PLC0415

        raise Ended(USAGE, render_mistakes(error.mistakes)) from None


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@config_option
@json_option
@click.option(
    "--html", metavar="OUT", type=click.Path(path_type=Path, dir_okay=False), help="Draw it: a page for each browser."
)
@click.pass_context
def replay(ctx: click.Context, files: tuple[Path, ...], config: str | None, as_json: bool, html: Path | None) -> None:
    """What would the configured rules have tripped on this recording?

    FILE is a recording, several of them, or the directory that they lie in. Needs no secrets, broker or OMS.
    """
    from killswitch import rehearse  # noqa: PLC0415
    from killswitch.config import find_config  # noqa: PLC0415
    from killswitch.wire.recording import at_text  # noqa: PLC0415

    path = find_config(config, os.environ)
    click.echo(f"configuration: {shown(str(path))}", err=True)
    rules = _loaded_rules(path)
    if html is not None:
        _try_out(html)
    picture = None if html is None else _picture(rules)
    rehearsal = rehearse.Rehearsal(rules, picture)
    trips = 0
    try:
        ordered = rehearse.recordings(files)
        progress = _Progress(sum(file.stat().st_size for file in ordered))
        for file in ordered:
            for line, read in rehearse.lines_of(file):
                for trip in rehearsal.take(line):
                    trips += 1
                    at = at_text(trip.at)
                    progress.clear()
                    if as_json:
                        click.echo(rehearse.as_json(trip, at))
                    else:
                        shadow = " (shadow)" if trip.shadow else ""
                        click.echo(f"{at}  {trip.rule}{shadow}  {shown(trip.scope.in_words())}: {shown(trip.cause)}")
                progress.tell(read)
            progress.done(file.stat().st_size)
        progress.clear()
    except rehearse.UnreadableRecording as error:
        end(USAGE, str(error))
    except BrokenPipeError:  # whoever read what we print has seen enough; click ends it
        raise
    except OSError as error:
        end(USAGE, f"a recording can't be read ({error.strerror or type(error).__name__})")
    _remark(rehearsal, progress.lines, trips)
    if picture is not None and html is not None:
        _draw(picture, html, ordered, progress.lines)
    ctx.exit(DONE)


def _picture(rules: Rules) -> Picture:
    from killswitch.pictures.replay import Picture  # noqa: PLC0415

    return Picture(rules.rules)


def _beside(out: Path) -> Path:
    return out.with_name(f".{out.name}.{os.getpid()}")


def _try_out(out: Path) -> None:
    """A place that can't be written is said before the recording is read, which may take long."""
    beside = _beside(out)
    try:
        beside.touch()
        beside.unlink()
    except OSError as error:
        end(USAGE, f"{out}: it can't be written ({error.strerror or type(error).__name__})")


def _draw(picture: Picture, out: Path, files: list[Path], lines: int) -> None:
    """The whole page or none: it is put beside its place first."""
    beside = _beside(out)
    try:
        beside.write_text(picture.html([file.name for file in files], lines), "utf-8")
        beside.replace(out)
    except OSError as error:
        beside.unlink(missing_ok=True)
        end(USAGE, f"{out}: it can't be written ({error.strerror or type(error).__name__})")
    click.echo(f"the picture: {shown(str(out))}", err=True)


def _remark(rehearsal: Rehearsal, lines: int, trips: int) -> None:
    """What is to be known about the result, on stderr."""
    click.echo(f"{_counted(lines, 'line')}, {_counted(trips, 'trip')}", err=True)
    for name, count in sorted(rehearsal.strangers.items()):
        belong = "belongs" if count == 1 else "belong"
        click.echo(f"{shown(name)}: {_counted(count, 'reading')} {belong} to no feed of this configuration", err=True)
    if rehearsal.missing:
        were = "was" if rehearsal.missing == 1 else "were"
        click.echo(f"{_counted(rehearsal.missing, 'event')} {were} not recorded: trips may be missing", err=True)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


class _Progress:
    """Tells on stderr how far it is, in place on a terminal, else now and then a line."""

    def __init__(self, size: int) -> None:
        self._size = max(size, 1)
        self._before = 0
        self.lines = 0
        self._in_place = sys.stderr.isatty()
        self._next = time.monotonic() + TELL_EVERY_S
        self._open = False

    def tell(self, read: int) -> None:
        self.lines += 1
        if self.lines % 256 or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + TELL_EVERY_S * (1 if self._in_place else 10)
        said = f"{100 * (self._before + read) // self._size:3d} %, {self.lines:,} lines"
        click.echo(f"\r{said}" if self._in_place else said, nl=not self._in_place, err=True)
        self._open = self._in_place

    def done(self, size: int) -> None:
        self._before += size

    def clear(self) -> None:
        if self._open:
            click.echo("\r" + " " * 40 + "\r", nl=False, err=True)
            self._open = False
