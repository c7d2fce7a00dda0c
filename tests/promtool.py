"""promtool for tests: where there is none they skip, saying what to install; in CI (CI=true) they fail."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

MISSING = "promtool is not installed: apt install prometheus"


@pytest.fixture(name="promtool")
def the_promtool():
    """Runs promtool in a folder: import the_promtool, and ask for `promtool`. Gives its code and all that it said."""
    found = shutil.which("promtool")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(MISSING)
        pytest.skip(MISSING)

    def run(folder, *arguments):
        done = subprocess.run([found, *arguments], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
        return done.returncode, done.stdout + done.stderr

    return run
