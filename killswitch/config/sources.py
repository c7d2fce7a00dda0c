"""Where the tables come from: the TOML file and, for single tables, the environment above it."""

from __future__ import annotations

import re
import tomllib
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, TomlConfigSettingsSource

from killswitch.config.mistakes import ConfigError, Mistake, Raw, of_shape, unknown_variable
from killswitch.config.models import ENV_PREFIX, SINGLE, Tables, keys_of
from killswitch.config.values import EnvText

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.resources.abc import Traversable
    from pathlib import Path

    from pydantic.fields import FieldInfo

_WHERE: Final = re.compile(r"at (?:line \d+, column \d+|end of document)")
_SIZE_MAX: Final = 4 * 1024 * 1024


class _TomlSource(TomlConfigSettingsSource):
    """The file. Numbers with a point become Decimals of exactly their text."""

    def _read_file(self, file_path: Path | Traversable) -> dict[str, Any]:
        try:
            with file_path.open("rb") as file:
                content = file.read(_SIZE_MAX + 1)
        except OSError as error:
            raise ConfigError((f"{file_path}: {unreadable(error)}",)) from None
        if len(content) > _SIZE_MAX:
            raise ConfigError((f"{file_path}: the file is longer than 4 MB, so it is no configuration",))
        try:
            return tomllib.loads(content.decode(), parse_float=Decimal)
        except UnicodeDecodeError as error:
            raise ConfigError((f"{file_path}: no UTF-8 text (byte {error.start})",)) from None
        except tomllib.TOMLDecodeError as error:
            # Its own words may quote what stands there; only the position is passed on.
            found = _WHERE.search(str(error))
            at = f", {found[0]}" if found else ""
            raise ConfigError((f"{file_path}: no valid TOML{at}",)) from None
        except (ValueError, ArithmeticError, RecursionError):
            # Seen: an integer of thousands of digits, an exponent beyond Decimal's, brackets thousands deep.
            raise ConfigError((f"{file_path}: no valid TOML: a value is too long or too deep",)) from None


class _EnvSource(PydanticBaseSettingsSource):
    """KILLSWITCH_SECTION__KEY for the single tables. Names without a double underscore are not ours."""

    def __init__(self, settings_cls: type[BaseSettings], env: Mapping[str, str]) -> None:
        super().__init__(settings_cls)
        self._env = env

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        return self().get(field_name), field_name, False  # the base class wants it; __call__ is what is used

    def __call__(self) -> dict[str, Any]:
        tables: dict[str, dict[str, EnvText]] = {}
        for name, value in self._env.items():
            found = setting_of(name)
            if found is not None:
                section, key = found
                tables.setdefault(section, {})[key] = EnvText(value)
        return tables


def setting_of(name: str) -> tuple[str, str] | None:
    """The (section, key) that a variable sets; None where it sets none of ours."""
    section, _, key = name.removeprefix(ENV_PREFIX).partition("__")
    if not name.startswith(ENV_PREFIX) or name != name.upper():
        return None
    model = SINGLE.get(section.lower())
    return (section.lower(), key.lower()) if model and key.lower() in keys_of(model) else None


def unknown_variables(env: Mapping[str, str]) -> list[str]:
    """A sentence for each variable with our prefix and a double underscore that sets nothing."""
    ours = [n for n in sorted(env) if n.startswith(ENV_PREFIX) and "__" in n.removeprefix(ENV_PREFIX)]
    return [unknown_variable(name) for name in ours if setting_of(name) is None]


def read_tables(path: Path, env: Mapping[str, str]) -> tuple[Tables | None, Raw, list[Mistake]]:
    """The checked tables (None where a value is wrong), the raw ones, and what is wrong with single values.

    Raises ConfigError where there is nothing to check: no file, or no TOML in it.
    """
    raw: Raw = {}

    class Sourced(Tables):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,  # noqa: ARG003 the signature is pydantic-settings'
            env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 its own reading knows nothing of text
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 no .env: one file, and it is named
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 secrets have keys that name files
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return _EnvSource(settings_cls, env), _TomlSource(settings_cls, path)

        @model_validator(mode="before")
        @classmethod
        def _keep(cls, merged: dict[str, object]) -> dict[str, object]:
            raw.update(merged)
            return merged

    try:
        # A missing file is passed over in silence by the source: a daemon without rules. Here it is an error.
        if not path.is_file():
            why = "it is no regular file" if path.exists() else "there is no such file"
            raise ConfigError((f"{path}: {why}",))
        return Sourced(), raw, []  # type: ignore[call-arg]
    except ValidationError as error:
        return None, raw, of_shape(error, raw)
    except OSError as error:
        raise ConfigError((f"{path}: {unreadable(error)}",)) from None


def unreadable(error: OSError) -> str:
    """Why a file can't be read, in words."""
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return "there is no such file"
        case PermissionError():
            return "no permission to read it"
        case IsADirectoryError():
            return "it is a directory, not a file"
        case _:
            return f"it can't be read ({type(error).__name__})"
