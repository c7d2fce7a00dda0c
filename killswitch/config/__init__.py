"""The configuration: a TOML file, the environment above it for single settings, and secrets from files.

`load` says every mistake at once, each with its place, and repeats no input. What comes out is checked: the
core's Settings, and typed tables for whoever builds the daemon.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from killswitch.config import build
from killswitch.config.files import Files, journal_path, state_path
from killswitch.config.mistakes import ConfigError, in_words
from killswitch.config.relations import relations
from killswitch.config.sources import read_tables, unknown_variables, unreadable
from killswitch.domain.settings import Settings, Site

if TYPE_CHECKING:
    from collections.abc import Mapping

    from killswitch.config.models import Tables
    from killswitch.config.tables import Commands, Daemon, Feed, HeldFile, Http, Mqtt, Oms, Panic
    from killswitch.domain.settings import ConfirmPolicy, FeedSpec, RetryPolicy, Rule

__all__ = ["Config", "ConfigError", "Rules", "find_config", "load", "load_rules"]

DEFAULT_PATH: Final = Path("/etc/killswitch/killswitch.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A checked configuration. `digest`: of everything in it but the secrets, in hex."""

    path: Path
    daemon: Daemon
    http: Http
    mqtt: Mqtt
    confirm: ConfirmPolicy
    retry: RetryPolicy
    commands: Commands
    oms: tuple[Oms, ...]
    panics: tuple[Panic, ...]
    feeds: tuple[Feed, ...]
    rules: tuple[Rule, ...]
    held_files: tuple[HeldFile, ...]
    digest: str

    def settings(self, boot: str) -> Settings:
        """What the core is told. `boot`: unlike any earlier start's."""
        return Settings(
            daemon=self.daemon.name,
            boot=boot,
            sites=tuple(
                Site(
                    name=oms.name,
                    accounts=oms.accounts,
                    whole_oms=oms.whole_oms,
                    calls_per_minute=oms.calls_per_minute,
                    gateways=tuple(g.address for g in (*oms.gateways, oms.http) if g is not None),
                    contact=oms.contact,
                    oms_id=oms.oms_id,
                    dialect=oms.dialect,
                    discover=oms.discover,
                    quotes=oms.quotes,
                    block_trades=oms.block_trades,
                )
                for oms in self.oms
            ),
            feeds=tuple(feed.spec for feed in self.feeds),
            rules=self.rules,
            confirm=self.confirm,
            retry=self.retry,
            reset_max_age_s=self.commands.max_age_s,
            mode=self.daemon.mode,
            fingerprint=self.fingerprint(),
            panics=tuple(panic.scope for panic in self.panics) if self.mqtt.brokers else (),
        )

    def journal_path(self, env: Mapping[str, str]) -> Path:
        """The journal's file: a relative one lies in $STATE_DIRECTORY, else beside the configuration."""
        return journal_path(self.daemon.journal, self.path, env)

    def record_path(self, env: Mapping[str, str]) -> Path | None:
        """The file that readings are recorded to, found as the journal is; None: they aren't."""
        return state_path(self.daemon.record, self.path, env) if self.daemon.record else None

    def fingerprint(self) -> str:
        """Twelve hex digits that change when any setting does; secrets are not in it."""
        return self.digest[:12]

    def notes(self) -> tuple[str, ...]:
        """What a person should hear at every start: what this daemon will not do."""
        said = []
        if not self.rules:
            said.append("There are no rules: nothing trips by itself, the daemon works for commands alone.")
        elif not self.feeds:
            said.append("There are no feeds: no rule will ever see a reading.")
        if not self.mqtt.brokers:
            said.append("There is no broker: commands come over HTTP and by signal only, and no panic topic is heard.")
        return tuple(said)


def find_config(option: str | None, env: Mapping[str, str]) -> Path:
    """The option, else KILLSWITCH_CONFIG, else /etc/killswitch/killswitch.toml. Whether it's there, load says."""
    named = option or env.get("KILLSWITCH_CONFIG")
    return Path(named) if named else DEFAULT_PATH


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What rehearsing needs of a configuration: its feeds and rules, and none of its secrets."""

    path: Path
    feeds: tuple[FeedSpec, ...]
    rules: tuple[Rule, ...]


def load(path: Path, env: Mapping[str, str]) -> Config:
    """Read, check, and look the secrets up. Raises ConfigError with every mistake, and nothing else."""
    path, tables, feeds, files = _checked(path, env, with_files=True)
    return Config(
        path=path,
        daemon=build.daemon(tables.daemon),
        http=build.http(tables.http),
        mqtt=build.mqtt(tables.mqtt, files),
        confirm=build.confirm(tables.confirm),
        retry=build.retry(tables.retry),
        commands=build.commands(tables.commands),
        oms=tuple(build.oms(row, index, files) for index, row in enumerate(tables.oms)),
        panics=tuple(build.panic(row) for row in tables.panic),
        feeds=feeds,
        rules=tuple(build.rule(row) for row in tables.rule),
        held_files=tuple(files.held),
        digest=build.digest(tables),
    )


def load_rules(path: Path, env: Mapping[str, str]) -> Rules:
    """The same checks, but the files that it names need not be here: a rule can be tried without any secret."""
    path, tables, feeds, _ = _checked(path, env, with_files=False)
    return Rules(
        path=path, feeds=tuple(feed.spec for feed in feeds), rules=tuple(build.rule(row) for row in tables.rule)
    )


def _checked(path: Path, env: Mapping[str, str], *, with_files: bool) -> tuple[Path, Tables, tuple[Feed, ...], Files]:
    variables = unknown_variables(env)
    try:
        path = path.absolute()
        tables, raw, mistakes = read_tables(path, env)
    except ConfigError as error:
        raise ConfigError((*error.mistakes, *variables)) from None
    except OSError as error:  # the working directory is gone
        raise ConfigError((f"{path}: {unreadable(error)}", *variables)) from None
    files = Files(path, env, raw)
    if with_files:
        files.look_up_all()
    mistakes += [*relations(raw), *files.mistakes]
    feeds: tuple[Feed, ...] = ()
    if tables is not None:
        feeds, unshaped = build.feeds(tables.feed)
        mistakes += unshaped
    if tables is None or mistakes or variables:
        raise ConfigError((*in_words(mistakes, raw), *variables))
    return path, tables, feeds, files
