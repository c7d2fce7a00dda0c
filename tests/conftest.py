"""What the whole of a test run shows at its end."""

from __future__ import annotations

from tests.sim.summary import pytest_terminal_summary

__all__ = ["pytest_terminal_summary"]
