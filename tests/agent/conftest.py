# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the tests that start agents, and where these find what they share."""

from __future__ import annotations

import sys
import typing as t
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "render")]

from edge_rig import Consul


@pytest.fixture
def stopped_afterwards() -> t.Iterator[list[Consul]]:
    """Agents to stop at the end; the last lines of their logs are shown with a test that fails."""
    agents: list[Consul] = []
    yield agents
    for agent in agents:
        agent.stop()
        print(f"--- {agent.log}\n{agent.log.read_text()[-3000:]}")
