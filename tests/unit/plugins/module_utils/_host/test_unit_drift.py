# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules of the drift check, one table row each."""

from __future__ import annotations

import pytest

from ansible_collections.trinode.platform.plugins.module_utils._host.unit_drift import (
    FileAge,
    UnitState,
    newer,
    parse_properties,
    process_age,
    reasons,
)

RUNNING = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "SubState": "running",
    "UnitFileState": "enabled",
    "NeedDaemonReload": "no",
    "MainPID": "7",
}


def state(loaded: float | None = 100.0, executable: str | None = "/opt/x/1/x", **properties: str) -> UnitState:
    return UnitState({**RUNNING, **properties}, loaded, executable)


@pytest.mark.parametrize(
    ("unit", "files", "executable", "expected"),
    [
        (state(), [], None, None),
        (state(), [FileAge("/etc/x", 200.0)], "/opt/x/1/x", None),
        (state(), [FileAge("/etc/x", None)], None, None),
        (state(), [FileAge("/etc/x", 100.02)], None, None),
        (state(), [FileAge("/etc/x", 99.99)], None, None),
        (state(), [FileAge("/etc/x", 50.0)], None, "/etc/x is newer"),
        (state(), [], "/opt/x/2/x", "it runs /opt/x/1/x, not /opt/x/2/x"),
        (state(executable="/opt/x/1/x (deleted)"), [], "/opt/x/1/x", "(deleted)"),
        (state(NeedDaemonReload="yes"), [], None, "unit file changed on disk"),
        (state(UnitFileState="disabled"), [], None, "would not come back"),
        (state(UnitFileState="masked"), [], None, "masked"),
        (state(UnitFileState="static"), [], None, None),
        (state(loaded=None, executable=None, ActiveState="failed", SubState="failed"), [], None, "not running (failed/failed)"),
        (state(ActiveState="activating", SubState="auto-restart"), [], None, "not running (activating/auto-restart)"),
        (state(ActiveState="reloading"), [], None, None),
        (UnitState({"LoadState": "not-found"}, None, None), [], None, "not loaded (not-found)"),
        (UnitState({"LoadState": "bad-setting"}, 5.0, "/x"), [], None, "not loaded (bad-setting)"),
    ],
)
def test_reasons(unit: UnitState, files: list[FileAge], executable: str | None, expected: str | None) -> None:
    found = reasons(unit, files, executable)
    if expected is None:
        assert found == []
    else:
        assert any(expected in reason for reason in found), found


def test_every_difference_is_named() -> None:
    found = reasons(state(NeedDaemonReload="yes"), [FileAge("/a", 1.0), FileAge("/b", 2.0)], "/other")
    assert len(found) == 4


def test_parse_properties_keeps_equal_signs_of_values() -> None:
    assert parse_properties("A=b=c\nD=\nnoise\n") == {"A": "b=c", "D": ""}


def test_process_age_survives_a_hostile_command_name() -> None:
    fields = ["S", *["0"] * 18, "5000", *["0"] * 10]
    assert process_age(f"7 (a) b ( c) {' '.join(fields)}", "100.50 30.00\n", 100) == pytest.approx(50.5)


def test_files_that_a_process_has_not_read() -> None:
    files = [FileAge("/etc/old", 200.0), FileAge("/etc/new", 50.0), FileAge("/etc/none", None)]
    assert newer(state(), files) == ["/etc/new"]
    assert newer(state(loaded=None), files) == []
