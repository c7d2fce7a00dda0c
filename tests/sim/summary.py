"""The table at the end of a test run: per fault how often it was injected, and what came of those runs.

It is gathered from what the chunks recorded, so it is the same with and without xdist.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    runs = steps = trips = 0
    table: dict[str, list[int]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, text in getattr(report, "user_properties", ()):
                if name != "sim" or report.when != "call":
                    continue
                chunk = json.loads(text)
                runs, steps, trips = runs + chunk["runs"], steps + chunk["steps"], trips + chunk["trips"]
                for fault, counts in chunk["faults"].items():
                    table[fault] = [a + b for a, b in zip(table.get(fault, [0, 0, 0]), counts, strict=True)]
    if not runs:
        return
    terminalreporter.section(f"simulation: {runs} runs, {steps} steps, {trips} trips")
    terminalreporter.write_line(f"{'fault':24} {'injected':>9} {'in runs':>8} {'all VERIFIED':>13}")
    for fault, (injected, within, verified) in sorted(table.items(), key=lambda row: -row[1][0]):
        terminalreporter.write_line(f"{fault:24} {injected:9} {within:8} {verified:13}")
