"""What deploy/ ships is right by its own tools."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from killswitch.domain.settings import ConfirmPolicy

ROOT = Path(__file__).resolve().parent.parent
UNIT = ROOT / "deploy" / "systemd" / "killswitch.service"


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    # C.UTF-8: what the tool writes is judged below, so it must not depend on the machine's language.
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        check=False,
    )


@pytest.fixture
def analyze() -> str:
    """The path of systemd-analyze. Its absence skips; in CI, which installs it, it fails."""
    found = shutil.which("systemd-analyze")
    if found is None:
        needed = "needs systemd-analyze: apt-get install systemd"
        if os.environ.get("CI") == "true":
            pytest.fail(needed)
        pytest.skip(needed)
    return found


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit as it is, but for a program that exists on this machine: `verify` asks for that."""
    copy = tmp_path / UNIT.name
    text, times = re.subn(r"(?m)^ExecStart=\S+", f"ExecStart={shutil.which('true')}", UNIT.read_text("utf-8"))
    assert times == 1
    copy.write_text(text, "utf-8")
    return copy


def settings(section: str) -> list[tuple[str, str]]:
    """(key, value) of one section, in order."""
    inside = UNIT.read_text("utf-8").split(f"[{section}]\n")[1].split("\n[")[0]
    lines = [line for line in inside.splitlines() if line and not line.startswith("#")]
    return [(key, value) for key, _, value in (line.partition("=") for line in lines)]


@pytest.mark.systemd
def test_systemd_has_nothing_to_say_against_the_unit(analyze, unit):
    checked = run(analyze, "verify", "--man=no", unit)

    assert checked.stderr == ""  # a misspelt key is a line here and an exit code of 0
    assert checked.returncode == 0


@pytest.mark.systemd
def test_a_misspelt_key_would_be_noticed(analyze, unit):
    unit.write_text(unit.read_text("utf-8").replace("WatchdogSec=", "WatchDogSecs="), "utf-8")

    assert "WatchDogSecs" in run(analyze, "verify", "--man=no", unit).stderr


@pytest.mark.systemd
def test_the_unit_is_shut_in_tightly(analyze, unit):
    checked = run(analyze, "security", "--offline=true", "--threshold=15", "--no-pager", unit)

    assert checked.returncode == 0, checked.stdout.splitlines()[-1]


def test_systemd_starts_it_again_whatever_happens_but_for_a_wrong_configuration():
    service, unit = settings("Service"), settings("Unit")

    for line in (
        ("Type", "notify"),
        ("Restart", "always"),
        ("RestartSec", "200ms"),
        ("RestartPreventExitStatus", "2"),
        ("StateDirectory", "killswitch"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
    ):
        assert line in service
    assert "WatchdogSec" in dict(service)
    # In [Service] it would be an unknown key, and five crashes in ten seconds would end the protection.
    assert ("StartLimitIntervalSec", "0") in unit


def test_the_unit_stops_no_sooner_than_a_sweep_may_take():
    seconds = int(dict(settings("Service"))["TimeoutStopSec"].removesuffix("s"))
    assert seconds > ConfirmPolicy().deadline_s + 5
