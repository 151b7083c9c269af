# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the command line says to a suite, and how its parts are run."""

from __future__ import annotations

import pytest

from bench.lab import LabError
from bench.options import Options


def broken() -> None:
    raise LabError("the node is gone")


def test_wanted_parts_run_in_order_and_the_way_out_is_taken() -> None:
    done: list[str] = []
    options = Options(parts=("a", "c"), containers=1, say=done.append)
    options.run(lambda: done.append("up"), {name: lambda name=name: done.append(name) for name in "abc"}, lambda: done.append("down"))
    assert done == ["up", "part a", "a", "part c", "c", "down"]


@pytest.mark.parametrize("at", ["set-up", "part"])
def test_the_way_out_is_taken_after_a_failure(at: str) -> None:
    done: list[str] = []
    options = Options(parts=(), containers=1, say=done.append)
    with pytest.raises(LabError, match="gone"):
        options.run(broken if at == "set-up" else lambda: done.append("up"), {"a": broken}, lambda: done.append("down"))
    assert done[-1] == "down"
