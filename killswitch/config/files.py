"""The files that the configuration names: secrets, certificates, the journal; where they are looked up.

A file that isn't there is not called by what was written: people put the secret itself there. Its key names it.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from killswitch.config.mistakes import Loc, Mistake, Raw, place, rows_of
from killswitch.config.sources import unreadable
from killswitch.config.tables import HeldFile
from killswitch.config.values import Secret, is_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SECRET_MAX: Final = 64 * 1024


@dataclass(slots=True)
class Files:
    """Looks files up, and collects what is wrong with them and which of them hold secrets."""

    config: Path
    env: Mapping[str, str]
    raw: Raw
    mistakes: list[Mistake] = field(default_factory=list)
    held: list[HeldFile] = field(default_factory=list)
    secrets: dict[Loc, Secret] = field(default_factory=dict)
    paths: dict[Loc, Path] = field(default_factory=dict)

    def look_up_all(self) -> None:
        """Every file that the tables name, whatever else is wrong with them."""
        for index, row in enumerate(rows_of(self.raw, "oms")):
            for key in ("secret_file", "password_file"):
                self._look_up(("oms", index, key), row.get(key), self._secret)
        mqtt = self.raw.get("mqtt")
        table: Raw = mqtt if isinstance(mqtt, dict) else {}
        self._look_up(("mqtt", "password_file"), table.get("password_file"), self._secret)
        for key in ("ca_file", "cert_file", "key_file"):
            self._look_up(("mqtt", key), table.get(key), self._for_tls)

    def _look_up(self, loc: Loc, written: object, read: Callable[[Loc, Path], None]) -> None:
        if isinstance(written, str) and is_line(written) and written:
            path = self._found(loc, written)
            if path is not None:
                read(loc, path)

    def _secret(self, loc: Loc, path: Path) -> None:
        """The file's text without its last line's end."""
        try:
            with path.open("rb") as file:
                content = file.read(_SECRET_MAX + 1)
            mode = path.stat().st_mode
        except OSError as error:
            return self._refuse(loc, f"the file {path}: {unreadable(error)}")
        if len(content) > _SECRET_MAX:
            return self._refuse(loc, f"the file {path} is too long for a secret")
        try:
            text = content.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            return self._refuse(loc, f"the file {path} is no UTF-8 text")
        if not text.strip():
            return self._refuse(loc, f"the file {path} is empty")
        if "\n" in text or "\r" in text or "\0" in text:
            return self._refuse(loc, f"the file {path} has more than one line")
        self._hold(loc, path, mode)
        self.secrets[loc] = Secret(text)
        return None

    def _for_tls(self, loc: Loc, path: Path) -> None:
        """A file for TLS, whose path is passed on once it could be opened."""
        try:
            with path.open("rb") as file:
                empty = not file.read(1)
            mode = path.stat().st_mode
        except OSError as error:
            return self._refuse(loc, f"the file {path}: {unreadable(error)}")
        if empty:
            return self._refuse(loc, f"the file {path} is empty")
        if loc[-1] == "key_file":
            self._hold(loc, path, mode)
        self.paths[loc] = path
        return None

    def _hold(self, loc: Loc, path: Path, mode: int) -> None:
        self.held.append(HeldFile(key=place(loc, self.raw), path=path, open_to_all=bool(mode & stat.S_IROTH)))

    def _found(self, loc: Loc, written: str) -> Path | None:
        named, folders = Path(written), [self.config.parent]
        if credentials := self.env.get("CREDENTIALS_DIRECTORY"):
            folders.insert(0, Path(credentials))
        try:
            for candidate in [named] if named.is_absolute() else [folder / named for folder in folders]:
                # Not is_file(): a file that may not be looked at must not read as one that isn't there.
                try:
                    candidate.stat()
                except (FileNotFoundError, NotADirectoryError):
                    continue
                return candidate
        except PermissionError:
            self._refuse(loc, "no permission to look at the file that it names")
            return None
        except (OSError, ValueError):
            self._refuse(loc, "it can't be the name of a file")
            return None
        looked = "" if named.is_absolute() else ", in " + " or ".join(str(folder) for folder in folders)
        self._refuse(loc, f"there is no such file{looked}")
        return None

    def _refuse(self, loc: Loc, sentence: str) -> None:
        self.mistakes.append(Mistake(loc, sentence))


def journal_path(journal: str, config: Path, env: Mapping[str, str]) -> Path:
    """The journal's file, from sqlite:/// and a path."""
    return state_path(journal.removeprefix("sqlite:///"), config, env)


def state_path(name: str, config: Path, env: Mapping[str, str]) -> Path:
    """A file that we write: relative ones lie in $STATE_DIRECTORY (the first, where there are several), else
    beside the configuration.
    """
    written = Path(name)
    if written.is_absolute():
        return written
    # systemd joins several state directories with colons: systemd.exec(5), RuntimeDirectory= and its kin.
    state = env.get("STATE_DIRECTORY", "").partition(":")[0]
    return (Path(state) if state else config.parent) / written
