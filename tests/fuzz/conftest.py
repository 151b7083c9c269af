# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rig, and what is said at the end of a run."""

from __future__ import annotations

import sys
import typing as t
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "render")]

from budget import CATALOGUES, SEED
from fuzz_rig import Rig

_RIGS: list[Rig] = []


@pytest.fixture(scope="session")
def rig(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Rig]:
    """Consul and all the rest, for the whole run."""
    made = Rig(tmp_path_factory.mktemp("fuzz"))
    _RIGS.append(made)
    yield made
    made.stop()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was tried, and how to try it again."""
    for made in _RIGS:
        terminalreporter.write_line(f"fuzz: {made.tally}")
        terminalreporter.write_line(f"fuzz: the same again: FUZZ_SEED={SEED} FUZZ_CATALOGUES={CATALOGUES} tools/test/pytest fuzz tests/fuzz")
