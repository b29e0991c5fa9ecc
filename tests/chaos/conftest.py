"""Hostile work and broken surroundings on real processes; the clusters are those of tests/e2e."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))

from failure_report import pytest_runtest_makereport as pytest_runtest_makereport
