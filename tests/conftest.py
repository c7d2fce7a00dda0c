"""What the whole of a test run shows at its end, and how examples are found in it."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from tests.sim.summary import pytest_terminal_summary

__all__ = ["pytest_terminal_summary"]

# How long one example takes says something about the machine, and nothing about the code.
settings.register_profile("house", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")
