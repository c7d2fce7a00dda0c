"""Tests that take minutes run where somebody asked for them: `pytest -m long`, or CI=true."""

from __future__ import annotations

import os

import pytest


def asked_for_long(request):
    return "long" in (request.config.option.markexpr or "")


def in_ci():
    return os.environ.get("CI") == "true"


def needs(request, what):
    """Skip a test that takes so much, unless somebody asked for it."""
    if not asked_for_long(request) and not in_ci():
        pytest.skip(f"takes {what}: pytest -m long")
