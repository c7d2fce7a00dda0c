"""The image's recipe: linted, and held to what the house asks of it. An image isn't built by any test."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "deploy" / "Dockerfile"


def lines(text=None):
    """(instruction, the rest) of each, continued lines joined."""
    text = RECIPE.read_text("utf-8") if text is None else text
    whole = re.sub(r"\\\n\s*", "", "\n".join(line for line in text.splitlines() if not line.startswith("#")))
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in whole.splitlines() if line.strip()]


def of(instruction):
    return [rest for name, rest in lines() if name == instruction]


@pytest.fixture
def hadolint():
    """The linter, which is among the development requirements."""
    found = shutil.which("hadolint", path=f"{Path(sys.prefix, 'bin')}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        needed = "needs hadolint: pip install -r requirements/dev.txt"
        if os.environ.get("CI") == "true":
            pytest.fail(needed)
        pytest.skip(needed)

    def lint(text):
        done = subprocess.run(
            [found, "--no-color", "-"], input=text, capture_output=True, text=True, timeout=60, check=False
        )
        return done.returncode, done.stdout + done.stderr

    return lint


def test_the_linter_has_nothing_to_say(hadolint):
    assert hadolint(RECIPE.read_text("utf-8")) == (0, "")


@pytest.mark.parametrize(
    ("was", "would_be", "said"),
    [
        ("python:3.11.14-slim-bookworm\n", "python:latest\n", "DL3007"),
        ("python:3.11.14-slim-bookworm\n", "python\n", "DL3006"),
        ("USER 10001:10001", "USER root", "DL3002"),
        ("WORKDIR /build", "WORKDIR build", "DL3000"),
        ('ENTRYPOINT ["killswitch"]', "ENTRYPOINT killswitch", "DL3025"),
        ("WORKDIR /build", "RUN cd /build", "DL3003"),
    ],
)
def test_the_linter_would_notice(hadolint, was, would_be, said):
    text = RECIPE.read_text("utf-8")
    assert was in text

    code, found = hadolint(text.replace(was, would_be))

    assert code == 1
    assert said in found


def test_what_runs_is_built_elsewhere_from_the_same_named_base():
    first, last = of("FROM")

    assert re.fullmatch(r"(python:\d+\.\d+\.\d+-slim-\w+) AS build", first)
    assert first == f"{last} AS build"
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["requires-python"]
    assert last.startswith(f"python:{wanted.removeprefix('>=')}.")


def test_nobody_is_root_and_the_number_is_said():
    assert [rest for name, rest in lines() if name == "USER"] == ["10001:10001"]
    names = [name for name, _ in lines()]
    assert names.index("USER") < names.index("ENTRYPOINT")


def test_all_that_is_installed_is_checked_against_a_hash():
    installs = [part for rest in of("RUN") for part in rest.split("&&") if " install " in part and "pip" in part]

    assert len(installs) == 3
    for each in installs:
        assert "--require-hashes" in each or "--no-index" in each
        assert "--no-cache-dir" in each


def test_what_is_copied_exists_and_is_let_through():
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    through = {line[1:] for line in ignored if line.startswith("!")}
    copied = {source for rest in of("COPY") if "--from" not in rest for source in rest.split()[:-1]}

    assert next(line for line in ignored if not line.startswith("#")) == "*"
    assert copied == through
    for source in copied:
        assert (ROOT / source).exists()


def pins(name):
    text = (ROOT / "requirements" / name).read_text("utf-8")
    return dict(re.findall(r"(?m)^([a-z0-9-]+)==([^ ;]+)", text))


def test_the_requirements_of_the_image_are_the_projects_own_and_the_tested_ones():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    names = {re.match(r"[a-z0-9-]+", wanted)[0] for wanted in project["project"]["dependencies"]}
    backend = {re.match(r"[a-z0-9-]+", wanted)[0] for wanted in project["build-system"]["requires"]}

    assert names <= set(pins("run.txt"))
    assert backend <= set(pins("build.txt"))
    assert pins("run.txt").items() <= pins("dev.txt").items()
    assert pins("build.txt").items() <= pins("dev.txt").items()


def test_its_health_is_asked_for_without_curl_where_the_daemon_listens():
    (check,) = of("HEALTHCHECK")
    command = json.loads(check[check.index("[") :])
    settings = " ".join(of("ENV"))
    (port,) = of("EXPOSE")

    assert command[:2] == ["python", "-c"]
    compile(command[2], "HEALTHCHECK", "exec")
    assert f"http://127.0.0.1:{port}/healthz" in command[2]
    assert f"KILLSWITCH_HTTP__LISTEN=0.0.0.0:{port}" in settings


def test_the_journal_has_a_place_that_is_said_to_be_kept():
    (volume,) = of("VOLUME")

    assert f"STATE_DIRECTORY={volume}" in " ".join(of("ENV"))
