"""What the verbs share: kinds of options, how a verb ends, and how it comes by its configuration."""

from __future__ import annotations

import json
import math
import os
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from killswitch.config import Config
    from killswitch.domain.scope import Part

DONE, NO, USAGE, UNREACHED = 0, 1, 2, 3


class Ended(click.ClickException):
    """The end of a verb that isn't 0: a sentence for a person on stderr, and the code."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        vars(self)["exit_code"] = code  # click has it for each class, we for each end

    def show(self, file: Any = None) -> None:
        click.echo(self.message.rstrip("\n"), err=True, file=file)


class IdOrEvery(click.ParamType[Any]):
    """An id above 0, or `every`."""

    name = "ID|every"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Part:
        from killswitch.domain.scope import EVERY, ID_MAX  # noqa: PLC0415

        if value == "every" or value is EVERY:
            return EVERY
        # int() takes more than digits (" 14", "1_4", "+14"), and a leading zero is somebody's mistake.
        text = str(value)
        if not (text.isascii() and text.isdigit()) or text.startswith("0") or int(text[:20]) > ID_MAX:
            self.fail("must be an id above 0, or every", param, ctx)
        return int(text)


class Number(click.FloatRange):
    """A number within bounds; nan is in none, though no comparison says so."""

    name = "NUMBER"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail("must be a number", param, ctx)
        return number


class Ids(click.ParamType[Any]):
    """Ids with commas between them; a number alone is how many."""

    name = "N|ID,ID..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | tuple[int, ...]:
        if not isinstance(value, str):
            return value  # type: ignore[no-any-return]  # a default
        parts = [part.strip() for part in value.split(",")]
        if not all(part.isascii() and part.isdigit() and len(part) < 19 and int(part) for part in parts if part):
            self.fail("must be a number, or ids above 0 with commas between them", param, ctx)
        return int(parts[0]) if len(parts) == 1 and parts[0] else tuple(int(part) for part in parts if part)


class Names(click.ParamType[Any]):
    """Names with commas between them."""

    name = "NAME,NAME..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if not isinstance(value, str):
            return value  # type: ignore[no-any-return]  # it was read before
        names = tuple(name.strip() for name in value.split(",") if name.strip())
        if not all(name.isascii() and name.isalnum() for name in names):
            self.fail("must be names with commas between them", param, ctx)
        return names


class Address(click.ParamType[Any]):
    """HOST:PORT."""

    name = "HOST:PORT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        host, _, port = str(value).rpartition(":")
        if not host or not (port.isascii() and port.isdigit()) or int(port[:6]) > 65535:
            self.fail("must be HOST:PORT, with a port from 0 to 65535", param, ctx)
        return host.strip("[]"), int(port)


config_option = click.option(
    "--config", metavar="FILE", help="The configuration; else $KILLSWITCH_CONFIG, else /etc/killswitch/killswitch.toml."
)
json_option = click.option("--json", "as_json", is_flag=True, help="The result as JSON on stdout.")
by_option = click.option("--by", metavar="WHO", help="Who does this. Required.")
reason_option = click.option("--reason", metavar="WHY", help="Why. Required.")


def loaded_config(option: str | None, *, as_json: bool = False) -> Config:
    """The configuration. Says which file it is; ends with 2 and every mistake, which JSON has on stdout too."""
    from killswitch.config import ConfigError, find_config, load  # noqa: PLC0415

    path = find_config(option, os.environ)
    click.echo(f"configuration: {shown(str(path))}", err=True)
    try:
        return load(path, os.environ)
    except ConfigError as error:
        from killswitch.inventory import render_mistakes  # noqa: PLC0415

        if as_json:
            echo_json({"config": str(path), "mistakes": list(error.mistakes)})
        raise Ended(USAGE, render_mistakes(error.mistakes)) from None


def shown(text: str) -> str:
    from killswitch.terminal import plain  # noqa: PLC0415

    return plain(text)


def end(code: int, sentence: str) -> NoReturn:
    from killswitch.terminal import wrapped  # noqa: PLC0415

    raise Ended(code, wrapped(sentence))


def echo_json(said: object) -> None:
    click.echo(json.dumps(said, indent=2))
